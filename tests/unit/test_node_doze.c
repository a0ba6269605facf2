/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "base/cleanup.h"
#include "base/fs.h"
#include "node/doze_area.h"
#include "node/doze_kept.h"
#include "node/doze_out.h"
#include "node/doze_pressure.h"
#include "node/node.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void test_ranges(void **state)
{
	(void)state;
	static const struct {
		const char *line;
		bool goes;
	} cases[] = {
		{ "7f0000000000-7f0000100000 rw-p 00000000 00:00 0 ", true },
		{ "7f0000000000-7f0000100000 rw-p 00000000 00:00 0", true },
		{ "5500000000-5500021000 rw-p 00000000 00:00 0                          [heap]",
		  true },
		{ "7ffc00000000-7ffc00021000 rw-p 00000000 00:00 0                  [stack]",
		  true },
		{ "7f0000000000-7f0000100000 ---p 00000000 00:00 0", true },
		{ "7f0000000000-7f0000100000 rw-p 00000000 00:00 0      [anon:large]", true },
		/* Files, what is shared, and the kernel's own. */
		{ "7f0000000000-7f0000100000 r-xp 00001000 fe:00 42      /usr/lib/libc.so.6",
		  false },
		{ "7f0000000000-7f0000100000 rw-s 00000000 00:01 7       /dev/zero (deleted)",
		  false },
		{ "7f0000000000-7f0000100000 rw-s 00000000 00:00 0", false },
		{ "7ffc00022000-7ffc00026000 r--p 00000000 00:00 0       [vvar]", false },
		{ "7ffc00026000-7ffc00028000 r-xp 00000000 00:00 0       [vdso]", false },
		/* No ranges. */
		{ "7f0000000000-7f0000000000 rw-p 00000000 00:00 0", false },
		{ "7f0000100000-7f0000000000 rw-p 00000000 00:00 0", false },
		{ "7f0000000000-7f0000100000 rw-p", false },
		{ "", false },
	};
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		uint64_t start = 0, end = 0;
		if (doze_out_parse(cases[i].line, &start, &end) != cases[i].goes)
			fail_msg("%s", cases[i].line);
		if (cases[i].goes)
			assert_true(start && end > start);
	}
}

/* What is left of a range when what is to stay is taken out of it, as the pager walks it. */
static void test_kept(void **state)
{
	(void)state;
	struct doze_kept *kept = NULL;
	uint64_t from, to;
	assert_false(doze_kept_next(NULL, 7, 0, 100, &from, &to));
	assert_int_equal(doze_kept_bytes(NULL), 0);
	assert_int_equal(doze_kept_add(&kept, 7, 10, 20), 0);
	assert_int_equal(doze_kept_add(&kept, 7, 30, 40), 0);
	assert_int_equal(doze_kept_add(&kept, 8, 50, 60), 0);
	for (uint64_t i = 0; i < 2000; i++)
		assert_int_equal(doze_kept_add(&kept, 9, 2 * i, 2 * i + 1), 0);
	assert_int_equal(doze_kept_bytes(kept), 2030);
	static const struct {
		uint64_t start, end, from, to;
	} cases[] = {
		{ 0, 100, 10, 20 },  { 0, 15, 10, 15 },  { 15, 100, 15, 20 },
		{ 20, 100, 30, 40 }, { 33, 35, 33, 35 },
	};
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		assert_true(doze_kept_next(kept, 7, cases[i].start, cases[i].end, &from, &to));
		assert_int_equal(from, cases[i].from);
		assert_int_equal(to, cases[i].to);
	}
	assert_false(doze_kept_next(kept, 7, 0, 10, &from, &to));
	assert_false(doze_kept_next(kept, 7, 20, 30, &from, &to));
	assert_false(doze_kept_next(kept, 7, 40, 100, &from, &to));
	assert_false(doze_kept_next(kept, 6, 0, 100, &from, &to));
	assert_true(doze_kept_next(kept, 9, 3997, 4100, &from, &to) && from == 3998);
	doze_kept_free(kept);
}

