/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_NODE_EVACUATE_H
#define ELSA_NODE_EVACUATE_H

/*
 * When this machine is about to go away, its sessions are put away by itself,
 * whether or not elsad can be asked: policies/evacuate.h says what to do when,
 * and here it is done, as ordinary hibernations called "evac-SESSION-GENERATION"
 * whose results are kept like all others. What it leaves for a moment to elsad, to
 * be moved while it runs, the record says (to_move). How far it has come is in
 * STATE_DIR/evacuation.json, and taken up again after a restart.
 *
 * Loop only, but for evacuate_under_way() and evacuate_left_ms().
 */

#include "node/effect.h"

/* Takes up what a predecessor had begun; after recover_all(). */
int evacuate_init(struct node *node, struct error *e);
void evacuate_free(struct node *node); /* idempotent */

/* This machine goes away, or its processes do, with notice->at (or config's spot.notice after it
 * was seen) as the deadline. Of several the earliest counts. The same one again is fine, and
 * changes its time. `notice` is borrowed. */
void evacuate_noticed(struct node *node, const struct node_notice *notice);
/* That one does not hold any more. With none left nothing more is begun, and who stood still goes
 * on. */
void evacuate_cancelled(struct node *node, const char *id);

/* Sessions are still being put away, or will be. Any thread. */
bool evacuate_under_way(const struct node *node);
/* Until it should be over; negative: none is under way. Any thread. */
int64_t evacuate_left_ms(const struct node *node);

/* Sessions that are being saved or wait for it, or whose memory other nodes still fetch. */
size_t evacuate_load(const struct node *node);

/* -EAGAIN (unavailable) for what would begin to run here although the machine goes away. */
int evacuate_refuses(struct node *node, const struct effect_request *request, struct error *e);

/* The last one, under way or over; NULL: there was none. */
const struct evacuation *evacuate_last(const struct node *node);

/* By node/effect.c. */
void evacuate_effect_ended(struct node *node, const struct effect *ef);

/* Whether the session's end was that its node put it away; and what says so in its journal. */
#define EVACUATED "evacuated"
bool evacuate_was(const struct journal *j);
bool evacuate_is_effect(const char *id);
/* ... and by this effect. It stays known until that is acknowledged, whatever else somebody who has
 * not heard of it asks for meanwhile. */
bool evacuate_was_by(const struct journal *j, const char *id);

#endif
