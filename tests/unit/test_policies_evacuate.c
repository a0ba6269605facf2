/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/evacuate_kit.h"

enum { MOST = 24 };

static struct evacuate_session session(const char *id, int64_t mib, int64_t snapshot_age)
{
	return (struct evacuate_session) { .id = id,
					   .resident_bytes = mib * MIB,
					   .unsent_bytes = mib * MIB,
					   .snapshot_at = snapshot_age ? NOW - snapshot_age : 0 };
}

/* --- tables ------------------------------------------------------------------------- */

struct row {
	const char *name;
	int64_t window_ms;
	size_t workers;
	struct evacuate_session sessions[4];
	const char *expected; /* of a, b, c, d: letter() */
};

#define SNAPSHOT(age) .snapshot_at = NOW - (age)

static const struct row rows[] = {
	{ "nobody is there", 30 * S, 4, { { 0 } }, "" },
	{ "one alone", 30 * S, 4, { SESSION("a", 1000) }, "C" },
	{ "one stream is all the store bears",
	  120 * S,
	  4,
	  { SESSION("a", 1000), SESSION("b", 500) },
	  "WC" },
	{ "equal ones go by name", 120 * S, 1, { SESSION("b", 500), SESSION("a", 500) }, "CW" },
	{ "who has no checkpoint goes before who is a little smaller and has one",
	  120 * S,
	  1,
	  { SESSION("a", 1000), SESSION("b", 700, SNAPSHOT(20 * S)) },
	  "CW" },
	{ "... but not before who is much smaller",
	  120 * S,
	  1,
	  { SESSION("a", 1000), SESSION("b", 100, SNAPSHOT(20 * S)) },
	  "WC" },
	{ "who is too large is left", 30 * S, 4, { SESSION("a", 4000), SESSION("b", 100) }, "LC" },
	{ "more by shortest first",
	  30 * S,
	  1,
	  { SESSION("a", 2000), SESSION("b", 1000), SESSION("c", 1000) },
	  "LCF" },
	{ "of equal ones the older snapshot weighs more",
	  30 * S,
	  1,
	  { SESSION("a", 1500, SNAPSHOT(20 * S)), SESSION("b", 1500, SNAPSHOT(300 * S)) },
	  "LC" },
	{ "... and who is in use",
	  30 * S,
	  1,
	  { SESSION("a", 1500, SNAPSHOT(20 * S)),
	    SESSION("b", 1500, SNAPSHOT(20 * S), .in_use = true) },
	  "LC" },
	{ "who has no checkpoint at all goes before two who have one",
	  30 * S,
	  1,
	  { SESSION("a", 1000, SNAPSHOT(20 * S)), SESSION("b", 1000, SNAPSHOT(20 * S)),
	    SESSION("c", 2000) },
	  "LLC" },
	{ "a turn that could be too late is waited for standing still",
	  30 * S,
	  1,
	  { SESSION("a", 1000), SESSION("b", 1200) },
	  "CF" },
	{ "... but there is no need with time enough",
	  90 * S,
	  1,
	  { SESSION("a", 1000), SESSION("b", 1200) },
	  "CW" },
	{ "who stands still does so until its turn",
	  300 * S,
	  1,
	  { SESSION("a", 1000), SESSION("b", 1200, .frozen = true) },
	  "CF" },
	{ "nothing is begun in the margin", 4 * S, 4, { SESSION("a", 1) }, "L" },
	{ "behind the deadline all goes on, smallest first",
	  -1,
	  1,
	  { SESSION("a", 9000), SESSION("b", 100) },
	  "WC" },
	{ "what is under way has its place",
	  120 * S,
	  1,
	  { SESSION("a", 9000, .state = EVACUATE_SAVING, .since = NOW - 10 * S),
	    SESSION("b", 100) },
	  ".F" },
	{ "what others do is awaited",
	  120 * S,
	  2,
	  { SESSION("a", 500, .state = EVACUATE_BUSY, .since = NOW - 1 * S),
	    SESSION("b", 100, .state = EVACUATE_OVER) },
	  "W." },
	{ "who failed is tried behind the others",
	  120 * S,
	  1,
	  { SESSION("a", 1, .tried = true), SESSION("b", 3000) },
	  "WC" },
};

