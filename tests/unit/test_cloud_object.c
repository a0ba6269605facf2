/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/fs.h"
#include "cloud/object.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* Every backend must pass the tests of the contract; the rest is about files alone. */

struct fixture {
	char dir[64];
	struct object_store *s;
};

static int open_file_store(void **state)
{
	struct error e = ERROR_INIT;
	struct fixture *f = calloc(1, sizeof(*f));
	snprintf(f->dir, sizeof(f->dir), "/tmp/elsa-test.XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	cleanup_free char *url = str_printf("file://%s/a/store/", f->dir);
	assert_int_equal(object_store_open(url, &f->s, &e), 0);
	*state = f;
	return 0;
}

static int open_memory_store(void **state)
{
	struct error e = ERROR_INIT;
	struct fixture *f = calloc(1, sizeof(*f));
	assert_int_equal(object_store_open("memory:", &f->s, &e), 0);
	*state = f;
	return 0;
}

static int close_store(void **state)
{
	struct fixture *f = *state;
	object_store_free(f->s);
	if (f->dir[0])
		assert_int_equal(fs_remove_tree(f->dir, NULL), 0);
	free(f);
	return 0;
}

static void put(struct object_store *s, const char *key, const char *text)
{
	struct error e = ERROR_INIT;
	if (object_put(s, key, text, strlen(text), false, &e) < 0)
		fail_msg("%s", e.text);
}

static void assert_holds(struct object_store *s, const char *key, const char *text)
{
	struct error e = ERROR_INIT;
	cleanup_buf struct buf data = BUF_INIT(1000);
	if (object_read_all(s, key, &data, &e) < 0)
		fail_msg("%s", e.text);
	assert_string_equal(buf_text(&data), text);
}

static void keys_are_checked(void **state)
{
	struct fixture *f = *state;
	static const char *const good[] = { "a", "a/b", "A-z_0.9", "s/0123/4/pages-1.img", "a..b" };
	static const char *const wrong[] = {
		"",       "/",     "/a", "a/",  "a//b", ".",    "..",  "../a",     "a/..",
		"a/../b", "a/./b", ".a", "a b", "a\nb", "a\\b", "a:b", "\xc3\xa4", ".staging/x",
	};
	struct error e = ERROR_INIT;
	for (size_t i = 0; i < ARRAY_SIZE(good); i++)
		assert_true(object_key_valid(good[i]));
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		assert_false(object_key_valid(wrong[i]));
		assert_int_equal(object_put(f->s, wrong[i], "x", 1, false, &e), -EINVAL);
		assert_int_equal(object_remove(f->s, wrong[i], &e), -EINVAL);
	}
	char longest[OBJECT_KEY_MAX + 2];
	memset(longest, 'a', sizeof(longest));
	for (size_t i = 100; i < sizeof(longest); i += 100)
		longest[i] = '/';
	longest[OBJECT_KEY_MAX + 1] = '\0';
	assert_false(object_key_valid(longest));
	longest[OBJECT_KEY_MAX] = '\0';
	assert_true(object_key_valid(longest));
}

static void objects_come_back(void **state)
{
	struct fixture *f = *state;
	struct error e = ERROR_INIT;
	struct object_stat st;
	char part[4] = "";
	put(f->s, "s/x/1/manifest.json", "hello world");
	assert_holds(f->s, "s/x/1/manifest.json", "hello world");
	assert_int_equal(object_read(f->s, "s/x/1/manifest.json", 6, part, 3, &e), 0);
	assert_string_equal(part, "wor");
	assert_int_equal(object_stat(f->s, "s/x/1/manifest.json", &st, &e), 0);
	assert_int_equal(st.size, 11);
	assert_true(st.modified_at > 0);
	put(f->s, "s/x/1/manifest.json", "");
	assert_holds(f->s, "s/x/1/manifest.json", "");
}

