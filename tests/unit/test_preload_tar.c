/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "preload/tar.h"

#include <fcntl.h>
#include <setjmp.h>
#include <spawn.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define ARCHIVE "archive"

static char top[] = "/tmp/test_preload_tar.XXXXXX";

static int run(const char *const argv[])
{
	pid_t pid;
	int status;
	assert_int_equal(posix_spawnp(&pid, argv[0], NULL, NULL, (char *const *)argv, environ), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}
#define RUN(...) assert_int_equal(run((const char *const[]) { __VA_ARGS__, NULL }), 0)

static int set_up(void **state)
{
	(void)state;
	return mkdtemp(top) && chdir(top) == 0 ? 0 : -1;
}

static int tear_down(void **state)
{
	(void)state;
	RUN("rm", "-rf", "from", "to", ARCHIVE);
	return chdir("/") == 0 ? rmdir(top) : -1;
}

static void make_dir(const char *path, mode_t mode, time_t when)
{
	const struct timespec times[2] = { { .tv_sec = when }, { .tv_sec = when } };
	RUN("rm", "-rf", path, "to", ARCHIVE);
	assert_int_equal(mkdir("to", 0700), 0);
	assert_int_equal(mkdir(path, 0700), 0);
	assert_int_equal(chmod(path, mode), 0);
	assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
}

static int pack(void)
{
	int dir = open("from", O_RDONLY | O_DIRECTORY);
	int to = open(ARCHIVE, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	assert_true(dir >= 0 && to >= 0);
	int r = tar_pack_empty(dir, to);
	close(dir);
	close(to);
	return r;
}

static int unpack(void)
{
	int from = open(ARCHIVE, O_RDONLY);
	assert_true(from >= 0);
	int r = tar_unpack_empty(from, "to");
	assert_int_equal(lseek(from, 0, SEEK_CUR), 0); /* as tar is to find it */
	close(from);
	return r;
}

static void assert_as(mode_t mode, time_t when)
{
	struct stat st;
	assert_int_equal(stat("to", &st), 0);
	assert_int_equal(st.st_mode & 07777, mode);
	assert_int_equal(st.st_mtime, when);
	assert_int_equal(st.st_uid, getuid());
}

static void test_there_and_back(void **state)
{
	(void)state;
	static const struct {
		mode_t mode;
		time_t when;
	} cases[] = { { 01777, 1790000000 }, { 0755, 1 }, { 02750, 0 }, { 0500, 077777777777 } };
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		make_dir("from", cases[i].mode, cases[i].when);
		assert_int_equal(pack(), 0);
		assert_int_equal(unpack(), 0);
		assert_as(cases[i].mode, cases[i].when);
	}
}

/* tar reads what we write. */
static void test_is_an_archive(void **state)
{
	(void)state;
	make_dir("from", 01770, 1790000000);
	assert_int_equal(pack(), 0);
	RUN("tar", "--extract", "--file", ARCHIVE, "--directory", "to");
	assert_as(01770, 1790000000);
}

static void test_for_tar(void **state)
{
	(void)state;
	make_dir("from", 0755, 1790000000);
	RUN("touch", "from/.hidden");
	assert_int_equal(pack(), -1);
	struct stat st;
	assert_int_equal(stat(ARCHIVE, &st), 0);
	assert_int_equal(st.st_size, 0);

	RUN("tar", "--create", "--file", ARCHIVE, "--directory", "from", ".");
	assert_int_equal(unpack(), -1);
	make_dir("from", 0755, 1790000000);
	RUN("tar", "--create", "--file", ARCHIVE, "--directory", "from", ".");
	assert_int_equal(unpack(), -1); /* has more zeros */
	make_dir("from", 0755, -1);     /* before 1970 */
	assert_int_equal(pack(), -1);
}

static void test_damaged(void **state)
{
	(void)state;
	for (long at = 0; at < 1536; at += 48) {
		make_dir("from", 0755, 1790000000);
		assert_int_equal(pack(), 0);
		FILE *f = fopen(ARCHIVE, "r+");
		assert_non_null(f);
		assert_int_equal(fseek(f, at, SEEK_SET), 0);
		fputc('~', f);
		fclose(f);
		assert_int_equal(unpack(), -1);
		assert_int_equal(truncate(ARCHIVE, at), 0);
		assert_int_equal(unpack(), -1);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_there_and_back),
		cmocka_unit_test(test_is_an_archive),
		cmocka_unit_test(test_for_tar),
		cmocka_unit_test(test_damaged),
	};
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
