/* SPDX-License-Identifier: Apache-2.0 */
#include "node/acknowledged.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static void test_remembered_for_a_while(void **state)
{
	struct acknowledged a = { 0 };
	(void)state;
	assert_false(acknowledged_has(&a, "", 0));
	assert_false(acknowledged_has(&a, "one", 0));
	acknowledged_add(&a, "one", 5);
	assert_true(acknowledged_has(&a, "one", 5));
	assert_false(acknowledged_has(&a, "on", 5));
	assert_true(acknowledged_has(&a, "one", 4 + ACKNOWLEDGED_FOR_US));
	assert_false(acknowledged_has(&a, "one", 5 + ACKNOWLEDGED_FOR_US));
	acknowledged_add(&a, "one", 5 + ACKNOWLEDGED_FOR_US);
	assert_true(acknowledged_has(&a, "one", 5 + ACKNOWLEDGED_FOR_US));
}

static void test_the_oldest_go_first(void **state)
{
	struct acknowledged a = { 0 };
	char id[ACKNOWLEDGED_ID_SIZE + 10];
	(void)state;
	for (int i = 0; i <= ACKNOWLEDGED_MOST; i++) {
		snprintf(id, sizeof(id), "effect-%d", i);
		acknowledged_add(&a, id, 1);
	}
	assert_false(acknowledged_has(&a, "effect-0", 1));
	assert_true(acknowledged_has(&a, "effect-1", 1));
	assert_true(acknowledged_has(&a, id, 1));
	/* No effect is called that. */
	memset(id, 'x', sizeof(id));
	id[sizeof(id) - 1] = '\0';
	acknowledged_add(&a, id, 1);
	assert_false(acknowledged_has(&a, id, 1));
}

/* What a large node's snapshots leave in ten minutes does not push out what counts. */
static void test_many_in_that_time(void **state)
{
	enum { SNAPSHOTS = 3400 };
	struct acknowledged a = { 0 };
	(void)state;
	acknowledged_add(&a, "hibernate", 1);
	for (int i = 0; i < SNAPSHOTS; i++) {
		char id[ACKNOWLEDGED_ID_SIZE];
		snprintf(id, sizeof(id), "snapshot-%d", i);
		acknowledged_add(&a, id, 2 + i * ACKNOWLEDGED_FOR_US / SNAPSHOTS / 2);
	}
	assert_true(acknowledged_has(&a, "hibernate", ACKNOWLEDGED_FOR_US));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_remembered_for_a_while),
		cmocka_unit_test(test_the_oldest_go_first),
		cmocka_unit_test(test_many_in_that_time),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
