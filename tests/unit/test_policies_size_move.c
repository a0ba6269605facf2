/* SPDX-License-Identifier: Apache-2.0 */
#include "base/cleanup.h"
#include "policies/size_move.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define GIB    (INT64_C(1) << 30)
#define MINUTE (INT64_C(60) * 1000)
#define HOUR   (60 * MINUTE)

static const struct size_move_rules rules = {
	.stall_hour = 36, /* a cent a second */
	.worth = 2,
	.expected_ms = 8 * HOUR,
	.moves_per_hour = 2,
	.rest_ms = HOUR,
};

/* --- one decision ------------------------------------------------------------------------- */

#define NODES_MOST 3

static const struct {
	const char *name;
	double here;
	struct size_move_node nodes[NODES_MOST];
	int64_t awake_ms, stall_ms, since_ms, moves;
	enum size_move_reason reason;
	int to;
	int64_t wait_ms;
} cases[] = {
	{ "alone", 0.01, { { 0 } }, 4 * HOUR, 1000, -1, 0, SIZE_MOVE_CHEAPEST, -1, -1 },
	{ "nobody knows what it costs here",
	  0,
	  { { "a", 0.001, true } },
	  4 * HOUR,
	  1000,
	  -1,
	  0,
	  SIZE_MOVE_UNKNOWN,
	  -1,
	  -1 },
	{ "nobody knows what it costs there",
	  0.01,
	  { { "a", 0, true } },
	  4 * HOUR,
	  1000,
	  -1,
	  0,
	  SIZE_MOVE_CHEAPEST,
	  -1,
	  -1 },
	{ "it costs the same there",
	  0.01,
	  { { "a", 0.01, true } },
	  4 * HOUR,
	  0,
	  -1,
	  0,
	  SIZE_MOVE_CHEAPEST,
	  -1,
	  -1 },
	{ "half of it, without room",
	  0.01,
	  { { "a", 0.005, false } },
	  4 * HOUR,
	  1000,
	  -1,
	  0,
	  SIZE_MOVE_NO_ROOM,
	  -1,
	  -1 },
	/* 4 GiB * 0.005 * 4 h = 0.08, for twice a cent. */
	{ "half of it",
	  0.01,
	  { { "a", 0.005, true } },
	  4 * HOUR,
	  1000,
	  -1,
	  0,
	  SIZE_MOVE_SAVES,
	  0,
	  -1 },
	{ "a standstill that costs more",
	  0.01,
	  { { "a", 0.005, true } },
	  4 * HOUR,
	  5000,
	  -1,
	  0,
	  SIZE_MOVE_NOT_WORTH,
	  -1,
	  1 * HOUR },
	{ "one that nothing pays for",
	  0.01,
	  { { "a", 0.005, true } },
	  4 * HOUR,
	  60000,
	  -1,
	  0,
	  SIZE_MOVE_NOT_WORTH,
	  -1,
	  -1 },
	{ "it has just woken",
	  0.01,
	  { { "a", 0.005, true } },
	  0,
	  1000,
	  -1,
	  0,
	  SIZE_MOVE_NOT_WORTH,
	  -1,
	  1 * HOUR },
	{ "nobody is expected to stay for ever",
	  0.01,
	  { { "a", 0.005, true } },
	  800 * HOUR,
	  10000,
	  -1,
	  0,
	  SIZE_MOVE_NOT_WORTH,
	  -1,
	  -1 },
	{ "the cheapest of several",
	  0.01,
	  { { "a", 0.005, true }, { "b", 0.001, false }, { "c", 0.004, true } },
	  4 * HOUR,
	  1000,
	  -1,
	  0,
	  SIZE_MOVE_SAVES,
	  2,
	  -1 },
	{ "the first by name of the same",
	  0.01,
	  { { "b", 0.005, true }, { "a", 0.005, true } },
	  4 * HOUR,
	  1000,
	  -1,
	  0,
	  SIZE_MOVE_SAVES,
	  1,
	  -1 },
	{ "moved lately",
	  0.01,
	  { { "a", 0.005, true } },
	  4 * HOUR,
	  1000,
	  20 * MINUTE,
	  1,
	  SIZE_MOVE_RESTING,
	  -1,
	  40 * MINUTE },
	{ "moved long ago",
	  0.01,
	  { { "a", 0.005, true } },
	  4 * HOUR,
	  1000,
	  HOUR,
	  1,
	  SIZE_MOVE_SAVES,
	  0,
	  -1 },
	{ "others have moved",
	  0.01,
	  { { "a", 0.005, true } },
	  4 * HOUR,
	  1000,
	  -1,
	  2,
	  SIZE_MOVE_BUDGET,
	  -1,
	  10 * MINUTE },
};

