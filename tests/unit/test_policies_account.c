/* SPDX-License-Identifier: Apache-2.0 */
#include "base/cleanup.h"
#include "policies/account.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define GIB  (1LL << 30)
#define HOUR 3600000LL
#define MIN  60000LL

static void assert_near(double a, double b)
{
	assert_true(fabs(a - b) <= 1e-9 * fabs(b));
}

/* What a state costs: memory held, and memory that it would hold if it was kept awake. */
static const struct {
	enum session_state state;
	int64_t placed, resident, whole; /* GiB */
	bool awake;
	int64_t held, whole_then;
} sizes[] = {
	{ SESSION_STARTING, 1, 0, 0, true, 1, 1 },
	{ SESSION_RUNNING, 4, 3, 1, true, 4, 4 },
	{ SESSION_SNAPSHOTTING, 4, 3, 4, true, 4, 4 },
	{ SESSION_CHECKPOINTING, 4, 3, 4, true, 4, 4 },
	{ SESSION_HIBERNATED, 4, 0, 6, false, 0, 6 },
	{ SESSION_HIBERNATED, 4, 0, 0, false, 0, 4 },
	{ SESSION_RESTORING, 4, 0, 6, true, 4, 4 },
	{ SESSION_MIGRATING, 4, 4, 4, true, 4, 4 },
	{ SESSION_DOZING, 8, 1, 8, true, 1, 8 },
	{ SESSION_DOZING, 8, 0, 8, true, 8, 8 },
	{ SESSION_FENCING, 2, 0, 2, true, 2, 2 },
	{ SESSION_STOPPED, 4, 0, 6, false, 0, 0 },
	{ SESSION_FAILED, 4, 0, 6, false, 0, 0 },
	{ SESSION_LOST, 4, 0, 6, false, 0, 0 },
};

static void test_sizes(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		const struct account_facts facts = {
			.state = sizes[i].state,
			.placed_bytes = sizes[i].placed * GIB,
			.resident_bytes = sizes[i].resident * GIB,
			.whole_bytes = sizes[i].whole * GIB,
		};
		struct account_basis basis = { 0 };
		account_sizes(&facts, &basis);
		if (basis.awake != sizes[i].awake || basis.held_bytes != sizes[i].held * GIB ||
		    basis.whole_bytes != sizes[i].whole_then * GIB)
			fail_msg("%zu, %s", i, session_state_name(sizes[i].state));
	}
}

/* No state is left out: what sleeps holds nothing, what is over is nothing. */
static void test_every_state(void **state)
{
	(void)state;
	for (int i = 0; i < SESSION_STATE_COUNT; i++) {
		enum session_state s = (enum session_state)i;
		const struct account_facts facts = { .state = s,
						     .placed_bytes = GIB,
						     .whole_bytes = GIB };
		struct account_basis basis = { 0 };
		account_sizes(&facts, &basis);
		assert_int_equal(basis.awake, session_state_has_processes(s));
		assert_int_equal(basis.held_bytes > 0, session_state_has_processes(s));
		assert_int_equal(basis.whole_bytes == 0, session_state_is_over(s));
		assert_false(session_state_is_over(s) && session_state_has_processes(s));
	}
}

static void test_sums(void **state)
{
	(void)state;
	struct account_basis basis = {
		.awake = true,
		.held_bytes = 2 * GIB,
		.whole_bytes = 4 * GIB,
		.stored_bytes = 10 * GIB,
		.machine_gib_hour = 0.01,
		.demand_gib_hour = 0.03,
		.store_gib_hour = 0.0001,
	};
	struct account_sums sums = { 0 };
	account_add(&sums, &basis, 90 * MIN);
	assert_int_equal(sums.awake_ms, 90 * MIN);
	assert_int_equal(sums.open_ms, 90 * MIN);
	assert_near(sums.machine, 2 * 0.01 * 1.5);
	assert_near(sums.always, 4 * 0.03 * 1.5);
	assert_near(sums.store, 10 * 0.0001 * 1.5);
	/* Asleep: storage alone. */
	basis.awake = false;
	basis.held_bytes = 0;
	account_add(&sums, &basis, HOUR);
	assert_int_equal(sums.awake_ms, 90 * MIN);
	assert_int_equal(sums.open_ms, 150 * MIN);
	assert_near(sums.machine, 2 * 0.01 * 1.5);
	assert_near(sums.always, 4 * 0.03 * 2.5);
	assert_near(sums.store, 10 * 0.0001 * 2.5);
}

static const struct {
	int64_t before, after, since_ms;
	bool resized;
} resizes[] = {
	{ 100, 100, HOUR, false }, { 100, 124, HOUR, false }, { 100, 126, HOUR, true },
	{ 100, 126, MIN, false },  { 100, 199, MIN, false },  { 100, 201, MIN, true },
	{ 100, 49, MIN, true },    { 100, 70, MIN, false },   { 100, 70, HOUR, true },
	{ 0, 0, MIN, false },      { 0, 1, MIN, true },       { 1, 0, MIN, true },
};

static void test_resized(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(resizes); i++) {
		const struct account_basis before = { .held_bytes = resizes[i].before };
		const struct account_basis after = { .held_bytes = resizes[i].after };
		if (account_resized(&before, &after, resizes[i].since_ms) != resizes[i].resized)
			fail_msg("%zu", i);
	}
}

static void test_days(void **state)
{
	(void)state;
	assert_int_equal(account_day(0), 0);
	assert_int_equal(account_day(24 * HOUR - 1), 0);
	assert_int_equal(account_day(24 * HOUR), 1);
	assert_int_equal(account_day_end(0), 24 * HOUR);
	assert_int_equal(account_day_end(24 * HOUR), 48 * HOUR);
	assert_int_equal(account_day_end(24 * HOUR - 1), 24 * HOUR);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sizes), cmocka_unit_test(test_every_state),
		cmocka_unit_test(test_sums),  cmocka_unit_test(test_resized),
		cmocka_unit_test(test_days),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
