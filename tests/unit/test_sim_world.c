/* SPDX-License-Identifier: Apache-2.0 */
#include "base/cleanup.h"
#include "sim/generate.h"
#include "sim/report.h"
#include "sim/rng.h"
#include "sim/world_private.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/sim_kit.h"

#define MINUTE ((int64_t)60000)
#define HOUR   (60 * MINUTE)
#define GIB    ((int64_t)1 << 30)

static struct sim_setup setup;

static struct world *new_world(enum strategy_id id)
{
	struct error e = ERROR_INIT;
	sim_setup_init(&setup);
	assert_int_equal(prices_parse(prices_default, &setup.prices, &e), 0);
	struct world *w = world_new(&setup, id, &e);
	assert_non_null(w);
	const struct trace_record pool = { .kind = TRACE_POOL, .name = "spot-a" };
	assert_int_equal(world_take(w, &pool, &e), 0);
	return w;
}

static void check_account(const struct sim_result *r)
{
	const struct work_account *a = &r->work;
	assert_int_equal(a->asked_ms, a->kept_ms + a->lost_ms + a->cut_ms + a->pending_ms);
	assert_true(a->kept_ms >= 0 && a->lost_ms >= 0 && a->cut_ms >= 0 && a->pending_ms >= 0);
	assert_int_equal(r->evicted, r->evicted_saved + r->evicted_older + r->evicted_lost);
}

/* One session that works for ten minutes, is left for three hours, and is opened again. */
static const struct sim_result *one_day(struct world *w)
{
	take(w, (struct trace_record) { .kind = TRACE_OPEN, .memory_bytes = GIB, .at = HOUR });
	take(w, (struct trace_record) {
			.kind = TRACE_BUSY, .at = HOUR + 1, .duration_ms = 10 * MINUTE });
	take(w, (struct trace_record) { .kind = TRACE_OPEN, .at = 4 * HOUR });
	take(w, (struct trace_record) { .kind = TRACE_END, .at = 4 * HOUR + 30 * MINUTE });
	check_account(world_result(w));
	return world_result(w);
}

static const struct {
	enum strategy_id id;
	uint64_t wakes, culled, hibernations, lost;
	int64_t least_ms, most_ms; /* of the wake */
	int64_t kept_ms;
} days[] = {
	{ STRATEGY_ALWAYS_ON, 0, 0, 0, 0, 0, 0, 10 * MINUTE },
	{ STRATEGY_CULL, 1, 1, 0, 1, 10000, 10000, 0 },
	{ STRATEGY_CULL_SPOT, 1, 1, 0, 1, 10000, 10000, 0 },
	{ STRATEGY_PROTOTYPE, 1, 0, 1, 0, 10000, 10000, 10 * MINUTE },
	{ STRATEGY_ELSA, 1, 0, 1, 0, 300, 500, 10 * MINUTE },
};

static void test_ways(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(days); i++) {
		struct world *w = new_world(days[i].id);
		const struct sim_result *r = one_day(w);
		assert_int_equal(r->wakes.count, days[i].wakes);
		assert_int_equal(r->culled, days[i].culled);
		assert_int_equal(r->hibernations, days[i].hibernations);
		assert_int_equal(r->sessions_lost, days[i].lost);
		assert_int_equal(r->starts, 1);
		assert_int_equal(r->wakes_unseen, days[i].id == STRATEGY_ELSA);
		assert_true(r->wakes.most >= days[i].least_ms && r->wakes.most <= days[i].most_ms);
		assert_int_equal(r->work.kept_ms, days[i].kept_ms);
		assert_true(r->compute > 0 && (r->storage > 0) == (days[i].hibernations > 0));
		world_free(w);
	}
}

/* Who comes after idle.stop_after has to start it. */
static void test_long_asleep(void **state)
{
	(void)state;
	for (int hours = 20; hours <= 40; hours += 20) {
		struct world *w = new_world(STRATEGY_ELSA);
		const struct sim_result *r = world_result(w);
		take(w,
		     (struct trace_record) { .kind = TRACE_OPEN, .memory_bytes = GIB, .at = HOUR });
		take(w, (struct trace_record) {
				.kind = TRACE_BUSY, .at = hours * HOUR, .duration_ms = MINUTE });
		take(w, (struct trace_record) { .kind = TRACE_END, .at = (hours + 1) * HOUR });
		assert_int_equal(r->wakes.count, 1);
		assert_int_equal(r->wakes_unseen, hours == 20);
		world_free(w);
	}
}

