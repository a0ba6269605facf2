/* SPDX-License-Identifier: Apache-2.0 */
/* Machines that the cloud takes away, with a word or without; who is saved is for
 * policies/evacuate.h to say. */
#include "sim/world_private.h"

#include "policies/evacuate.h"
#include "sim/rng.h"

#include <stdio.h>
#include <stdlib.h>

enum { ID_LEN = 12, HAND_OVER_MS = 1000, WHILE_MOVING_MS = 5000 };
#define GIB ((int64_t)1 << 30)

/* --- what is taken ---------------------------------------------------------------------------- */

static void count_taken(struct world *w, const struct machine *m)
{
	w->result.machines_taken++;
	w->result.evicted += m->count;
	for (size_t i = 0; i < m->count; i++)
		w->sessions[m->sessions[i]].evicted = true;
}

static void take(struct world *w, struct machine *m, int64_t notice_ms)
{
	count_taken(w, m);
	if (!m->joined || !notice_ms) {
		evict_gone(w, m);
		return;
	}
	machine_doom(w, m, w->now + notice_ms);
	world_at(w, m->deadline, ON_GONE, m->number, 0);
	evict_look(w, m);
}

/* Which machines it hits depends on the seed, the interruption and the machine, and on nothing that
 * is done with them. */
void evict_interrupt(struct world *w, const struct trace_record *record)
{
	size_t pool = w->trace_pools[record->pool];
	uint64_t number = w->interrupts++;
	if (pool == SIZE_MAX)
		return;
	if (record->dry_ms)
		w->pools[pool].dry_until = w->now + record->dry_ms;
	size_t end = w->machine_numbers;
	for (size_t i = 0; i < end; i++) {
		struct machine *m = w->machines[i];
		if (!m || m->pool != pool || m->doomed)
			continue;
		struct rng r = rng_stream(w->setup->seed, number << 32 | m->number);
		if (rng_uniform(&r) < record->share)
			take(w, m, record->notice_ms);
	}
}

/* --- while there is time ---------------------------------------------------------------------- */

static struct evacuate_facts facts_of(const struct world *w, const struct machine *m)
{
	const struct step_times *t = &w->strategy->times;
	int64_t read = t->again_gib_ms ? GIB * 1000 / t->again_gib_ms : GIB * 1000;
	int64_t send = t->first_gib_ms ? GIB * 1000 / t->first_gib_ms : GIB * 1000;
	size_t at_once = (size_t)t->at_once;
	return (struct evacuate_facts) {
		.now = w->now,
		.deadline = m->deadline,
		.margin_ms = w->setup->margin_ms,
		.stream_bytes_per_s = send,
		.store_bytes_per_s = send * 2,
		.dump_stream_bytes_per_s = read,
		.dump_bytes_per_s = read * 2,
		.fixed_ms = t->again_ms,
		.move_bytes_per_s = t->move_gib_ms ? GIB * 1000 / t->move_gib_ms : 0,
		/* Who can be moved is, or is not at all. */
		.moves_until = w->strategy->moves ? w->now + 1 : 0,
		.cpus = (size_t)w->setup->prices.types[w->pools[m->pool].price->type].cpus,
		.workers = at_once < w->setup->workers ? at_once : w->setup->workers,
	};
}

int64_t evict_move_ms(const struct world *w, const struct machine *m, int64_t bytes)
{
	const struct evacuate_facts facts = facts_of(w, m);
	return evacuate_move_takes(&facts, bytes);
}

static int64_t unsent(const struct world *w, const struct sim_session *s)
{
	const struct evacuate_history history = {
		.last_at = s->frozen_at,
		.last_bytes = (int64_t)((double)s->memory_bytes *
					(s->before_at ? w->strategy->times.changed_share : 1)),
		.before_at = s->before_at,
	};
	return evacuate_unsent(&history, s->memory_bytes, w->now);
}

static enum evacuate_state state_of(const struct world *w, const struct sim_session *s)
{
	if (s->saving || s->now.state == SESSION_CHECKPOINTING)
		return EVACUATE_SAVING;
	if (s->now.state == SESSION_MIGRATING)
		return w->now < s->state_at + HAND_OVER_MS ? EVACUATE_MOVING : EVACUATE_AWAY;
	return s->now.state == SESSION_RUNNING ? EVACUATE_WAITING : EVACUATE_BUSY;
}

static void describe(const struct world *w, const struct machine *m, struct evacuate_session *list,
		     char (*ids)[ID_LEN])
{
	for (size_t i = 0; i < m->count; i++) {
		const struct sim_session *s = &w->sessions[m->sessions[i]];
		snprintf(ids[i], ID_LEN, "%010u", m->sessions[i]);
		list[i] = (struct evacuate_session) {
			.id = ids[i],
			.state = state_of(w, s),
			.since = s->saving ? s->saving_at : s->state_at,
			.resident_bytes = s->memory_bytes,
			.unsent_bytes = unsent(w, s),
			.snapshot_at = s->now.checkpoint ? s->frozen_at : 0,
			.in_use = session_in_use(w, s),
			.frozen = s->held_at != 0,
			.movable = s->stays != s->machine + 1,
			.waited = s->stays == s->machine + 1,
		};
	}
}

