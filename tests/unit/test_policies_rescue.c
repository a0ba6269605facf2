/* SPDX-License-Identifier: Apache-2.0 */
#include "base/cleanup.h"
#include "policies/rescue.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define MIB (INT64_C(1) << 20)
#define GIB (INT64_C(1) << 30)

static struct rescue_rules rules_to(int64_t most)
{
	struct rescue_rules rules = rescue_defaults;
	rules.most_bytes = most;
	return rules;
}

static const struct {
	const char *name;
	struct rescue_facts facts;
	int64_t most_mib;
	enum rescue_reason reason;
	enum rescue_act act;
	int64_t limit_mib, wanted_mib;
} cases[] = {
	{ "without a limit",
	  { .used_bytes = 9 * GIB, .growth = GIB },
	  8192,
	  RESCUE_NO_LIMIT,
	  RESCUE_NOTHING,
	  0,
	  0 },
	{ "far from it",
	  { 500 * MIB, GIB, 0, 8 * GIB, false },
	  8192,
	  RESCUE_FAR,
	  RESCUE_NOTHING,
	  0,
	  0 },
	{ "far, but not for long",
	  { 500 * MIB, GIB, 200 * MIB, 8 * GIB, false },
	  8192,
	  RESCUE_NEAR,
	  RESCUE_RAISE,
	  2500,
	  2500 },
	{ "grows slowly",
	  { 500 * MIB, GIB, 100 * MIB, 8 * GIB, false },
	  8192,
	  RESCUE_FAR,
	  RESCUE_NOTHING,
	  0,
	  0 },
	{ "near",
	  { 900 * MIB, GIB, 0, 8 * GIB, false },
	  8192,
	  RESCUE_NEAR,
	  RESCUE_RAISE,
	  1536,
	  1536 },
	{ "near, and shrinking",
	  { 900 * MIB, GIB, -GIB, 8 * GIB, false },
	  8192,
	  RESCUE_NEAR,
	  RESCUE_RAISE,
	  1536,
	  1536 },
	{ "near a limit of which a half is not worth it",
	  { 55 * MIB, 60 * MIB, 0, 8 * GIB, false },
	  8192,
	  RESCUE_NEAR,
	  RESCUE_RAISE,
	  92,
	  92 },
	{ "near what it may have",
	  { 900 * MIB, GIB, 0, 8 * GIB, false },
	  1200,
	  RESCUE_NEAR,
	  RESCUE_RAISE,
	  1200,
	  1200 },
	{ "has what it may have",
	  { 900 * MIB, GIB, 0, 8 * GIB, false },
	  1024,
	  RESCUE_MOST,
	  RESCUE_NOTHING,
	  0,
	  0 },
	{ "no limit is raised",
	  { 900 * MIB, GIB, 0, 8 * GIB, false },
	  0,
	  RESCUE_MOST,
	  RESCUE_NOTHING,
	  0,
	  0 },
	{ "some room",
	  { 900 * MIB, GIB, 0, 300 * MIB, false },
	  8192,
	  RESCUE_NEAR,
	  RESCUE_RAISE,
	  1200,
	  1536 },
	{ "hardly any room",
	  { 900 * MIB, GIB, 0, 150 * MIB, false },
	  8192,
	  RESCUE_NO_ROOM,
	  RESCUE_NOTHING,
	  0,
	  1536 },
	{ "no room, and at the edge",
	  { 1000 * MIB, GIB, 0, 10 * MIB, false },
	  8192,
	  RESCUE_NO_ROOM,
	  RESCUE_HOLD,
	  0,
	  1536 },
	{ "no room, over the edge within a moment",
	  { 900 * MIB, GIB, 200 * MIB, -5 * GIB, false },
	  8192,
	  RESCUE_NO_ROOM,
	  RESCUE_HOLD,
	  0,
	  2900 },
	{ "held, and still no room",
	  { 700 * MIB, GIB, 0, 10 * MIB, true },
	  8192,
	  RESCUE_NO_ROOM,
	  RESCUE_HOLD,
	  0,
	  1536 },
	{ "held, and room again",
	  { 1000 * MIB, GIB, 0, GIB, true },
	  8192,
	  RESCUE_NEAR,
	  RESCUE_RAISE,
	  1536,
	  1536 },
};