/* All machines of its pool go while it works. */
static const struct sim_result *interrupted(struct world *w, int64_t notice_ms, int64_t after_ms)
{
	take(w, (struct trace_record) { .kind = TRACE_OPEN, .memory_bytes = GIB, .at = HOUR });
	take(w, (struct trace_record) { .kind = TRACE_BUSY, .at = HOUR + 1, .duration_ms = HOUR });
	take(w, (struct trace_record) { .kind = TRACE_INTERRUPT,
					.at = HOUR + after_ms,
					.share = 1,
					.notice_ms = notice_ms });
	take(w, (struct trace_record) { .kind = TRACE_END, .at = 4 * HOUR });
	check_account(world_result(w));
	return world_result(w);
}

static const struct {
	enum strategy_id id;
	int64_t notice_ms, after_ms;
	uint64_t saved, older, lost;
	int64_t most_lost_ms;
} interruptions[] = {
	{ STRATEGY_ELSA, 120000, 30 * MINUTE, 1, 0, 0, 0 },
	{ STRATEGY_ELSA, 30000, 30 * MINUTE, 1, 0, 0, 0 },
	/* Without a word: no more than the RPO. */
	{ STRATEGY_ELSA, 0, 30 * MINUTE, 0, 1, 0, 5 * MINUTE },
	/* Before its first snapshot there is nothing to fall back to. */
	{ STRATEGY_ELSA, 0, 4 * MINUTE, 0, 0, 1, HOUR },
	{ STRATEGY_PROTOTYPE, 120000, 30 * MINUTE, 1, 0, 0, 0 },
	{ STRATEGY_PROTOTYPE, 0, 30 * MINUTE, 0, 0, 1, HOUR },
	{ STRATEGY_CULL_SPOT, 120000, 30 * MINUTE, 0, 0, 1, HOUR },
};

static void test_interruptions(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(interruptions); i++) {
		struct world *w = new_world(interruptions[i].id);
		const struct sim_result *r =
			interrupted(w, interruptions[i].notice_ms, interruptions[i].after_ms);
		assert_int_equal(r->evicted, 1);
		assert_int_equal(r->evicted_saved, interruptions[i].saved);
		assert_int_equal(r->evicted_older, interruptions[i].older);
		assert_int_equal(r->evicted_lost, interruptions[i].lost);
		assert_int_equal(r->sessions_lost, interruptions[i].lost);
		assert_true(r->work.lost_ms <= interruptions[i].most_lost_ms);
		assert_true((r->work.lost_ms > 0) ==
			    (interruptions[i].older + interruptions[i].lost > 0));
		assert_int_equal(r->pauses.count, 1); /* it was in use: it goes on elsewhere */
		world_free(w);
	}
}

/* Its user ends it at any moment: what was done is theirs. */
static void test_stop(void **state)
{
	(void)state;
	for (int id = 0; id < STRATEGY_COUNT; id++) {
		for (int64_t at = HOUR + 1000; at < 3 * HOUR; at += 97001) {
			struct world *w = new_world((enum strategy_id)id);
			take(w, (struct trace_record) {
					.kind = TRACE_OPEN, .memory_bytes = GIB, .at = HOUR });
			take(w, (struct trace_record) { .kind = TRACE_BUSY,
							.at = HOUR + 500,
							.duration_ms = MINUTE });
			take(w, (struct trace_record) { .kind = TRACE_STOP, .at = at });
			take(w, (struct trace_record) { .kind = TRACE_OPEN, .at = at });
			take(w, (struct trace_record) { .kind = TRACE_END, .at = 4 * HOUR });
			const struct sim_result *r = world_result(w);
			check_account(r);
			assert_true(r->starts + r->wakes.count >= 1);
			world_free(w);
		}
	}
}

