/* SPDX-License-Identifier: Apache-2.0 */
/* The machines of the pools, and which nodes they are. */
#include "controller/capacity_private.h"

#include "base/cleanup.h"
#include "base/log.h"
#include "controller/node.h"
#include "controller/nodes_change.h"
#include "controller/record.h"
#include "controller/rows.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define WHO "capacity"

void capacity_note(struct capacity *cap, const char *what, const char *why, const char *format, ...)
{
	char detail[1600];
	va_list args;
	va_start(args, format);
	vsnprintf(detail, sizeof(detail), format, args);
	va_end(args);
	record_note(cap->controller,
		    &(struct record) { .who = WHO, .what = what, .why = why, .detail = detail });
}

struct machine *machine_new(struct capacity *cap, const char *id, struct pool *pool, wall_ms since)
{
	struct machine *m = calloc(1, sizeof(*m));
	if (!m)
		abort();
	replace_text(&m->kept.id, id);
	replace_text(&m->kept.pool, pool->kept.name);
	m->kept.since = since;
	m->pool = pool;
	TAILQ_INSERT_TAIL(&cap->machines, m, entry);
	return m;
}

void machine_drop(struct capacity *cap, struct machine *m)
{
	TAILQ_REMOVE(&cap->machines, m, entry);
	free(m->kept.id);
	free(m->kept.pool);
	free(m->kept.node);
	free(m->kept.why);
	free(m->alias);
	free(m->zone);
	free(m->type);
	free(m->price);
	free(m->refused);
	free(m);
}

static bool is_called(const struct machine *m, const char *name)
{
	return name && (strcmp(m->kept.id, name) == 0 || (m->alias && strcmp(m->alias, name) == 0));
}

struct machine *machine_find(struct capacity *cap, const char *id, const char *alias)
{
	struct machine *m;
	TAILQ_FOREACH(m, &cap->machines, entry)
	if (is_called(m, id) || is_called(m, alias))
		return m;
	return NULL;
}

/* --- nodes -------------------------------------------------------------------------------------
 */

/* A machine that no cloud tells what it is goes by its node's name. */
static bool is_on(const struct machine *m, const struct node *n)
{
	return is_called(m, n->info.instance || !n->info.name ? n->info.instance : n->name);
}

static struct node *node_on(struct capacity *cap, const struct machine *m)
{
	struct controller *c = cap->controller;
	for (struct node *n = nodes_first(c); n; n = nodes_next(n))
		if (!n->local && n->joined && is_on(m, n))
			return n;
	/* It did not say since elsad's start. */
	struct node *known = m->kept.node ? nodes_find(c, m->kept.node) : NULL;
	bool same = known && (!known->info.instance || is_called(m, known->info.instance));
	return same && known->joined ? known : NULL;
}

static void match(struct capacity *cap, struct machine *m, wall_ms now)
{
	struct node *node = node_on(cap, m);
	m->node = node;
	if (node && (!m->kept.node || strcmp(m->kept.node, node->name) != 0)) {
		char after[CLOCK_TEXT_SIZE];
		replace_text(&m->kept.node, node->name);
		cap->dirty = true;
		capacity_note(cap, "capacity-joined", m->kept.id,
			      "machine %s of pool %s is node %s, %s after it was seen first",
			      m->kept.id, m->kept.pool, node->name,
			      clock_format_duration(now - m->kept.since, after));
	} else if (!node && m->kept.node && m->seen) {
		/* Its node was removed: it may join anew. */
		replace_text(&m->kept.node, NULL);
		m->kept.since = now;
		cap->dirty = true;
	}
	bool empty = node && node_sessions(node) == 0;
	m->empty_since = !empty ? 0 : m->empty_since ? m->empty_since : now;
}

/* What a machine of the pool can hold, as it says itself. */
static void take_sample(const struct capacity *cap, const struct machine *m)
{
	const struct node_info *info = &m->node->info;
	struct pool_kept *k = &m->pool->kept;
	int64_t reserve = cap->controller->config->nodes.reserve_bytes;
	if (info->memory_bytes <= reserve)
		return;
	k->memory_bytes = info->memory_bytes - reserve;
	if (info->features)
		replace_text(&k->features, info->features);
	if (info->price)
		replace_text(&k->price, info->price);
}

static void take_off(struct capacity *cap, const struct machine *m)
{
	struct error e = ERROR_INIT;
	int r = node_take_off(cap->controller, m->kept.node, WHO, "node-removed", &e);
	if (r < 0 && r != -ENOENT)
		log_error("node %s stays on record although its machine is gone: %s", m->kept.node,
			  e.text);
}

/* It is gone, and so is its node once nothing on record is there any more. */
static bool end_of(struct capacity *cap, const struct machine *m)
{
	const struct node *node = m->kept.node ? nodes_find(cap->controller, m->kept.node) : NULL;
	if (node && node_sessions(node))
		return false;
	if (m->kept.node)
		take_off(cap, m);
	capacity_note(cap, m->kept.giving ? "capacity-given-back" : "capacity-gone", m->kept.id,
		      "machine %s of pool %s is gone%s%s", m->kept.id, m->kept.pool,
		      m->kept.why ? ": " : "", m->kept.why ? m->kept.why : "");
	return true;
}

void machines_match(struct capacity *cap, wall_ms now)
{
	struct machine *m, *next;
	for (m = TAILQ_FIRST(&cap->machines); m; m = next) {
		next = TAILQ_NEXT(m, entry);
		match(cap, m, now);
		if (m->node && m->node->up)
			take_sample(cap, m);
		bool gone = m->pool->described && (!m->seen || m->state == CLOUD_ENDING);
		if (gone && end_of(cap, m))
			machine_drop(cap, m);
	}
}

void machine_undrain(struct capacity *cap, struct machine *m)
{
	struct error e = ERROR_INIT;
	if (m->kept.node &&
	    node_set_state(cap->controller, m->kept.node, NODE_READY, WHO, "node-ready", &e) < 0)
		log_error("node %s stays drained: %s", m->kept.node, e.text);
}
