/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_NODE_WAKE_QUEUE_H
#define ELSA_NODE_WAKE_QUEUE_H

/*
 * Who is to be woken, in the order they were wanted, so many at once
 * (wake.concurrency): however often others are asked for, nobody gets ahead of who
 * came before. Pure; each place is a part of what waits in it.
 */

#include <stdbool.h>
#include <stddef.h>

struct wake_place {
	struct wake_place *behind;
	bool queued, waking;
};

struct wake_queue {
	struct wake_place *first, **end;
	size_t waking;
};

void wake_queue_init(struct wake_queue *q);

/* At the end, unless it is there, or awakes already. */
void wake_queue_add(struct wake_queue *q, struct wake_place *p);
/* It is neither waiting nor waking any more; if it is not, that is fine. */
void wake_queue_remove(struct wake_queue *q, struct wake_place *p);

/* Takes the first out, while fewer than `most` awake; NULL: none, for now. */
struct wake_place *wake_queue_next(struct wake_queue *q, size_t most);
/* It awakes from here on, until it is removed. */
void wake_queue_begin(struct wake_queue *q, struct wake_place *p);

#endif
