/* SPDX-License-Identifier: Apache-2.0 */
#include "base/cleanup.h"
#include "node/move_source.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

static void test_squeeze_rule(void **state)
{
	(void)state;
	static const struct {
		struct move_rates rates;
		bool squeeze;
	} table[] = {
		{ { { 0, 0 }, 100 }, false },                /* nothing is known */
		{ { { 1000000000, 0 }, 100 }, false },       /* fast */
		{ { { 110000000, 0 }, 100 }, true },         /* to see */
		{ { { 110000000, 300000000 }, 100 }, true }, /* pays */
		{ { { 110000000, 115000000 }, 100 },
		  false }, /* does not: a busy machine, or noise */
		{ { { 110000000, 50000000 }, 100 }, false },
		{ { { 130000000, 300000000 }, 100 }, false },
		{ { { 110000000, 300000000 }, 257 }, false }, /* tried now and then */
		{ { { 110000000, 50000000 }, 513 }, true },
		{ { { 130000000, 300000000 }, 257 }, false },
	};
	for (size_t i = 0; i < ARRAY_SIZE(table); i++)
		assert_int_equal(move_rates_squeeze(&table[i].rates), table[i].squeeze);
	struct move_rates r = { 0 };
	move_rates_note(&r, false, 1000000, 1000000);
	assert_int_equal(r.per_s[0], 1000000);
	for (int i = 0; i < 40; i++)
		move_rates_note(&r, false, 2000000, 1000000);
	assert_in_range(r.per_s[0], 1990000, 2000000);
	move_rates_note(&r, true, 500000, 0);
	assert_int_equal(r.per_s[1], 500000000000);
	assert_int_equal(r.count, 42);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_squeeze_rule) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