/* --- machines that could be empty ------------------------------------------------------------- */

enum { FILLING = 20 };

/* Two machines full of sessions; after an hour only the first and the last of them are in use, each
 * on a machine of its own, for six more. */
static struct sim_result evening(enum strategy_id id, bool on, int64_t moves_per_hour)
{
	struct world *w = new_world(id);
	setup.consolidates = on;
	setup.consolidate.moves_per_hour = moves_per_hour;
	setup.capacity.spare_bytes = setup.spare_session_bytes = 0;
	for (uint32_t i = 0; i < FILLING; i++)
		take(w, (struct trace_record) { .kind = TRACE_OPEN,
						.session = i,
						.memory_bytes = 3 * GIB,
						.at = HOUR });
	for (uint32_t i = 0; i < FILLING; i += FILLING - 1)
		take(w, (struct trace_record) { .kind = TRACE_BUSY,
						.session = i,
						.at = HOUR + 1,
						.duration_ms = 7 * HOUR });
	take(w, (struct trace_record) { .kind = TRACE_END, .at = 10 * HOUR });
	struct sim_result r = *world_result(w);
	check_account(&r);
	assert_int_equal(r.work.kept_ms, 14 * HOUR);
	assert_int_equal(r.sessions_lost, 0);
	assert_int_equal(r.machines_peak, 2);
	world_free(w);
	return r;
}

static void test_consolidation(void **state)
{
	(void)state;
	const struct sim_result without = evening(STRATEGY_ELSA, false, 20);
	const struct sim_result with = evening(STRATEGY_ELSA, true, 20);
	assert_int_equal(without.emptied + without.emptied_moved, 0);
	assert_int_equal(with.emptied, 1);
	assert_int_equal(with.emptied_moved, 1);
	assert_int_equal(with.pauses.count, 0);
	assert_int_equal(with.hibernations, without.hibernations);
	assert_true(with.machine_hours < without.machine_hours - 5);
	/* Within its budget, and only where sessions move as they run. */
	const struct sim_result none = evening(STRATEGY_ELSA, true, 0);
	assert_int_equal(none.emptied + none.emptying_ended + none.emptied_moved, 0);
	assert_true(none.machine_hours == without.machine_hours);
	assert_int_equal(evening(STRATEGY_PROTOTYPE, true, 20).emptied, 0);
}

/* --- properties: random traces --------------------------------------------------------------- */

enum { USERS = 40, POOL_COUNT = 3 };

struct random {
	struct world *worlds[STRATEGY_MOST];
	size_t ways;
	struct rng rng;
	bool open[USERS];
};

static void give(struct random *t, const struct trace_record *record)
{
	for (size_t i = 0; i < t->ways; i++)
		take(t->worlds[i], *record);
}

/* Anything that a reader of traces lets through. */
static void happen(struct random *t, int64_t at)
{
	uint32_t s = (uint32_t)(rng_next(&t->rng) % USERS);
	struct trace_record r = { .at = at, .session = s };
	switch (rng_next(&t->rng) % 20) {
	case 0:
		r.kind = TRACE_INTERRUPT;
		r.pool = (uint32_t)(rng_next(&t->rng) % POOL_COUNT);
		r.share = rng_uniform(&t->rng);
		r.notice_ms = (int64_t)(rng_next(&t->rng) % 3) * 60000;
		r.dry_ms = (int64_t)(rng_next(&t->rng) % 2) * 600000;
		break;
	case 1:
		r.kind = t->open[s] ? TRACE_STOP : TRACE_OPEN;
		break;
	case 2:
	case 3:
		r.kind = TRACE_OPEN;
		break;
	default:
		r.kind = t->open[s] ? TRACE_BUSY : TRACE_OPEN;
		r.duration_ms = (int64_t)rng_lognormal(&t->rng, 120000, 2);
		break;
	}
	if (r.kind == TRACE_OPEN || rng_next(&t->rng) % 8 == 0)
		r.memory_bytes = (int64_t)fmin(rng_lognormal(&t->rng, 2e9, 1), 20e9);
	t->open[s] = r.kind == TRACE_STOP ? false : t->open[s] || r.kind == TRACE_OPEN;
	give(t, &r);
}

