/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_SIM_QUEUE_H
#define ELSA_SIM_QUEUE_H

/*
 * What is to happen, in the order of time; at the same time, in the order in
 * which it was put in. A heap of fours, which touches fewer lines of the cache
 * than one of twos. Not thread-safe.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct queue_item {
	int64_t at;
	uint64_t turn;
	uint32_t kind, subject, tag; /* the user's */
};

struct queue {
	struct queue_item *items; /* owned */
	size_t count, size;
	uint64_t turns;
};

int queue_push(struct queue *q, int64_t at, uint32_t kind, uint32_t subject, uint32_t tag);
const struct queue_item *queue_first(const struct queue *q); /* NULL: it is empty */
struct queue_item queue_pop(struct queue *q);                /* it is not empty */
void queue_deinit(struct queue *q);

#endif
