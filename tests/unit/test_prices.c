/* SPDX-License-Identifier: Apache-2.0 */
#include "base/cleanup.h"
#include "base/fs.h"
#include "prices/prices.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define HEAD  "elsa-prices 1\ncurrency USD\n"
#define TYPE  "type big 8 32G 0.4\n"
#define POOL  "pool od big on-demand\n"
#define STORE "store 0.02 0.005 0.0004\n"

static const struct {
	const char *text;
	const char *told; /* NULL: it is good */
} cases[] = {
	{ HEAD TYPE POOL STORE, NULL },
	{ HEAD TYPE "pool s big spot 0.1\n" POOL STORE "boot 45\n", NULL },
	{ "", "it is empty" },
	{ "elsa-prices 2\n", "line 1: it must begin" },
	{ HEAD POOL, "line 3: there is no such type" },
	{ HEAD "type big 8 32G\n", "line 3: wanted is: type" },
	{ HEAD "type big 8 32G cheap\n", "line 3: not a price" },
	{ HEAD "type big 8 32G -1\n", "line 3: not a price" },
	{ HEAD "type big 0 32G 1\n", "line 3: not a number of processors" },
	{ HEAD "type big 8 -32G 1\n", "line 3: not a size" },
	{ HEAD TYPE TYPE, "line 4: the type was named before" },
	{ HEAD TYPE "pool s big spot\n", "line 4: wanted is: pool" },
	{ HEAD TYPE POOL POOL, "line 5: the pool was named before" },
	{ HEAD TYPE "pool s big spot 0.1\n" STORE, "no on-demand pool" },
	{ HEAD TYPE POOL, "what storage costs" },
	{ "elsa-prices 1\n" TYPE POOL STORE, "in what currency" },
	{ HEAD "gold 5\n", "line 3: not one of" },
};

static void test_cases(void **state)
{
	static struct prices p;
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct error e = ERROR_INIT;
		int r = prices_parse(cases[i].text, &p, &e);
		if (!cases[i].told)
			assert_int_equal(r, 0);
		else if (r == 0 || !strstr(e.text, cases[i].told))
			fail_msg("case %zu: \"%s\"", i, e.text);
	}
}

/* What is built in is what the package's file says. */
static void test_default(void **state)
{
	static struct prices built_in, file;
	struct error e = ERROR_INIT;
	cleanup_buf struct buf text = BUF_INIT(1 << 20);
	(void)state;
	assert_int_equal(fs_read("packaging/prices/aws-us-east-1", &text, &e), 0);
	assert_int_equal(prices_parse(text.data, &file, &e), 0);
	assert_int_equal(prices_parse(prices_default, &built_in, &e), 0);
	assert_memory_equal(&built_in, &file, sizeof(file));
}

static void test_other_example(void **state)
{
	static struct prices p;
	struct error e = ERROR_INIT;
	cleanup_buf struct buf text = BUF_INIT(1 << 20);
	(void)state;
	assert_int_equal(fs_read("packaging/prices/gcp-us-central1", &text, &e), 0);
	assert_int_equal(prices_parse(text.data, &p, &e), 0);
	assert_int_equal(p.pool_count, 4);
	assert_true(p.pools[0].spot && p.pools[0].hour < p.types[p.pools[0].type].hour);
}

static void test_memory(void **state)
{
	static struct prices p;
	struct error e = ERROR_INIT;
	static const struct {
		const char *type;
		bool spot;
		double machine, demand; /* of a GiB and hour */
	} asked[] = {
		{ "big", false, 0.4 / 32, 0.4 / 32 },  { "big", true, 0.1 / 32, 0.4 / 32 },
		{ "slow", false, 0.2 / 16, 0.2 / 16 }, { "slow", true, 0.2 / 16, 0.2 / 16 },
		{ "none", true, 0.4 / 32, 0.4 / 32 },  { NULL, false, 0.4 / 32, 0.4 / 32 },
	};
	(void)state;
	assert_int_equal(prices_parse(HEAD TYPE "type slow 4 16G 0.2\n"
						"pool s big spot 0.1\n" POOL STORE,
				      &p, &e),
			 0);
	for (size_t i = 0; i < ARRAY_SIZE(asked); i++) {
		struct price_memory m = prices_memory(&p, asked[i].type, asked[i].spot);
		assert_true(m.machine == asked[i].machine && m.demand == asked[i].demand);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cases),
		cmocka_unit_test(test_default),
		cmocka_unit_test(test_other_example),
		cmocka_unit_test(test_memory),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