static void test_tables(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		const struct row *row = &rows[i];
		struct evacuate_session list[4];
		struct evacuate_facts f = facts(row->window_ms, row->workers);
		char got[8] = "";
		size_t count = strlen(row->expected);
		memcpy(list, row->sessions, sizeof(list));
		evacuate_decide(&f, list, count);
		for (size_t k = 0; k < count; k++)
			got[k] = letter(list[k].what);
		if (strcmp(got, row->expected) != 0)
			fail_msg("%s: %s, expected %s", row->name, got, row->expected);
	}
}

/* The list comes back by id, each with a reason. */
static void test_reasons(void **state)
{
	(void)state;
	struct evacuate_facts f = facts(30 * S, 1);
	struct evacuate_session list[] = {
		session("d", 9000, 0),
		session("a", 1000, 0),
		session("b", 1200, 0),
		session("c", 1300, 5 * S),
	};
	wall_ms wake = evacuate_decide(&f, list, 4);
	assert_string_equal(list[0].id, "a");
	assert_int_equal(list[0].why, EVACUATE_TURN);
	assert_int_equal(list[0].ends_at, NOW + 10500);
	assert_int_equal(list[1].why, EVACUATE_AT_RISK);
	assert_int_equal(list[2].why, EVACUATE_NO_ROOM);
	assert_int_equal(list[3].why, EVACUATE_TOO_LONG);
	assert_true(wake > NOW && wake <= NOW + S);
	f = facts(3 * S, 1);
	evacuate_decide(&f, list, 4);
	assert_int_equal(list[0].why, EVACUATE_WINDOW_OVER);
	f = facts(0, 1);
	evacuate_decide(&f, list, 4);
	assert_int_equal(list[0].why, EVACUATE_OVERTIME);
	assert_int_equal(list[0].what, EVACUATE_CHECKPOINT);
	assert_int_equal(evacuate_decide(&f, list, 1), 0);
}

static void test_parallel_only_while_it_adds_up(void **state)
{
	(void)state;
	struct evacuate_session list[8];
	static const char *const ids[] = { "a", "b", "c", "d", "e", "f", "g", "h" };
	static const struct {
		int64_t store, stream, dump;
		size_t at_once;
	} cases[] = {
		{ 100, 100, 5000, 1 }, /* one fills the store */
		{ 400, 100, 5000, 4 }, /* four do */
		{ 800, 100, 5000, 6 }, /* more than the workers */
		{ 800, 100, 100, 1 },  /* the processor is what there is too little of */
	};
	/* One checkpoint alone does not use sixteen processors. */
	struct evacuate_facts many = facts(1000 * S, 64);
	many.dump_bytes_per_s = many.store_bytes_per_s = 0;
	many.dump_stream_bytes_per_s = 100 * MIB;
	many.stream_bytes_per_s = 5000 * MIB;
	assert_true(evacuate_takes(&many, GIB, GIB, 2) > evacuate_takes(&many, GIB, GIB, 1));
	many.cpus = 16;
	assert_int_equal(evacuate_takes(&many, GIB, GIB, 8), evacuate_takes(&many, GIB, GIB, 1));
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct evacuate_facts f = facts(1000 * S, 6);
		size_t begun = 0;
		f.store_bytes_per_s = cases[i].store * MIB;
		f.stream_bytes_per_s = cases[i].stream * MIB;
		f.dump_bytes_per_s = cases[i].dump * MIB;
		f.fixed_ms = 1;
		for (size_t k = 0; k < 8; k++)
			list[k] = session(ids[k], 1000, 0);
		evacuate_decide(&f, list, 8);
		for (size_t k = 0; k < 8; k++)
			begun += list[k].what == EVACUATE_CHECKPOINT;
		assert_int_equal(begun, cases[i].at_once);
	}
}

