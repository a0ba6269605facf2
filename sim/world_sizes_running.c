/* SPDX-License-Identifier: Apache-2.0 */
/* What runs and has a limit: it comes near to that (policies/rescue.h), or it gets a cheaper one,
 * or moves to where its memory costs less (policies/size_move.h), as `size.running` says. */
#include "sim/world_private.h"

#include "policies/place.h"

#define GIB          1073741824.0
#define HOUR_MS      ((int64_t)3600 * 1000)
#define SOON_MS      5000
#define CHANGED_MS   1000 /* it may be worth to move, now */
#define MOVE_LOOK_MS ((int64_t)10 * 60 * 1000)

static bool has_room(const struct world *w, size_t slot, const struct sim_session *s, int64_t bytes)
{
	const struct place_request request = { .memory_bytes = bytes, .local_allowed = true };
	return w->live[slot] != s->machine && !w->nodes[slot].avoid &&
	       place(&request, &w->nodes[slot], 1, NULL) == 0;
}

static void move(struct world *w, struct sim_session *s, struct machine *to, enum size_move_why why)
{
	size_of(w, s)->moving = why;
	move_begin(w, s, to, evict_move_ms(w, machine_of(w, s), s->memory_bytes));
}

bool size_moved(struct world *w, struct sim_session *s)
{
	struct sim_size *z = w->sizes ? size_of(w, s) : NULL;
	if (!z || !z->moving)
		return false;
	w->result.sizes.moved += z->moving == SIZE_MOVES_FOR_MONEY;
	w->result.sizes.rescue_moved += z->moving == SIZE_MOVES_FOR_MEMORY;
	z->moving = SIZE_MOVES_NOT;
	size_arm(w, s, w->now);
	return true;
}

void size_recalled(struct world *w, struct sim_session *s)
{
	if (!w->sizes)
		return;
	size_of(w, s)->moving = SIZE_MOVES_NOT;
	if (s->runs)
		size_arm(w, s, w->now + SOON_MS);
}

void size_ended(struct world *w, struct sim_session *s)
{
	struct sim_size *z = w->sizes ? size_of(w, s) : NULL;
	if (!z || !z->waits || !s->runs)
		return;
	z->waits = false;
	size_arm(w, s, w->now);
}

/* --- near to its limit --------------------------------------------------------------------------
 */

static int64_t room_left(const struct world *w, const struct sim_session *s)
{
	const struct machine *m = machine_of(w, s);
	int64_t own = size_of(w, s)->limit_bytes - s->memory_bytes;
	return w->pools[m->pool].memory_bytes - m->committed_bytes + (own > 0 ? own : 0);
}

static int64_t largest_machine(const struct world *w)
{
	int64_t most = 0;
	for (size_t i = 0; i < w->pool_count; i++)
		if (w->pools[i].memory_bytes > most)
			most = w->pools[i].memory_bytes;
	return most;
}

/* The kernel ends what is beyond its limit; the session goes on. */
static void run_out(struct world *w, struct sim_size *z)
{
	if (z->wants_bytes <= z->limit_bytes)
		return;
	z->wants_bytes = z->limit_bytes;
	w->result.sizes.out_of_memory++;
}

static void raise_limit(struct world *w, struct sim_session *s, int64_t bytes)
{
	size_limit(w, s, bytes);
	size_of(w, s)->sized_at = w->now;
}

static void sleep_until_there_is_room(struct world *w, struct sim_session *s)
{
	w->result.sizes.rescue_slept++;
	idle_put_to_sleep(w, s);
	s->now.wish = WISH_AWAKE;
	if (!s->asked_at)
		s->asked_at = w->now;
}

/* As controller/rescue.c does. */
static void take_elsewhere(struct world *w, struct sim_session *s, int64_t wanted)
{
	struct sim_size *z = size_of(w, s);
	int64_t most = largest_machine(w);
	int64_t bytes = wanted < most ? wanted : most;
	if (machine_of(w, s)->doomed)
		return; /* it leaves anyway */
	if (bytes <= z->limit_bytes) {
		run_out(w, z);
		return;
	}
	if (move_under_way(w, machine_of(w, s))) {
		size_arm(w, s, w->now + SOON_MS);
		return;
	}
	raise_limit(w, s, bytes);
	const struct place_request request = { .memory_bytes = bytes, .local_allowed = true };
	int i = place(&request, w->nodes, w->live_count, NULL);
	if (i >= 0 && w->live[i] != s->machine)
		move(w, s, w->machines[w->live[i]], SIZE_MOVES_FOR_MEMORY);
	else
		sleep_until_there_is_room(w, s);
}