/* It holds no more than it may have; its size changes seldom, and so much more seldom downwards. */
static void check_size(const struct world *w, const struct sim_session *s)
{
	const struct sim_size *z = size_of(w, s);
	const struct sim_sizes *how = &w->setup->sizes;
	int64_t most = (w->now - w->begun_at) / how->rules.settle_ms + 1;
	assert_true(z->limit_bytes <= 0 || s->memory_bytes <= z->limit_bytes);
	assert_true(s->memory_bytes <= z->wants_bytes || !s->runs);
	assert_true(z->smaller <= most);
	assert_true(z->larger <= how->count * (z->smaller + z->started + 1));
	if (!w->strategy->one_size)
		return;
	assert_true(!z->smaller && !z->larger && z->limit_bytes >= how->memory_bytes);
	assert_true(z->raised || z->sized_at || z->limit_bytes == how->memory_bytes);
}

/* On a machine or not, as its state says; what machines hold is what their sessions need; and
 * nobody waits for ever. */
static void check_session(const struct world *w, const struct sim_session *s, int64_t patience_ms)
{
	bool there = session_state_has_processes(s->now.state) && s->now.state != SESSION_FENCING;
	assert_int_equal(there, s->machine != NONE);
	assert_true(!s->runs || s->now.state == SESSION_RUNNING ||
		    s->now.state == SESSION_SNAPSHOTTING || s->now.state == SESSION_MIGRATING);
	assert_true(!s->now.checkpoint || s->now.checkpoint <= s->now.generation);
	assert_true(s->saved_ms >= 0 && s->saved_ms <= work_done(w, s));
	assert_true(!s->asked_at || w->now - s->asked_at <= patience_ms);
	assert_true(!s->evicted_at || w->now - s->evicted_at <= patience_ms);
	if (w->sizes)
		check_size(w, s);
	if (there) {
		const struct machine *m = machine_of(w, s);
		assert_true(m->joined && m->sessions[s->place] == session_number(w, s));
	}
}

/* For sessions that are on their way. */
static int64_t kept_room(const struct world *w, const struct machine *m)
{
	size_t count = 0;
	int64_t sum = 0;
	for (size_t i = 0; m->arriving && i < w->session_count; i++) {
		const struct sim_session *s = &w->sessions[i];
		bool comes = s->moving_to == m->number;
		assert_true(!comes || s->now.state == SESSION_MIGRATING);
		count += comes;
		sum += comes ? s->moving_bytes : 0;
	}
	assert_int_equal(count, m->arriving);
	return sum;
}

/* What is kept for its looks is what its sessions are. */
static void check_facts(const struct machine *m, size_t place, const struct sim_session *s)
{
	const struct protect_facts own = protect_facts_of(s), *kept = &m->facts[place];
	assert_int_equal(kept->wanted, own.wanted);
	assert_int_equal(kept->under_way, own.under_way);
	assert_int_equal(kept->started_at, own.started_at);
	assert_int_equal(kept->frozen_at, own.frozen_at);
	assert_int_equal(kept->memory_bytes, own.memory_bytes);
	assert_int_equal(kept->cost_ms, own.cost_ms);
}

static void check_world(const struct world *w, int64_t patience_ms)
{
	size_t awake = 0;
	for (size_t i = 0; i < w->session_count; i++) {
		check_session(w, &w->sessions[i], patience_ms);
		awake += w->sessions[i].machine != NONE;
	}
	assert_int_equal(awake, w->awake);
	for (size_t i = 0; i < w->live_count; i++) {
		const struct machine *m = w->machines[w->live[i]];
		int64_t sum = 0;
		for (size_t k = 0; k < m->count; k++) {
			const struct sim_session *s = &w->sessions[m->sessions[k]];
			sum += session_room(w, s);
			if (w->strategy->protects)
				check_facts(m, k, s);
		}
		sum += kept_room(w, m);
		assert_int_equal(sum, m->committed_bytes);
		assert_int_equal(sum, w->nodes[i].committed_bytes);
		assert_int_equal(m->slot, i);
	}
}