static void test_what_is_measured_counts(void **state)
{
	(void)state;
	struct evacuate_facts f = facts(30 * S, 1);
	struct evacuate_session list[] = { session("a", 1000, 0), session("b", 1200, 0) };
	evacuate_decide(&f, list, 2);
	assert_int_equal(list[1].what, EVACUATE_FREEZE);
	/* The first took longer than thought: the second is let go again. */
	list[0].state = EVACUATE_OVER;
	list[1].frozen = true;
	f.now += 20 * S;
	f.stream_bytes_per_s = f.store_bytes_per_s = 50 * MIB;
	evacuate_decide(&f, list, 2);
	assert_int_equal(list[1].what, EVACUATE_LEAVE);
	assert_int_equal(list[1].why, EVACUATE_TOO_LONG);
}

/* --- properties ---------------------------------------------------------------------- */

struct world {
	struct evacuate_facts f;
	struct evacuate_session list[MOST];
	char ids[MOST][8];
	size_t count;
};

static void make_session(struct world *w, size_t i)
{
	struct evacuate_session *s = &w->list[i];
	snprintf(w->ids[i], sizeof(w->ids[i]), "%02d", (int)i);
	*s = (struct evacuate_session) { .id = w->ids[i] };
	int64_t kind = random_to(9);
	s->state = kind < 7   ? EVACUATE_WAITING
		   : kind < 8 ? EVACUATE_SAVING
		   : kind < 9 ? EVACUATE_BUSY
			      : EVACUATE_OVER;
	s->since = s->state == EVACUATE_WAITING ? 0 : NOW - random_to(20 * S);
	s->resident_bytes = random_to(1) ? random_to(4 * GIB) : random_to(100 * MIB);
	s->unsent_bytes = random_to(1) ? s->resident_bytes : random_to(s->resident_bytes);
	s->snapshot_at = random_to(2) ? NOW - random_to(900 * S) : 0;
	s->in_use = random_to(1);
	s->frozen = s->state == EVACUATE_WAITING && random_to(3) == 0;
	s->tried = random_to(7) == 0;
	s->movable = random_to(1);
}

static void make_world(struct world *w, uint64_t n)
{
	seed = n;
	*w = (struct world) { .f = facts(random_to(150 * S) - 5 * S, 1 + (size_t)random_to(7)) };
	w->f.margin_ms = random_to(10 * S);
	w->f.stream_bytes_per_s = random_to(5) ? 1 + random_to(500 * MIB) : 0;
	w->f.store_bytes_per_s = random_to(5) ? 1 + random_to(2000 * MIB) : 0;
	w->f.dump_bytes_per_s = random_to(5) ? 1 + random_to(3000 * MIB) : 0;
	w->f.dump_stream_bytes_per_s = random_to(1) ? 1 + random_to(3000 * MIB) : 0;
	w->f.cpus = (size_t)random_to(32);
	w->f.fixed_ms = random_to(2000);
	w->f.move_bytes_per_s = random_to(1) ? 1 + random_to(1000 * MIB) : 0;
	w->f.moves_until = random_to(1) ? NOW + random_to(3 * S) : 0;
	w->count = (size_t)random_to(MOST);
	for (size_t i = 0; i < w->count; i++)
		make_session(w, i);
}

static bool is_open(const struct evacuate_session *s)
{
	return s->state == EVACUATE_WAITING || s->state == EVACUATE_BUSY;
}

static bool is_saved(const struct evacuate_session *s)
{
	return s->what == EVACUATE_CHECKPOINT || s->what == EVACUATE_WAIT ||
	       s->what == EVACUATE_FREEZE || s->what == EVACUATE_MOVE;
}

