/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_CONTROLLER_MIGRATE_H
#define ELSA_CONTROLLER_MIGRATE_H

/*
 * Sessions that go to another node while they run (docs/migration.md): where
 * to, when it is their turn, and what the two nodes are told. What became of it
 * is for session_apply(), what is left behind for controller/remains.h. One
 * thread.
 */

#include "controller/placing.h"
#include "controller/sessions.h"

int migrate_new(struct controller *c, struct error *e);
void migrate_free(struct controller *c);

struct migrate_request {
	struct node *to; /* NULL: where it fits best */
	bool safe;       /* by checkpoint: it never hangs on two machines at once */
	const char *who, *why;
};
/* Begins, waits its turn, or joins what is under way: s->operation tells. Negative: it cannot be.
 */
int migrate_ask(struct session *s, const struct migrate_request *request, struct error *e);

/* A node that would take it as it runs, and a turn for it. -EBUSY: not now, soon perhaps. */
int migrate_place(struct session *s, struct node *only, struct node **to, struct error *e);
int migrate_begin(struct session *s, struct node *to, const char *who, const char *why,
		  struct error *e);

/* There may be a turn now. */
void migrate_soon(struct controller *c);

/* Where one that is woken goes, if it is moving by checkpoint; else as placing_choose(). */
int migrate_place_woken(struct session *s, const struct placing *what, struct node **to,
			struct error *e);

/* --- the two nodes: migrate_nodes.c ------------------------------------------------------------
 */

/* Has the source let the target come for it, and the effect asked again when it does. False: it is
 * not to be asked, or will not answer. */
bool migrate_grant(struct effect *effect);
char *migrate_from_at(const struct node *source); /* of its node.move_listen; allocated, or NULL */

/* POST /v1/nodes/moving */
void migrate_moving(struct http_exchange *x, void *controller);
void migrate_routes_told(struct controller *c); /* to the hub's host */

#endif