static void missing_and_short_objects_are_named(void **state)
{
	struct fixture *f = *state;
	struct error e = ERROR_INIT;
	struct object_stat st;
	char part[8];
	put(f->s, "s/x", "abc");
	assert_int_equal(object_read(f->s, "s/y", 0, part, 1, &e), -ENOENT);
	assert_string_equal(e.text, "object s/y is missing");
	assert_int_equal(e.fault, FAULT_NOT_FOUND);
	assert_int_equal(object_stat(f->s, "s", &st, &e), -ENOENT);
	assert_int_equal(object_read(f->s, "s", 0, part, 1, &e), -ENOENT);
	assert_int_equal(object_stat(f->s, "s/x/y", &st, &e), -ENOENT);
	assert_int_equal(object_read(f->s, "s/x/y", 0, part, 1, &e), -ENOENT);
	assert_int_equal(object_read(f->s, "s/x", 1, part, 5, &e), -EBADMSG);
	assert_string_equal(e.text, "object s/x: ends at offset 3, 3 bytes early");
	assert_int_equal(e.fault, FAULT_CORRUPT);
	assert_int_equal(object_read(f->s, "s/x", 9, part, 1, &e), -EBADMSG);
	struct buf small = BUF_INIT(2);
	assert_int_equal(object_read_all(f->s, "s/x", &small, &e), -EBADMSG);
}

static void only_the_first_of_two_wins(void **state)
{
	struct fixture *f = *state;
	struct error e = ERROR_INIT;
	assert_int_equal(object_put(f->s, "m", "one", 3, true, &e), 0);
	assert_int_equal(object_put(f->s, "m", "two", 3, true, &e), -EEXIST);
	assert_int_equal(e.fault, FAULT_CONFLICT);
	assert_holds(f->s, "m", "one");
}

struct racer {
	struct object_store *s;
	char name;
	int r;
};

static void *race(void *arg)
{
	struct racer *racer = arg;
	racer->r = object_put(racer->s, "a/b/race", &racer->name, 1, true, NULL);
	return NULL;
}

static void one_of_many_wins(void **state)
{
	struct fixture *f = *state;
	struct racer racers[8];
	pthread_t threads[8];
	for (int i = 0; i < 8; i++) {
		racers[i] = (struct racer) { .s = f->s, .name = (char)('a' + i) };
		assert_int_equal(pthread_create(&threads[i], NULL, race, &racers[i]), 0);
	}
	char winner[2] = "";
	for (int i = 0; i < 8; i++) {
		pthread_join(threads[i], NULL);
		if (racers[i].r == 0) {
			assert_int_equal(winner[0], 0);
			winner[0] = racers[i].name;
		} else {
			assert_int_equal(racers[i].r, -EEXIST);
		}
	}
	assert_holds(f->s, "a/b/race", winner);
}

static int collect(const char *key, const struct object_stat *st, void *arg)
{
	(void)st;
	struct buf *to = arg;
	return buf_printf(to, "%s ", key);
}

static int stop_at_second(const char *key, const struct object_stat *st, void *arg)
{
	(void)key;
	(void)st;
	return ++*(int *)arg == 2 ? 42 : 0;
}

static void keys_are_listed_in_order(void **state)
{
	struct fixture *f = *state;
	struct error e = ERROR_INIT;
	cleanup_buf struct buf keys = BUF_INIT(1000);
	static const char *const all[] = {
		"s/b/1", "s/b-c", "s/b.c", "s/b/0/z", "s/a", "t", "s/ba"
	};
	assert_int_equal(object_list(f->s, "", collect, &keys, &e), 0);
	assert_string_equal(buf_text(&keys), "");
	for (size_t i = 0; i < ARRAY_SIZE(all); i++)
		put(f->s, all[i], "");
	assert_int_equal(object_list(f->s, "", collect, &keys, &e), 0);
	assert_string_equal(buf_text(&keys), "s/a s/b-c s/b.c s/b/0/z s/b/1 s/ba t ");
	buf_reset(&keys);
	assert_int_equal(object_list(f->s, "s/b/", collect, &keys, &e), 0);
	assert_string_equal(buf_text(&keys), "s/b/0/z s/b/1 ");
	buf_reset(&keys);
	assert_int_equal(object_list(f->s, "nothing/", collect, &keys, &e), 0);
	assert_string_equal(buf_text(&keys), "");
	int count = 0;
	assert_int_equal(object_list(f->s, "s/", stop_at_second, &count, &e), 42);
	assert_int_equal(count, 2);
	assert_int_equal(object_list(f->s, "s", collect, &keys, &e), -EINVAL);
	assert_int_equal(object_list(f->s, "../", collect, &keys, &e), -EINVAL);
}