static size_t under_way(const struct world *w)
{
	size_t n = 0;
	for (size_t i = 0; i < w->count; i++)
		n += w->list[i].state == EVACUATE_SAVING || w->list[i].state == EVACUATE_BUSY;
	return n;
}

static void check_each(const struct world *w)
{
	wall_ms limit = w->f.deadline - w->f.margin_ms;
	bool late = w->f.now >= w->f.deadline;
	size_t begun = 0, at_once = under_way(w);
	for (size_t i = 0; i < w->count; i++) {
		const struct evacuate_session *s = &w->list[i];
		assert_true(i == 0 || strcmp(w->list[i - 1].id, s->id) < 0);
		assert_true(s->why < EVACUATE_WHY_COUNT && evacuate_why_names[s->why]);
		if (!is_open(s)) {
			assert_int_equal(s->what, EVACUATE_NOTHING);
			continue;
		}
		assert_int_not_equal(s->what, EVACUATE_NOTHING);
		assert_true(is_saved(s) == (s->ends_at != 0));
		assert_true(!is_saved(s) || s->ends_at <= limit || late);
		assert_true(!late || is_saved(s));
		if (s->what != EVACUATE_CHECKPOINT)
			continue;
		assert_int_equal(s->state, EVACUATE_WAITING);
		begun++;
	}
	assert_true(begun == 0 || begun + at_once <= w->f.workers);
	/* By its own estimate with as many at once as there will be. */
	for (size_t i = 0; i < w->count; i++)
		if (w->list[i].what == EVACUATE_CHECKPOINT && !late)
			assert_true(w->f.now + evacuate_takes(&w->f, w->list[i].resident_bytes,
							      w->list[i].unsent_bytes,
							      begun + at_once) <=
				    limit);
}

/* Shortest first with nothing under way, `at_once` of them, each when it fits. */
static size_t greedy(const struct world *w, size_t at_once)
{
	int64_t cost[MOST], lane[EVACUATE_WORKERS_MOST] = { 0 };
	size_t n = w->count, saved = 0;
	for (size_t i = 0; i < n; i++)
		cost[i] = evacuate_takes(&w->f, w->list[i].resident_bytes, w->list[i].unsent_bytes,
					 at_once);
	for (size_t i = 0; i < n; i++)
		for (size_t k = i + 1; k < n; k++)
			if (cost[k] < cost[i]) {
				int64_t t = cost[i];
				cost[i] = cost[k];
				cost[k] = t;
			}
	for (size_t i = 0; i < n; i++) {
		size_t at = 0;
		for (size_t k = 1; k < at_once; k++)
			if (lane[k] < lane[at])
				at = k;
		if (w->f.now + lane[at] + cost[i] > w->f.deadline - w->f.margin_ms)
			continue;
		lane[at] += cost[i];
		saved++;
	}
	return saved;
}

/* Without those without a checkpoint, and others that have one: plainly as many. */
static void check_against_greedy(struct world *w, bool bare)
{
	size_t saved = 0;
	for (size_t i = 0; i < w->count; i++) {
		w->list[i].state = EVACUATE_WAITING;
		w->list[i].since = 0;
		w->list[i].tried = false;
		if (bare)
			w->list[i].snapshot_at = 0;
		else if (!w->list[i].snapshot_at)
			w->list[i].snapshot_at = NOW - 1;
	}
	evacuate_decide(&w->f, w->list, w->count);
	for (size_t i = 0; i < w->count; i++)
		saved += is_saved(&w->list[i]);
	if (w->f.now >= w->f.deadline)
		return;
	for (size_t n = 1; n <= w->f.workers; n++)
		assert_true(saved >= greedy(w, n));
}

