/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_CONTROLLER_IDLE_H
#define ELSA_CONTROLLER_IDLE_H

/* Passes of the idle policy (policies/idle.h) over the sessions. One thread. */

#include "controller/sessions.h"

#include <jansson.h>

int idle_new(struct controller *c, struct error *e);
void idle_free(struct controller *c);
int idle_reload(struct controller *c, struct error *e); /* the config changed */

/* A pass now; appends each decision to `decisions` (may be NULL). */
void idle_run(struct controller *c, json_t *decisions);

/* The processor use that counts as work by the session's rule. */
double idle_cpu_threshold(struct session *s);

/* By its rule it would go on running now: somebody uses it, it works, or nobody knows. */
bool idle_in_use(struct session *s);
/* What is to become of it when its node puts it away: woken, answered for, or nothing. */
enum session_wish idle_wish(struct session *s);
/* To sleep as its rule has it, unseen or by the Hub; of one that is not in use. */
void idle_put_away(struct session *s, const char *who, const char *why);

wall_ms idle_person_at(const struct session *s); /* last sign of a person */
char *idle_note(const struct session *s);
char *idle_explain(const struct session *s); /* why it is as it is; allocated, or NULL */

/* --- pure part ---------------------------------------------------------------------------------
 */

/* The config's rules as the policy wants them; borrows from the config. */
struct idle_rules {
	struct idle_policy policy;
	struct idle_rule *rules; /* owned, with their windows */
	size_t rule_count;
	struct idle_window *quiet; /* owned */
};
int idle_rules_make(const struct config *config, struct idle_rules *to, struct error *e);
void idle_rules_deinit(struct idle_rules *rules);

#endif
