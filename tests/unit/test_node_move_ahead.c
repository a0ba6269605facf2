/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "node/move_ahead.h"

#include "base/cleanup.h"
#include "base/fs.h"
#include "store/store.h"

#include <dirent.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { PAGE = STORE_PAGE, MANY = 3000 };

static char dir[] = "/tmp/elsa-ahead-XXXXXX";

static struct move_ahead *make(uint64_t most)
{
	struct error e = ERROR_INIT;
	struct move_ahead *a;
	if (move_ahead_new(dir, most, &a, &e) < 0)
		fail_msg("%s", e.text);
	return a;
}

/* Pages that begin with pid, page and turn. */
static int put(struct move_ahead *a, int32_t pid, uint64_t page, uint32_t count, uint32_t turn)
{
	struct error e = ERROR_INIT;
	cleanup_free unsigned char *pages = calloc(count, PAGE);
	for (uint32_t i = 0; i < count; i++) {
		const uint64_t words[] = { (uint64_t)pid, page + i, turn };
		memcpy(pages + (size_t)i * PAGE, words, sizeof(words));
	}
	const struct move_range r = { .pid = pid, .pages = count, .address = page * PAGE };
	return move_ahead_put(a, &r, pages, &e);
}

static bool has(const struct move_ahead *a, int32_t pid, uint64_t page, uint32_t count,
		uint32_t turn)
{
	static unsigned char pages[STORE_FRAME_BYTES];
	const struct move_range r = { .pid = pid, .pages = count, .address = page * PAGE };
	if (!move_ahead_get(a, &r, pages))
		return false;
	for (uint32_t i = 0; i < count; i++) {
		const uint64_t words[] = { (uint64_t)pid, page + i, turn };
		assert_memory_equal(pages + (size_t)i * PAGE, words, sizeof(words));
	}
	return true;
}

static void test_put_and_get(void **state)
{
	(void)state;
	struct move_ahead *a = make(UINT64_MAX);
	assert_false(has(a, 1, 0, 1, 0));
	assert_int_equal(put(a, 1, 10, 30, 1), 0);
	assert_true(has(a, 1, 10, 6, 1));
	assert_true(has(a, 1, 16, 16, 1));
	assert_true(has(a, 1, 39, 1, 1));
	/* Not all of them, none, more than a frame, another process's. */
	assert_false(has(a, 1, 9, 2, 1));
	assert_false(has(a, 1, 39, 2, 1));
	assert_false(has(a, 1, 10, 0, 1));
	assert_false(has(a, 1, 10, 16, 1));
	assert_false(has(a, 2, 16, 16, 1));
	assert_int_equal(put(a, 1, 18, 2, 2), 0);
	assert_true(has(a, 1, 18, 2, 2));
	assert_true(has(a, 1, 20, 12, 1));
	assert_int_equal(put(a, 2, 16, 16, 3), 0);
	assert_true(has(a, 2, 16, 16, 3));
	assert_true(has(a, 1, 16, 2, 1));
	move_ahead_free(a);
}

static void test_many(void **state)
{
	(void)state;
	struct move_ahead *a = make(UINT64_MAX);
	for (uint32_t i = 0; i < MANY; i++)
		assert_int_equal(put(a, 1 + (int32_t)(i % 3), (uint64_t)i << 20, 16, i), 0);
	assert_int_equal(a->bytes, (uint64_t)MANY * STORE_FRAME_BYTES);
	for (uint32_t i = 0; i < MANY; i++)
		assert_true(has(a, 1 + (int32_t)(i % 3), (uint64_t)i << 20, 16, i));
	move_ahead_free(a);
}

/* On the disk nobody can read it. */
static void test_nothing_can_be_read(void **state)
{
	(void)state;
	static unsigned char raw[2 * STORE_FRAME_BYTES], again[STORE_FRAME_BYTES];
	struct move_ahead *a = make(UINT64_MAX), *b = make(UINT64_MAX);
	assert_int_equal(put(a, 7, 0, 32, 1), 0);
	assert_int_equal(put(b, 7, 0, 16, 1), 0);
	assert_int_equal(pread(a->fd, raw, sizeof(raw), 0), sizeof(raw));
	assert_int_equal(pread(b->fd, again, sizeof(again), 0), sizeof(again));
	const uint64_t words[] = { 7, 3, 1 };
	static const unsigned char zeros[64];
	assert_null(memmem(raw, sizeof(raw), words, sizeof(words)));
	assert_null(memmem(raw, sizeof(raw), zeros, sizeof(zeros)));
	/* Nor that two are the same, in one file or in two. */
	assert_memory_not_equal(raw + PAGE + 64, raw + 2 * PAGE + 64, 64);
	assert_memory_not_equal(raw, again, 64);
	assert_true(has(a, 7, 16, 16, 1));
	move_ahead_free(a);
	move_ahead_free(b);
}

/* What is there already may come anew, and stays. */
static void test_room(void **state)
{
	(void)state;
	struct move_ahead *a = make(2 * STORE_FRAME_BYTES);
	assert_int_equal(put(a, 1, 0, 1, 1), 0);
	assert_int_equal(put(a, 1, 16, 16, 1), 0);
	assert_int_equal(put(a, 1, 32, 1, 1), -ENOSPC);
	assert_int_equal(put(a, 1, 1, 15, 2), 0);
	assert_int_equal(put(a, 1, 31, 2, 3), -ENOSPC);
	assert_true(has(a, 1, 0, 1, 1));
	assert_true(has(a, 1, 16, 15, 1));
	assert_false(has(a, 1, 32, 1, 1));
	move_ahead_free(a);
}

/* Nor is the key another one's. */
static void test_nothing_stays(void **state)
{
	(void)state;
	struct move_ahead *a = make(UINT64_MAX), *b = make(UINT64_MAX);
	size_t names = 0;
	assert_int_equal(put(a, 1, 0, 16, 1), 0);
	cleanup_dir DIR *d = opendir(dir);
	while (readdir(d))
		names++;
	assert_int_equal(names, 2);
	assert_memory_not_equal(a->key, b->key, sizeof(a->key));
	move_ahead_free(a);
	move_ahead_free(b);
}

static int set_up(void **state)
{
	(void)state;
	return mkdtemp(dir) ? 0 : -1;
}

static int tear_down(void **state)
{
	(void)state;
	return fs_remove_tree(dir, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_put_and_get),         cmocka_unit_test(test_many),
		cmocka_unit_test(test_nothing_can_be_read), cmocka_unit_test(test_room),
		cmocka_unit_test(test_nothing_stays),
	};
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
