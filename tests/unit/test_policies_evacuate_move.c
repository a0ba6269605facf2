/* SPDX-License-Identifier: Apache-2.0 */
/* Who leaves a machine that goes away while it runs, and until when that may still be so. */
#include "tests/unit/evacuate_kit.h"

/* As much to other machines as to the store. */
static struct evacuate_facts with_others(int64_t window_ms, size_t workers)
{
	struct evacuate_facts f = facts(window_ms, workers);
	f.move_bytes_per_s = 100 * MIB;
	f.moves_until = NOW + 3 * S;
	return f;
}

#define USED          .in_use = true, .movable = true
#define MOVING(ago_s) .state = EVACUATE_MOVING, .since = NOW - (ago_s) * S
#define AWAY(ago_s)   .state = EVACUATE_AWAY, .since = NOW - (ago_s) * S

struct row {
	const char *name;
	int64_t window_s;
	size_t workers;
	struct evacuate_session sessions[3];
	const char *expected; /* letter() of each */
	int64_t link_mib;     /* 0: 100 */
	int64_t until_s;      /* 0: 3 */
};

static const struct row rows[] = {
	{ "who is in use moves", 120, 4, { SESSION("a", 1000, USED) }, "M" },
	{ "who is not does not", 120, 4, { SESSION("a", 1000) }, "C" },
	{ "who cannot move does not", 120, 4, { SESSION("a", 1000, .in_use = true) }, "C" },
	{ "nor who could not be saved before",
	  120,
	  4,
	  { SESSION("a", 1000, .tried = true, USED) },
	  "C" },
	{ "nor who stands still already",
	  120,
	  4,
	  { SESSION("a", 1000, .frozen = true, USED) },
	  "C" },
	{ "its memory must be there in half of the time",
	  30,
	  4,
	  { SESSION("a", 1000, USED) },
	  "M" },
	{ "... or it is no use", 26, 4, { SESSION("a", 1000, USED) }, "C" },
	{ "a slow link", 110, 4, { SESSION("a", 1000, USED) }, "M", .link_mib = 20 },
	{ "a link too slow", 100, 4, { SESSION("a", 1000, USED) }, "C", .link_mib = 20 },
	{ "one that is not known is taken for slow",
	  60,
	  4,
	  { SESSION("a", 3000, USED) },
	  "C",
	  .link_mib = -1 },
	{ "nobody sees to it", 120, 4, { SESSION("a", 1000, USED) }, "C", .until_s = -1 },
	{ "behind the deadline nothing is left to chance",
	  -1,
	  4,
	  { SESSION("a", 100, USED) },
	  "C" },
	{ "nor in the margin", 4, 4, { SESSION("a", 1, USED) }, "L" },
	{ "one after the other over one link",
	  60,
	  1,
	  { SESSION("a", 1000, USED), SESSION("b", 1000, USED) },
	  "MM" },
	{ "as many as it takes, the smallest first",
	  45,
	  1,
	  { SESSION("a", 1000, USED), SESSION("b", 900, USED), SESSION("c", 100) },
	  "WMC" },
	{ "who has gone is on the link",
	  110,
	  4,
	  { SESSION("a", 4000, AWAY(0), USED), SESSION("b", 1000, USED) },
	  ".M" },
	{ "... for as long as its memory takes",
	  100,
	  4,
	  { SESSION("a", 4000, AWAY(0), USED), SESSION("b", 1000, USED) },
	  ".C" },
	{ "others' checkpoints come before one that a move may spare",
	  120,
	  1,
	  { SESSION("a", 100, USED), SESSION("b", 1000) },
	  "MC" },
	{ "... which must have its place behind them",
	  38,
	  1,
	  { SESSION("a", 1000, USED), SESSION("b", 1200) },
	  "CF" },
	{ "a move goes on while there is time",
	  120,
	  4,
	  { SESSION("a", 1000, MOVING(2), USED) },
	  "." },
	{ "... up to the last moment", 18, 4, { SESSION("a", 1000, MOVING(2), USED) }, "." },
	{ "... and is called off in that", 17, 4, { SESSION("a", 1000, MOVING(2), USED) }, "R" },
	{ "behind it there is nothing else to hope for",
	  14,
	  4,
	  { SESSION("a", 1000, MOVING(2), USED) },
	  "." },
	{ "memory that would be late is not begun with",
	  40,
	  4,
	  { SESSION("a", 1000, MOVING(2), USED) },
	  "R",
	  .link_mib = 20 },
	{ "what is there has to go by itself", 1, 4, { SESSION("a", 1000, AWAY(9), USED) }, "." },
};

static void test_tables(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		const struct row *row = &rows[i];
		struct evacuate_session list[3];
		struct evacuate_facts f = with_others(row->window_s * S, row->workers);
		char got[8] = "";
		size_t count = strlen(row->expected);
		if (row->link_mib)
			f.move_bytes_per_s = row->link_mib < 0 ? 0 : row->link_mib * MIB;
		if (row->until_s)
			f.moves_until = row->until_s < 0 ? 0 : NOW + row->until_s * S;
		memcpy(list, row->sessions, sizeof(list));
		evacuate_decide(&f, list, count);
		for (size_t k = 0; k < count; k++)
			got[k] = letter(list[k].what);
		if (strcmp(got, row->expected) != 0)
			fail_msg("%s: %s, expected %s", row->name, got, row->expected);
	}
}