static void test_swaps(void **state)
{
	(void)state;
	const char *text = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"
			   "/dev/zram1      partition\t2097148\t\t1024\t\t100\n"
			   "\n"
			   "/swap\\040file\\040(deleted) file\t\t4\t\t0\t\t-2\n"
			   "/dev/short partition 1\n"
			   "/dev/odd partition one two 3\n"
			   "/dev/less partition -1 0 3\n"
			   "/dev/dm-0 partition 8 2 -3";
	static const struct doze_swap is[] = { { "/dev/zram1", 2097148LL << 10, 1 << 20 },
					       { "/swap file (deleted)", 4096, 0 },
					       { "/dev/dm-0", 8192, 2048 } };
	struct doze_swap one;
	size_t count = 0;
	while (doze_swap_next(&text, &one)) {
		assert_true(count < ARRAY_SIZE(is));
		assert_string_equal(one.path, is[count].path);
		assert_int_equal(one.size_bytes, is[count].size_bytes);
		assert_int_equal(one.used_bytes, is[count].used_bytes);
		count++;
	}
	assert_int_equal(count, ARRAY_SIZE(is));
	assert_false(doze_swap_next(&text, &one));
}

static void test_pressure(void **state)
{
	(void)state;
	static const char good[] = "some avg10=12.50 avg60=1.00 avg300=0.10 total=122547\n"
				   "full avg10=0.25 avg60=0.00 avg300=0.00 total=22681\n";
	static const char *const bad[] = { "",
					   "some avg10=1.00 avg60=0.00\n",
					   "some avg10=\n",
					   "some avg10=x\nfull avg10=y\n",
					   "some avg10=101.0\nfull avg10=0.0\n",
					   "some avg10=-1\nfull avg10=0\n",
					   "some avg10=nan\nfull avg10=0\n" };
	struct pressure p;
	assert_true(pressure_parse(good, &p));
	assert_true(p.some == 12.5 && p.full == 0.25);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_false(pressure_parse(bad[i], &p));
}

/* --- what can be said without making anything ------------------------------------------ */

static void test_where_nothing_dozes(void **state)
{
	(void)state;
	char dir[] = "/tmp/elsa-doze-XXXXXX";
	struct config config = { .doze = { .swap = "off", .compression = "lz4" } };
	struct node node = { .config = &config, .boot_id = "boot-1" };
	struct doze_area area;
	struct error e = ERROR_INIT;
	assert_non_null(mkdtemp(dir));
	config.node.run_dir = config.node.state_dir = dir;
	assert_true(doze_area_make(&node, &e) < 0);
	assert_int_equal(e.fault, FAULT_UNAVAILABLE);
	assert_non_null(strstr(e.text, "doze.swap"));
	assert_true(e.remedy[0]);
	doze_area_look(&node, &area);
	assert_true(area.room_bytes == 0 && area.out_bytes == 0 && area.stored_bytes == 0);
	assert_int_equal(doze_out_else(&config), CGROUP_SWAP_SYSTEM);
	assert_int_equal(doze_area_remove(&config, NULL), 0);
	config.doze.swap = "zram";
	config.doze.size_bytes = (1 << 30) + 5;
	doze_area_look(&node, &area);
	assert_true(area.room_bytes == 1 << 30 && area.out_bytes == 0);
	assert_int_equal(doze_out_else(&config), CGROUP_SWAP_NONE);
	assert_int_equal(fs_remove_tree(dir, NULL), 0);
}

/* Notes of another boot, or that cannot be read, name nothing that is to be touched. */
static void test_notes_of_others(void **state)
{
	(void)state;
	static const char *const notes[] = {
		"{\"boot_id\": \"boot-0\", \"kind\": \"zram\", \"name\": \"zram0\","
		" \"size_bytes\": 1073741824, \"added\": true}",
		"{\"boot_id\": \"boot-0\", \"kind\": \"zram\"}",
		"half a no",
	};
	char dir[] = "/tmp/elsa-doze-XXXXXX";
	struct config config = { .doze = { .swap = "zram", .size_bytes = 1 << 30 } };
	struct node node = { .config = &config, .boot_id = "boot-1" };
	struct doze_area area;
	assert_non_null(mkdtemp(dir));
	config.node.run_dir = config.node.state_dir = dir;
	cleanup_free char *path = fs_join(dir, "doze.json");
	for (size_t i = 0; i < ARRAY_SIZE(notes); i++) {
		assert_int_equal(fs_replace(path, notes[i], strlen(notes[i]), 0600, NULL), 0);
		doze_area_look(&node, &area);
		assert_true(area.room_bytes == 1 << 30 && area.out_bytes == 0);
		doze_area_tidy(&node, false);
		assert_int_equal(doze_area_remove(&config, NULL), 0);
	}
	assert_int_equal(fs_remove_tree(dir, NULL), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ranges),
		cmocka_unit_test(test_kept),
		cmocka_unit_test(test_swaps),
		cmocka_unit_test(test_pressure),
		cmocka_unit_test(test_where_nothing_dozes),
		cmocka_unit_test(test_notes_of_others),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