static void removed_objects_are_gone(void **state)
{
	struct fixture *f = *state;
	struct error e = ERROR_INIT;
	struct object_stat st;
	put(f->s, "s/x/1/a", "");
	put(f->s, "s/x/2/a", "");
	assert_int_equal(object_remove(f->s, "s/x/1/a", &e), 0);
	assert_int_equal(object_stat(f->s, "s/x/1/a", &st, &e), -ENOENT);
	assert_int_equal(object_remove(f->s, "s/x/1/a", &e), 0);
	assert_int_equal(object_remove(f->s, "s/never/was", &e), 0);
	assert_holds(f->s, "s/x/2/a", "");
	assert_int_equal(object_remove(f->s, "s/x/2/a", &e), 0);
	put(f->s, "s/x/2/a", "again");
	assert_holds(f->s, "s/x/2/a", "again");
}

static void too_large_objects_are_refused(void **state)
{
	struct fixture *f = *state;
	struct error e = ERROR_INIT;
	struct object_stat st;
	size_t len = (size_t)OBJECT_PUT_MAX + 1;
	cleanup_free char *data = calloc(1, len);
	assert_true(object_is_local(f->s));
	assert_int_equal(object_put(f->s, "a", data, len, false, &e), -EFBIG);
	assert_int_equal(object_stat(f->s, "a", &st, &e), -ENOENT);
	assert_int_equal(object_put(f->s, "a", data, len - 1, false, &e), 0);
	assert_int_equal(object_stat(f->s, "a", &st, &e), 0);
	assert_int_equal(st.size, len - 1);
}

static void urls_are_checked(void **state)
{
	(void)state;
	struct object_store *s = NULL;
	static const char *const wrong[] = { "",         "/tmp",     "ftp://x",
					     "file://x", "file:///", "memory:x" };
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		struct error e = ERROR_INIT;
		assert_int_equal(object_store_open(wrong[i], &s, &e), -EINVAL);
		assert_null(s);
	}
	struct error e = ERROR_INIT;
	assert_int_equal(object_store_open("file:///dev/null/store", &s, &e), -ENOTDIR);
	assert_true(e.remedy[0]);
}

/* An object that goes takes its empty directories along, but nobody else's. */
static void no_litter_is_left(void **state)
{
	struct fixture *f = *state;
	struct error e = ERROR_INIT;
	cleanup_free char *folder = str_printf("%s/a/store/s", f->dir);
	cleanup_free char *staging = str_printf("%s/a/store/.staging", f->dir);
	put(f->s, "s/x/1/a", "");
	assert_int_equal(object_put(f->s, "s/x/1/a", "", 0, true, &e), -EEXIST);
	assert_int_equal(object_remove(f->s, "s/x/1/a", &e), 0);
	assert_int_equal(access(folder, F_OK), -1);
	assert_int_equal(rmdir(staging), 0);
}

