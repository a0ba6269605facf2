/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "store_kit.h"

#include <pthread.h>

/* --- there and back ------------------------------------------------------------------- */

static void test_round_trip(void **state)
{
	struct kit *k = *state;
	struct model m;
	struct error e = ERROR_INIT;
	struct store_meta meta;
	model_init(&m, 3000);
	model_write(k->s, 1, &m, &meta);
	assert_int_equal(meta.generation, 1);
	assert_int_equal(meta.basis, 0);
	assert_true(meta.stored_bytes > 0 && meta.objects >= 2);
	store_meta_deinit(&meta);
	model_check(k->s, 1, &m);
	assert_int_equal(kit_verify(k->s, 1, &e), 0);
	assert_int_equal(kit_count(k->s, ".mark").count, 0);
	assert_int_equal(kit_newest(k->s), 1);
	model_deinit(&m);
}

static void test_meta(void **state)
{
	struct kit *k = *state;
	struct model m;
	struct error e = ERROR_INIT;
	struct store_read *read;
	model_init(&m, 10);
	model_write(k->s, 3, &m, NULL);
	assert_int_equal(store_read_open(k->s, SESSION, 3, &read, &e), 0);
	const struct store_meta *meta = store_read_meta(read);
	assert_string_equal(meta->session, SESSION);
	assert_int_equal(meta->generation, 3);
	assert_int_equal(meta->created_at, 1700000000000);
	assert_int_equal(meta->memory_bytes, 12345);
	assert_string_equal(meta->user, "j\xc3\xbcrgen/x");
	assert_string_equal(meta->server, "");
	assert_string_equal(meta->cpu, "sse avx");
	assert_string_equal(meta->criu, "4.2");
	assert_string_equal(meta->spec, "{\"a\": [1]}");
	assert_false(meta->aside);
	store_read_free(read);
	model_deinit(&m);
}

static void test_nothing_in_it(void **state)
{
	struct kit *k = *state;
	struct model m = { 0 };
	model_write(k->s, 1, &m, NULL);
	model_check(k->s, 1, &m);
}

static void test_one_file(void **state)
{
	struct kit *k = *state;
	struct model m;
	struct error e = ERROR_INIT;
	struct store_read *read;
	model_init(&m, 10);
	model_write(k->s, 1, &m, NULL);
	assert_int_equal(store_read_open(k->s, SESSION, 1, &read, &e), 0);
	for (size_t i = 0; i < m.file_count; i++) {
		cleanup_free char *name = str_printf("f/%zu", i);
		cleanup_free unsigned char *data = model_file(&m, i);
		cleanup_free char *path = str_printf("%s/out", k->dir);
		cleanup_fd int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
		assert_int_equal(store_read_file(read, name, fd, &e), 0);
		assert_true(file_is(path, data, model_file_size(&m, i)));
	}
	assert_int_equal(store_read_file(read, "f/none", -1, &e), -ENOENT);
	store_read_free(read);
	model_deinit(&m);
}

static bool skip_big(const char *name, void *arg)
{
	(void)arg;
	return strcmp(name, "f/3") == 0;
}

static void test_skip(void **state)
{
	struct kit *k = *state;
	struct model m;
	struct error e = ERROR_INIT;
	struct store_read *read;
	cleanup_free char *dir = str_printf("%s/out", k->dir);
	cleanup_free char *there = str_printf("%s/out/f/2", k->dir);
	cleanup_free char *skipped = str_printf("%s/out/f/3", k->dir);
	model_init(&m, 10);
	model_write(k->s, 1, &m, NULL);
	assert_int_equal(store_read_open(k->s, SESSION, 1, &read, &e), 0);
	/* Twice, as after a crash of the first. */
	for (int i = 0; i < 2; i++)
		assert_int_equal(store_read_lay_out(read, dir, skip_big, NULL, &e), 0);
	assert_int_equal(access(there, F_OK), 0);
	assert_int_equal(access(skipped, F_OK), -1);
	store_read_free(read);
	model_deinit(&m);
}

