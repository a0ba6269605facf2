/* SPDX-License-Identifier: Apache-2.0 */
#include "rules/rules.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/config_kit.h"

#define MINUTE 60000
#define HOUR   (60 * MINUTE)
#define GIB    ((int64_t)1 << 30)

static void test_rules(void **state)
{
	(void)state;
	struct config *config =
		parse("[spot]\nrpo = \"2m\"\nbandwidth_share = 0.5\n"
		      "[capacity]\nmin = 2\nspare = \"8G\"\nstart_timeout = \"2m\"\n"
		      "[consolidation]\nsteady = \"7m\"\nmoves_per_hour = 3\n"
		      "rest = \"2h\"\n"
		      "[size]\nheadroom = 1.0\nsettle = \"3h\"\nstall_hour = 5.0\n");
	const struct protect_rules protect = rules_protect(config);
	assert_int_equal(protect.rpo_ms, 2 * MINUTE);
	assert_int_equal(protect.retry_ms, 2 * MINUTE);
	assert_true(protect.share == 0.5);
	const struct capacity_rules capacity = rules_capacity(config);
	assert_int_equal(capacity.min, 2);
	assert_int_equal(capacity.grow_interval_ms, 2000);
	const struct consolidate_rules consolidate = rules_consolidate(config);
	assert_int_equal(consolidate.steady_ms, 7 * MINUTE);
	assert_int_equal(consolidate.spare_bytes, 8 * GIB);
	const struct size_rules size = rules_size(config);
	assert_true(size.headroom == 1.0 && size.peak_room == size_defaults.peak_room);
	assert_int_equal(size.settle_ms, 3 * HOUR);
	const struct size_move_rules move = rules_size_move(config);
	assert_true(move.stall_hour == 5.0);
	assert_int_equal(move.moves_per_hour, 3);
	assert_int_equal(move.rest_ms, 2 * HOUR);
	config_free(config);
}

static void test_classes(void **state)
{
	static struct prices prices;
	struct rules_classes classes = { 0 };
	(void)state;
	assert_int_equal(prices_parse(prices_default, &prices, NULL), 0);
	struct config *config =
		parse("[[size.class]]\nname = \"small\"\nmemory = \"1G\"\n"
		      "[[size.class]]\nname = \"large\"\nmemory = \"16G\"\ncpus = 4\n"
		      "price = 0.25\n");
	assert_int_equal(rules_classes_make(config, &prices, &classes, NULL), 0);
	assert_int_equal(classes.count, 2);
	assert_string_equal(classes.list[0].name, "small");
	assert_true(classes.list[0].cost == prices_memory(&prices, NULL, false).demand);
	assert_true(classes.list[1].cost == 0.25 && classes.list[1].cpus == 4);
	rules_classes_deinit(&classes);
	config_free(config);
	config = parse("[size]\ncatalogue = true\n");
	assert_int_equal(rules_classes_make(config, &prices, &classes, NULL), 0);
	assert_int_equal(classes.count, prices.type_count);
	assert_string_equal(classes.list[0].name, prices.types[0].name);
	rules_classes_deinit(&classes);
	assert_int_equal(classes.count, 0);
	config_free(config);
	config = parse("");
	assert_int_equal(rules_classes_make(config, &prices, &classes, NULL), 0);
	assert_int_equal(classes.count, 0);
	rules_classes_deinit(&classes);
	config_free(config);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rules),
		cmocka_unit_test(test_classes),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
