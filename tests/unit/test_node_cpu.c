/* SPDX-License-Identifier: Apache-2.0 */
#include "base/cleanup.h"
#include "node/cpu.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static const char x86[] =
	"processor\t: 0\n"
	"model name\t: AMD EPYC\n"
	"vmx flags\t: vnmi\n"
	"flags\t\t: fpu vme sse2 avx aes nopl xsave constant_tsc avx512f hypervisor\n"
	"bugs\t\t: spectre_v1\n"
	"\n"
	"processor\t: 1\n"
	"flags\t\t: fpu\n";

static const char arm[] = "processor\t: 0\n"
			  "Features\t: fp asimd sve crc32\n"
			  "CPU part\t: 0xd40\n";

static void test_features(void **state)
{
	(void)state;
	cleanup_free char *a = cpu_features_of("x86_64", x86, 2440);
	assert_string_equal(a, "x86_64 xsave=2440 aes avx avx512f fpu sse2 xsave");
	cleanup_free char *b = cpu_features_of("aarch64", arm, 0);
	assert_string_equal(b, "aarch64 asimd crc32 fp sve");
	cleanup_free char *c = cpu_features_of("riscv64", "", 0);
	assert_string_equal(c, "riscv64");
}

static void check_missing(const char *needed, const char *have, const char *expected)
{
	cleanup_free char *missing = cpu_missing(needed, have);
	if (!expected)
		assert_null(missing);
	else
		assert_string_equal(missing, expected);
}

static void test_missing(void **state)
{
	(void)state;
	check_missing("x86_64 xsave=832 avx", "x86_64 xsave=832 aes avx", NULL);
	check_missing("x86_64 xsave=832 avx", "x86_64 xsave=2440 aes avx", NULL);
	check_missing("x86_64 xsave=2440 avx avx512f", "x86_64 xsave=832 avx",
		      "xsave=2440, avx512f");
	check_missing("x86_64 avx", "aarch64 asimd", "x86_64, avx");
	/* A word is not a part of one. */
	check_missing("x86_64 avx", "x86_64 avx2", "avx");
	check_missing("x86_64 avx512f", "x86_64 avx", "avx512f");
	check_missing("", "x86_64", NULL);
	check_missing(NULL, "x86_64", NULL);
	check_missing("x86_64", NULL, "x86_64");
}

static void test_this_machine(void **state)
{
	(void)state;
	struct error e = ERROR_INIT;
	cleanup_free char *features = NULL;
	assert_int_equal(cpu_features(&features, &e), 0);
	check_missing(features, features, NULL);
	assert_true(strlen(features) > 5);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_features),
		cmocka_unit_test(test_missing),
		cmocka_unit_test(test_this_machine),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
