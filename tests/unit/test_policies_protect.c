/* SPDX-License-Identifier: Apache-2.0 */
#include "base/cleanup.h"
#include "policies/protect.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define NOW  1795413600000LL
#define S    1000LL
#define RPO  (60 * S)
#define GIB  (1LL << 30)
#define COST (2 * S)

static const struct protect_rules rules = { .rpo_ms = RPO, .share = 0.25 };
static const struct protect_node fast = { .upload_bytes_per_s = 1 << 30 };

/* One session alone on its node; times are so many seconds ago, 0: never. */
static const struct {
	const char *name;
	struct protect_facts facts;
	enum protect_reason reason;
	int64_t due_in_s;
} alone[] = {
	{ "not where sessions are protected", { .started_at = 999 }, PROTECT_NOT_WANTED, 0 },
	{ "just started", { .wanted = true, .started_at = 1 }, PROTECT_WAITS, 57 },
	{ "started, never saved", { .wanted = true, .started_at = 58 }, PROTECT_DUE, 0 },
	{ "saved a moment ago",
	  { .wanted = true, .started_at = 999, .frozen_at = 10 },
	  PROTECT_WAITS,
	  48 },
	{ "its time has come",
	  { .wanted = true, .started_at = 999, .frozen_at = 58 },
	  PROTECT_DUE,
	  0 },
	{ "woken from its checkpoint since",
	  { .wanted = true, .started_at = 20, .frozen_at = 3600 },
	  PROTECT_WAITS,
	  38 },
	{ "failed lately",
	  { .wanted = true, .started_at = 999, .frozen_at = 90, .failed_at = 30 },
	  PROTECT_FAILED,
	  30 },
	{ "failed long ago",
	  { .wanted = true, .started_at = 999, .frozen_at = 90, .failed_at = 60 },
	  PROTECT_DUE,
	  0 },
	{ "under way",
	  { .wanted = true, .started_at = 999, .under_way = true, .frozen_at = 70 },
	  PROTECT_UNDER_WAY,
	  0 },
	{ "hibernated just now",
	  { .wanted = true, .started_at = 999, .busy = true, .frozen_at = 70 },
	  PROTECT_BUSY,
	  0 },
};

static struct protect_facts facts_at(const struct protect_facts *ago, wall_ms now)
{
	struct protect_facts f = *ago;
	wall_ms *const times[] = { &f.started_at, &f.frozen_at, &f.failed_at };
	for (size_t i = 0; i < ARRAY_SIZE(times); i++)
		*times[i] = *times[i] ? now - *times[i] * S : 0;
	f.cost_ms = COST;
	f.cost_bytes = 1 << 20;
	f.memory_bytes = GIB;
	return f;
}

static void test_one(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(alone); i++) {
		struct protect_facts f = facts_at(&alone[i].facts, NOW);
		struct protect_decision d;
		wall_ms next = protect_decide(&rules, &fast, 1, &f, 1, NOW, &d);
		if (d.reason != alone[i].reason)
			fail_msg("%s: %s", alone[i].name, protect_reason_name(d.reason));
		assert_int_equal(d.take, d.reason == PROTECT_DUE);
		if (!alone[i].due_in_s)
			continue;
		if (d.due_at != NOW + alone[i].due_in_s * S)
			fail_msg("%s: due in %lld ms", alone[i].name, (long long)(d.due_at - NOW));
		assert_int_equal(next, d.due_at);
	}
}

static void test_a_share_of_the_node(void **state)
{
	(void)state;
	struct protect_facts f[8];
	struct protect_decision d[8];
	const struct protect_facts active = { .wanted = true, .started_at = 999 };
	/* 8 * 2 s of 60 s: a little more than a quarter. */
	for (size_t i = 0; i < 8; i++)
		f[i] = facts_at(&active, NOW);
	protect_decide(&rules, &fast, 1, f, 7, NOW, d);
	assert_false(d[0].stretched);
	assert_int_equal(d[0].interval_ms, RPO - COST);
	protect_decide(&rules, &fast, 1, f, 8, NOW, d);
	assert_true(d[0].stretched);
	assert_int_equal(d[0].interval_ms, (RPO - COST) * 16 / 15);
	/* A link of 1 MB/s that each needs for 8 s. */
	const struct protect_node slow = { .upload_bytes_per_s = 1000000 };
	f[0].cost_bytes = f[1].cost_bytes = 8000000;
	protect_decide(&rules, &slow, 1, f, 2, NOW, d);
	assert_true(d[0].stretched);
}

static void test_turns(void **state)
{
	(void)state;
	const struct protect_node nodes[2] = { fast, fast };
	struct protect_facts f[4];
	struct protect_decision d[4];
	for (size_t i = 0; i < 4; i++) {
		const struct protect_facts ago = { .wanted = true, .started_at = 60 + (int64_t)i };
		f[i] = facts_at(&ago, NOW);
		f[i].node = i == 3;
	}
	protect_decide(&rules, nodes, 2, f, 4, NOW, d);
	assert_int_equal(d[0].reason, PROTECT_TURN);
	assert_int_equal(d[1].reason, PROTECT_TURN);
	assert_int_equal(d[2].reason, PROTECT_DUE); /* the longest */
	assert_int_equal(d[3].reason, PROTECT_DUE); /* alone on its node */
	f[2].under_way = true;
	protect_decide(&rules, nodes, 2, f, 4, NOW, d);
	assert_int_equal(d[1].reason, PROTECT_TURN);
	struct protect_rules two = rules;
	two.most_at_once = 2;
	protect_decide(&two, nodes, 2, f, 4, NOW, d);
	assert_int_equal(d[1].reason, PROTECT_DUE);
	assert_int_equal(d[0].reason, PROTECT_TURN);
}

