/* SPDX-License-Identifier: Apache-2.0 */
/* Machines that could be empty are emptied as policies/consolidate.h says; capacity then gives
 * them back. */
#include "sim/world_private.h"

#include "base/cleanup.h"

#include <stdio.h>
#include <stdlib.h>

/* elsad looks each 5 s, and twice a second while it empties a node. Here what ends is looked at
 * then, and the rest more seldom: a pass costs as much as a thousand other events. */
enum { DECISIONS_MOST = 256, ID_LEN = 12 };
enum { SOON_MS = 500, EMPTYING_MS = 30000, LEAST_MS = 60000, SELDOM_MS = 300000 };
#define HOUR_MS ((int64_t)3600 * 1000)

static bool is_on(const struct world *w)
{
	return w->setup->consolidates && w->strategy->moves;
}

void consolidate_soon(struct world *w, int64_t in_ms)
{
	wall_ms at = w->now + in_ms;
	if (!is_on(w) || (w->consolidate_at && w->consolidate_at <= at))
		return;
	w->consolidate_at = at;
	world_at(w, at, ON_CONSOLIDATE, 0, 0);
}

/* --- what is so --------------------------------------------------------------------------------
 */

static struct consolidate_node node_of(const struct world *w, const struct machine *m)
{
	const struct world_pool *pool = &w->pools[m->pool];
	int64_t left = m->joined ? pool->memory_bytes - m->committed_bytes : 0;
	bool moves = m->joined && !m->doomed;
	return (struct consolidate_node) {
		.name = m->name,
		.memory_bytes = pool->memory_bytes,
		.left_bytes = left,
		.pooled = true,
		.serving = m->joined,
		.doomed = m->doomed,
		.gives = moves,
		.takes = moves && left > 0,
		.empty = !m->count && !m->arriving,
		.pool = m->pool,
		.price = pool->price->hour,
		.fits_since = m->fits_since,
	};
}

static enum consolidate_use use_of(const struct world *w, const struct sim_session *s)
{
	if (s->now.state == SESSION_CHECKPOINTING)
		return CONSOLIDATE_IDLE;
	if (s->now.state != SESSION_RUNNING && s->now.state != SESSION_SNAPSHOTTING)
		return CONSOLIDATE_IN_USE;
	return session_in_use(w, s) ? CONSOLIDATE_IN_USE : CONSOLIDATE_IDLE;
}

static struct consolidate_session session_facts(const struct world *w, size_t node,
						const struct sim_session *s, char *id)
{
	enum session_state state = s->now.state;
	bool leaving = state == SESSION_CHECKPOINTING || state == SESSION_MIGRATING;
	bool stays = s->stays == s->machine + 1;
	snprintf(id, ID_LEN, "%010u", session_number(w, s));
	return (struct consolidate_session) {
		.id = id,
		.node = node,
		.memory_bytes = session_room(w, s),
		.use = use_of(w, s),
		.leaving = leaving,
		.busy = !leaving && state != SESSION_RUNNING,
		.stuck_until = stays ? w->now + w->setup->idle.refused_retry_ms : 0,
		.moved_at = s->emptied_at,
	};
}

static bool is_wanted(const struct world *w)
{
	for (size_t i = 0; i < w->wanted_count; i++)
		if (w->sessions[w->wanted[i]].wanted)
			return true;
	return false;
}

static void forget_moves(struct world *w)
{
	size_t kept = 0;
	for (size_t i = 0; i < w->move_count; i++)
		if (w->moves[i] + HOUR_MS > w->now)
			w->moves[kept++] = w->moves[i];
	w->move_count = kept;
}

size_t moves_of_hour(struct world *w, wall_ms *oldest)
{
	forget_moves(w);
	*oldest = w->move_count ? w->moves[0] : 0;
	return w->move_count;
}

static size_t sessions_there(const struct world *w)
{
	size_t count = 0;
	for (size_t i = 0; i < w->live_count; i++)
		count += w->machines[w->live[i]]->count;
	return count;
}

static void describe(struct world *w, struct consolidate_facts *f, char (*ids)[ID_LEN])
{
	const struct machine *emptying = w->emptying == NONE ? NULL : w->machines[w->emptying];
	for (size_t i = 0; i < w->live_count; i++) {
		const struct machine *m = w->machines[w->live[i]];
		f->nodes[i] = node_of(w, m);
		for (size_t k = 0; k < m->count; k++) {
			const struct sim_session *s = &w->sessions[m->sessions[k]];
			char *id = ids[f->session_count];
			f->sessions[f->session_count++] = session_facts(w, i, s, id);
		}
	}
	forget_moves(w);
	f->node_count = w->live_count;
	f->moves = w->moves;
	f->move_count = w->move_count;
	f->emptying = emptying ? emptying->slot : CONSOLIDATE_NONE;
	f->emptying_gone = w->emptying != NONE && !emptying;
	f->began_at = w->emptying_at;
	f->ended_at = w->emptying_ended_at;
	f->grown_at = w->grown_at;
	f->wanted = is_wanted(w);
}