static void test_one_decision(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		size_t count = 0;
		while (count < NODES_MOST && cases[i].nodes[count].name)
			count++;
		const struct size_move_facts f = {
			.memory_bytes = 4 * GIB,
			.awake_ms = cases[i].awake_ms,
			.stall_ms = cases[i].stall_ms,
			.gib_hour = cases[i].here,
			.since_ms = cases[i].since_ms,
			.moves = cases[i].moves,
			.budget_ms = 10 * MINUTE,
			.nodes = cases[i].nodes,
			.node_count = count,
		};
		const struct size_move_decision d = size_move_decide(&rules, &f);
		/* To the second: money is in floating point. */
		int64_t late = d.wait_ms - cases[i].wait_ms;
		if (d.reason != cases[i].reason || d.to != cases[i].to || late > 1000 ||
		    late < -1000)
			fail_msg("%s: %s to %d in %lld ms", cases[i].name,
				 size_move_reason_name(d.reason), d.to, (long long)d.wait_ms);
	}
}

/* What it is for a while on both machines costs, too. */
static void test_both_machines(void **state)
{
	(void)state;
	const struct size_move_node node = { "a", 0.005, true };
	struct size_move_facts f = { .memory_bytes = 4 * GIB,
				     .awake_ms = HOUR,
				     .both_ms = 12 * MINUTE,
				     .gib_hour = 0.01,
				     .since_ms = -1,
				     .nodes = &node,
				     .node_count = 1 };
	struct size_move_decision d = size_move_decide(&rules, &f);
	assert_true(d.to == 0 && d.cost > 0.00399 && d.cost < 0.00401);
	f.both_ms = 31 * MINUTE;
	d = size_move_decide(&rules, &f);
	assert_int_equal(d.reason, SIZE_MOVE_NOT_WORTH);
}

/* --- random states ------------------------------------------------------------------------ */

static uint64_t seed = 7;

static int64_t below(int64_t n)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (int64_t)(seed % (uint64_t)n);
}

static double some_price(void)
{
	static const double odd[] = { 0, -1, 1e300, 0.0 / 0.0, 1.0 / 0.0 };
	int64_t kind = below(20);
	return kind < 5 ? odd[kind] : (double)below(1000) / 1e4;
}

static struct size_move_facts some_facts(struct size_move_node *nodes, size_t most)
{
	static const char *const names[] = { "a", "b", "c", "d", "e", "f" };
	size_t count = (size_t)below((int64_t)most + 1);
	for (size_t i = 0; i < count; i++)
		nodes[i] = (struct size_move_node) { names[i], some_price(), below(3) > 0 };
	return (struct size_move_facts) {
		.memory_bytes = below(10) ? below(64 * GIB) : INT64_MAX - below(9),
		.awake_ms = below(10) ? below(100 * HOUR) : below(9) - 4,
		.stall_ms = below(10) ? below(3000) : INT64_MAX,
		.both_ms = below(2) ? below(HOUR) : -1,
		.gib_hour = some_price(),
		.since_ms = below(2) ? below(3 * HOUR) : -1,
		.moves = below(4),
		.budget_ms = below(HOUR),
		.nodes = nodes,
		.node_count = count,
	};
}

