/* SPDX-License-Identifier: Apache-2.0 */
#include "base/cleanup.h"
#include "policies/budget.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#define HOUR (INT64_C(3600) * 1000)
#define DAY  (24 * HOUR)

static wall_ms at(int year, int month, int day, int hour)
{
	struct tm tm = {
		.tm_year = year - 1900, .tm_mon = month - 1, .tm_mday = day, .tm_hour = hour
	};
	return (wall_ms)timegm(&tm) * 1000;
}

/* --- days and months ---------------------------------------------------------------------- */

static void test_periods(void **state)
{
	static const struct {
		int now[4], from[3], until[3];
		enum budget_per per;
	} cases[] = {
		{ { 2026, 11, 30, 7 }, { 2026, 11, 30 }, { 2026, 12, 1 }, BUDGET_DAY },
		{ { 2026, 11, 30, 0 }, { 2026, 11, 30 }, { 2026, 12, 1 }, BUDGET_DAY },
		{ { 2026, 11, 30, 23 }, { 2026, 11, 1 }, { 2026, 12, 1 }, BUDGET_MONTH },
		{ { 2026, 12, 31, 23 }, { 2026, 12, 1 }, { 2027, 1, 1 }, BUDGET_MONTH },
		{ { 2026, 2, 1, 0 }, { 2026, 2, 1 }, { 2026, 3, 1 }, BUDGET_MONTH },
		{ { 2028, 2, 29, 1 }, { 2028, 2, 1 }, { 2028, 3, 1 }, BUDGET_MONTH },
		{ { 2100, 2, 28, 1 }, { 2100, 2, 1 }, { 2100, 3, 1 }, BUDGET_MONTH },
		{ { 2000, 3, 1, 0 }, { 2000, 3, 1 }, { 2000, 4, 1 }, BUDGET_MONTH },
		{ { 1970, 1, 1, 0 }, { 1970, 1, 1 }, { 1970, 2, 1 }, BUDGET_MONTH },
	};
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		const int *n = cases[i].now, *f = cases[i].from, *u = cases[i].until;
		wall_ms now = at(n[0], n[1], n[2], n[3]);
		assert_int_equal(budget_from(cases[i].per, now), at(f[0], f[1], f[2], 0));
		assert_int_equal(budget_until(cases[i].per, now), at(u[0], u[1], u[2], 0));
	}
}

/* As the C library has it, each day of four centuries. */
static void test_all_months(void **state)
{
	(void)state;
	for (int64_t day = 0; day < 146097; day++) {
		time_t t = (time_t)day * 86400;
		struct tm tm;
		gmtime_r(&t, &tm);
		wall_ms from = budget_from(BUDGET_MONTH, day * DAY + HOUR);
		assert_int_equal(from, (day - (tm.tm_mday - 1)) * DAY);
		assert_true(budget_until(BUDGET_MONTH, day * DAY + HOUR) > day * DAY + HOUR);
	}
}

/* --- what is spent, and told -------------------------------------------------------------- */

static void test_levels(void **state)
{
	wall_ms now = at(2026, 11, 30, 7);
	wall_ms month = at(2026, 11, 1, 0), before = at(2026, 10, 1, 0);
	const struct budget_rule rule = { "students", BUDGET_MONTH, 100, 0, BUDGET_ALLOW };
	const struct {
		const char *name;
		double spent;
		enum budget_level told;
		wall_ms told_of;
		enum budget_level level;
		bool tell;
	} cases[] = {
		{ "nothing", 0, BUDGET_WITHIN, 0, BUDGET_WITHIN, false },
		{ "not a number", 0.0 / 0.0, BUDGET_WITHIN, 0, BUDGET_WITHIN, false },
		{ "little", 79.9, BUDGET_WITHIN, 0, BUDGET_WITHIN, false },
		{ "four fifths", 80, BUDGET_WITHIN, 0, BUDGET_NEAR, true },
		{ "... told", 85, BUDGET_NEAR, month, BUDGET_NEAR, false },
		{ "... told of the last", 85, BUDGET_NEAR, before, BUDGET_NEAR, true },
		{ "all", 100, BUDGET_NEAR, month, BUDGET_SPENT, true },
		{ "all at once", 1e9, BUDGET_WITHIN, 0, BUDGET_SPENT, true },
		{ "... told", 1e9, BUDGET_SPENT, month, BUDGET_SPENT, false },
		{ "a new month", 1, BUDGET_SPENT, before, BUDGET_WITHIN, true },
		{ "... told", 2, BUDGET_WITHIN, month, BUDGET_WITHIN, false },
		{ "it was raised", 50, BUDGET_SPENT, month, BUDGET_WITHIN, true },
	};
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		const struct budget_facts f = { cases[i].spent, cases[i].told, cases[i].told_of };
		struct budget_decision d;
		wall_ms next = budget_decide(&rule, &f, 1, 0.8, now, &d);
		if (d.level != cases[i].level || d.tell != cases[i].tell)
			fail_msg("%s: %s, tell %d", cases[i].name, budget_level_name(d.level),
				 d.tell);
		assert_int_equal(d.from, month);
		assert_int_equal(next, at(2026, 12, 1, 0));
	}
}