/* --- what is done ------------------------------------------------------------------------------
 */

static void set_emptying(struct world *w, uint32_t number)
{
	struct machine *before = w->emptying == NONE ? NULL : w->machines[w->emptying];
	w->emptying = number;
	if (before)
		machine_show(w, before);
	if (number != NONE)
		machine_show(w, w->machines[number]);
	capacity_soon(w, 0);
}

/* It counts from now on, whatever comes of it. */
bool moves_count(struct world *w, struct sim_session *s)
{
	if (w->move_count == w->move_size) {
		size_t size = w->move_size ? w->move_size * 2 : 64;
		wall_ms *list = reallocarray(w->moves, size, sizeof(*list));
		if (!list) {
			world_failed(w);
			return false;
		}
		w->moves = list;
		w->move_size = size;
	}
	w->moves[w->move_count++] = w->now;
	s->emptied_at = w->now;
	return true;
}

static void move(struct world *w, struct sim_session *s, struct machine *to)
{
	struct machine *from = machine_of(w, s);
	if (s->now.state != SESSION_RUNNING || !moves_count(w, s))
		return;
	move_begin(w, s, to, evict_move_ms(w, from, s->memory_bytes));
}

static void put_away(struct world *w, struct sim_session *s)
{
	if (s->now.state != SESSION_RUNNING)
		return;
	idle_put_away(w, s);
	w->result.emptied_put += s->now.state == SESSION_CHECKPOINTING;
}

static void carry_out(struct world *w, const struct consolidate_facts *f,
		      const struct consolidate_decision *d, const uint32_t *numbers)
{
	if (d->kind == CONSOLIDATE_BEGIN) {
		w->emptying_at = w->now;
		set_emptying(w, numbers[d->node]);
		consolidate_soon(w, SOON_MS);
	} else if (d->kind == CONSOLIDATE_END) {
		w->emptying_ended_at = w->now;
		w->result.emptied += d->why == CONSOLIDATE_DONE;
		w->result.emptying_ended += d->why != CONSOLIDATE_DONE;
		set_emptying(w, NONE);
	} else {
		const char *id = f->sessions[d->session].id;
		struct sim_session *s = &w->sessions[strtoul(id, NULL, 10)];
		if (d->kind == CONSOLIDATE_MOVE)
			move(w, s, w->machines[numbers[d->to]]);
		else if (d->kind == CONSOLIDATE_PUT_AWAY)
			put_away(w, s);
	}
}

/* --- a pass ------------------------------------------------------------------------------------
 */

static void decide(struct world *w, struct consolidate_facts *f, const uint32_t *numbers)
{
	struct consolidate_decision list[DECISIONS_MOST];
	struct consolidate_rules rules = w->setup->consolidate;
	wall_ms next;
	rules.min = w->setup->capacity.min;
	rules.spare_bytes = w->setup->capacity.spare_bytes +
			    w->setup->spare_session_bytes * (int64_t)w->session_count;
	size_t count = consolidate_decide(&rules, f, w->now, list, DECISIONS_MOST, &next);
	for (size_t i = 0; i < f->node_count; i++)
		w->machines[numbers[i]]->fits_since = f->nodes[i].fits_since;
	for (size_t i = 0; i < count; i++)
		carry_out(w, f, &list[i], numbers);
	int64_t pause = w->emptying == NONE ? SELDOM_MS : EMPTYING_MS;
	int64_t least = w->emptying == NONE ? LEAST_MS : SOON_MS;
	if (next > w->now && next - w->now < pause)
		pause = next - w->now;
	consolidate_soon(w, pause > least ? pause : least);
}

/* What is decided on is put into other room than the world's: what is done asks for that. */
void consolidate_pass(struct world *w)
{
	size_t sessions = sessions_there(w);
	w->consolidate_at = 0;
	struct consolidate_facts facts = {
		.nodes = calloc(w->live_count + 1, sizeof(*facts.nodes)),
		.sessions = calloc(sessions + 1, sizeof(*facts.sessions)),
	};
	char(*ids)[ID_LEN] = calloc(sessions + 1, ID_LEN);
	uint32_t *numbers = calloc(w->live_count + 1, sizeof(*numbers));
	if (facts.nodes && facts.sessions && ids && numbers) {
		for (size_t i = 0; i < w->live_count; i++)
			numbers[i] = w->live[i];
		describe(w, &facts, ids);
		decide(w, &facts, numbers);
	} else {
		world_failed(w);
	}
	free(facts.nodes);
	free(facts.sessions);
	free(ids);
	free(numbers);
}