static void test_properties(void **state)
{
	(void)state;
	struct world *w = calloc(1, sizeof(*w)), *again = calloc(1, sizeof(*again));
	for (uint64_t n = 1; n <= 20000; n++) {
		make_world(w, n);
		wall_ms wake = evacuate_decide(&w->f, w->list, w->count);
		check_each(w);
		assert_true(wake == 0 || wake > w->f.now);
		/* In another order, and once more: the same. */
		make_world(again, n);
		for (size_t i = 0; i < again->count / 2; i++) {
			struct evacuate_session s = again->list[i];
			again->list[i] = again->list[again->count - 1 - i];
			again->list[again->count - 1 - i] = s;
		}
		assert_int_equal(evacuate_decide(&again->f, again->list, again->count), wake);
		for (size_t i = 0; i < w->count; i++) {
			assert_string_equal(w->list[i].id, again->list[i].id);
			assert_int_equal(w->list[i].what, again->list[i].what);
			assert_int_equal(w->list[i].why, again->list[i].why);
			assert_int_equal(w->list[i].ends_at, again->list[i].ends_at);
		}
		check_against_greedy(w, n % 2);
	}
	free(w);
	free(again);
}

/* Who has no checkpoint is saved where another's snapshot can take the other's place. */
static void test_bare_ones_first(void **state)
{
	(void)state;
	struct world *w = calloc(1, sizeof(*w));
	for (uint64_t n = 1; n <= 5000; n++) {
		size_t with_all = 0, bare_only = 0;
		make_world(w, n);
		w->f.moves_until = 0;
		for (size_t i = 0; i < w->count; i++) {
			w->list[i].state = EVACUATE_WAITING;
			w->list[i].since = 0;
			w->list[i].tried = false;
		}
		evacuate_decide(&w->f, w->list, w->count);
		for (size_t i = 0; i < w->count; i++)
			with_all += w->list[i].snapshot_at == 0 && is_saved(&w->list[i]);
		for (size_t i = 0; i < w->count; i++)
			if (w->list[i].snapshot_at)
				w->list[i].state = EVACUATE_OVER;
		evacuate_decide(&w->f, w->list, w->count);
		for (size_t i = 0; i < w->count; i++)
			bare_only += is_open(&w->list[i]) && is_saved(&w->list[i]);
		assert_true(with_all >= bare_only);
	}
	free(w);
}

/* The policy drives a machine that is exactly as it thinks, from notice to deadline. */
static void run_out(struct world *w, size_t *saved)
{
	for (int i = 0; i < 10000; i++) {
		wall_ms next = evacuate_decide(&w->f, w->list, w->count);
		for (size_t k = 0; k < w->count; k++) {
			struct evacuate_session *s = &w->list[k];
			if (s->what != EVACUATE_CHECKPOINT)
				continue;
			s->state = EVACUATE_SAVING;
			s->since = w->f.now;
		}
		size_t n = under_way(w);
		for (size_t k = 0; k < w->count; k++) {
			struct evacuate_session *s = &w->list[k];
			wall_ms end = s->since +
				      evacuate_takes(&w->f, s->resident_bytes, s->unsent_bytes, n);
			if (s->state == EVACUATE_SAVING && (next == 0 || end < next))
				next = end > w->f.now ? end : w->f.now + 1;
		}
		if (next == 0 || next >= w->f.deadline)
			break;
		w->f.now = next;
		for (size_t k = 0; k < w->count; k++) {
			struct evacuate_session *s = &w->list[k];
			if (s->state == EVACUATE_SAVING &&
			    s->since + evacuate_takes(&w->f, s->resident_bytes, s->unsent_bytes,
						      n) <=
				    w->f.now) {
				s->state = EVACUATE_OVER;
				++*saved;
			}
		}
	}
}

static void test_all_are_begun_in_time_when_everything_fits(void **state)
{
	(void)state;
	struct world *w = calloc(1, sizeof(*w));
	int tried = 0;
	for (uint64_t n = 1; n <= 3000; n++) {
		size_t saved = 0, fit = 0;
		make_world(w, n);
		w->f.moves_until = 0;
		for (size_t i = 0; i < w->count; i++) {
			w->list[i].state = EVACUATE_WAITING;
			w->list[i].since = 0;
		}
		evacuate_decide(&w->f, w->list, w->count);
		for (size_t i = 0; i < w->count; i++)
			fit += is_saved(&w->list[i]);
		if (fit < w->count || w->f.now >= w->f.deadline)
			continue;
		tried++;
		run_out(w, &saved);
		assert_int_equal(saved, w->count);
	}
	assert_true(tried > 300);
	free(w);
}

