/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/fs.h"
#include "base/id.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void error_layers_read_outside_in(void **state)
{
	(void)state;
	struct error e = ERROR_INIT;
	errno = ENOSPC;
	assert_int_equal(error_errno(&e, "cannot write %s", "x"), -ENOSPC);
	assert_int_equal(error_wrap(&e, -ENOSPC, "checkpoint of %s", "ada"), -ENOSPC);
	assert_string_equal(e.text, "checkpoint of ada: cannot write x: No space left on device");
	assert_int_equal(e.fault, FAULT_FULL);
	error_remedy(&e, 0, "free space");
	error_remedy(&e, 0, "something vaguer");
	assert_string_equal(e.remedy, "free space");
}

static void error_survives_long_texts_and_null(void **state)
{
	(void)state;
	struct error e = ERROR_INIT;
	char name[3000];
	memset(name, 'x', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	error_set(&e, EINVAL, "%s", name);
	error_wrap(&e, -EINVAL, "%s", name);
	assert_true(strlen(e.text) < sizeof(e.text));
	assert_int_equal(error_set(NULL, EINVAL, "nobody listens"), -EINVAL);
	assert_int_equal(error_wrap(NULL, -5, "nobody listens"), -5);
}

static void faults_map_both_ways(void **state)
{
	(void)state;
	for (int f = 0; f < FAULT_COUNT; f++) {
		assert_int_equal(fault_from_name(fault_name((enum fault)f)), f);
		assert_int_equal(fault_from_http_status(fault_http_status((enum fault)f)), f);
	}
	assert_int_equal(fault_from_http_status(401), FAULT_DENIED);
	assert_int_equal(fault_from_http_status(429), FAULT_UNAVAILABLE);
	assert_int_equal(fault_from_name("no such"), FAULT_INTERNAL);
}

static void buf_never_passes_its_cap(void **state)
{
	(void)state;
	struct buf b = BUF_INIT(10);
	assert_int_equal(buf_append(&b, "12345", 5), 0);
	assert_int_equal(buf_printf(&b, "%d", 678901), -ENOBUFS);
	assert_int_equal(buf_printf(&b, "%d", 67890), 0);
	assert_string_equal(buf_text(&b), "1234567890");
	assert_int_equal(buf_append(&b, "x", 1), -ENOBUFS);
	assert_int_equal(buf_append(&b, "x", SIZE_MAX), -ENOBUFS);
	cleanup_free char *text = buf_steal(&b);
	assert_string_equal(text, "1234567890");
	assert_string_equal(buf_text(&b), "");
	buf_deinit(&b);
	buf_deinit(&b);
}

static void clock_reads_what_others_write(void **state)
{
	(void)state;
	static const struct {
		const char *text;
		int r;
		wall_ms t;
	} cases[] = {
		{ "2026-11-23T04:05:06Z", 0, 1795406706000 },
		{ "2026-11-23T04:05:06.789Z", 0, 1795406706789 },
		{ "2026-11-23T04:05:06.789123456Z", 0, 1795406706789 },
		{ "2026-11-23T05:05:06.5+01:00", 0, 1795406706500 },
		{ "2026-11-23T04:05:06", 0, 1795406706000 },
		{ "1970-01-01T00:00:00Z", 0, 0 },
		{ "2026-11-23", -EINVAL, 0 },
		{ "2026-11-23T04:05:06+1", -EINVAL, 0 },
		{ "2026-11-23T04:05:06Zx", -EINVAL, 0 },
		{ "", -EINVAL, 0 },
		{ NULL, -EINVAL, 0 },
	};
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		wall_ms t = 0;
		assert_int_equal(clock_parse(cases[i].text, &t), cases[i].r);
		assert_int_equal(t, cases[i].t);
	}
	char text[CLOCK_TEXT_SIZE];
	assert_string_equal(clock_format(1795406706789, text), "2026-11-23T04:05:06.789Z");
	assert_string_equal(clock_format(0, text), "");
}

static void fs_replaces_whole_files(void **state)
{
	(void)state;
	char dir[] = "/tmp/elsa-fs-XXXXXX";
	assert_non_null(mkdtemp(dir));
	cleanup_free char *deep = fs_join(dir, "a/b/c");
	cleanup_free char *file = fs_join(deep, "file");
	struct error e = ERROR_INIT;
	assert_int_equal(fs_mkdirs(deep, 0700, &e), 0);
	assert_int_equal(fs_mkdirs(deep, 0700, &e), 0);
	assert_int_equal(fs_replace(file, "one", 3, 0600, &e), 0);
	assert_int_equal(fs_replace(file, "two!", 4, 0640, &e), 0);
	cleanup_buf struct buf b = BUF_INIT(100);
	assert_int_equal(fs_read(file, &b, &e), 0);
	assert_string_equal(buf_text(&b), "two!");
	struct stat st;
	assert_int_equal(stat(file, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0640);
	cleanup_buf struct buf small = BUF_INIT(3);
	assert_int_equal(fs_read(file, &small, &e), -ENOBUFS);
	assert_int_equal(fs_replace("/proc/none/file", "x", 1, 0600, &e), -ENOENT);
	assert_int_equal(fs_remove_tree(dir, &e), 0);
	assert_int_equal(fs_remove_tree(dir, &e), 0);
	assert_int_equal(access(dir, F_OK), -1);
}

static void remove_tree_leaves_link_targets(void **state)
{
	(void)state;
	char dir[] = "/tmp/elsa-fs-XXXXXX";
	char kept[] = "/tmp/elsa-fs-XXXXXX";
	assert_non_null(mkdtemp(dir));
	assert_non_null(mkdtemp(kept));
	cleanup_free char *link = fs_join(dir, "link");
	cleanup_free char *file = fs_join(kept, "file");
	struct error e = ERROR_INIT;
	assert_int_equal(fs_replace(file, "x", 1, 0600, &e), 0);
	assert_int_equal(symlink(kept, link), 0);
	assert_int_equal(fs_remove_tree(dir, &e), 0);
	assert_int_equal(access(file, F_OK), 0);
	assert_int_equal(fs_remove_tree(kept, &e), 0);
}

static void ids_are_safe_names(void **state)
{
	(void)state;
	char a[ID_SIZE];
	char b[ID_SIZE];
	id_new(a);
	id_new(b);
	assert_true(id_valid(a) && id_valid(b));
	assert_string_not_equal(a, b);
	static const char *const bad[] = { "",
					   "..",
					   "0123456789abcde",
					   "0123456789abcdeF",
					   "0123456789abcdef0",
					   "0123456789abcd/f" };
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_false(id_valid(bad[i]));
	assert_false(id_valid(NULL));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(error_layers_read_outside_in),
		cmocka_unit_test(error_survives_long_texts_and_null),
		cmocka_unit_test(faults_map_both_ways),
		cmocka_unit_test(buf_never_passes_its_cap),
		cmocka_unit_test(clock_reads_what_others_write),
		cmocka_unit_test(fs_replaces_whole_files),
		cmocka_unit_test(remove_tree_leaves_link_targets),
		cmocka_unit_test(ids_are_safe_names),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