/* Who meets its limit waits for as long as something may still be done for it. */
static const struct {
	const char *name;
	struct rescue_facts facts;
	int64_t most_mib;
	enum rescue_act act;
	bool waits;
} ends[] = {
	{ "without a limit", { .used_bytes = GIB }, 8192, RESCUE_NOTHING, false },
	{ "far", { .used_bytes = MIB, .limit_bytes = GIB }, 8192, RESCUE_NOTHING, true },
	{ "far, and has what it may have",
	  { .used_bytes = MIB, .limit_bytes = GIB },
	  1024,
	  RESCUE_NOTHING,
	  true },
	{ "near, and has what it may have",
	  { .used_bytes = 900 * MIB, .limit_bytes = GIB },
	  1024,
	  RESCUE_NOTHING,
	  false },
	{ "raised",
	  { .used_bytes = 900 * MIB, .limit_bytes = GIB, .room_bytes = GIB },
	  8192,
	  RESCUE_RAISE,
	  true },
	{ "near, and no room",
	  { .used_bytes = 900 * MIB, .limit_bytes = GIB },
	  8192,
	  RESCUE_NOTHING,
	  true },
	{ "waits, for what the kernel takes is not in what it uses",
	  { .used_bytes = 600 * MIB, .limit_bytes = GIB, .room_bytes = 8 * GIB, .waiting = true },
	  8192,
	  RESCUE_RAISE,
	  true },
	{ "waits, and no room",
	  { .used_bytes = 600 * MIB, .limit_bytes = GIB, .waiting = true },
	  8192,
	  RESCUE_HOLD,
	  true },
	{ "waits, and has what it may have",
	  { .used_bytes = 600 * MIB, .limit_bytes = GIB, .waiting = true },
	  1024,
	  RESCUE_NOTHING,
	  false },
	{ "waits, and was given up",
	  { .used_bytes = GIB, .limit_bytes = GIB, .waiting = true, .given_up = true },
	  8192,
	  RESCUE_NOTHING,
	  false },
	{ "was given up, and there is room",
	  { .used_bytes = GIB, .limit_bytes = GIB, .room_bytes = GIB, .given_up = true },
	  8192,
	  RESCUE_RAISE,
	  true },
	{ "was given up, and is far from its limit",
	  { .used_bytes = MIB, .limit_bytes = GIB, .given_up = true },
	  8192,
	  RESCUE_NOTHING,
	  true },
	{ "held",
	  { .used_bytes = 100 * MIB, .limit_bytes = GIB, .held = true, .waiting = true },
	  8192,
	  RESCUE_HOLD,
	  true },
};

static void test_waits(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(ends); i++) {
		const struct rescue_rules rules = rules_to(ends[i].most_mib * MIB);
		struct rescue_decision d = rescue_decide(&rules, &ends[i].facts);
		if (d.act != ends[i].act || d.waits != ends[i].waits)
			fail_msg("%s: %s, act %d, waits %d", ends[i].name,
				 rescue_reason_name(d.reason), d.act, d.waits);
	}
}

static void test_cases(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		const struct rescue_rules rules = rules_to(cases[i].most_mib * MIB);
		struct rescue_decision d = rescue_decide(&rules, &cases[i].facts);
		if (d.reason != cases[i].reason || d.act != cases[i].act ||
		    d.limit_bytes / MIB != cases[i].limit_mib ||
		    d.wanted_bytes / MIB != cases[i].wanted_mib)
			fail_msg("%s: %s, act %d, limit %lld MiB, wanted %lld MiB", cases[i].name,
				 rescue_reason_name(d.reason), d.act,
				 (long long)(d.limit_bytes / MIB),
				 (long long)(d.wanted_bytes / MIB));
	}
}

static uint64_t seed = 7;

static int64_t any(int64_t most)
{
	seed = seed * 6364136223846793005U + 1442695040888963407U;
	return (int64_t)((seed >> 20) % (uint64_t)most);
}

/* Whatever is so: a limit is never lowered, nor raised above what it may have or its node can give;
 * what is held wants more than it has; and what waits is helped, held or let go of. */
static void test_any(void **state)
{
	(void)state;
	for (int i = 0; i < 200000; i++) {
		const struct rescue_rules rules = rules_to(any(2) * any(64 * GIB));
		const struct rescue_facts f = {
			.used_bytes = any(40 * GIB),
			.limit_bytes = any(40 * GIB),
			.growth = any(INT64_MAX / 2) - INT64_MAX / 4,
			.room_bytes = any(40 * GIB) - 8 * GIB,
			.held = any(2),
			.waiting = any(2),
			.given_up = any(2),
		};
		struct rescue_decision d = rescue_decide(&rules, &f);
		if (d.act == RESCUE_RAISE) {
			assert_true(d.limit_bytes > f.limit_bytes);
			assert_true(d.limit_bytes <= rules.most_bytes);
			assert_true(f.room_bytes > 0 &&
				    d.limit_bytes <= f.used_bytes + f.room_bytes);
		}
		if (d.act == RESCUE_HOLD)
			assert_true(d.wanted_bytes > f.limit_bytes &&
				    d.wanted_bytes <= rules.most_bytes);
		if (f.waiting && d.act == RESCUE_NOTHING)
			assert_false(d.waits);
		if (d.act != RESCUE_NOTHING)
			assert_true(d.waits);
	}
}

/* One that grows steadily is never at its limit while there is room, looked at four times a second.
 */
static void test_steady_growth(void **state)
{
	(void)state;
	const struct rescue_rules rules = rules_to(64 * GIB);
	struct rescue_facts f = { .used_bytes = 100 * MIB,
				  .limit_bytes = GIB,
				  .growth = 200 * MIB };
	while (f.used_bytes < 40 * GIB) {
		f.room_bytes = 48 * GIB - f.used_bytes;
		struct rescue_decision d = rescue_decide(&rules, &f);
		if (d.act == RESCUE_RAISE)
			f.limit_bytes = d.limit_bytes;
		f.used_bytes += f.growth / 4;
		assert_true(f.used_bytes < f.limit_bytes);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cases),
		cmocka_unit_test(test_waits),
		cmocka_unit_test(test_any),
		cmocka_unit_test(test_steady_growth),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
