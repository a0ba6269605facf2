/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/queue.h"

#include <errno.h>
#include <stdlib.h>

enum { FIRST_SIZE = 256, WAYS = 4 };

static bool before(const struct queue_item *a, const struct queue_item *b)
{
	return a->at != b->at ? a->at < b->at : a->turn < b->turn;
}

static int make_room(struct queue *q)
{
	if (q->count < q->size)
		return 0;
	size_t size = q->size ? q->size * 2 : FIRST_SIZE;
	struct queue_item *items = reallocarray(q->items, size, sizeof(*items));
	if (!items)
		return -ENOMEM;
	q->items = items;
	q->size = size;
	return 0;
}

int queue_push(struct queue *q, int64_t at, uint32_t kind, uint32_t subject, uint32_t tag)
{
	struct queue_item item = { at, q->turns, kind, subject, tag };
	int r = make_room(q);
	if (r < 0)
		return r;
	q->turns++;
	size_t i = q->count++;
	while (i > 0 && before(&item, &q->items[(i - 1) / WAYS])) {
		q->items[i] = q->items[(i - 1) / WAYS];
		i = (i - 1) / WAYS;
	}
	q->items[i] = item;
	return 0;
}

const struct queue_item *queue_first(const struct queue *q)
{
	return q->count ? q->items : NULL;
}

static size_t first_child(const struct queue *q, size_t i)
{
	size_t first = WAYS * i + 1, end = first + WAYS;
	for (size_t j = first + 1; j < end && j < q->count; j++)
		if (before(&q->items[j], &q->items[first]))
			first = j;
	return first;
}

struct queue_item queue_pop(struct queue *q)
{
	struct queue_item first = q->items[0], last = q->items[--q->count];
	size_t i = 0;
	for (;;) {
		size_t child = first_child(q, i);
		if (child >= q->count || !before(&q->items[child], &last))
			break;
		q->items[i] = q->items[child];
		i = child;
	}
	q->items[i] = last;
	return first;
}

void queue_deinit(struct queue *q)
{
	free(q->items);
	*q = (struct queue) { 0 };
}
