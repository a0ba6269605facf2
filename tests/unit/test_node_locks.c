/* SPDX-License-Identifier: Apache-2.0 */
/* What /proc/PID/fdinfo says of locks. */
#include "node/locks.h"

#include "base/buf.h"
#include "base/fs.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/file.h>
#include <unistd.h>

#include <cmocka.h>

static bool told_of(int fd)
{
	char path[64];
	struct buf text = BUF_INIT(64 << 10);
	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	assert_int_equal(fs_read(path, &text, NULL), 0);
	bool told = locks_told(buf_text(&text));
	buf_deinit(&text);
	return told;
}

static void test_of_this_kernel(void **state)
{
	(void)state;
	char name[] = "/tmp/test_node_locks-XXXXXX";
	int fd = mkstemp(name);
	struct flock posix = { .l_type = F_RDLCK, .l_whence = SEEK_SET, .l_len = 10 };
	assert_true(fd >= 0);
	assert_false(told_of(fd));
	assert_int_equal(flock(fd, LOCK_EX), 0);
	assert_true(told_of(fd));
	assert_int_equal(flock(fd, LOCK_UN), 0);
	assert_false(told_of(fd));
	assert_int_equal(fcntl(fd, F_SETLK, &posix), 0);
	assert_true(told_of(fd));
	close(fd);
	unlink(name);
}

static void test_in_words(void **state)
{
	(void)state;
	assert_true(locks_told(
		"pos:\t0\nflags:\t02\nlock:\t1: POSIX  ADVISORY  WRITE 7 0:1:2 0 EOF\n"));
	assert_false(locks_told("pos:\t0\nflags:\t02\nmnt_id:\t3\n"));
	assert_false(locks_told(""));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_of_this_kernel),
		cmocka_unit_test(test_in_words),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
