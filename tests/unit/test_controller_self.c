/* SPDX-License-Identifier: Apache-2.0 */
#include "base/cleanup.h"
#include "controller/self.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

/* Events, the newest first, one a second from 100 s on down; a restore takes 7 us. */
static struct self_facts facts_of(const char *const *whats)
{
	struct self_facts facts = { 0 };
	for (int i = 0; whats[i]; i++) {
		const struct db_event event = {
			.at = 100000 - 1000LL * i,
			.what = (char *)whats[i],
			.duration_us = strcmp(whats[i], "restore") == 0 ? 7 : 9000,
		};
		if (self_facts_add(&facts, &event))
			break;
	}
	return facts;
}

static void test_facts(void **state)
{
	static const struct {
		const char *whats[8];
		wall_ms slept_at, woke_at;
	} cases[] = {
		{ { NULL }, 0, 0 },
		{ { "start", "starting" }, 0, 0 },
		{ { "restore", "restoring", "hibernate", "checkpointing", "start" },
		  98000,
		  100000 },
		{ { "keep-awake", "snapshot", "restore", "restoring", "hibernate" }, 96000, 98000 },
		{ { "restore", "restoring", "evacuated" }, 98000, 100000 },
		{ { "restore", "node-failed", "restoring", "hibernate" }, 97000, 100000 },
		{ { "restore", "restoring", "asleep" }, 98000, 100000 },
		/* Unseen, for 9 ms; then it fell asleep, and somebody came. */
		{ { "woken", "sleep", "start" }, 99991, 100000 },
		{ { "keep-awake", "woken", "restore" }, 98991, 99000 },
		/* The last time counts. */
		{ { "restore", "hibernate", "restore", "hibernate" }, 99000, 100000 },
		/* Begun anew since. */
		{ { "start", "restore", "hibernate" }, 0, 0 },
		/* It was woken as it was at a snapshot, not as it fell asleep. */
		{ { "restore", "lost", "snapshot", "hibernate" }, 0, 100000 },
		{ { "snapshot", "start" }, 0, 0 },
	};
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct self_facts facts = facts_of(cases[i].whats);
		if (facts.slept_at != cases[i].slept_at || facts.woke_at != cases[i].woke_at)
			fail_msg("case %zu: %lld %lld", i, (long long)facts.slept_at,
				 (long long)facts.woke_at);
		bool unseen = facts.slept_at % 1000;
		assert_int_equal(facts.woke_in_us, facts.woke_at && !unseen ? 7 : 0);
	}
}

static void test_pace(void **state)
{
	struct self_pace pace = { 0 };
	mono_us now = 1000000;
	(void)state;
	for (int i = 0; i < SELF_BURST; i++)
		assert_true(self_pace_take(&pace, now));
	assert_false(self_pace_take(&pace, now));
	assert_false(self_pace_take(&pace, now + SELF_PACE_US - 1));
	assert_true(self_pace_take(&pace, now + SELF_PACE_US));
	assert_false(self_pace_take(&pace, now + SELF_PACE_US));
	/* What is not used does not add up without end. */
	now += 1000LL * SELF_PACE_US;
	for (int i = 0; i < SELF_BURST; i++)
		assert_true(self_pace_take(&pace, now));
	assert_false(self_pace_take(&pace, now));
}

static void test_awake_until(void **state)
{
	(void)state;
	assert_int_equal(self_awake_until(5, 10, 100), 105);
	assert_int_equal(self_awake_until(50, 10, 100), 110);
	assert_int_equal(self_awake_until(INT64_MAX, 10, 100), 110);
	assert_int_equal(self_awake_until(0, 10, 100), 0);
	assert_int_equal(self_awake_until(5, 0, 100), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_facts),
		cmocka_unit_test(test_pace),
		cmocka_unit_test(test_awake_until),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
