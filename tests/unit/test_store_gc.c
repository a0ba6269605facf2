/* SPDX-License-Identifier: Apache-2.0 */
/* What crashed writers leave. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/store_kit.h"

#include <signal.h>
#include <sys/wait.h>
#include <time.h>

static void tiny_model(struct model *m)
{
	*m = (struct model) { .file_count = 1, .file_seed = 5 };
	model_add(m, "pagemap-1.img", 60, 1001);
}

static void put_text(struct store *s, const char *key, const char *text)
{
	assert_int_equal(object_put(s->objects, key, text, strlen(text), false, NULL), 0);
}

static void test_nothing_to_do(void **state)
{
	struct kit *k = *state;
	struct model m;
	struct store_gc gc = { 0 };
	struct error e = ERROR_INIT;
	tiny_model(&m);
	assert_int_equal(store_gc(k->s, &gc, &e), 0);
	model_write(k->s, 1, &m, NULL);
	m.memories[0].seeds[0]++;
	model_write(k->s, 2, &m, NULL);
	struct count before = kit_count(k->s, "");
	assert_int_equal(store_gc(k->s, &gc, &e), 0);
	assert_int_equal(gc.objects, 0);
	assert_int_equal(gc.kept_objects, before.count);
	assert_int_equal(gc.kept_bytes, before.bytes);
	assert_int_equal(kit_count(k->s, "").count, before.count);
	model_deinit(&m);
}

/* A process that is killed while it writes. */
static void leave_a_crash(struct kit *k, int64_t generation, const struct model *m)
{
	pid_t pid = fork();
	if (pid == 0) {
		struct error e = ERROR_INIT;
		struct store_write *w;
		struct store *s = kit_open(k, k->root, k->key);
		if (store_write_begin(s, SESSION, generation, &w, &e) < 0 ||
		    put_memory(w, &m->memories[0], &e) < 0 || put_files(w, m, &e) < 0)
			_exit(1);
		/* Something of it has been put. */
		while (kit_count(s, str_printf("/%" PRId64 "/", generation)).count < 2)
			nanosleep(&(struct timespec) { .tv_nsec = 1000000 }, NULL);
		raise(SIGKILL);
	}
	int status;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));
}

static bool says_live(const char *session, int64_t generation, void *arg)
{
	assert_string_equal(session, SESSION);
	return generation == *(int64_t *)arg;
}

static void test_crashed_writer(void **state)
{
	struct kit *k = *state;
	struct model m;
	struct model big;
	struct error e = ERROR_INIT;
	int64_t generation = 2;
	tiny_model(&m);
	model_init(&big, 12000);
	for (size_t i = 0; i < 12000; i++)
		big.memories[0].seeds[i] = (uint32_t)i * 2 + 1;
	model_write(k->s, 1, &m, NULL);
	leave_a_crash(k, 2, &big);
	assert_int_equal(kit_count(k->s, ".mark").count, 1);
	struct count left = kit_count(k->s, "/2/");
	assert_true(left.count >= 2);
	/* Its node says that it is at work. */
	struct store_gc gc = { .live = says_live, .arg = &generation };
	assert_int_equal(store_gc(k->s, &gc, &e), 0);
	assert_int_equal(gc.objects, 0);
	assert_int_equal(kit_count(k->s, "/2/").count, left.count);
	gc = (struct store_gc) { .dry_run = true };
	assert_int_equal(store_gc(k->s, &gc, &e), 0);
	assert_int_equal(gc.objects, left.count);
	assert_int_equal(gc.bytes, left.bytes);
	assert_int_equal(kit_count(k->s, "/2/").count, left.count);
	gc = (struct store_gc) { 0 };
	assert_int_equal(store_gc(k->s, &gc, &e), 0);
	assert_int_equal(gc.objects, left.count);
	assert_int_equal(gc.bytes, left.bytes);
	assert_int_equal(kit_count(k->s, "/2/").count, 0);
	model_check(k->s, 1, &m);
	model_write(k->s, 2, &m, NULL);
	model_deinit(&m);
	model_deinit(&big);
}