/* --- estimates ------------------------------------------------------------------------- */

static void test_unsent(void **state)
{
	(void)state;
	struct evacuate_history h = { 0 };
	assert_int_equal(evacuate_unsent(&h, GIB, NOW), GIB);
	/* One, which sent all: a tenth at once, all in ten minutes. */
	h = (struct evacuate_history) { .last_at = NOW, .last_bytes = 600 * MIB };
	assert_int_equal(evacuate_unsent(&h, GIB, NOW), 60 * MIB);
	assert_true(evacuate_unsent(&h, GIB, NOW + 60 * S) <= 121 * MIB);
	assert_int_equal(evacuate_unsent(&h, GIB, NOW + 3600 * S), 600 * MIB);
	assert_int_equal(evacuate_unsent(&h, MIB, NOW + 3600 * S), MIB);
	/* Two: at the pace of the last. */
	h.before_at = NOW - 60 * S;
	assert_int_equal(evacuate_unsent(&h, GIB, NOW + 30 * S), 300 * MIB);
	assert_int_equal(evacuate_unsent(&h, GIB, NOW), 150 * MIB);
	/* Clocks that went back. */
	assert_int_equal(evacuate_unsent(&h, GIB, NOW - 99 * S), 150 * MIB);
	h.before_at = NOW + 1;
	assert_int_equal(evacuate_unsent(&h, GIB, NOW + 1), 600 * MIB);
}

static void test_measure(void **state)
{
	(void)state;
	struct evacuate_rates r = { 0 };
	evacuate_measure(&r, &(struct evacuate_sample) { MIB, MIB, 200, 1 });
	assert_int_equal(r.fixed_ms, 200);
	/* All of it sent: the store is what took time. */
	evacuate_measure(&r, &(struct evacuate_sample) { GIB, GIB, 4296, 1 });
	assert_in_range(r.stream_bytes_per_s, 249 * MIB, 251 * MIB);
	assert_int_equal(r.store_bytes_per_s, 0);
	/* Little of it: reading did. */
	evacuate_measure(&r, &(struct evacuate_sample) { GIB, 10 * MIB, 1224, 1 });
	assert_in_range(r.dump_stream_bytes_per_s, 990 * MIB, 1010 * MIB);
	assert_int_equal(r.dump_bytes_per_s, 0);
	/* Two at once, each half as fast: no more than one alone. */
	evacuate_measure(&r, &(struct evacuate_sample) { GIB, GIB, 8392, 2 });
	assert_in_range(r.stream_bytes_per_s, 249 * MIB, 251 * MIB);
	assert_in_range(r.store_bytes_per_s, 249 * MIB, 251 * MIB);
	/* A later one counts, but not alone. */
	evacuate_measure(&r, &(struct evacuate_sample) { GIB, GIB, 10440, 1 });
	assert_in_range(r.stream_bytes_per_s, 200 * MIB, 210 * MIB);
	evacuate_measure(&r, &(struct evacuate_sample) { GIB, GIB, 0, 0 });
	assert_true(r.stream_bytes_per_s > 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_tables),
		cmocka_unit_test(test_reasons),
		cmocka_unit_test(test_parallel_only_while_it_adds_up),
		cmocka_unit_test(test_what_is_measured_counts),
		cmocka_unit_test(test_properties),
		cmocka_unit_test(test_bare_ones_first),
		cmocka_unit_test(test_all_are_begun_in_time_when_everything_fits),
		cmocka_unit_test(test_unsent),
		cmocka_unit_test(test_measure),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