/* Directories that stay open in us may be removed and made again by anybody. */
static void removed_directories_are_made_again(void **state)
{
	struct fixture *f = *state;
	struct error e = ERROR_INIT;
	cleanup_free char *root = str_printf("%s/a/store", f->dir);
	cleanup_free char *s = str_printf("%s/s", root);
	cleanup_free char *folder = str_printf("%s/s/x", root);
	cleanup_free char *staging = str_printf("%s/.staging", root);
	for (int i = 0; i < 3; i++) {
		put(f->s, "s/x/a", "1");
		assert_int_equal(fs_remove_tree(s, &e), 0);
		assert_int_equal(rmdir(staging), 0);
		if (i == 1)
			assert_int_equal(fs_mkdirs(folder, 0700, &e), 0);
		put(f->s, "s/x/b", "2");
		assert_holds(f->s, "s/x/b", "2");
		put(f->s, "s/x/b", "3");
		assert_holds(f->s, "s/x/b", "3");
	}
}

/* More directories than are kept open, from several threads. */
static void *put_widely(void *arg)
{
	struct fixture *f = arg;
	for (int i = 0; i < 100; i++) {
		char key[64];
		snprintf(key, sizeof(key), "wide/%d/%d/x", i % 50, i);
		if (object_put(f->s, key, key, strlen(key), false, NULL) < 0)
			return "failed";
		if (i % 3 == 0 && object_remove(f->s, key, NULL) < 0)
			return "failed";
	}
	return NULL;
}

static void many_directories_are_written_to(void **state)
{
	struct fixture *f = *state;
	pthread_t threads[4];
	for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
		assert_int_equal(pthread_create(&threads[i], NULL, put_widely, f), 0);
	for (size_t i = 0; i < ARRAY_SIZE(threads); i++) {
		void *failure;
		pthread_join(threads[i], &failure);
		assert_null(failure);
	}
	assert_holds(f->s, "wide/49/49/x", "wide/49/49/x");
	struct object_stat st;
	assert_int_equal(object_stat(f->s, "wide/48/48/x", &st, NULL), -ENOENT);
}

static void assert_unreachable(struct object_store *s, int code, enum fault fault)
{
	struct error e = ERROR_INIT;
	struct object_stat st;
	char byte;
	assert_int_equal(object_stat(s, "s/none", &st, &e), -code);
	assert_int_equal(e.fault, fault);
	assert_non_null(strstr(e.remedy, "mounted"));
	assert_int_equal(object_read(s, "s/none", 0, &byte, 1, &e), -code);
	assert_int_equal(object_list(s, "", collect, NULL, &e), -code);
	assert_int_equal(object_list(s, "s/", collect, NULL, &e), -code);
	assert_int_equal(object_remove(s, "s/none", &e), -code);
	assert_int_equal(object_put(s, "s/y", "x", 1, false, &e), -code);
	assert_int_equal(e.fault, fault);
}

/* As when a file system is unmounted, or another one mounted: what is not seen is not missing. */
static void a_store_that_is_gone_is_not_empty(void **state)
{
	struct fixture *f = *state;
	cleanup_free char *root = str_printf("%s/a/store", f->dir);
	cleanup_free char *other = str_printf("%s/a/other", f->dir);
	put(f->s, "s/x", "1");
	assert_int_equal(rename(root, other), 0);
	assert_unreachable(f->s, EHOSTDOWN, FAULT_UNAVAILABLE);
	assert_int_equal(mkdir(root, 0700), 0);
	assert_unreachable(f->s, EHOSTDOWN, FAULT_UNAVAILABLE);
	assert_int_equal(rmdir(root), 0);
	assert_int_equal(rename(other, root), 0);
	assert_holds(f->s, "s/x", "1");
	put(f->s, "s/y", "2");
}

/* As another user, for root may enter anywhere: 0 when all is as it should be. */
static int look_into_closed(struct object_store *s, const char *dir, const char *folder)
{
	struct error e = ERROR_INIT;
	struct object_stat st;
	char byte;
	if (chmod(folder, 0) < 0 || (geteuid() == 0 && setresuid(65534, 65534, 65534) < 0))
		return 1;
	if (object_list(s, "s/x/", collect, NULL, &e) != -EACCES || e.fault != FAULT_DENIED)
		return 2;
	if (object_list(s, "", collect, NULL, &e) != -EACCES)
		return 3;
	if (object_stat(s, "s/x/1", &st, &e) != -EACCES || e.fault != FAULT_DENIED)
		return 4;
	if (object_read(s, "s/x/1", 0, &byte, 1, &e) != -EACCES)
		return 5;
	if (object_list(s, "s/y/", collect, NULL, &e) != 0)
		return 6;
	return access(dir, R_OK) == 0 ? 0 : 7;
}

