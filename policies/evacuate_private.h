/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_POLICIES_EVACUATE_PRIVATE_H
#define ELSA_POLICIES_EVACUATE_PRIVATE_H

/* What policies/evacuate*.c share: a plan of who is saved when, and the terms it is made in. */

#include "policies/evacuate.h"

struct evacuate_plan {
	const struct evacuate_facts *facts;
	struct evacuate_session *list; /* in the order in which they go */
	size_t count;
	size_t at_once;
	wall_ms limit;
	int swaps_left; /* so that very many sessions do not take their time to decide */
};

/* Of a time: no limit at all. */
#define EVACUATE_FOREVER (INT64_MAX / 2)

enum {
	EVACUATE_LOOK_MS = 1000,      /* between looks while something waits */
	EVACUATE_HAND_OVER_MS = 5000, /* a move has come to something, or to nothing, by then */
	EVACUATE_UNDO_MS = 1000,      /* a move that is called off: until a checkpoint can begin */
};

/* Tries orders and numbers at once, `most` at most; leaves the best in `p`, with its order and
 * times. */
void evacuate_find_best(struct evacuate_plan *p, size_t most);

/* Its checkpoint is still to be begun. */
bool evacuate_waits(const struct evacuate_session *s);
bool evacuate_is_bare(const struct evacuate_session *s); /* without any checkpoint */

/* Of its checkpoint, with so many at once. */
int64_t evacuate_takes_one(const struct evacuate_facts *f, const struct evacuate_session *s,
			   size_t at_once);
/* ... that is under way. */
wall_ms evacuate_ends(const struct evacuate_facts *f, const struct evacuate_session *s,
		      size_t at_once);
/* Milliseconds until all its memory is where it goes. */
int64_t evacuate_move_left(const struct evacuate_facts *f, const struct evacuate_session *s);

#endif
