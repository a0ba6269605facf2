/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_NODE_ASLEEP_H
#define ELSA_NODE_ASLEEP_H

/*
 * Sessions that do not run and are answered for at their address (docs/wake.md).
 * Nothing of one that is asleep is left here but what answers: an activator
 * (node/activator.h) for new connections, and a watch over those that were open.
 * When somebody comes, this node wakes it by itself, by a restore called
 * "wake-SESSION-GENERATION": first come, first served, wake.concurrency at once,
 * elsad need not be there. What this node may not wake it says so of
 * (session_status.unwoken), and elsad has it done elsewhere.
 *
 * That it answers is in the journal, `asleep`, from the moment of truth of the
 * hibernation until the woken session is let run, and outlives a reboot. What
 * answers is made from that, and from STATE_DIR/asleep/ID, at any time.
 *
 * A session that dozes (node/doze.h) is answered for in the same way.
 *
 * Loop only, but for what says otherwise.
 */

#include "node/effect.h"

struct net_keep;

enum asleep_kind {
	ASLEEP_STORED, /* it is in the store, or about to be */
	ASLEEP_DOZES,  /* it stands still */
};

/* Without what this needs of the kernel no session can be answered for: that is logged, and told to
 * who asks for it. Before recover_all(). */
int asleep_open(struct node *node, struct error *e);
void asleep_close(struct node *node); /* idempotent */

/* STATE_DIR/asleep/ID/answer: what is known of it while it sleeps; "answer" in its checkpoint, too.
 * And activator_record()'s part of it. Any thread; allocated, or NULL. */
#define ASLEEP_TREE "answer"
char *asleep_dir(const struct node *node, const char *id);
char *asleep_record_dir(const struct node *node, const char *id);

/* From here on new connections are answered by us. Again is fine, and may change the kind. */
int asleep_begin(struct node *node, struct session *s, enum asleep_kind kind, struct error *e);
/* The session answers for itself again: who waits is connected to it. One that is not answered for
 * is fine. */
void asleep_end(struct node *node, struct session *s);
/* Nobody is to be answered here any more; who waits is told so. */
void asleep_drop(struct node *node, struct session *s, const char *why);

/* Any thread: of packets that came for a session while it was written down, whether one of them
 * means that somebody came. */
void asleep_look_at_kept(struct effect *ef, struct net_keep *keep);

/* The same for steps: wait for the loop to have done it. */
int asleep_begin_wait(struct effect *ef, enum asleep_kind kind, struct error *e);
void asleep_end_wait(struct effect *ef);
void asleep_drop_wait(struct effect *ef, const char *why);

/* Somebody has come for it, another way than by a new connection; `what` is for the log. */
void asleep_touched(struct node *node, struct session *s, const char *what);
/* Any thread. Somebody has, since it is answered for, and nothing came of it yet. */
bool asleep_is_touched(struct node *node, const struct session *s);

/* Any thread, of the worker's own session: packets that came for it while it slept are put before
 * those that `keep` has. After a restart those that were acknowledged are, for which packets must
 * be held: asleep_must_give(). */
void asleep_give_packets(struct effect *ef, struct net_keep *keep);
bool asleep_must_give(const struct effect *ef);

/* Any thread: packets for it come to us from here on, in the place of its own link; or no more. */
int asleep_route(struct effect *ef, struct error *e);
int asleep_unroute(struct effect *ef, struct error *e);

/* elsad says whether the session is this node's: one that it does not name, twice, for its answer
 * may have been on its way, is not to be woken here; nor one that it has not named since the lease
 * lapsed, or this program began. */
void asleep_named(struct node *node, struct session *s, bool named);

/* Any thread. Of a wake by this node itself: what was fenced since it fell asleep may be another's.
 */
int asleep_check_fence(struct effect *ef, int64_t fence, struct error *e);

/* By node/effect.c: one has ended, told or not. By node/doze.c: it dozes no more. */
void asleep_effect_ended(struct node *node, const struct effect *ef);
bool asleep_is_effect(const char *id);

/* After a restart: what the journal says is asleep is answered for again. */
void asleep_recover(struct node *node, struct session *s);
/* Under node->lock. */
int asleep_status(struct session *s, struct session_status *st, struct error *e);

#endif
