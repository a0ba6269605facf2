/* SPDX-License-Identifier: Apache-2.0 */
#include "node/wake_queue.h"

void wake_queue_init(struct wake_queue *q)
{
	*q = (struct wake_queue) { .end = &q->first };
}

void wake_queue_add(struct wake_queue *q, struct wake_place *p)
{
	if (p->queued || p->waking)
		return;
	p->queued = true;
	p->behind = NULL;
	*q->end = p;
	q->end = &p->behind;
}

static void take_out(struct wake_queue *q, struct wake_place *p)
{
	struct wake_place **link = &q->first;
	while (*link && *link != p)
		link = &(*link)->behind;
	if (!*link)
		return;
	*link = p->behind;
	if (q->end == &p->behind)
		q->end = link;
	p->queued = false;
}

void wake_queue_remove(struct wake_queue *q, struct wake_place *p)
{
	take_out(q, p);
	if (p->waking)
		q->waking--;
	p->waking = false;
}

struct wake_place *wake_queue_next(struct wake_queue *q, size_t most)
{
	struct wake_place *first = q->waking < most ? q->first : NULL;
	if (first)
		take_out(q, first);
	return first;
}

void wake_queue_begin(struct wake_queue *q, struct wake_place *p)
{
	p->waking = true;
	q->waking++;
}
