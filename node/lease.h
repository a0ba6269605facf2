/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_NODE_LEASE_H
#define ELSA_NODE_LEASE_H

/*
 * The right of a joined node to run sessions (docs/nodes.md). It is asked for
 * again and again; when it has nearly lapsed all sessions are frozen, with
 * HOLD_LEASE, and those that elsad then still calls this node's own go on. A
 * guard (guard/guard.h) freezes them should this program not get to it.
 *
 * A node that is on elsad's own host has none and needs none: node->lease is NULL,
 * and everything here says that all is well.
 */

#include "node/effect.h"

/* Before anything is recovered: what is left of the lease of an earlier life. Without a controller
 * to join, a guard that an earlier configuration has left is told to end. */
int lease_open(struct node *node, struct error *e);
/* When all sessions are known and before anything is done to them. What the guard has frozen
 * together stands still each for itself from here on, where the lease has lapsed. */
void lease_take_over(struct node *node);
/* Asks, from now on. On the loop. */
int lease_start(struct node *node, struct error *e);
/* What elsad is told with the lease has changed: it is renewed at once. On the loop. */
void lease_soon(struct node *node);
/* Something of the sessions has changed by this node's own doing: elsad is told so at once, and
 * looks. Without a lease it does by and by. On the loop. */
void lease_news(struct node *node);
/* At the end of this program: a node without sessions gives its lease back, so that elsad need not
 * wait for it. Idempotent; true while the answer may still come. With sessions, which go on without
 * this program, the lease is left to itself. On the loop. */
bool lease_leave(struct node *node);
void lease_close(struct node *node); /* idempotent; the guard stays */

/* Thread-safe. Whether sessions may run at this moment. */
bool lease_held(struct node *node);
int64_t lease_left_ms(const struct node *node); /* until they are frozen; -1: it needs none */
/* On the loop: it has one, and elsad has answered its last question; or is late with that, and has
 * answered one of the last `ms`. */
bool lease_is_answered(const struct node *node, int64_t ms);
/* Changes whenever it has lapsed. */
unsigned lease_epoch(const struct node *node);

/* Of an effect that makes processes run: fails unless the lease was held all the time since it
 * began. When it lapses just after, hold_settle() and the guard see to it. */
int lease_check(struct effect *ef, struct error *e);
/* ... before it begins. */
int lease_admit(struct node *node, enum effect_kind kind, struct error *e);

#endif