/* --- over time ---------------------------------------------------------------------------------
 */

enum { MOST = 6 };

struct world {
	uint64_t seed;
	size_t count;
	struct protect_facts facts[MOST];
	wall_ms frozen[MOST]; /* of the one under way */
	wall_ms ends[MOST];
	bool stretched;
};

static uint64_t next_random(struct world *w)
{
	w->seed = w->seed * 6364136223846793005ULL + 1442695040888963407ULL;
	return w->seed >> 33;
}

static void make_world(struct world *w, uint64_t seed)
{
	*w = (struct world) { .seed = seed };
	w->count = 1 + next_random(w) % MOST;
	for (size_t i = 0; i < w->count; i++)
		w->facts[i] = (struct protect_facts) {
			.wanted = true,
			.started_at = NOW - (wall_ms)(next_random(w) % 50000),
			.memory_bytes = (int64_t)(next_random(w) % 4000) << 20,
			.cost_ms = 200 + (int64_t)(next_random(w) % 2500),
			.cost_bytes = 1 << 20,
		};
}

static void end_snapshots(struct world *w, wall_ms now)
{
	for (size_t i = 0; i < w->count; i++) {
		if (!w->facts[i].under_way || w->ends[i] > now)
			continue;
		w->facts[i].under_way = false;
		w->facts[i].frozen_at = w->frozen[i];
	}
}

static void begin_snapshots(struct world *w, wall_ms now)
{
	struct protect_decision d[MOST];
	protect_decide(&rules, &fast, 1, w->facts, w->count, now, d);
	int under_way = 0;
	for (size_t i = 0; i < w->count; i++) {
		w->stretched |= d[i].stretched;
		if (d[i].take) {
			assert_false(w->facts[i].under_way);
			w->facts[i].under_way = true;
			w->frozen[i] = now;
			w->ends[i] = now + w->facts[i].cost_ms;
		}
		under_way += w->facts[i].under_way;
	}
	assert_true(under_way <= 1);
}

/* Whenever the node dies, no more than the RPO is lost, and the time for which others had their
 * turn: sessions always at work, and a node that bears them. */
static void test_the_rpo_holds(void **state)
{
	(void)state;
	size_t held = 0;
	for (uint64_t seed = 1; seed <= 200; seed++) {
		struct world w;
		make_world(&w, seed);
		int64_t most = 0, turns = 0;
		for (size_t i = 0; i < w.count; i++)
			turns += w.facts[i].cost_ms;
		for (wall_ms now = NOW; now < NOW + 10 * RPO; now += 100) {
			end_snapshots(&w, now);
			begin_snapshots(&w, now);
			for (size_t i = 0; i < w.count && now > NOW + RPO; i++) {
				const struct protect_facts *f = &w.facts[i];
				wall_ms saved = f->frozen_at ? f->frozen_at : f->started_at;
				if (now - saved > most)
					most = now - saved;
			}
		}
		if (w.stretched)
			continue;
		held++;
		if (most > RPO + turns + 200)
			fail_msg("seed %d: %lld ms lost", (int)seed, (long long)most);
	}
	assert_true(held > 100);
}

/* Whatever is put in: a decision for each, none for what is not wanted, and always the same. */
static void test_total(void **state)
{
	(void)state;
	struct world w = { .seed = 7 };
	for (int round = 0; round < 20000; round++) {
		struct protect_facts f[MOST];
		struct protect_decision once[MOST], again[MOST];
		const struct protect_node nodes[2] = { { (int64_t)(next_random(&w) % 3) * 1000 },
						       fast };
		for (size_t i = 0; i < MOST; i++)
			f[i] = (struct protect_facts) {
				.node = next_random(&w) % 2,
				.wanted = next_random(&w) % 4,
				.under_way = next_random(&w) % 5 == 0,
				.busy = next_random(&w) % 5 == 0,
				.started_at = NOW - (wall_ms)next_random(&w),
				.frozen_at =
					next_random(&w) % 2 ? NOW - (wall_ms)next_random(&w) : 0,
				.failed_at =
					next_random(&w) % 3 ? 0 : NOW - (wall_ms)next_random(&w),
				.memory_bytes = (int64_t)next_random(&w) << 8,
				.cost_ms = (int64_t)(next_random(&w) % 100000),
				.cost_bytes = (int64_t)next_random(&w),
			};
		wall_ms next = protect_decide(&rules, nodes, 2, f, MOST, NOW, once);
		assert_int_equal(protect_decide(&rules, nodes, 2, f, MOST, NOW, again), next);
		assert_memory_equal(once, again, sizeof(once));
		assert_true(!next || next > NOW);
		for (size_t i = 0; i < MOST; i++)
			assert_true(!once[i].take || (f[i].wanted && !f[i].busy &&
						      !f[i].under_way && once[i].due_at <= NOW));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_one),   cmocka_unit_test(test_a_share_of_the_node),
		cmocka_unit_test(test_turns), cmocka_unit_test(test_the_rpo_holds),
		cmocka_unit_test(test_total),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
