/* SPDX-License-Identifier: Apache-2.0 */
#include "base/cleanup.h"
#include "node/criu.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

/* Recorded with CRIU 4.2.1; lines in between left out. */
static const char mptcp[] =
	"(00.000006) Version: 4.2.1 (gitid 0)\n"
	"(00.001900) Error (criu/rlimit.c:20): rlimit: Can't setup RLIMIT_NOFILE for self: "
	"Operation "
	"not permitted\n"
	"(00.068001) Error (criu/sk-inet.c:135): inet: Unsupported proto 262 for socket 6692a\n"
	"(00.068031) Error (criu/cr-dump.c:1673): Dump files (pid: 216) failed with -1\n"
	"(00.071268) Error (criu/cr-dump.c:1975): Dumping FAILED.\n";

static const char no_space[] =
	"(00.061124) Error (criu/page-xfer.c:263): page-xfer: Unable to spice data: No space left "
	"on "
	"device\n"
	"(00.061153) Error (criu/bfd.c:131): bfd: Error flushing image: No space left on device\n"
	"(00.063268) Error (criu/cr-dump.c:1975): Dumping FAILED.\n";

static const char moved[] =
	"(00.065881) Error (criu/cgroup.c:2055): cg: cgroupd: recv req error: No such file or "
	"directory\n"
	"(00.055881)      2: Error (criu/files-reg.c:2277): Can't open file home/ada/lock on "
	"restore: No "
	"such file or directory\n"
	"(00.097682) Error (criu/cr-restore.c:2331): Restoring FAILED.\n";

static void check(const char *log, const char *said, const char *means)
{
	cleanup_free char *first = criu_first_error(log);
	cleanup_free char *explained = criu_explain(log);
	assert_non_null(first);
	assert_string_equal(first, said);
	assert_non_null(explained);
	assert_non_null(strstr(explained, means));
}

static void test_reasons(void **state)
{
	(void)state;
	check(mptcp, "inet: Unsupported proto 262 for socket 6692a", "cannot be checkpointed");
	check(no_space, "page-xfer: Unable to spice data: No space left on device",
	      "The disk is full");
	check(moved, "Can't open file home/ada/lock on restore: No such file or directory",
	      "no longer there");
	check("(00.1) Error (criu/files-reg.c:1815): Can't lookup mount=169 for fd=18 "
	      "path=/probe\n",
	      "Can't lookup mount=169 for fd=18 path=/probe", "Close it.");
	check("(00.1) Error (criu/sockets.c:759): sockets: BUG! Unknown socket collected (family "
	      "40)",
	      "sockets: BUG! Unknown socket collected (family 40)", "End that program.");
}

static void test_logs_that_say_nothing(void **state)
{
	(void)state;
	static const char *const logs[] = {
		"",
		"\n\n",
		"Error (",
		"Error (criu/x.c:1): ",
		"(00.1) Dumping finished successfully\n",
		"(00.1) Error (criu/cr-dump.c:1975): Dumping FAILED.\n"
	};
	for (size_t i = 0; i < ARRAY_SIZE(logs); i++) {
		cleanup_free char *first = criu_first_error(logs[i]);
		assert_null(criu_explain(logs[i]));
		assert_true(!first || !*first);
	}
}

static void test_tail(void **state)
{
	(void)state;
	assert_string_equal(criu_log_tail("a\nb\nc\n", 2), "b\nc\n");
	assert_string_equal(criu_log_tail("a\nb\nc", 1), "c");
	assert_string_equal(criu_log_tail("a\nb\n", 9), "a\nb\n");
	assert_string_equal(criu_log_tail("", 3), "");
}

static void test_versions(void **state)
{
	(void)state;
	assert_true(criu_version_reads("4.2.1", "4.2.1"));
	assert_true(criu_version_reads("4.2.1", "4.1"));
	assert_true(criu_version_reads("5.0", "4.9"));
	assert_false(criu_version_reads("4.1.1", "4.2"));
	assert_false(criu_version_reads("3.19", "4.0"));
	assert_true(criu_version_reads("4.2", NULL));
	assert_true(criu_version_reads("v-next", "4.2"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_reasons),
		cmocka_unit_test(test_logs_that_say_nothing),
		cmocka_unit_test(test_tail),
		cmocka_unit_test(test_versions),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
