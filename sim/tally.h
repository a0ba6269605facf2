/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_SIM_TALLY_H
#define ELSA_SIM_TALLY_H

/*
 * What is counted, in a bounded place however long it goes on: durations in
 * classes 1.6 % wide, and a course over time whose steps grow twice as long
 * whenever it is full. Not thread-safe.
 */

#include <stddef.h>
#include <stdint.h>

enum { TALLY_CLASSES = 64 * 40, COURSE_MOST = 1024 };

/* Of milliseconds. All zero: empty. */
struct tally {
	uint64_t classes[TALLY_CLASSES];
	uint64_t count;
	int64_t most;
	double sum;
};

void tally_add(struct tally *t, int64_t ms);
/* The duration that a share [0, 1] of them do not exceed, up to the class's width; 0: there are
 * none. */
int64_t tally_at(const struct tally *t, double share);
double tally_mean(const struct tally *t);
/* Share of them that took at most so long. */
double tally_share(const struct tally *t, int64_t ms);

/* Means of each step. `step_ms` is set before the first value; the values are handed in once a
 * step of the beginning. */
struct course {
	double values[COURSE_MOST];
	size_t count;
	int64_t step_ms; /* of one value */
	unsigned each;   /* readings that make one value; 0 counts as 1 */
	unsigned taken;  /* of the next */
	double sum;
};

void course_add(struct course *c, double value);

#endif