/* Of another machine nothing is known but how old a mark is. */
static void test_marks_of_others(void **state)
{
	struct kit *k = *state;
	struct model m;
	struct error e = ERROR_INIT;
	struct store_gc gc = { 0 };
	cleanup_free char *path = str_printf("%s/s/" SESSION "/2/00000000000000aa.mark", k->root);
	tiny_model(&m);
	model_write(k->s, 1, &m, NULL);
	put_text(k->s, "s/" SESSION "/2/00000000000000aa.mark",
		 "1 00000000000000bb 1 1\nanother-boot pid:[1]\n");
	put_text(k->s, "s/" SESSION "/2/00000000000000aa-0", "pack");
	assert_int_equal(store_gc(k->s, &gc, &e), 0);
	assert_int_equal(gc.objects, 0);
	/* A day and a minute ago. */
	struct timespec times[2] = { { .tv_sec = time(NULL) - 24 * 3600 - 60 },
				     { .tv_sec = time(NULL) - 24 * 3600 - 60 } };
	assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
	assert_int_equal(store_gc(k->s, &gc, &e), 0);
	assert_int_equal(gc.objects, 2);
	assert_int_equal(kit_count(k->s, "/2/").count, 0);
	/* One that cannot be read says nothing, and is believed. */
	put_text(k->s, "s/" SESSION "/2/00000000000000aa.mark", "");
	put_text(k->s, "s/" SESSION "/2/00000000000000aa-0", "pack");
	assert_int_equal(store_gc(k->s, &gc, &e), 0);
	assert_int_equal(gc.objects, 0);
	model_check(k->s, 1, &m);
	model_deinit(&m);
}

static void test_damaged_manifest_keeps_all(void **state)
{
	struct kit *k = *state;
	struct model m;
	struct error e = ERROR_INIT;
	struct store_gc gc = { 0 };
	tiny_model(&m);
	model_write(k->s, 1, &m, NULL);
	put_text(k->s, "s/" SESSION "/1/00000000000000aa-0", "garbage");
	cleanup_buf struct buf b = BUF_INIT(MIB);
	assert_int_equal(object_read_all(k->s->objects, "s/" SESSION "/1/manifest", &b, NULL), 0);
	put_text(k->s, "s/" SESSION "/1/manifest", "{}");
	struct count before = kit_count(k->s, "");
	assert_int_equal(store_gc(k->s, &gc, &e), 0);
	assert_int_equal(gc.objects, 0);
	assert_int_equal(kit_count(k->s, "").count, before.count);
	/* It comes back from a backup, say. */
	assert_int_equal(
		object_put(k->s->objects, "s/" SESSION "/1/manifest", b.data, b.len, false, NULL),
		0);
	model_check(k->s, 1, &m);
	assert_int_equal(store_gc(k->s, &gc, &e), 0);
	assert_int_equal(gc.objects, 1);
	model_check(k->s, 1, &m);
	model_deinit(&m);
}

static void test_others_things_stay(void **state)
{
	struct kit *k = *state;
	struct error e = ERROR_INIT;
	struct store_gc gc = { 0 };
	static const char *const keys[] = {
		"readme",
		"s/readme",
		"s/" SESSION "/notes",
		"s/" SESSION "/1/notes",
		"s/" SESSION "/01/00000000000000aa-0",
		"s/" SESSION "/1/00000000000000aa-00",
	};
	for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
		put_text(k->s, keys[i], "x");
	assert_int_equal(store_gc(k->s, &gc, &e), 0);
	assert_int_equal(kit_count(k->s, "").count, ARRAY_SIZE(keys));
}

int main(void)
{
#define FILES(test)  cmocka_unit_test_setup_teardown(test, kit_file, kit_close)
#define MEMORY(test) cmocka_unit_test_setup_teardown(test, kit_memory, kit_close)
	const struct CMUnitTest tests[] = {
		MEMORY(test_nothing_to_do),      FILES(test_crashed_writer),
		FILES(test_marks_of_others),     MEMORY(test_damaged_manifest_keeps_all),
		MEMORY(test_others_things_stay),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
