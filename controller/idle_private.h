/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_CONTROLLER_IDLE_PRIVATE_H
#define ELSA_CONTROLLER_IDLE_PRIVATE_H

/* Private to controller/idle*.c. */

#include "controller/idle.h"

#define IDLE_WHO "idle-policy"

struct idle {
	struct event *timer;
	struct idle_rules rules;
};

struct idle_facts idle_facts_of(const struct session *s);
void idle_blind_if_unlisted(const struct idle_rules *rules, const struct session *s,
			    struct idle_facts *facts);
/* From what it was decided; new references. */
json_t *idle_inputs(const struct idle_facts *facts, const struct idle_decision *d);
json_t *idle_decision_json(const struct session *s, const struct idle_decision *d, bool dry_run);

#endif