static void check_all(const struct random *t, const struct sim_setup *how)
{
	/* Where there are machines enough: one is made, its pool is dry, it is taken, all again. */
	int64_t patience_ms = how->capacity.max < 100 ? INT64_MAX : 20 * MINUTE;
	for (size_t i = 0; i < t->ways; i++)
		check_world(t->worlds[i], patience_ms);
}

static void run_random(struct random *t, uint64_t seed, const struct sim_setup *how)
{
	static const char *const pools[POOL_COUNT] = { "spot-a", "spot-b", "spot-c" };
	struct error e = ERROR_INIT;
	*t = (struct random) { .rng = rng_stream(seed, 1), .ways = sim_setup_ways(how) };
	for (size_t i = 0; i < t->ways; i++)
		assert_non_null(t->worlds[i] = world_new(how, (enum strategy_id)i, &e));
	for (uint32_t i = 0; i < POOL_COUNT; i++)
		give(t, &(struct trace_record) { .kind = TRACE_POOL, .pool = i, .name = pools[i] });
	/* Session numbers come one after the other. */
	for (uint32_t i = 0; i < USERS; i++) {
		t->open[i] = true;
		give(t, &(struct trace_record) {
				.kind = TRACE_OPEN, .session = i, .memory_bytes = GIB });
	}
	int64_t at = 0;
	for (int i = 0; i < 1500; i++) {
		at += (int64_t)rng_exponential(&t->rng, 60000);
		happen(t, at);
		if (i % 16 == 0)
			check_all(t, how);
	}
	give(t, &(struct trace_record) { .kind = TRACE_END, .at = at });
}

static void end_random(struct random *t)
{
	for (size_t i = 0; i < t->ways; i++)
		t->worlds[i] = world_free(t->worlds[i]);
}

/* With every second seed. */
static void prepare_sizes(struct sim_sizes *to, uint64_t seed)
{
	static const struct size_class classes[] = { { "s", GIB, 1, 1 },
						     { "m", 3 * GIB, 2, 3 },
						     { "l", 8 * GIB, 4, 8 },
						     { "x", 24 * GIB, 8, 24 } };
	*to = (struct sim_sizes) {
		.classes = classes,
		.count = seed % 2 ? ARRAY_SIZE(classes) : 0,
		.rules = size_defaults,
		.window_ms = 24 * HOUR,
		.running = (enum sim_running)(seed % 3),
		.move = { .stall_hour = 0.001,
			  .worth = SIZE_MOVE_WORTH,
			  .expected_ms = 8 * HOUR,
			  .moves_per_hour = 4,
			  .rest_ms = HOUR },
		.memory_bytes = (int64_t)(seed / 2 % 4) * GIB,
		.rescue = rescue_defaults,
	};
	to->rules.observed_ms = 10 * MINUTE;
	to->rules.settle_ms = HOUR;
	to->rescue.most_bytes = seed % 5 ? 16 * GIB : 0;
}

static void prepare(struct sim_setup *how, uint64_t seed)
{
	struct error e = ERROR_INIT;
	sim_setup_init(how);
	how->seed = seed;
	how->capacity.spare_bytes = (int64_t)(seed % 3) * 16 * GIB;
	how->spare_session_bytes = 0;
	how->capacity.max = seed % 4 ? 1000 : 2; /* too few for all */
	how->idle.timeout_ms = seed % 2 ? HOUR : 5 * MINUTE;
	how->consolidates = seed % 3 > 0;
	how->consolidate.steady_ms = MINUTE;
	how->consolidate.calm_ms = 2 * MINUTE;
	how->consolidate.moves_per_hour = 4;
	prepare_sizes(&how->sizes, seed);
	assert_int_equal(prices_parse(prices_default, &how->prices, &e), 0);
}

static void add_sizes(struct size_counts *to, const struct size_counts *from)
{
	to->smaller += from->smaller;
	to->larger += from->larger;
	to->lowered += from->lowered;
	to->moved += from->moved;
	to->raised += from->raised;
	to->rescue_moved += from->rescue_moved;
	to->rescue_slept += from->rescue_slept;
	to->out_of_memory += from->out_of_memory;
	to->promised_gib_hours += from->promised_gib_hours;
	to->gib_hours += from->gib_hours;
}

