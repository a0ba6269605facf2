/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_NODE_ESTIMATE_H
#define ELSA_NODE_ESTIMATE_H

/*
 * What is known of how fast checkpoints go here, and of what the next one of
 * each session will have to send: measured at the end of every hibernation,
 * snapshot and wake, reckoned by policies/evacuate.h. In RUN_DIR/estimates.json,
 * which outlives this program but not the machine's boot.
 *
 * Loop only.
 */

#include "node/effect.h"
#include "policies/evacuate.h"

struct estimates;

int estimate_init(struct node *node, struct error *e);
void estimate_free(struct node *node); /* idempotent */

/* By node/effect.c, of every effect. */
void estimate_begun(struct node *node, struct effect *ef);
void estimate_ended(struct node *node, const struct effect *ef);
void estimate_dropped(struct node *node, const struct effect *ef); /* it could not begin */

/* All memory of a session that has left is where it went, so long after it was given away. */
void estimate_moved(struct node *node, int64_t bytes, int64_t took_ms);

const struct evacuate_rates *estimate_rates(const struct node *node);
int64_t estimate_upload(const struct node *node); /* bytes/s of all streams; 0: not known */

/* Fills in unsent_bytes (by resident_bytes), snapshot_at and in_use. One that was woken has its
 * checkpoint as of then: what it was is what it woke as. */
void estimate_session(struct node *node, const struct session *s, struct evacuate_session *to);

/* Of a checkpoint that has ended, milliseconds: up to its commit but for the wait for memory to
 * arrive; and behind the commit. */
int64_t estimate_took_ms(const struct effect_result *result);
int64_t estimate_behind_ms(const struct effect_result *result);

#endif
