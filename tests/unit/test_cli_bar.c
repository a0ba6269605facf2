/* SPDX-License-Identifier: Apache-2.0 */
#include "base/cleanup.h"
#include "cli/bar.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define MIB (INT64_C(1) << 20)
#define S   INT64_C(1000000)

static const struct {
	bool counts;
	int64_t done, total;
	mono_us us;
	const char *text;
} cases[] = {
	{ false, 0, 0, 0, "x:  0 B" },
	{ false, 10 * MIB, 0, 2 * S, "x:  10.0 MiB  5.0 MiB/s" },
	{ false, 0, 100 * MIB, 9 * S, "x: [....................]   0 %  0 B of 100 MiB" },
	{ false, 50 * MIB, 200 * MIB, S / 10,
	  "x: [#####...............]  25 %  50.0 MiB of 200 MiB" },
	{ false, 50 * MIB, 200 * MIB, S,
	  "x: [#####...............]  25 %  50.0 MiB of 200 MiB  50.0 MiB/s  0:03 left" },
	{ false, 200 * MIB, 200 * MIB, 4 * S,
	  "x: [####################] 100 %  200 MiB of 200 MiB  50.0 MiB/s" },
	/* more than was foreseen, or nonsense */
	{ false, 201 * MIB, 200 * MIB, 0, "x: [####################] 100 %  200 MiB of 200 MiB" },
	{ false, -1, 200 * MIB, 9 * S, "x: [....................]   0 %  0 B of 200 MiB" },
	{ false, 1, INT64_MAX, 9 * S,
	  "x: [....................]   0 %  1 B of 8388608 TiB  0 B/s" },
	{ true, 3, 12, 9 * S, "x: [#####...............]  25 %  3 of 12  0:27 left" },
	{ true, 3, 0, 9 * S, "x:  3" },
};

static void test_bars(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		const struct bar bar = { .title = "x", .counts = cases[i].counts };
		char text[BAR_SIZE];
		bar_text(&bar, cases[i].done, cases[i].total, cases[i].us, text);
		if (strcmp(text, cases[i].text) != 0)
			fail_msg("case %zu: \"%s\"\n instead of \"%s\"", i, text, cases[i].text);
		assert_true(strlen(text) < 80);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_bars) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