/* Whatever it is told: it answers, the same twice, and moves nobody who would not save by it. */
static void test_promises(void **state)
{
	(void)state;
	for (int i = 0; i < 200000; i++) {
		struct size_move_node nodes[6];
		const struct size_move_facts f = some_facts(nodes, ARRAY_SIZE(nodes));
		const struct size_move_decision d = size_move_decide(&rules, &f);
		const struct size_move_decision again = size_move_decide(&rules, &f);
		assert_true(d.to == again.to && d.reason == again.reason &&
			    d.wait_ms == again.wait_ms);
		assert_true((unsigned)d.reason < SIZE_MOVE_REASON_COUNT);
		assert_true((d.to >= 0) == (d.reason == SIZE_MOVE_SAVES));
		assert_true(d.wait_ms == -1 || (d.to < 0 && d.wait_ms > 0));
		if (d.to < 0)
			continue;
		assert_true((size_t)d.to < f.node_count && nodes[d.to].room);
		assert_true(nodes[d.to].gib_hour < f.gib_hour);
		assert_true(d.saved > rules.worth * d.cost && f.moves < rules.moves_per_hour);
		assert_true(f.since_ms < 0 || f.since_ms >= rules.rest_ms);
		for (size_t n = 0; n < f.node_count; n++)
			assert_false(nodes[n].room && nodes[n].gib_hour > 0 &&
				     nodes[n].gib_hour < nodes[d.to].gib_hour);
	}
}

/* --- prices that go up and down ------------------------------------------------------------ */

enum { SESSIONS = 12, NODES = 4, STEPS = 5000 };

struct world {
	struct size_move_node nodes[NODES];
	size_t at[SESSIONS];
	int64_t moved_at[SESSIONS]; /* -1: never */
	int64_t moves[STEPS];
	size_t move_count;
};

static int64_t moves_since(const struct world *w, int64_t from, int64_t *oldest)
{
	int64_t count = 0;
	for (size_t i = w->move_count; i > 0 && w->moves[i - 1] > from; i--) {
		*oldest = w->moves[i - 1];
		count++;
	}
	return count;
}

static void look(struct world *w, size_t s, int64_t now)
{
	struct size_move_node others[NODES];
	int64_t oldest = now;
	memcpy(others, w->nodes, sizeof(others));
	others[w->at[s]].room = false;
	struct size_move_facts f = {
		.memory_bytes = 8 * GIB,
		.awake_ms = now,
		.stall_ms = 200,
		.both_ms = 3000,
		.gib_hour = w->nodes[w->at[s]].gib_hour,
		.since_ms = w->moved_at[s] < 0 ? -1 : now - w->moved_at[s],
		.moves = moves_since(w, now - HOUR, &oldest),
		.nodes = others,
		.node_count = NODES,
	};
	f.budget_ms = oldest + HOUR - now;
	const struct size_move_decision d = size_move_decide(&rules, &f);
	if (d.to < 0)
		return;
	assert_true(w->moved_at[s] < 0 || now - w->moved_at[s] >= rules.rest_ms);
	w->at[s] = (size_t)d.to;
	w->moved_at[s] = now;
	w->moves[w->move_count++] = now;
}

static void live(struct world *w, bool changing, int64_t *now)
{
	for (int step = 0; step < STEPS && w->move_count < STEPS; step++) {
		*now += MINUTE;
		if (changing)
			w->nodes[below(NODES)].gib_hour = 0.001 + (double)below(100) / 1e4;
		for (size_t s = 0; s < SESSIONS; s++)
			look(w, s, *now);
	}
}

static void test_no_flapping(void **state)
{
	(void)state;
	struct world w = { .nodes = { { "a", 0.01, true },
				      { "b", 0.02, true },
				      { "c", 0.03, true },
				      { "d", 0.04, true } } };
	int64_t now = 0;
	for (size_t s = 0; s < SESSIONS; s++) {
		w.moved_at[s] = -1;
		w.at[s] = s % NODES;
	}
	live(&w, true, &now);
	/* However the prices jump about: within any hour no more than that. */
	assert_true(w.move_count > 20);
	for (size_t i = (size_t)rules.moves_per_hour; i < w.move_count; i++)
		assert_true(w.moves[i] - w.moves[i - (size_t)rules.moves_per_hour] >= HOUR);
	/* When they stay, so does everybody in the end. */
	live(&w, false, &now);
	size_t settled = w.move_count;
	live(&w, false, &now);
	assert_int_equal(w.move_count, settled);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_one_decision),
		cmocka_unit_test(test_both_machines),
		cmocka_unit_test(test_promises),
		cmocka_unit_test(test_no_flapping),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
