/* SPDX-License-Identifier: Apache-2.0 */
/* What the kernel says of a process, and which of its memory CRIU need not see. With a real
 * session: test_node_depart_memory.c. */
#include "base/cleanup.h"
#include "node/unseen.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void test_line(void **state)
{
	(void)state;
	static const struct {
		const char *line;
		uint64_t start, end; /* 0: CRIU's */
	} cases[] = {
		{ "7f0000000000-7f0000100000 rw-p 00000000 00:00 0 ", 0x7f0000000000,
		  0x7f0000100000 },
		{ "7f0000000000-7f0000100000 ---p 00000000 00:00 0 ", 0x7f0000000000,
		  0x7f0000100000 },
		{ "01a00000-02a00000 rw-p 00000000 00:00 0                  [heap]", 0x1a00000,
		  0x2a00000 },
		{ "7f0000000000-7f0000100000 rw-p 00000000 00:00 0   [anon:arena]", 0x7f0000000000,
		  0x7f0000100000 },
		/* too small */
		{ "7f0000000000-7f000000f000 rw-p 00000000 00:00 0 ", 0, 0 },
		/* shared; of a file; a memory file; huge pages; the main stack; the kernel's */
		{ "7f0000000000-7f0000100000 rw-s 00000000 00:01 0 ", 0, 0 },
		{ "7f0000000000-7f0000100000 rw-p 00001000 fe:00 1234    /usr/lib/x.so", 0, 0 },
		{ "7f0000000000-7f0000100000 rw-p 00000000 00:01 17      /memfd:x (deleted)", 0,
		  0 },
		{ "7f0000000000-7f0000200000 rw-p 00000000 00:0f 99  /anon_hugepage (deleted)", 0,
		  0 },
		{ "7ffc00000000-7ffc00800000 rw-p 00000000 00:00 0      [stack]", 0, 0 },
		{ "7ffc00000000-7ffc00800000 r--p 00000000 00:00 0      [vvar]", 0, 0 },
		{ "", 0, 0 },
		{ "7f0000000000", 0, 0 },
		{ "7f0000100000-7f0000000000 rw-p 00000000 00:00 0 ", 0, 0 },
	};
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct unseen_range r = { 0 };
		assert_int_equal(unseen_line(cases[i].line, &r), cases[i].end != 0);
		assert_int_equal(r.start, cases[i].start);
		assert_int_equal(r.end, cases[i].end);
	}
}

static void test_stack(void **state)
{
	(void)state;
	static const struct {
		const char *syscall;
		uint64_t at;
	} cases[] = {
		{ "202 0x7f 0x189 0x0 0x0 0x0 0xffffffff 0x7f0000001230 0x7f0000002345\n",
		  0x7f0000001230 },
		{ "-1 0x7ffc00001230 0x401234\n", 0x7ffc00001230 },
		{ "running\n", 0 },
		{ "0x1\n", 0 },
		{ "", 0 },
	};
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		assert_int_equal(unseen_stack(cases[i].syscall), cases[i].at);
}

static void test_plain(void **state)
{
	(void)state;
	static const struct {
		const char *status;
		bool plain;
	} cases[] = {
		{ "Name:\tx\nVmLck:\t       0 kB\nVmPin:\t       0 kB\n", true },
		{ "Name:\tx\nVmLck:\t       0 kB\nx86_Thread_features:\t\nCpus_allowed:\t3\n",
		  true },
		{ "Name:\tx\nVmLck:\t      64 kB\nVmPin:\t       0 kB\n", false },
		{ "Name:\tx\nVmLck:\t      10 kB\nVmPin:\t       0 kB\n", false },
		{ "Name:\tx\nVmLck:\t       0 kB\nx86_Thread_features:\tshstk wrss\n", false },
	};
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		assert_int_equal(unseen_is_plain(cases[i].status), cases[i].plain);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_line),
		cmocka_unit_test(test_stack),
		cmocka_unit_test(test_plain),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
