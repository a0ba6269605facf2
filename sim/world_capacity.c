/* SPDX-License-Identifier: Apache-2.0 */
/* Machines are asked for and given back as policies/capacity.h says. */
#include "sim/world_private.h"

enum { DECISIONS_MOST = 64, AGAIN_MS = 5000 };

void capacity_soon(struct world *w, int64_t in_ms)
{
	wall_ms at = w->now + in_ms;
	if (w->capacity_at && w->capacity_at <= at)
		return;
	w->capacity_at = at;
	world_at(w, at, ON_CAPACITY, 0, 0);
}

static int64_t free_bytes(const struct world *w)
{
	int64_t sum = 0;
	for (size_t i = 0; i < w->live_count; i++) {
		const struct place_node *n = &w->nodes[i];
		int64_t left = n->memory_bytes - n->committed_bytes;
		sum += n->up && !n->doomed ? capacity_usable(left, n->memory_bytes) : 0;
	}
	return sum;
}

static struct capacity_machine machine_facts(const struct world *w, size_t slot)
{
	const struct machine *m = w->machines[w->live[slot]];
	return (struct capacity_machine) { .pool = m->pool,
					   .since = m->asked_at,
					   .joined = m->joined,
					   .up = m->joined,
					   .doomed = m->doomed,
					   .sessions = m->count + m->arriving,
					   .empty_since = m->count ? 0 : m->empty_since };
}

static void describe_pools(struct world *w, struct capacity_pool *to)
{
	int64_t present[PRICES_POOLS_MOST] = { 0 };
	for (size_t i = 0; i < w->live_count; i++)
		present[w->machines[w->live[i]]->pool]++;
	for (size_t i = 0; i < w->pool_count; i++) {
		struct world_pool *p = &w->pools[i];
		p->desired = present[i];
		to[i] = (struct capacity_pool) { .desired = p->desired,
						 .asked_at = p->asked_at,
						 .refused_at = p->refused_at,
						 .can_lower = true,
						 .memory_bytes = p->memory_bytes };
	}
}

static size_t describe_wanted(const struct world *w, struct capacity_wanted *to)
{
	size_t n = 0;
	for (size_t i = 0; i < w->wanted_count; i++) {
		const struct sim_session *s = &w->sessions[w->wanted[i]];
		if (!s->wanted)
			continue;
		to[n++] = (struct capacity_wanted) {
			.session = "",
			.memory_bytes = session_room(w, s),
			.since = s->asked_at ? s->asked_at : s->evicted_at,
			.in_use = true,
		};
	}
	return n;
}

static void grow(struct world *w, size_t pool, int64_t to)
{
	struct world_pool *p = &w->pools[pool];
	w->grown_at = p->asked_at = w->now;
	if (p->dry_until > w->now)
		p->refused_at = w->now;
	for (int64_t n = p->desired; n < to && p->dry_until <= w->now; n++)
		machine_ask(w, pool);
}

/* Numbers of machines, since the list changes as they end. */
static void carry_out(struct world *w, const struct capacity_decision *decisions, size_t count,
		      const uint32_t *numbers)
{
	for (size_t i = 0; i < count; i++) {
		const struct capacity_decision *d = &decisions[i];
		if (d->kind == CAPACITY_GROW) {
			grow(w, d->pool, d->desired);
		} else if (d->kind == CAPACITY_SHRINK) {
			if (d->why == CAPACITY_EMPTY)
				w->shrunk_at = w->now;
			machine_end(w, w->machines[numbers[d->machine]]);
		}
	}
}

void capacity_pass(struct world *w)
{
	struct capacity_pool pools[PRICES_POOLS_MOST];
	struct capacity_decision decisions[DECISIONS_MOST];
	struct capacity_outlook outlook;
	size_t wanted_size = w->wanted_count * sizeof(struct capacity_wanted);
	size_t machine_size = w->live_count * sizeof(struct capacity_machine);
	char *room = world_scratch(w, wanted_size + machine_size +
					      (w->live_count + 1) * sizeof(uint32_t));
	if (!room)
		return;
	struct capacity_machine *machines = (void *)(room + wanted_size);
	uint32_t *numbers = (void *)(room + wanted_size + machine_size);
	struct capacity_facts facts = { .wanted = (void *)room,
					.pools = pools,
					.pool_count = w->pool_count,
					.machines = machines,
					.machine_count = w->live_count,
					.grown_at = w->grown_at,
					.shrunk_at = w->shrunk_at,
					.free_bytes = free_bytes(w) };
	describe_pools(w, pools);
	facts.wanted_count = describe_wanted(w, facts.wanted);
	for (size_t i = 0; i < w->live_count; i++) {
		machines[i] = machine_facts(w, i);
		numbers[i] = w->live[i];
	}
	struct capacity_rules rules = w->setup->capacity;
	rules.spare_bytes += w->setup->spare_session_bytes * (int64_t)w->session_count;
	w->capacity_at = 0;
	size_t count = capacity_decide(&rules, &facts, w->now, decisions, DECISIONS_MOST, &outlook);
	carry_out(w, decisions, count, numbers);
	if (outlook.next_at)
		capacity_soon(w, outlook.next_at - w->now);
	if (w->wanted_count || count)
		capacity_soon(w, AGAIN_MS);
}