static void what_may_not_be_entered_is_not_missing(void **state)
{
	struct fixture *f = *state;
	cleanup_free char *root = str_printf("%s/a/store", f->dir);
	cleanup_free char *top = str_printf("%s/a/store/s", f->dir);
	cleanup_free char *folder = str_printf("%s/a/store/s/x", f->dir);
	put(f->s, "s/x/1", "1");
	assert_int_equal(chmod(f->dir, 0755), 0);
	assert_int_equal(chmod(root, 0755), 0);
	assert_int_equal(chmod(top, 0755), 0);
	pid_t child = fork();
	if (child == 0)
		_exit(look_into_closed(f->s, f->dir, folder));
	int status;
	waitpid(child, &status, 0);
	assert_int_equal(status, 0);
	assert_int_equal(chmod(folder, 0700), 0);
}

/* A put that was killed long ago. */
static void old_litter_is_cleaned(void **state)
{
	struct fixture *f = *state;
	struct error e = ERROR_INIT;
	struct object_store *s;
	static const struct timespec old[2] = { { .tv_sec = 1000 }, { .tv_sec = 1000 } };
	cleanup_free char *stale = str_printf("%s/a/store/.staging/put-1", f->dir);
	cleanup_free char *fresh = str_printf("%s/a/store/.staging/put-2", f->dir);
	cleanup_free char *url = str_printf("file://%s/a/store", f->dir);
	put(f->s, "s/x", "1");
	assert_int_equal(fs_replace(stale, "x", 1, 0600, &e), 0);
	assert_int_equal(fs_replace(fresh, "x", 1, 0600, &e), 0);
	assert_int_equal(utimensat(AT_FDCWD, stale, old, 0), 0);
	assert_int_equal(object_store_open(url, &s, &e), 0);
	object_store_free(s);
	assert_int_equal(access(stale, F_OK), -1);
	assert_int_equal(access(fresh, F_OK), 0);
}

static void puts_and_removes_do_not_collide(void **state)
{
	struct fixture *f = *state;
	pid_t child = fork();
	if (child == 0) {
		for (int i = 0; i < 300; i++)
			if (object_put(f->s, "s/x/1/a", "x", 1, false, NULL) < 0)
				_exit(1);
		_exit(0);
	}
	for (int i = 0; i < 300; i++)
		assert_int_equal(object_remove(f->s, "s/x/1/a", NULL), 0);
	int status;
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
}

/* Killed at any moment, a replaced object is the old or the new one. */
static void a_killed_put_leaves_a_whole_object(void **state)
{
	struct fixture *f = *state;
	enum { SIZE = 200000 };
	static char data[SIZE + 1];
	for (int i = 0; i < 30; i++) {
		pid_t child = fork();
		if (child == 0) {
			for (char c = 'a';; c = c == 'z' ? 'a' : (char)(c + 1)) {
				memset(data, c, SIZE);
				object_put(f->s, "s/big", data, SIZE, false, NULL);
			}
		}
		usleep((useconds_t)(500 + i * 300));
		kill(child, SIGKILL);
		waitpid(child, NULL, 0);
		if (object_read(f->s, "s/big", 0, data, SIZE, NULL) == -ENOENT)
			continue;
		for (int k = 1; k < SIZE; k++)
			assert_int_equal(data[k], data[0]);
	}
}

