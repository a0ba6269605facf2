/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_POLICIES_RETENTION_H
#define ELSA_POLICIES_RETENTION_H

/*
 * Which checkpoints of one session are kept. Pure and thread-safe; times are
 * wall-clock milliseconds.
 *
 * - The newest that is not set aside stays, whatever the rules say: it may be
 *   all there is of the session. So does what is still being read.
 * - By count, those set aside by a fresh start and the others are counted apart,
 *   `keep` of each from the newest back: starting fresh must not push out what
 *   can be restored, nor the other way round.
 * - By age, all alike.
 * - By bytes, all together: those set aside go first, since none of them comes
 *   back by itself, then the oldest. What a checkpoint takes are its own objects;
 *   frames that newer ones share outlive it, so that less may become free.
 */

#include "base/clock.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct retention_rules {
	int64_t keep;   /* 0: any number */
	int64_t age_ms; /* 0: any age */
	int64_t bytes;  /* 0: no limit */
};

struct retained {
	int64_t generation;
	wall_ms created_at;
	int64_t bytes;
	bool aside;
	bool needed; /* somebody reads it */
	bool remove; /* out: the decision */
};

/* Sorts `list`, newest first, and decides for each. Returns how many are to be removed; remove them
 * from the end on, so that what is cut short leaves the newest. */
size_t retention_decide(const struct retention_rules *rules, struct retained *list, size_t count,
			wall_ms now);

#endif
