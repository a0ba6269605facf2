/* SPDX-License-Identifier: Apache-2.0 */
/* Machines: asked for, there, with sessions on them, paid for until they are gone. */
#include "sim/world_private.h"

#include <stdio.h>
#include <stdlib.h>

#define HOUR_MS     3600000.0
#define SETTLING_MS 15000 /* what comes and goes is looked at together */

struct machine *machine_of(const struct world *w, const struct sim_session *s)
{
	return s->machine == NONE ? NULL : w->machines[s->machine];
}

void machine_show(struct world *w, const struct machine *m)
{
	const struct world_pool *pool = &w->pools[m->pool];
	w->nodes[m->slot] = (struct place_node) {
		.name = m->name,
		.up = m->joined,
		.doomed = m->doomed,
		.avoid = m->number == w->emptying,
		.memory_bytes = pool->memory_bytes,
		.committed_bytes = m->committed_bytes,
		.available_bytes = -1,
		.has_image = true,
		.price = pool->price->spot ? "spot" : "on-demand",
	};
}

void machine_resized(struct world *w, struct machine *m, int64_t more)
{
	m->committed_bytes += more;
	if (w->sizes)
		w->sizes->promised_bytes += (double)more;
	w->nodes[m->slot].committed_bytes = m->committed_bytes;
	capacity_soon(w, SETTLING_MS);
}

static int more_sessions(struct machine *m)
{
	if (m->count < m->size)
		return 0;
	size_t size = m->size ? m->size * 2 : 32;
	uint32_t *list = reallocarray(m->sessions, size, sizeof(*list));
	if (list)
		m->sessions = list;
	struct protect_facts *facts = reallocarray(m->facts, size, sizeof(*facts));
	if (facts)
		m->facts = facts;
	if (!list || !facts)
		return -1;
	m->size = size;
	return 0;
}

void machine_put(struct world *w, struct machine *m, struct sim_session *s)
{
	if (more_sessions(m) < 0) {
		world_failed(w);
		return;
	}
	s->machine = m->number;
	s->place = (uint32_t)m->count;
	m->sessions[m->count++] = session_number(w, s);
	m->empty_since = 0;
	protect_note(w, s);
	w->awake++;
	machine_resized(w, m, session_room(w, s));
}

void machine_leave(struct world *w, struct sim_session *s)
{
	struct machine *m = machine_of(w, s);
	if (!m)
		return;
	uint32_t last = m->sessions[--m->count];
	m->sessions[s->place] = last;
	m->facts[s->place] = m->facts[m->count];
	w->sessions[last].place = s->place;
	s->machine = NONE;
	w->awake--;
	if (!m->count)
		m->empty_since = w->now;
	machine_resized(w, m, -session_room(w, s));
	if (w->wanted_count && !m->doomed && !m->gone)
		wanted_retry(w);
}

struct machine *machine_free(struct machine *m)
{
	if (m) {
		free(m->sessions);
		free(m->facts);
	}
	free(m);
	return NULL;
}

/* --- there and gone --------------------------------------------------------------------------- */

static int more_room(struct world *w)
{
	if (w->machine_numbers < w->machine_size)
		return 0;
	size_t size = w->machine_size ? w->machine_size * 2 : 256;
	struct machine **machines = reallocarray(w->machines, size, sizeof(struct machine *));
	if (machines)
		w->machines = machines;
	uint32_t *live = reallocarray(w->live, size, sizeof(*live));
	if (live)
		w->live = live;
	struct place_node *nodes = reallocarray(w->nodes, size, sizeof(*nodes));
	if (nodes)
		w->nodes = nodes;
	if (!machines || !live || !nodes)
		return -1;
	w->machine_size = size;
	return 0;
}

void machine_ask(struct world *w, size_t pool)
{
	struct machine *m = more_room(w) < 0 ? NULL : calloc(1, sizeof(*m));
	if (!m) {
		world_failed(w);
		return;
	}
	*m = (struct machine) { .number = (uint32_t)w->machine_numbers,
				.pool = pool,
				.asked_at = w->now,
				.slot = w->live_count };
	snprintf(m->name, sizeof(m->name), "m%08u", m->number);
	w->machines[w->machine_numbers++] = m;
	w->live[w->live_count++] = m->number;
	machine_show(w, m);
	if (w->live_count > w->result.machines_peak)
		w->result.machines_peak = w->live_count;
	world_at(w, w->now + w->setup->prices.boot_ms, ON_JOIN, m->number, 0);
}

void machine_joined(struct world *w, struct machine *m)
{
	m->joined = true;
	m->empty_since = w->now;
	machine_show(w, m);
	wanted_retry(w);
	capacity_soon(w, 0);
}

void machine_doom(struct world *w, struct machine *m, wall_ms deadline)
{
	m->doomed = true;
	m->deadline = deadline;
	machine_show(w, m);
	capacity_soon(w, 0);
}

static void pay(struct world *w, const struct machine *m)
{
	const struct price_pool *price = w->pools[m->pool].price;
	double hours = (double)(w->now - m->asked_at) / HOUR_MS;
	w->result.machine_hours += hours;
	w->result.spot_hours += price->spot ? hours : 0;
	w->result.compute += hours * price->hour;
}

void machine_end(struct world *w, struct machine *m)
{
	pay(w, m);
	w->live[m->slot] = w->live[--w->live_count];
	if (m->slot < w->live_count) {
		struct machine *moved = w->machines[w->live[m->slot]];
		moved->slot = m->slot;
		machine_show(w, moved);
	}
	w->machines[m->number] = machine_free(m);
	capacity_soon(w, 0);
}

void machines_settle(struct world *w)
{
	for (size_t i = 0; i < w->live_count; i++)
		pay(w, w->machines[w->live[i]]);
}
