/* SPDX-License-Identifier: Apache-2.0 */
/* What is known when it is decided which machines are wanted. */
#include "controller/capacity_private.h"
#include "controller/node.h"
#include "controller/nodes_change.h"
#include "controller/placing.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { PATIENCE_MS = 2000 };

void capacity_pass_deinit(struct capacity_pass *pass)
{
	free(pass->wanted);
	free(pass->pools);
	free(pass->machines);
	free(pass->of);
}

static struct capacity_machine machine_facts(const struct capacity *cap, const struct machine *m)
{
	const struct node *node = m->node;
	wall_ms since = m->kept.since;
	/* It cannot join while elsad is not there. */
	if (since < cap->started_at)
		since = cap->started_at;
	struct capacity_machine f = {
		.pool = m->pool->index,
		.since = since,
		.joined = node,
		.refused = m->refused,
		.going = m->kept.giving,
	};
	if (!node)
		return f;
	f.up = node->up && node_in_reach(node);
	f.doomed = placing_is_doomed(node);
	f.held = node->draining && !m->kept.giving;
	/* With those of which nobody knows what they are. */
	f.sessions = node_sessions(node) + node->strange_count;
	f.empty_since = m->empty_since;
	return f;
}

/* A joined node that did not say since elsad's start what machine it is. */
static bool any_stranger(struct capacity *cap)
{
	for (struct node *n = nodes_first(cap->controller); n; n = nodes_next(n)) {
		const struct machine *m;
		bool known = n->local || !n->joined || n->info.name;
		TAILQ_FOREACH(m, &cap->machines, entry)
		known = known || m->node == n;
		if (!known)
			return true;
	}
	return false;
}

static void collect_pools(struct capacity *cap, struct capacity_pass *pass, wall_ms now)
{
	for (size_t i = 0; i < cap->pool_count; i++) {
		const struct pool *p = &cap->pools[i];
		pass->pools[i] = (struct capacity_pool) {
			.desired = p->described ? p->desired : -1,
			.most = p->most,
			.asked_at = p->kept.asked_at,
			.refused_at = p->kept.refused_at,
			.busy = pool_is_busy(p),
			.keeps = now < p->shrink_next_at,
			.can_lower = p->can_lower,
			.memory_bytes = p->kept.memory_bytes,
			.features = p->kept.features,
			.not_spot = p->kept.price && strcmp(p->kept.price, "spot") != 0,
		};
	}
	pass->facts.pool_count = cap->pool_count;
}

static void collect_machines(struct capacity *cap, struct capacity_pass *pass)
{
	struct machine *m;
	size_t n = 0;
	TAILQ_FOREACH(m, &cap->machines, entry)
	{
		if (!m->pool->described || !m->seen || m->state == CLOUD_ENDING)
			continue;
		pass->of[n] = m;
		pass->machines[n++] = machine_facts(cap, m);
	}
	pass->facts.machine_count = n;
}

/* A node that does not answer for a moment, or since elsad's start, may have room as soon as it
 * does: only one whose lease has lapsed is not waited for. */
static wall_ms patience_until(const struct capacity *cap, const struct want *w)
{
	struct controller *c = cap->controller;
	wall_ms started = cap->started_at + 2 * c->config->nodes.lease_ms;
	bool silent = false;
	for (struct node *n = nodes_first(c); n; n = nodes_next(n))
		silent = silent || (!n->local && n->joined && !n->up && node_in_reach(n));
	if (w->doomed)
		return 0;
	return silent && started > w->since + PATIENCE_MS ? started : w->since + PATIENCE_MS;
}

static void collect_wanted(struct capacity *cap, struct capacity_pass *pass, wall_ms now)
{
	const struct want *w;
	TAILQ_FOREACH(w, &cap->wants, entry)
	{
		wall_ms until = patience_until(cap, w);
		if (until > now && (!pass->next_at || until < pass->next_at))
			pass->next_at = until;
		pass->wanted[pass->facts.wanted_count++] =
			(struct capacity_wanted) { .session = w->id,
						   .memory_bytes = w->memory_bytes,
						   .features = w->features,
						   .since = w->since,
						   .spot = w->spot,
						   .in_use = w->in_use && until <= now };
	}
}

int capacity_collect(struct capacity *cap, struct capacity_pass *pass, wall_ms now)
{
	const struct machine *m;
	const struct want *w;
	size_t machines = 1, wants = 1;
	TAILQ_FOREACH(m, &cap->machines, entry)
	machines++;
	TAILQ_FOREACH(w, &cap->wants, entry)
	wants++;
	pass->wanted = calloc(wants, sizeof(*pass->wanted));
	pass->pools = calloc(cap->pool_count, sizeof(*pass->pools));
	pass->machines = calloc(machines, sizeof(*pass->machines));
	pass->of = calloc(machines, sizeof(struct machine *));
	if (!pass->wanted || !pass->pools || !pass->machines || !pass->of)
		return -ENOMEM;
	pass->facts = (struct capacity_facts) { .wanted = pass->wanted,
						.pools = pass->pools,
						.machines = pass->machines,
						.grown_at = cap->grown_at,
						.shrunk_at = cap->shrunk_at,
						.strangers = any_stranger(cap) };
	if (cap->controller->config->capacity.spare_bytes)
		pass->facts.free_bytes = placing_free_bytes(cap->controller);
	collect_pools(cap, pass, now);
	collect_machines(cap, pass);
	collect_wanted(cap, pass, now);
	return 0;
}