/* --- what follows -------------------------------------------------------------------------- */

static void test_terms(void **state)
{
	static const struct budget_rule rules[] = {
		{ "students", BUDGET_DAY, 1, 10, BUDGET_SPOT },
		{ "students", BUDGET_MONTH, 1, 5, BUDGET_ALLOW },
		{ "guests", BUDGET_MONTH, 1, 0, BUDGET_REFUSE },
	};
	static const char *const nobody[] = { NULL };
	static const char *const student[] = { "all", "students", NULL };
	static const char *const both[] = { "guests", "students", NULL };
	const struct {
		const char *name;
		enum budget_level levels[3];
		const char *const *groups;
		int64_t timeout_ms;
		int timeout_of;
		enum budget_starts starts;
		int starts_of;
	} cases[] = {
		{ "groups not known", { 2, 2, 2 }, NULL, 0, -1, BUDGET_ALLOW, -1 },
		{ "in no group", { 2, 2, 2 }, nobody, 0, -1, BUDGET_ALLOW, -1 },
		{ "nothing spent", { 1, 1, 0 }, both, 0, -1, BUDGET_ALLOW, -1 },
		{ "the day's", { 2, 1, 2 }, student, 10, 0, BUDGET_SPOT, 0 },
		{ "day's and month's", { 2, 2, 0 }, student, 5, 1, BUDGET_SPOT, 0 },
		{ "the strictest of two groups", { 2, 2, 2 }, both, 5, 1, BUDGET_REFUSE, 2 },
		{ "the other's only", { 0, 0, 2 }, both, 0, -1, BUDGET_REFUSE, 2 },
	};
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct budget_decision d[3] = { { .level = cases[i].levels[0] },
						{ .level = cases[i].levels[1] },
						{ .level = cases[i].levels[2] } };
		const struct budget_terms t = budget_terms_of(rules, d, 3, cases[i].groups);
		if (t.timeout_ms != cases[i].timeout_ms || t.timeout_of != cases[i].timeout_of ||
		    t.starts != cases[i].starts || t.starts_of != cases[i].starts_of)
			fail_msg("%s: %lld of %d, %s of %d", cases[i].name, (long long)t.timeout_ms,
				 t.timeout_of, budget_starts_name(t.starts), t.starts_of);
	}
}

static void test_names(void **state)
{
	(void)state;
	assert_int_equal(budget_per_of("month"), BUDGET_MONTH);
	assert_int_equal(budget_per_of("year"), -1);
	assert_int_equal(budget_starts_of("refuse"), BUDGET_REFUSE);
	assert_int_equal(budget_starts_of(NULL), -1);
	assert_string_equal(budget_level_name(BUDGET_SPENT), "spent");
	assert_string_equal(budget_per_name((enum budget_per)9), "?");
}

/* --- an account that grows ------------------------------------------------------------------ */

static uint32_t seed = 5;

static double below(double n)
{
	seed ^= seed << 13;
	seed ^= seed >> 17;
	seed ^= seed << 5;
	return n * (double)seed / ((double)UINT32_MAX + 1);
}

/* Whatever is spent, and however elsad is ended between: within a day or month no more is told than
 * that it comes to an end, that it has, and that there is a new one; and the same twice. */
static void live(const struct budget_rule *rule, wall_ms *now)
{
	struct budget_facts f = { 0 };
	wall_ms period = budget_from(rule->per, *now);
	int told = 0;
	for (int step = 0; step < 3000; step++) {
		struct budget_decision d, again;
		*now += 1 + (int64_t)below((double)(2 * HOUR));
		if (budget_from(rule->per, *now) != period) {
			period = budget_from(rule->per, *now);
			f.spent = 0;
			told = 0;
		}
		f.spent += below(3) < 1 ? below(rule->amount / 5) : 0;
		wall_ms next = budget_decide(rule, &f, 1, 0.8, *now, &d);
		budget_decide(rule, &f, 1, 0.8, *now, &again);
		assert_memory_equal(&d, &again, sizeof(d));
		assert_true(next > *now && d.from <= *now && d.until == next);
		assert_true((d.level == BUDGET_SPENT) == (f.spent >= rule->amount));
		if (!d.tell)
			continue;
		assert_true(++told <= 3);
		f.told = d.level;
		f.told_of = d.from;
		budget_decide(rule, &f, 1, 0.8, *now, &d);
		assert_false(d.tell);
	}
}

static void test_told_once(void **state)
{
	(void)state;
	wall_ms now = at(2026, 1, 31, 22);
	for (int i = 0; i < 40; i++) {
		const struct budget_rule rule = { "g", i % 2 ? BUDGET_DAY : BUDGET_MONTH,
						  1 + below(100), 0, BUDGET_ALLOW };
		live(&rule, &now);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_periods), cmocka_unit_test(test_all_months),
		cmocka_unit_test(test_levels),  cmocka_unit_test(test_terms),
		cmocka_unit_test(test_names),   cmocka_unit_test(test_told_once),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