/* Step by step, as it grows. */
static void rescue(struct world *w, struct sim_session *s)
{
	struct sim_size *z = size_of(w, s);
	struct rescue_decision d;
	for (;;) {
		int64_t bytes = z->wants_bytes < z->limit_bytes ? z->wants_bytes : z->limit_bytes;
		if (bytes != s->memory_bytes)
			session_resize(w, s, bytes);
		const struct rescue_facts facts = { .used_bytes = bytes,
						    .limit_bytes = z->limit_bytes,
						    .room_bytes = room_left(w, s) };
		d = rescue_decide(&w->setup->sizes.rescue, &facts);
		if (d.act != RESCUE_RAISE)
			break;
		raise_limit(w, s, d.limit_bytes);
		z->raised++;
		w->result.sizes.raised++;
	}
	if (d.act == RESCUE_HOLD)
		take_elsewhere(w, s, d.wanted_bytes);
	else
		run_out(w, z);
}

/* --- where its memory costs less ----------------------------------------------------------------
 */

static double gib_hour(const struct world *w, const struct machine *m)
{
	const struct price_pool *pool = w->pools[m->pool].price;
	return pool->hour / ((double)w->setup->prices.types[pool->type].memory_bytes / GIB);
}

static size_t collect(const struct world *w, const struct sim_session *s, double own,
		      struct size_move_node *list)
{
	size_t count = 0;
	for (size_t i = 0; i < w->live_count; i++) {
		const struct machine *m = w->machines[w->live[i]];
		double costs = gib_hour(w, m);
		if (costs < own)
			list[count++] = (struct size_move_node) {
				.name = m->name,
				.gib_hour = costs,
				.room = has_room(w, i, s, session_room(w, s)),
			};
	}
	return count;
}

static struct machine *named(const struct world *w, const char *name)
{
	for (size_t i = 0; i < w->live_count; i++)
		if (w->machines[w->live[i]]->name == name)
			return w->machines[w->live[i]];
	return NULL;
}

/* Milliseconds until it is looked at again. */
static int64_t consider_move(struct world *w, struct sim_session *s)
{
	struct machine *m = machine_of(w, s);
	wall_ms oldest;
	struct size_move_node *list = world_scratch(w, (w->live_count + 1) * sizeof(*list));
	if (!list)
		return HOUR_MS;
	struct size_move_facts facts = {
		.memory_bytes = session_room(w, s),
		.awake_ms = w->now - s->started_at,
		.stall_ms = SIZE_MOVE_STALL_MS,
		.both_ms = evict_move_ms(w, m, s->memory_bytes),
		.gib_hour = gib_hour(w, m),
		.since_ms = s->emptied_at ? w->now - s->emptied_at : -1,
		.moves = (int64_t)moves_of_hour(w, &oldest),
		.nodes = list,
	};
	facts.budget_ms = facts.moves ? oldest + HOUR_MS - w->now : 0;
	facts.node_count = collect(w, s, facts.gib_hour, list);
	const struct size_move_decision d = size_move_decide(&w->setup->sizes.move, &facts);
	if (d.reason == SIZE_MOVE_CHEAPEST)
		return HOUR_MS;
	if (d.to < 0)
		return d.wait_ms >= 0 && d.wait_ms < MOVE_LOOK_MS ? d.wait_ms + 1 : MOVE_LOOK_MS;
	if (m->doomed || move_under_way(w, m))
		return SOON_MS;
	if (moves_count(w, s))
		move(w, s, named(w, list[d.to].name), SIZE_MOVES_FOR_MONEY);
	return MOVE_LOOK_MS;
}

/* --- as it runs ---------------------------------------------------------------------------------
 */

static int64_t sooner(int64_t pause, int64_t wait_ms)
{
	return wait_ms >= 0 && wait_ms < pause ? wait_ms + 1 : pause;
}

static bool is_less(const struct world *w, const struct sim_size *z, int to)
{
	return to >= 0 &&
	       (z->limit_bytes <= 0 || w->setup->sizes.classes[to].memory_bytes < z->limit_bytes);
}

/* elsad looks each ten minutes; here it is looked at when its time comes, and each hour. */
static void lower(struct world *w, struct sim_session *s)
{
	struct sim_size *z = size_of(w, s);
	size_seen(w, s);
	struct size_use use;
	const struct size_decision d = size_decision_of(w, s, s->memory_bytes, &use);
	int64_t unseen = w->setup->sizes.rules.observed_ms - use.observed_ms;
	int64_t pause = HOUR_MS;
	if (is_less(w, z, d.to)) {
		size_apply(w, s, &d);
		w->result.sizes.lowered++;
		pause = CHANGED_MS;
	} else if (w->setup->sizes.running == SIM_RUNNING_MOVE) {
		pause = consider_move(w, s);
	}
	pause = sooner(pause, d.reason == SIZE_UNSEEN ? unseen : d.wait_ms);
	size_arm(w, s, w->now + pause);
}

void size_look(struct world *w, struct sim_session *s)
{
	struct sim_size *z = size_of(w, s);
	if (z->look_at != w->now)
		return; /* a sooner one took its place */
	z->look_at = 0;
	z->waits = s->runs && s->now.state != SESSION_RUNNING;
	if (!s->runs || z->waits)
		return;
	if (z->limit_bytes > 0)
		rescue(w, s);
	bool keeps = w->strategy->one_size || w->setup->sizes.running == SIM_RUNNING_KEEP;
	if (!keeps && s->now.state == SESSION_RUNNING)
		lower(w, s);
}