static void test_tree(void **state)
{
	struct kit *k = *state;
	struct error e = ERROR_INIT;
	struct store_meta meta;
	struct store_write *w;
	struct store_read *read;
	cleanup_free char *deep = str_printf("%s/tree/a/b", k->dir);
	cleanup_free char *file = str_printf("%s/tree/a/b/c", k->dir);
	cleanup_free char *top = str_printf("%s/tree", k->dir);
	cleanup_free char *out = str_printf("%s/out", k->dir);
	cleanup_free char *found = str_printf("%s/out/criu/a/b/c", k->dir);
	assert_int_equal(fs_mkdirs(deep, 0700, NULL), 0);
	assert_int_equal(fs_replace(file, "abc", 3, 0600, NULL), 0);
	assert_int_equal(store_write_begin(k->s, SESSION, 1, &w, &e), 0);
	assert_int_equal(store_write_tree(w, "criu", top, &e), 0);
	assert_int_equal(kit_commit(w, STORE_VERIFY_ALL, &meta, &e), 0);
	store_write_free(w);
	store_meta_deinit(&meta);
	assert_int_equal(store_read_open(k->s, SESSION, 1, &read, &e), 0);
	assert_int_equal(store_read_lay_out(read, out, NULL, NULL, &e), 0);
	assert_true(file_is(found, "abc", 3));
	store_read_free(read);
	/* Links have no business in it. */
	cleanup_free char *link = str_printf("%s/tree/link", k->dir);
	assert_int_equal(symlink("/etc/passwd", link), 0);
	assert_int_equal(store_write_begin(k->s, SESSION, 2, &w, &e), 0);
	assert_int_equal(store_write_tree(w, "criu", top, &e), -EINVAL);
	store_write_free(w);
}

/* --- what need not be stored ------------------------------------------------------------ */

static void test_unchanged_pages_are_shared(void **state)
{
	struct kit *k = *state;
	struct model m;
	struct store_meta first;
	struct store_meta second;
	model_init(&m, 8000);
	m.file_count = 0;
	model_write(k->s, 1, &m, &first);
	for (uint64_t i = 0; i < 8000; i += 800)
		m.memories[0].seeds[i] += 1000001;
	model_write(k->s, 2, &m, &second);
	assert_int_equal(second.basis, 1);
	assert_true(second.stored_bytes * 20 < first.stored_bytes);
	assert_true(second.shared_bytes * 10 > first.stored_bytes * 9);
	model_check(k->s, 2, &m);
	/* And once more on top of both. */
	m.memories[0].seeds[5] += 1000001;
	model_write(k->s, 7, &m, NULL);
	model_check(k->s, 7, &m);
	store_meta_deinit(&first);
	store_meta_deinit(&second);
	model_deinit(&m);
}

static void test_zero_pages_cost_nothing(void **state)
{
	struct kit *k = *state;
	struct model m;
	struct store_meta meta;
	model_init(&m, 20000);
	m.file_count = 0;
	memset(m.memories[0].seeds, 0, 20000 * sizeof(uint32_t));
	memset(m.memories[1].seeds, 0, 40 * sizeof(uint32_t));
	model_write(k->s, 1, &m, &meta);
	assert_true(meta.stored_bytes < 4096);
	model_check(k->s, 1, &m);
	/* Zeros where there was something, and the other way round. */
	m.memories[0].seeds[100] = 3;
	model_write(k->s, 2, &m, NULL);
	m.memories[0].seeds[100] = 0;
	model_write(k->s, 3, &m, NULL);
	model_check(k->s, 3, &m);
	m.memories[0].seeds[100] = 3;
	model_check(k->s, 2, &m);
	store_meta_deinit(&meta);
	model_deinit(&m);
}

int main(void)
{
#define BOTH(test)                                                                                 \
	cmocka_unit_test_setup_teardown(test, kit_file, kit_close),                                \
		cmocka_unit_test_setup_teardown(test, kit_memory, kit_close)
	const struct CMUnitTest tests[] = {
		BOTH(test_round_trip),
		BOTH(test_meta),
		BOTH(test_nothing_in_it),
		BOTH(test_one_file),
		BOTH(test_skip),
		BOTH(test_tree),
		BOTH(test_unchanged_pages_are_shared),
		BOTH(test_zero_pages_cost_nothing),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