static void a_full_disk_is_told(void **state)
{
	struct fixture *f = *state;
	pid_t child = fork();
	if (child == 0) {
		struct error e = ERROR_INIT;
		static char data[1 << 20];
		struct rlimit limit = { 1 << 16, 1 << 16 };
		struct object_stat st;
		signal(SIGXFSZ, SIG_IGN);
		setrlimit(RLIMIT_FSIZE, &limit);
		int r = object_put(f->s, "s/big", data, sizeof(data), false, &e);
		_exit(r == -EFBIG && e.fault == FAULT_FULL && strstr(e.remedy, "free space") &&
				      object_stat(f->s, "s/big", &st, NULL) == -ENOENT
			      ? 0
			      : 1);
	}
	int status;
	waitpid(child, &status, 0);
	assert_int_equal(status, 0);
}

static void a_full_file_system_is_told(void **state)
{
	struct fixture *f = *state;
	struct error e = ERROR_INIT;
	struct object_store *s;
	static char data[1 << 20];
	cleanup_free char *dir = str_printf("%s/full", f->dir);
	cleanup_free char *url = str_printf("file://%s", dir);
	assert_int_equal(mkdir(dir, 0700), 0);
	if (mount("none", dir, "tmpfs", 0, "size=256k") < 0)
		skip();
	assert_int_equal(object_store_open(url, &s, &e), 0);
	put(s, "s/small", "x");
	assert_int_equal(object_put(s, "s/big", data, sizeof(data), false, &e), -ENOSPC);
	assert_int_equal(e.fault, FAULT_FULL);
	assert_non_null(strstr(e.text, "object s/big: cannot write: No space left"));
	assert_holds(s, "s/small", "x");
	put(s, "s/small2", "there is room again");
	object_store_free(s);
	assert_int_equal(umount(dir), 0);
}

/* As another user, for root may write anywhere. */
static void an_unwritable_directory_is_told(void **state)
{
	struct fixture *f = *state;
	put(f->s, "s/x", "");
	assert_int_equal(chmod(f->dir, 0755), 0);
	pid_t child = fork();
	if (child == 0) {
		struct error e = ERROR_INIT;
		cleanup_free char *root = str_printf("%s/a/store", f->dir);
		cleanup_free char *staging = str_printf("%s/a/store/.staging", f->dir);
		if (chmod(root, 0555) < 0 || chmod(staging, 0555) < 0 ||
		    (geteuid() == 0 && setresuid(65534, 65534, 65534) < 0))
			_exit(2);
		int r = object_put(f->s, "s/y", "x", 1, false, &e);
		_exit(r == -EACCES && e.fault == FAULT_DENIED && strstr(e.remedy, "writable") ? 0
											      : 1);
	}
	int status;
	waitpid(child, &status, 0);
	assert_int_equal(status, 0);
}

#define CONTRACT(test)                                                                             \
	cmocka_unit_test_setup_teardown(test, open_file_store, close_store),                       \
		cmocka_unit_test_setup_teardown(test, open_memory_store, close_store)
#define FILES(test) cmocka_unit_test_setup_teardown(test, open_file_store, close_store)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CONTRACT(keys_are_checked),
		CONTRACT(objects_come_back),
		CONTRACT(missing_and_short_objects_are_named),
		CONTRACT(only_the_first_of_two_wins),
		CONTRACT(one_of_many_wins),
		CONTRACT(keys_are_listed_in_order),
		CONTRACT(removed_objects_are_gone),
		CONTRACT(too_large_objects_are_refused),
		cmocka_unit_test(urls_are_checked),
		FILES(no_litter_is_left),
		FILES(removed_directories_are_made_again),
		FILES(many_directories_are_written_to),
		FILES(a_store_that_is_gone_is_not_empty),
		FILES(what_may_not_be_entered_is_not_missing),
		FILES(old_litter_is_cleaned),
		FILES(puts_and_removes_do_not_collide),
		FILES(a_killed_put_leaves_a_whole_object),
		FILES(a_full_disk_is_told),
		FILES(a_full_file_system_is_told),
		FILES(an_unwritable_directory_is_told),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
