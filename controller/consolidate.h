/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_CONTROLLER_CONSOLIDATE_H
#define ELSA_CONTROLLER_CONSOLIDATE_H

/*
 * Nodes that could be empty are emptied (policies/consolidate.h): passes over nodes
 * and sessions, and what they decide. What is new goes to a node that is being
 * emptied only where no other has room, and then that is called off. Giving its
 * machine back is capacity's (controller/capacity.h), which finds it empty.
 *
 * Which node that is, and which sessions were moved when, is on record before
 * anything is done. One thread.
 */

#include "controller/nodes.h"
#include "controller/sessions.h"

#include <jansson.h>

int consolidate_new(struct controller *c, struct error *e);
void consolidate_free(struct controller *c);

/* The config, or what it decides about, has changed. */
void consolidate_soon(struct controller *c);

bool consolidate_empties(const struct node *node);

/* The budget of those that are moved for no need of their own, whoever has them moved. */
struct consolidate_budget {
	size_t moves;     /* of all, within the last hour */
	int64_t free_ms;  /* until the oldest of these counts no more; 0: there is none */
	int64_t since_ms; /* since this session was; negative: never, as far as is known */
};
struct consolidate_budget consolidate_budget_of(const struct session *s, wall_ms now);
/* Moves it, as it runs, and has it count. -EBUSY and -EINPROGRESS: not now. */
int consolidate_move_one(struct session *s, struct node *to, const char *who, const char *why,
			 wall_ms now, struct error *e);

/* Why it is or is not emptied: {"reason", "text", "until", "fits_since", "in_use", "in_use_bytes",
 * "short_bytes"}, or null when nobody asks. A new reference. */
json_t *consolidate_node_json(const struct node *node);

/* For controller/try.h: of each node. */
json_t *consolidate_decide_json(struct controller *c);

#endif