/* Each minute asked for is served, or counted as lost, cut or pending; nobody is lost by ours that
 * had a word of warning and a checkpoint; the same seed gives the same, to the bit. */
static void test_random(void **state)
{
	static struct sim_setup how;
	static struct random once, again;
	uint64_t moved = 0;
	struct size_counts sizes = { 0 };
	(void)state;
	for (uint64_t seed = 0; seed < 12; seed++) {
		prepare(&how, seed);
		run_random(&once, seed, &how);
		run_random(&again, seed, &how);
		int64_t asked = world_result(once.worlds[0])->work.asked_ms;
		for (size_t i = 0; i < once.ways; i++) {
			const struct sim_result *r = world_result(once.worlds[i]);
			check_account(r);
			add_sizes(&sizes, &r->sizes);
			assert_int_equal(r->work.asked_ms, asked);
			assert_memory_equal(r, world_result(again.worlds[i]), sizeof(*r));
			assert_true(r->machines_peak <= (size_t)how.capacity.max + 12);
			assert_true(r->emptied_moved + r->sizes.moved <= 4 * (r->awake.count + 1));
			assert_true(how.consolidates || !r->emptied);
			moved += r->emptied_moved;
		}
		assert_int_equal(world_result(once.worlds[STRATEGY_ALWAYS_ON])->work.lost_ms, 0);
		end_random(&once);
		end_random(&again);
	}
	assert_true(moved > 0);
	assert_true(sizes.smaller && sizes.larger && sizes.lowered && sizes.moved);
	assert_true(sizes.raised && sizes.rescue_moved && sizes.rescue_slept);
	assert_true(sizes.out_of_memory && sizes.promised_gib_hours > sizes.gib_hours);
}

static void test_page(void **state)
{
	static struct sim_setup how;
	static struct random t;
	const struct sim_result *results[STRATEGY_MOST];
	(void)state;
	prepare(&how, 1);
	run_random(&t, 1, &how);
	for (size_t i = 0; i < t.ways; i++)
		results[i] = world_result(t.worlds[i]);
	const struct report report = { .results = results,
				       .count = t.ways,
				       .sizes = true,
				       .begin = BEGIN,
				       .end = BEGIN + HOUR,
				       .title = "<b>&\"x",
				       .prices = &how.prices };
	cleanup_buf struct buf page = BUF_INIT(1 << 22), same = BUF_INIT(1 << 22),
			       small = BUF_INIT(5000);
	assert_int_equal(report_html(&report, &page), 0);
	assert_int_equal(report_html(&report, &same), 0);
	assert_true(page.len == same.len && memcmp(page.data, same.data, page.len) == 0);
	assert_null(strstr(page.data, "<b>"));
	assert_non_null(strstr(page.data, "one-size"));
	assert_null(strstr(page.data, "nan"));
	assert_null(strstr(page.data, "http"));
	assert_true(report_html(&report, &small) < 0);
	end_random(&t);
}

static void test_bench(void **state)
{
	(void)state;
	sim_setup_init(&setup);
	struct step_times *t = &setup.strategies[STRATEGY_ELSA].times;
	assert_true(sim_setup_bench(&setup, "store.wake_1gib_s3_20ms", 1.5));
	assert_int_equal(t->wake_ms + t->wake_gib_ms, 1500);
	assert_true(sim_setup_bench(&setup, "store.bytes_typical_1gib", 536870912));
	assert_true(t->stored_share == 0.5);
	assert_false(sim_setup_bench(&setup, "store.wake_8gib", 1));
	assert_false(sim_setup_bench(&setup, "store.second_1gib", -1));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ways),          cmocka_unit_test(test_long_asleep),
		cmocka_unit_test(test_interruptions), cmocka_unit_test(test_stop),
		cmocka_unit_test(test_random),        cmocka_unit_test(test_page),
		cmocka_unit_test(test_bench),         cmocka_unit_test(test_consolidation),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
