/* SPDX-License-Identifier: Apache-2.0 */
#include "base/cleanup.h"
#include "policies/retention.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define DAY 86400000LL
#define NOW 1795413600000LL

/*
 * A history as text, oldest first: a checkpoint each day until today, with the
 * bytes each takes; "a": set aside, "r": being read. What is kept is written by
 * generation, newest first.
 */
static const struct {
	const char *name;
	struct retention_rules rules;
	const char *history, *kept;
} cases[] = {
	{ "nothing", { 3, DAY, 1 }, "", "" },
	{ "no rules", { 0, 0, 0 }, "5 5 5a 5 5", "5 4 3 2 1" },

	{ "count", { 3, 0, 0 }, "5 5 5 5 5", "5 4 3" },
	{ "count of one", { 1, 0, 0 }, "5 5", "2" },
	{ "fewer than that", { 3, 0, 0 }, "5 5", "2 1" },
	{ "those aside are counted apart", { 2, 0, 0 }, "5a 5 5a 5 5a 5", "6 5 4 3" },
	{ "only aside", { 2, 0, 0 }, "5a 5a 5a", "3 2" },
	{ "one that is read", { 1, 0, 0 }, "5 5r 5 5", "4 2" },

	{ "age", { 0, 5 * DAY / 2, 0 }, "5 5 5 5 5", "5 4 3" },
	{ "exactly as old", { 0, 2 * DAY, 0 }, "5 5 5 5", "4 3 2" },
	{ "the newest stays", { 0, 1, 0 }, "5 5a 5 5a", "4 3" },
	{ "those aside grow old, too", { 0, DAY / 2, 0 }, "5 5a 5a", "3 1" },
	{ "too old but read", { 0, DAY / 2, 0 }, "5r 5 5", "3 1" },

	{ "bytes", { 0, 0, 12 }, "5 5 5 5 5", "5 4" },
	{ "bytes that just fit", { 0, 0, 15 }, "5 5 5 5 5", "5 4 3" },
	{ "the newest alone is too much", { 0, 0, 3 }, "5 5 5", "3" },
	{ "those aside go first", { 0, 0, 15 }, "5 5 5a 5 5a", "4 2 1" },
	{ "... the oldest of them", { 0, 0, 20 }, "5 5a 5 5a 5", "5 4 3 1" },
	{ "... and then the others", { 0, 0, 9 }, "5a 5 5 5a", "3" },
	{ "not what is read", { 0, 0, 12 }, "5 5r 5 5", "4 2" },
	{ "small old ones beside a big one", { 0, 0, 10 }, "1 1 50 1", "4" },
	{ "huge", { 0, 0, 10 }, "9223372036854775807 9223372036854775807 7", "3" },
	{ "huge, and wanted", { 0, 0, INT64_MAX - 1 }, "7 9223372036854775807", "2" },

	{ "all three", { 4, 9 * DAY / 2, 12 }, "5 5 5 5a 5 5a 5", "7 5" },
};

/* Last one first, so that sorting is seen. */
static size_t read_history(const char *text, struct retained list[16])
{
	size_t count = 0;
	for (const char *p = text; *p; p++)
		count += p == text || p[-1] == ' ';
	for (size_t i = count; i-- > 0;) {
		char *end;
		list[i] = (struct retained) { .generation = (int64_t)(count - i), .remove = true };
		list[i].created_at = NOW - (int64_t)i * DAY;
		list[i].bytes = strtoll(text, &end, 10);
		list[i].aside = *end == 'a';
		list[i].needed = *end == 'r';
		text = end + strspn(end, "ar ");
	}
	for (size_t i = 0; i < count / 2; i++) {
		struct retained other = list[i];
		list[i] = list[count - 1 - i];
		list[count - 1 - i] = other;
	}
	return count;
}

static void test_table(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct retained list[16];
		char kept[64] = "";
		size_t kept_count = 0;
		size_t count = read_history(cases[i].history, list);
		size_t removed = retention_decide(&cases[i].rules, list, count, NOW);
		for (size_t k = 0; k < count; k++) {
			if (list[k].remove)
				continue;
			size_t len = strlen(kept);
			snprintf(kept + len, sizeof(kept) - len, "%s%d", kept_count++ ? " " : "",
				 (int)list[k].generation);
		}
		if (strcmp(kept, cases[i].kept) != 0 || removed + kept_count != count)
			fail_msg("%s: kept %s instead of %s", cases[i].name, kept, cases[i].kept);
	}
}

static void test_clock_set_back(void **state)
{
	(void)state;
	const struct retention_rules rules = { .age_ms = DAY };
	struct retained list[] = { { .generation = 1, .created_at = NOW + 1000 * DAY },
				   { .generation = 2, .created_at = INT64_MAX },
				   { .generation = 3, .created_at = NOW } };
	assert_int_equal(retention_decide(&rules, list, 3, NOW), 0);
}

/* Whatever the rules, what can be restored can be restored after. */
static void test_newest_always_stays(void **state)
{
	(void)state;
	uint32_t seed = 2463534242u;
	for (int round = 0; round < 20000; round++) {
		struct retained list[8];
		size_t count = 0;
		int64_t newest = 0;
		seed ^= seed << 13, seed ^= seed >> 17, seed ^= seed << 5;
		const struct retention_rules rules = { seed % 3, seed / 8 % 3 * DAY,
						       seed / 64 % 20 };
		for (; count < seed / 1024 % 8; count++) {
			uint32_t dice = seed >> (count + 3);
			list[count] = (struct retained) { .generation = (int64_t)count + 1,
							  .created_at = NOW - (dice % 5) * DAY,
							  .bytes = dice % 9,
							  .aside = dice % 2 };
			if (!list[count].aside)
				newest = (int64_t)count + 1;
		}
		retention_decide(&rules, list, count, NOW);
		for (size_t i = 0; i < count; i++)
			assert_false(list[i].remove && list[i].generation == newest);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_table),
		cmocka_unit_test(test_clock_set_back),
		cmocka_unit_test(test_newest_always_stays),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