static void hold(struct world *w, struct sim_session *s)
{
	if (s->held_at)
		return;
	work_pause(w, s);
	s->held_at = w->now;
}

static void let_go(struct world *w, struct sim_session *s)
{
	if (!s->held_at)
		return;
	work_resume(w, s);
	s->held_at = 0;
	s->asked_at = 0;
}

static void save(struct world *w, struct sim_session *s, int64_t takes_ms)
{
	hold(w, s);
	session_freeze(w, s);
	s->saving = ++w->savings;
	s->saving_at = w->now;
	world_at(w, w->now + takes_ms, ON_SAVED, session_number(w, s), s->saving);
}

/* True: somebody has stayed who was to go, and is to be saved otherwise. */
static bool carry_out(struct world *w, const struct evacuate_facts *facts,
		      const struct evacuate_session *list, size_t count)
{
	size_t at_once = 0;
	bool stayed = false;
	for (size_t i = 0; i < count; i++)
		at_once += list[i].what == EVACUATE_CHECKPOINT || list[i].state == EVACUATE_SAVING;
	for (size_t i = 0; i < count; i++) {
		const struct evacuate_session *x = &list[i];
		struct sim_session *s = &w->sessions[strtoul(x->id, NULL, 10)];
		if (x->what == EVACUATE_CHECKPOINT)
			save(w, s,
			     evacuate_takes(facts, x->resident_bytes, x->unsent_bytes, at_once));
		else if (x->what == EVACUATE_MOVE)
			stayed |= !move_try(w, s, evacuate_move_takes(facts, x->resident_bytes));
		else if (x->what == EVACUATE_RECALL)
			move_recall(w, s);
		else if (x->what == EVACUATE_FREEZE && x->state == EVACUATE_WAITING)
			hold(w, s);
		else if (x->what == EVACUATE_WAIT || x->what == EVACUATE_LEAVE)
			let_go(w, s);
	}
	return stayed;
}

void evict_look(struct world *w, struct machine *m)
{
	if (!w->strategy->evacuates || !m->count)
		return;
	size_t list_size = m->count * sizeof(struct evacuate_session);
	char *room = world_scratch(w, list_size + m->count * ID_LEN);
	if (!room)
		return;
	struct evacuate_session *list = (void *)room;
	struct evacuate_facts facts = facts_of(w, m);
	describe(w, m, list, (void *)(room + list_size));
	wall_ms wake = evacuate_decide(&facts, list, m->count);
	bool stayed = carry_out(w, &facts, list, m->count);
	m->evict_turn++;
	/* Nothing takes longer here than was thought: what ends is looked at then. */
	if (wake && move_under_way(w, m))
		wake += WHILE_MOVING_MS;
	if (wake || stayed)
		world_at(w, stayed ? w->now : wake, ON_EVACUATE, m->number, m->evict_turn);
}

/* Its node has put it away by itself, and says so. */
void evict_saved(struct world *w, struct sim_session *s)
{
	struct machine *m = machine_of(w, s);
	session_durable(w, s);
	w->result.evicted_saved += s->evicted;
	s->evicted = false;
	s->saving = 0;
	if (session_in_use(w, s)) {
		s->now.wish = WISH_AWAKE;
		s->evicted_at = s->held_at;
		s->asked_at = 0;
	}
	s->held_at = 0;
	s->slept = true;
	s->now.checkpoint = ++s->now.generation;
	machine_leave(w, s);
	session_change(w, s, EVENT_EVACUATED);
	size_asleep(w, s);
	if (s->asked_at || s->now.wish != WISH_NONE)
		session_wake(w, s);
	evict_look(w, m);
}

/* --- gone ---------------------------------------------------------------------------------------
 */

static void lose_machine(struct world *w, struct sim_session *s)
{
	bool in_use = s->now.state != SESSION_RESTORING && s->now.state != SESSION_STARTING &&
		      session_in_use(w, s);
	work_pause(w, s);
	bool checkpointing = s->now.state == SESSION_CHECKPOINTING;
	s->saving = 0;
	if (in_use) {
		s->now.wish = WISH_AWAKE;
		s->evicted_at = s->held_at ? s->held_at : w->now;
		s->asked_at = 0;
	}
	s->held_at = 0;
	move_lost(w, s);
	session_change(w, s, EVENT_NODE_LOST);
	if (checkpointing)
		idle_slot_free(w);
}

void evict_gone(struct world *w, struct machine *m)
{
	m->gone = true;
	w->nodes[m->slot].up = false;
	while (m->count)
		lose_machine(w, &w->sessions[m->sessions[m->count - 1]]);
	machine_end(w, m);
}
