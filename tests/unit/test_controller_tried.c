/* SPDX-License-Identifier: Apache-2.0 */
#include "base/cleanup.h"
#include "controller/tried.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void test_nothing(void **state)
{
	static const char *const texts[] = {
		NULL, "", "nonsense", "{}", "[]", "[1, \"n1\", {\"node\": 7}]",
	};
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		struct tried on = tried_on(texts[i], "n1");
		assert_false(on.failed || on.gone || on.why[0]);
	}
	assert_int_equal(tried_count(NULL), 0);
	assert_false(tried_any_failed(NULL));
}

static void test_one_after_the_other(void **state)
{
	(void)state;
	cleanup_free char *one = tried_add(NULL, "n1", "it was lost", true);
	assert_non_null(one);
	assert_false(tried_any_failed(one));
	assert_true(tried_on(one, "n1").gone && !tried_on(one, "n1").failed);
	cleanup_free char *two = tried_add(one, "n2", "the disk \"/\" is full\n", false);
	cleanup_free char *three = tried_add(two, "n1", "CRIU failed", false);
	assert_int_equal(tried_count(three), 3);
	assert_true(tried_any_failed(two));
	assert_true(tried_on(three, "n1").gone && tried_on(three, "n1").failed);
	assert_string_equal(tried_on(three, "n1").why, "CRIU failed");
	assert_string_equal(tried_on(three, "n2").why, "the disk \"/\" is full\n");
	assert_false(tried_on(three, "n3").failed);
}

static void test_long_and_broken_words(void **state)
{
	char long_text[4 * TRIED_WHY_SIZE];
	(void)state;
	/* Cut in the middle of a character. */
	memset(long_text, 'x', sizeof(long_text));
	memcpy(long_text + TRIED_WHY_SIZE - 2, "\xc3\xa4", 2);
	long_text[sizeof(long_text) - 1] = '\0';
	cleanup_free char *text = tried_add("broken", "n1", long_text, false);
	struct tried on = tried_on(text, "n1");
	assert_true(on.failed);
	assert_int_equal(strncmp(on.why, long_text, TRIED_WHY_SIZE - 2), 0);
	assert_true(strlen(on.why) < TRIED_WHY_SIZE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_nothing),
		cmocka_unit_test(test_one_after_the_other),
		cmocka_unit_test(test_long_and_broken_words),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
