/* SPDX-License-Identifier: Apache-2.0 */
#include "base/cleanup.h"
#include "base/fs.h"
#include "node/pages.h"
#include "node/working_set.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define FIRST "elsa-working-set 1\n"

static void test_text(void **state)
{
	(void)state;
	static const struct working_set_page list[] = {
		{ 9, 0x7f0000003000 }, { 9, 0x7f0000004000 }, { 9, 0x7f0000002000 },
		{ 1, 0x7f0000003000 }, { 1, 0x1000 },
	};
	static const char text[] = FIRST "9 7f0000003000 2\n9 7f0000002000 1\n"
					 "1 7f0000003000 1\n1 1000 1\n";
	cleanup_buf struct buf to = BUF_INIT(WORKING_SET_BYTES);
	cleanup_free struct working_set_page *back = NULL;
	size_t count;
	assert_int_equal(working_set_encode(list, ARRAY_SIZE(list), &to), 0);
	assert_string_equal(buf_text(&to), text);
	assert_int_equal(working_set_decode(text, strlen(text), &back, &count, NULL), 0);
	assert_int_equal(count, ARRAY_SIZE(list));
	for (size_t i = 0; i < count; i++) {
		assert_int_equal(back[i].pid, list[i].pid);
		assert_true(back[i].address == list[i].address);
	}
}

static void test_refuses(void **state)
{
	(void)state;
	static const char *const cases[] = {
		"",
		"elsa-working-set 1",
		"elsa-working-set 2\n",
		FIRST "1 1000 1",
		FIRST "1 1001 1\n",
		FIRST "0 1000 1\n",
		FIRST "-1 1000 1\n",
		FIRST "1 1000 0\n",
		FIRST "1 0x1000 1\n",
		FIRST "1  1000 1\n",
		FIRST "1 fffffffffffff000 1\n",
		FIRST "99999999999 1000 1\n",
		FIRST "1 1000 1 \n",
		FIRST "\n",
	};
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct working_set_page *list = NULL;
		size_t count;
		struct error e = ERROR_INIT;
		assert_int_equal(working_set_decode(cases[i], strlen(cases[i]), &list, &count, &e),
				 -EBADMSG);
		assert_true(e.text[0]);
	}
}

static void test_no_more_than_the_most(void **state)
{
	(void)state;
	static const char text[] = FIRST "1 1000 4294967295\n2 1000 5\n";
	cleanup_free struct working_set_page *list = NULL;
	size_t count;
	assert_int_equal(working_set_decode(text, strlen(text), &list, &count, NULL), 0);
	assert_int_equal(count, WORKING_SET_MOST);
	assert_int_equal(list[count - 1].pid, 1);
}

static void test_by_memory(void **state)
{
	(void)state;
	static const char text[] = FIRST "9 5000 2\n1 8000 1\n9 1000 1\n9 6000 1\n";
	char dir[] = "/tmp/elsa-working-set-XXXXXX";
	struct working_set *list;
	size_t count;
	assert_non_null(mkdtemp(dir));
	cleanup_free char *path = fs_join(dir, WORKING_SET_FILE);
	assert_int_equal(working_set_load(dir, &list, &count, NULL), -ENOENT);
	assert_int_equal(fs_replace(path, text, strlen(text), 0600, NULL), 0);
	assert_int_equal(working_set_load(dir, &list, &count, NULL), 0);
	assert_int_equal(count, 2);
	assert_string_equal(list[0].memory, "pagemap-1.img");
	assert_int_equal(list[0].count, 1);
	assert_string_equal(list[1].memory, "pagemap-9.img");
	assert_int_equal(list[1].count, 3);
	assert_int_equal(list[1].pages[0], 0x1000);
	assert_int_equal(list[1].pages[1], 0x5000);
	assert_int_equal(list[1].pages[2], 0x6000);
	working_set_free(list, count);
	fs_remove_tree(dir, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_text),
		cmocka_unit_test(test_refuses),
		cmocka_unit_test(test_no_more_than_the_most),
		cmocka_unit_test(test_by_memory),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
