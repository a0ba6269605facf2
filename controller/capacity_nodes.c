/* SPDX-License-Identifier: Apache-2.0 */
/* What is known of nodes as machines that are given back. */
#include "controller/capacity_private.h"
#include "controller/node.h"

#include <string.h>

static const struct machine *machine_of(const struct capacity *cap, const struct node *node)
{
	const struct machine *m;
	TAILQ_FOREACH(m, &cap->machines, entry)
	{
		/* Those of the record were not matched yet in the first moment after a start. */
		bool same = m->node ? m->node == node
				    : m->kept.node && strcmp(m->kept.node, node_name(node)) == 0;
		if (same && !(m->pool->described && (!m->seen || m->state == CLOUD_ENDING)))
			return m;
	}
	return NULL;
}

bool capacity_node(const struct node *node, struct capacity_node *to)
{
	const struct capacity *cap = node->controller->capacity;
	const struct machine *m = cap ? machine_of(cap, node) : NULL;
	*to = (struct capacity_node) { 0 };
	if (!m)
		return false;
	to->pool = m->pool->index;
	to->going = m->kept.giving;
	to->kept = !m->pool->described || pool_is_busy(m->pool) ||
		   clock_wall() < m->pool->shrink_next_at;
	return true;
}

bool capacity_is_short(const struct controller *c)
{
	const struct want *w;
	if (!c->capacity)
		return false;
	TAILQ_FOREACH(w, &c->capacity->wants, entry)
	if (w->in_use)
		return true;
	return false;
}

wall_ms capacity_grown_at(const struct controller *c)
{
	return c->capacity ? c->capacity->grown_at : 0;
}
