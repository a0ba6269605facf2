/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_SIM_USE_H
#define ELSA_SIM_USE_H

/*
 * What a session was seen to use, kept as elsad keeps it (controller/usage.h): minutes of the hour
 * that goes on, and of each hour before its 95th percentile and its peak, no further back than
 * somebody asks. So it is bounded, however long and often its use changes. Not thread-safe.
 */

#include "base/clock.h"
#include "policies/size.h"

struct use_hour {
	int64_t number; /* since 1970 */
	struct size_sample sample;
};

/* All zero: nothing was seen. */
struct use {
	struct use_hour *hours; /* that are over, the oldest first; owned */
	size_t count, size;
	struct size_sample *pieces; /* of the hour that goes on, minutes or longer; owned */
	size_t piece_count, piece_size;
	int64_t hour, minute; /* in which the last piece began */
};

/* It was awake, and held so much. Not before what was added before. 0 or -ENOMEM. */
int use_add(struct use *u, wall_ms from, wall_ms to, int64_t bytes, int64_t window_ms);

/* Samples as far back as they count: use_most() at most. Returns how many. */
size_t use_most(const struct use *u);
size_t use_samples(const struct use *u, wall_ms from, struct size_sample *to);

void use_deinit(struct use *u);

#endif