/* Nobody has come for it: it is its turn, and that is looked at then. */
static void test_nobody_comes(void **state)
{
	(void)state;
	struct evacuate_facts f = with_others(120 * S, 4);
	struct evacuate_session list[] = { SESSION("a", 1000, USED) };
	f.moves_until = NOW + 300;
	assert_int_equal(evacuate_decide(&f, list, 1), NOW + 300);
	assert_int_equal(list[0].what, EVACUATE_MOVE);
	assert_int_equal(list[0].why, EVACUATE_TO_MOVE);
	assert_int_equal(list[0].ends_at, NOW + 5000 + 10500);
	f.now = NOW + 300;
	assert_int_equal(evacuate_decide(&f, list, 1), 0);
	assert_int_equal(list[0].what, EVACUATE_CHECKPOINT);
}

static void test_what_is_measured_counts(void **state)
{
	(void)state;
	struct evacuate_rates rates = { 0 };
	evacuate_measure_move(&rates, MIB, 1);
	assert_int_equal(rates.move_bytes_per_s, 0);
	evacuate_measure_move(&rates, 100 * MIB, 500);
	assert_int_equal(rates.move_bytes_per_s, 200 * MIB);
	evacuate_measure_move(&rates, 100 * MIB, 1000);
	assert_in_range(rates.move_bytes_per_s, 165 * MIB, 175 * MIB);
	evacuate_measure_move(&rates, 100 * MIB, 0);
	assert_true(rates.move_bytes_per_s > 0);
	struct evacuate_facts f = { .move_bytes_per_s = 100 * MIB };
	assert_int_equal(evacuate_move_takes(&f, 1000 * MIB), 11000);
	assert_true(evacuate_move_takes(&f, INT64_MAX) > 11000);
}

/* --- a property: who is left alone for a move that comes to nothing is saved all the same ------
 */

enum { MOST = 12 };

static size_t make(struct evacuate_facts *f, struct evacuate_session *list, char (*ids)[4])
{
	size_t count = 1 + (size_t)random_to(MOST - 1);
	*f = with_others(10 * S + random_to(140 * S), 1 + (size_t)random_to(5));
	f->move_bytes_per_s = (1 + random_to(400)) * MIB;
	f->stream_bytes_per_s = (20 + random_to(400)) * MIB;
	f->store_bytes_per_s = f->stream_bytes_per_s * (1 + random_to(2));
	for (size_t i = 0; i < count; i++) {
		snprintf(ids[i], sizeof(ids[i]), "%02d", (int)i);
		int64_t bytes = random_to(2 * GIB);
		list[i] =
			(struct evacuate_session) { .id = ids[i],
						    .resident_bytes = bytes,
						    .unsent_bytes = random_to(bytes),
						    .snapshot_at = random_to(1) ? NOW - 60 * S : 0,
						    .in_use = random_to(1),
						    .movable = true };
	}
	return count;
}

static int64_t takes(const struct evacuate_facts *f, const struct evacuate_session *s, size_t n)
{
	return evacuate_takes(f, s->resident_bytes, s->unsent_bytes, n);
}

/* Moves come to nothing after HELD_MS; a checkpoint takes what as many at once do. */
static size_t pass_time(const struct evacuate_facts *f, struct evacuate_session *list, size_t count)
{
	enum { HELD_MS = 4000 };
	size_t open = 0, at_once = 0;
	for (size_t i = 0; i < count; i++)
		at_once += list[i].state == EVACUATE_SAVING;
	for (size_t i = 0; i < count; i++) {
		struct evacuate_session *s = &list[i];
		if (s->state == EVACUATE_SAVING && s->since + takes(f, s, at_once) <= f->now)
			s->state = EVACUATE_OVER;
		if (s->state == EVACUATE_MOVING && s->since + HELD_MS <= f->now)
			s->state = EVACUATE_WAITING;
		open += s->state != EVACUATE_OVER;
	}
	return open;
}

static bool all_saved(struct evacuate_facts *f, struct evacuate_session *list, size_t count)
{
	enum { STEP_MS = 100 };
	for (; pass_time(f, list, count); f->now += STEP_MS) {
		evacuate_decide(f, list, count);
		for (size_t i = 0; i < count; i++) {
			struct evacuate_session *s = &list[i];
			if (s->what == EVACUATE_LEAVE)
				return false;
			if (s->what == EVACUATE_RECALL)
				s->state = EVACUATE_WAITING;
			if (s->what != EVACUATE_CHECKPOINT)
				continue;
			s->state = EVACUATE_SAVING;
			s->since = f->now;
		}
	}
	return true;
}

static void test_a_move_that_fails_costs_nothing(void **state)
{
	(void)state;
	struct evacuate_facts f;
	struct evacuate_session list[MOST];
	char ids[MOST][4];
	size_t moved = 0;
	seed = 1;
	while (moved < 600) {
		unsigned long long before = seed;
		size_t count = make(&f, list, ids), moves = 0, left = 0;
		evacuate_decide(&f, list, count);
		for (size_t i = 0; i < count; i++) {
			bool goes = list[i].what == EVACUATE_MOVE;
			assert_true(!goes || list[i].in_use);
			moves += goes;
			left += list[i].what == EVACUATE_LEAVE;
			list[i].movable = false;
			list[i].waited = goes;
			list[i].state = goes ? EVACUATE_MOVING : EVACUATE_WAITING;
			list[i].since = goes ? NOW : 0;
		}
		if (!moves || left)
			continue;
		moved += moves;
		if (!all_saved(&f, list, count))
			fail_msg("seed %llu", before);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_tables),
		cmocka_unit_test(test_nobody_comes),
		cmocka_unit_test(test_what_is_measured_counts),
		cmocka_unit_test(test_a_move_that_fails_costs_nothing),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
