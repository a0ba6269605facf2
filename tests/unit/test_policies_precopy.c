/* SPDX-License-Identifier: Apache-2.0 */
#include "base/cleanup.h"
#include "policies/precopy.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define MIB (INT64_C(1) << 20)
#define GIB (INT64_C(1) << 30)

enum { MBIT = 1000000 / 8, MINUTES = 60000 };

/* What is not said is 1 GiB, of which all is to go; room for 16; five minutes and no end in sight;
 * and a link that has been measured. */
#define ON(link) .link_per_s = (int64_t)(link) * MBIT
/* ... and one round, or more, is over. */
#define BEHIND(link, n, changed, ms)                                                               \
	ON(link), .pieces = 600, .rounds = (n), .changed_bytes = (changed),                        \
		.to_go_bytes = (changed), .changed_ms = (ms)

static int64_t else_it_is(int64_t value, int64_t otherwise)
{
	return value ? value : otherwise;
}

static struct precopy_facts whole(struct precopy_facts f)
{
	f.memory_bytes = else_it_is(f.memory_bytes, GIB);
	f.room_bytes = else_it_is(f.room_bytes, 16 * GIB);
	f.left_ms = else_it_is(f.left_ms, -1);
	f.most_ms = else_it_is(f.most_ms, 5 * MINUTES);
	f.pieces = (unsigned)else_it_is(f.pieces, 6);
	f.to_go_bytes = f.rounds ? f.to_go_bytes : f.memory_bytes;
	f.share = 0.8;
	return f;
}

static const struct {
	const char *name;
	struct precopy_facts facts;
	enum precopy_why why;
} cases[] = {
	{ "not wanted", { ON(100), .mode = PRECOPY_NEVER }, PRECOPY_OFF },
	{ "a slow link", { ON(1000) }, PRECOPY_GOES_ON },
	{ "a very slow one", { ON(100) }, PRECOPY_GOES_ON },
	{ "a quick one", { ON(4000) }, PRECOPY_QUICK_LINK },
	{ "a quick one, all the same", { ON(4000), .mode = PRECOPY_ALWAYS }, PRECOPY_GOES_ON },
	{ "a little memory", { ON(100), .memory_bytes = 63 * MIB }, PRECOPY_SMALL },
	{ "a little memory, all the same",
	  { ON(100), .memory_bytes = 63 * MIB, .mode = PRECOPY_ALWAYS },
	  PRECOPY_GOES_ON },
	{ "it follows in two seconds", { ON(1000), .memory_bytes = 230 * MIB }, PRECOPY_SMALL },
	{ "it does not", { ON(1000), .memory_bytes = 250 * MIB }, PRECOPY_GOES_ON },
	{ "more than there is room for", { ON(1000), .room_bytes = GIB - 1 }, PRECOPY_NO_ROOM },
	{ "nor if it is to be",
	  { ON(1000), .room_bytes = GIB - 1, .mode = PRECOPY_ALWAYS },
	  PRECOPY_NO_ROOM },

	{ "hardly anything is known", { ON(0), .pieces = 1 }, PRECOPY_TO_MEASURE },
	{ "slow so far", { ON(100), .pieces = 5 }, PRECOPY_TO_MEASURE },
	{ "quick is seen at once", { ON(4000), .pieces = 1 }, PRECOPY_QUICK_LINK },
	{ "what was begun goes on", { ON(4000), .pieces = 7 }, PRECOPY_GOES_ON },

	/* 1 GiB is 86 s on its way, and with a share of 0.8 is 107 s. */
	{ "it takes too long", { ON(100), .most_ms = 107000 }, PRECOPY_NO_TIME },
	{ "it does not", { ON(100), .most_ms = 108000 }, PRECOPY_GOES_ON },
	{ "its machine goes away", { ON(100), .left_ms = 4 * 107000 }, PRECOPY_NO_TIME },
	{ "its machine goes away later", { ON(100), .left_ms = 4 * 108000 }, PRECOPY_GOES_ON },
	{ "its machine goes away now",
	  { ON(100), .left_ms = 1, .mode = PRECOPY_ALWAYS },
	  PRECOPY_NO_TIME },
	{ "its machine goes away in the midst of it",
	  { BEHIND(100, 1, 200 * MIB, 0), .left_ms = 100000 },
	  PRECOPY_NO_TIME },
	{ "too long in the midst of it",
	  { BEHIND(100, 1, 200 * MIB, 0), .spent_ms = 5 * MINUTES + 1 },
	  PRECOPY_NO_TIME },

	{ "what has changed is not known", { BEHIND(100, 1, GIB, 0) }, PRECOPY_GOES_ON },
	{ "nothing has", { BEHIND(100, 2, 0, 80000) }, PRECOPY_DONE },
	{ "little has", { BEHIND(1000, 2, 35 * MIB, 10000) }, PRECOPY_DONE },
	{ "more has", { BEHIND(1000, 2, 40 * MIB, 10000) }, PRECOPY_GOES_ON },
	/* 1 Gbit/s brings 100 MB/s, of which 70 may be written. */
	{ "it is caught up with", { BEHIND(1000, 2, 690000000, 10000) }, PRECOPY_GOES_ON },
	{ "it is not", { BEHIND(1000, 2, 710000000, 10000) }, PRECOPY_REWRITTEN },
	{ "nor if it is to be",
	  { BEHIND(1000, 2, 710000000, 10000), .mode = PRECOPY_ALWAYS },
	  PRECOPY_REWRITTEN },
	{ "often enough", { BEHIND(1000, 5, 100 * MIB, 10000) }, PRECOPY_ENOUGH },
};

static enum precopy_why decide(struct precopy_facts f)
{
	f = whole(f);
	return precopy_decide(&precopy_defaults, &f);
}

static void test_decide(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		enum precopy_why why = decide(cases[i].facts);
		if (why != cases[i].why)
			fail_msg("%s: %s", cases[i].name, precopy_why_names[why]);
	}
}

static void test_names(void **state)
{
	(void)state;
	assert_int_equal(precopy_mode_from("auto"), PRECOPY_AUTO);
	assert_int_equal(precopy_mode_from("never"), PRECOPY_NEVER);
	assert_int_equal(precopy_mode_from("always"), PRECOPY_ALWAYS);
	assert_int_equal(precopy_mode_from("now"), -1);
	for (size_t i = 0; i < PRECOPY_WHY_COUNT; i++)
		assert_true(strlen(precopy_why_names[i]) > 0);
}

/* Whatever is written meanwhile, it ends. */
static void test_ends(void **state)
{
	(void)state;
	for (int64_t per_s = 0; per_s < 400 * MIB; per_s += 3 * MIB) {
		struct precopy_facts f = whole((struct precopy_facts) { ON(1000) });
		unsigned rounds = 0;
		for (int64_t ms = 0; precopy_goes_on(precopy_decide(&precopy_defaults, &f));) {
			int64_t took = f.to_go_bytes * 1000 / (int64_t)(0.8 * 125000000);
			f.pieces += 100;
			f.spent_ms += took;
			f.changed_ms = f.rounds ? ms + 1 : 0;
			f.changed_bytes = f.to_go_bytes;
			f.rounds++;
			ms = took;
			f.to_go_bytes = per_s * took / 1000 < GIB ? per_s * took / 1000 : GIB;
			assert_true(++rounds <= precopy_defaults.rounds);
		}
		assert_true(rounds >= 2);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_decide),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_ends),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
