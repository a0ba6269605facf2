/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_NODE_DEPART_H
#define ELSA_NODE_DEPART_H

/*
 * The side that a session leaves in a live migration (docs/migration.md): which
 * departures elsad has granted, who comes for them over node.move_listen, and
 * the memory of what was given away until the other node has it.
 *
 * Functions are for the loop's thread unless said otherwise; connections have
 * threads of their own.
 */

#include "node/effect.h"

struct departures;

/* After recovery: takes up what was given away before this program was started. Nothing is listened
 * to before the node has joined. */
int depart_init(struct node *node, struct error *e);
/* Nothing is given from now on: who waits for a word of the other node runs on here. */
void depart_stop(struct node *node);
void depart_free(struct node *node); /* idempotent; hangs up */
/* It has joined: listens, if it does not yet. Each connection uses the certificate of its time. */
void depart_identity_changed(struct node *node);

/* Port of node.move_listen while it is listened to; 0. */
int depart_port(const struct node *node);

/* PUT /v1/departures/ID: replaces what was granted for that session before, unless that is under
 * way (-EBUSY). -ESRCH: it does not run here. *to: as it is now; release with wire_free(). */
int depart_grant(struct node *node, const struct departure *wanted, struct departure *to,
		 struct error *e);
int depart_show(struct node *node, const char *id, struct departure *to, struct error *e);
/* The session runs here again. -ENOENT: nothing of it is left here; -EBUSY: in a moment. */
int depart_take_back(struct node *node, const char *id, int64_t fence, struct error *e);
int depart_end(struct node *node, const char *id, struct error *e);

/* For node/evacuate.h: what has come of the moves of this node's sessions, wall clock, 0: nothing.
 * When a departure was granted, under way or over last; when the session's came to nothing. */
wall_ms depart_seen_at(const struct node *node);
wall_ms depart_kept_at(const struct node *node, const char *session);
/* Nobody is to come for it any more: what is under way is undone unless it was given by then. */
void depart_recall(struct node *node, const char *session);

/* By node/effect.c, of every effect. */
void depart_effect_ended(struct node *node, const struct effect *ef);

/* True from the commit on: never let it run by itself. Under node->lock or on the session's
 * worker. */
static inline bool session_is_given(const struct session *s)
{
	return s->journal.given_to != NULL;
}

#endif
