/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_CONTROLLER_CONSOLIDATE_PRIVATE_H
#define ELSA_CONTROLLER_CONSOLIDATE_PRIVATE_H

/* What controller/consolidate*.c share. */

#include "controller/consolidate.h"
#include "controller/sessions.h"
#include "policies/consolidate.h"

#define CONSOLIDATE_WHO "consolidation"

struct consolidate_move {
	char *session; /* id */
	int64_t at;
};

struct consolidate_kept {
	char *emptying; /* node; NULL: none */
	int64_t began_at;
	int64_t ended_at;               /* the last one */
	struct consolidate_move *moves; /* oldest first */
	size_t move_count;
};

struct consolidate {
	struct event *timer;
	struct consolidate_kept kept;
	mono_us started_at;
};

/* Nodes and sessions as the policy sees them. */
struct consolidate_pass {
	struct consolidate_facts facts;
	struct node **nodes; /* facts.nodes[i] is this one */
	wall_ms *moves;
};

/* consolidate_facts.c: 0 or -ENOMEM; to be freed all the same. */
int consolidate_collect(struct controller *c, struct consolidate_pass *pass, wall_ms now);
void consolidate_pass_deinit(struct consolidate_pass *pass);

/* consolidate_kept.c: the record. */
int consolidate_load(struct controller *c, struct error *e);
int consolidate_save(struct controller *c, struct error *e);
/* In memory only; what no rule asks for any more is forgotten. */
wall_ms consolidate_moved_at(const struct consolidate_kept *kept, const char *session); /* 0 */
int consolidate_add_move(struct controller *c, const char *session, wall_ms now);
void consolidate_drop_move(struct controller *c); /* the last one, which was not begun */
void consolidate_kept_deinit(struct consolidate_kept *kept);

#endif
