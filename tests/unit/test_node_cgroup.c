/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "base/buf.h"
#include "base/cleanup.h"
#include "base/fs.h"
#include "node/cgroup.h"
#include "node/cgroup_ops.h"

#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static const char unified[] =
	"29 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"
	"34 27 0:29 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";

static const char hybrid[] =
	"32 24 0:28 / /sys/fs/cgroup ro,nosuid shared:9 - tmpfs tmpfs ro,mode=755\n"
	"33 32 0:29 / /sys/fs/cgroup/unified rw shared:10 - cgroup2 cgroup2 rw,nsdelegate\n"
	"35 32 0:31 / /sys/fs/cgroup/systemd rw shared:11 - cgroup cgroup rw,xattr,name=systemd\n"
	"38 32 0:35 / /sys/fs/cgroup/cpu,cpuacct rw shared:15 - cgroup cgroup rw,cpu,cpuacct\n"
	"39 32 0:36 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n"
	"40 32 0:37 /a/b /sys/fs/cgroup/memory rw shared:17 master:3 - cgroup cgroup rw,memory\n"
	"41 32 0:38 / /sys/fs/cgroup/freezer rw - cgroup cgroup rw,freezer\n"
	"99 32 0:38 / /mnt/again rw - cgroup cgroup rw,freezer\n";

static void test_mounts_v2(void **state)
{
	(void)state;
	struct cgroup_mounts m;
	assert_int_equal(cgroup_parse_mounts(unified, &m), 0);
	assert_int_equal(m.version, 2);
	for (int i = 0; i < CGROUP_CONTROLLER_COUNT; i++)
		assert_string_equal(m.paths[i], "/sys/fs/cgroup");
	cgroup_mounts_deinit(&m);
}

static void test_mounts_hybrid(void **state)
{
	(void)state;
	struct cgroup_mounts m;
	assert_int_equal(cgroup_parse_mounts(hybrid, &m), 0);
	assert_int_equal(m.version, 1);
	assert_string_equal(m.paths[CGROUP_MEMORY], "/sys/fs/cgroup/memory");
	assert_string_equal(m.paths[CGROUP_CPU], "/sys/fs/cgroup/cpu,cpuacct");
	assert_string_equal(m.paths[CGROUP_CPUACCT], "/sys/fs/cgroup/cpu,cpuacct");
	assert_string_equal(m.paths[CGROUP_FREEZER], "/sys/fs/cgroup/freezer");
	cgroup_mounts_deinit(&m);
}

static void test_mounts_none(void **state)
{
	(void)state;
	static const char *const broken[] = { "",
					      "\n\n",
					      "1 2 3",
					      " - ",
					      "1 2 3:4 / - cgroup",
					      "29 1 8:1 / / rw - ext4 /dev/sda1 rw" };
	for (size_t i = 0; i < ARRAY_SIZE(broken); i++) {
		struct cgroup_mounts m;
		assert_int_equal(cgroup_parse_mounts(broken[i], &m), 0);
		assert_int_equal(m.version, 0);
		cgroup_mounts_deinit(&m);
	}
}

static void test_stat(void **state)
{
	(void)state;
	static const char text[] = "rss 7\nrss_huge 8\ntotal_rss 9\nshmem 12345678901\n";
	assert_int_equal(cgroup_stat(text, "rss"), 7);
	assert_int_equal(cgroup_stat(text, "rss_huge"), 8);
	assert_int_equal(cgroup_stat(text, "shmem"), 12345678901);
	assert_int_equal(cgroup_stat(text, "cache"), 0);
	assert_int_equal(cgroup_stat("", "rss"), 0);
}

static void test_stall(void **state)
{
	(void)state;
	static const struct {
		const char *text;
		int64_t total;
	} cases[] = {
		{ "some avg10=0.00 avg60=0.12 avg300=0.01 total=8123\n"
		  "full avg10=0.00 avg60=0.00 avg300=0.00 total=77\n",
		  8123 },
		{ "full avg10=0.00 total=77\nsome avg10=0.00 total=5\n", 5 },
		{ "some total=0\n", 0 },
		{ "some avg10=0.00\nfull total=7\n", -1 },
		{ "full total=7\n", -1 },
		{ "some total=-4\n", -1 },
		{ "some total=x\n", -1 },
		{ "", -1 },
	};
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		if (cgroup_parse_stall(cases[i].text) != cases[i].total)
			fail_msg("%s", cases[i].text);
}

/* --- the files that are written, in a directory that plays the hierarchy ----------- */

static char place[64];

static int make_place(void **state)
{
	(void)state;
	snprintf(place, sizeof(place), "/tmp/elsa-cgroup-XXXXXX");
	return mkdtemp(place) ? 0 : -1;
}

static int drop_place(void **state)
{
	(void)state;
	return fs_remove_tree(place, NULL);
}

static void put(const char *dir, const char *file, const char *text)
{
	cleanup_free char *path = fs_join(dir, file);
	assert_int_equal(fs_replace(path, text, strlen(text), 0644, NULL), 0);
}

static void expect_file(const char *dir, const char *file, const char *text)
{
	cleanup_buf struct buf found = BUF_INIT(4096);
	assert_int_equal(cgroup_read(dir, file, &found, NULL), 0);
	assert_string_equal(buf_text(&found), text);
}

static struct cgroup group(int version, struct cgroup_mounts *m)
{
	struct cgroup cg;
	*m = (struct cgroup_mounts) { .version = version };
	for (int i = 0; i < CGROUP_CONTROLLER_COUNT; i++) {
		m->paths[i] =
			version == 2 ? strdup(place) : fs_join(place, cgroup_controller_names[i]);
		cleanup_free char *dir = str_printf("%s/elsa/0123456789abcdef", m->paths[i]);
		assert_int_equal(fs_mkdirs(dir, 0755, NULL), 0);
	}
	assert_int_equal(cgroup_init_at(&cg, m, "elsa", "0123456789abcdef", NULL), 0);
	return cg;
}

static void test_limits_v2(void **state)
{
	(void)state;
	struct cgroup_mounts m;
	struct cgroup cg = group(2, &m);
	const char *dir = cgroup_freezer(&cg);
	static const char *const files[] = { "memory.max", "cpu.max", "pids.max" };
	for (size_t i = 0; i < ARRAY_SIZE(files); i++)
		put(dir, files[i], "");
	struct session_limits limits = { .memory_bytes = 1 << 30, .cpus = 1.5, .pids = 99 };
	assert_int_equal(cgroup_create(&cg, &limits, NULL), 0);
	expect_file(dir, "memory.max", "1073741824");
	expect_file(dir, "cpu.max", "150000 100000");
	expect_file(dir, "pids.max", "99");
	cgroup_deinit(&cg);
	cgroup_mounts_deinit(&m);
}

static void test_limits_v1(void **state)
{
	(void)state;
	struct cgroup_mounts m;
	struct cgroup cg = group(1, &m);
	put(cg.dirs[CGROUP_MEMORY], "memory.limit_in_bytes", "");
	put(cg.dirs[CGROUP_CPU], "cpu.cfs_period_us", "");
	put(cg.dirs[CGROUP_CPU], "cpu.cfs_quota_us", "");
	put(cg.dirs[CGROUP_PIDS], "pids.max", "");
	struct session_limits limits = { .cpus = 0.5 };
	assert_int_equal(cgroup_create(&cg, &limits, NULL), 0);
	expect_file(cg.dirs[CGROUP_MEMORY], "memory.limit_in_bytes", "-1");
	expect_file(cg.dirs[CGROUP_CPU], "cpu.cfs_quota_us", "50000");
	expect_file(cg.dirs[CGROUP_PIDS], "pids.max", "max");
	cgroup_deinit(&cg);
	cgroup_mounts_deinit(&m);
}

static void test_missing_controller(void **state)
{
	(void)state;
	struct cgroup_mounts m;
	struct cgroup cg = group(2, &m);
	struct error e = ERROR_INIT;
	struct session_limits limits = { .memory_bytes = 1 };
	free(cg.dirs[CGROUP_MEMORY]);
	cg.dirs[CGROUP_MEMORY] = NULL;
	assert_true(cgroup_create(&cg, &limits, &e) < 0);
	assert_int_equal(e.fault, FAULT_UNAVAILABLE);
	assert_non_null(strstr(e.text, "memory"));
	assert_true(e.remedy[0]);
	cgroup_deinit(&cg);
	cgroup_mounts_deinit(&m);
}

static void test_freezer_v2(void **state)
{
	(void)state;
	struct cgroup_mounts m;
	struct cgroup cg = group(2, &m);
	const char *dir = cgroup_freezer(&cg);
	bool frozen;
	struct error e = ERROR_INIT;
	put(dir, "cgroup.freeze", "");
	put(dir, "cgroup.events", "populated 1\nfrozen 1\n");
	assert_int_equal(cgroup_freeze(&cg, 100, NULL), 0);
	assert_int_equal(cgroup_frozen(&cg, &frozen, NULL), 0);
	assert_true(frozen);
	/* One that does not stop in time is let go again. */
	put(dir, "cgroup.events", "populated 1\nfrozen 0\n");
	assert_true(cgroup_freeze(&cg, 20, &e) < 0);
	assert_int_equal(e.fault, FAULT_TIMEOUT);
	expect_file(dir, "cgroup.freeze", "0");
	cgroup_deinit(&cg);
	cgroup_mounts_deinit(&m);
}

static void test_swap_v1(void **state)
{
	(void)state;
	struct cgroup_mounts m;
	struct cgroup cg = group(1, &m);
	const char *dir = cg.dirs[CGROUP_MEMORY];
	assert_int_equal(cgroup_set_swap(&cg, CGROUP_SWAP_NONE, NULL), 0); /* no such setting */
	put(dir, "memory.swappiness", "");
	put(dir, "memory.force_empty", "");
	put(dir, "memory.usage_in_bytes", "5000\n");
	assert_int_equal(cgroup_set_swap(&cg, CGROUP_SWAP_NONE, NULL), 0);
	expect_file(dir, "memory.swappiness", "0");
	assert_int_equal(cgroup_set_swap(&cg, CGROUP_SWAP_ALL, NULL), 0);
	expect_file(dir, "memory.swappiness", "200");
	cleanup_buf struct buf system = BUF_INIT(64);
	assert_int_equal(fs_read("/proc/sys/vm/swappiness", &system, NULL), 0);
	put(dir, "memory.swappiness", "");
	assert_int_equal(cgroup_set_swap(&cg, CGROUP_SWAP_SYSTEM, NULL), 0);
	expect_file(dir, "memory.swappiness", buf_text(&system));
	assert_int_equal(cgroup_reclaim(&cg, 4096, NULL), -EAGAIN);
	cgroup_deinit(&cg);
	cgroup_mounts_deinit(&m);
}

static void test_swap_v2(void **state)
{
	(void)state;
	struct cgroup_mounts m;
	struct cgroup cg = group(2, &m);
	const char *dir = cgroup_freezer(&cg);
	static const struct {
		enum cgroup_swap what;
		const char *text;
	} cases[] = { { CGROUP_SWAP_NONE, "0" },
		      { CGROUP_SWAP_ALL, "max" },
		      { CGROUP_SWAP_SYSTEM, "max" } };
	assert_int_equal(cgroup_set_swap(&cg, CGROUP_SWAP_NONE, NULL), 0); /* no such limit */
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		put(dir, "memory.swap.max", "");
		assert_int_equal(cgroup_set_swap(&cg, cases[i].what, NULL), 0);
		expect_file(dir, "memory.swap.max", cases[i].text);
	}
	put(dir, "memory.reclaim", "");
	assert_int_equal(cgroup_reclaim(&cg, 4096, NULL), 0);
	expect_file(dir, "memory.reclaim", "4096 swappiness=200");
	free(cg.dirs[CGROUP_MEMORY]);
	cg.dirs[CGROUP_MEMORY] = NULL;
	assert_int_equal(cgroup_set_swap(&cg, CGROUP_SWAP_ALL, NULL), 0);
	assert_int_equal(cgroup_reclaim(&cg, 4096, NULL), -EAGAIN);
	cgroup_deinit(&cg);
	cgroup_mounts_deinit(&m);
}

static void expect_waiting(const struct cgroup *cg, bool waits, bool waiting)
{
	struct cgroup_usage usage;
	assert_int_equal(cgroup_usage(cg, &usage, NULL), 0);
	assert_int_equal(usage.waits, waits);
	assert_int_equal(usage.waiting, waiting);
}

static void test_at_limit_v1(void **state)
{
	(void)state;
	struct cgroup_mounts m;
	struct cgroup cg = group(1, &m);
	const char *dir = cg.dirs[CGROUP_MEMORY];
	const struct session_limits limits = { .memory_bytes = 100 << 20 }, none = { 0 };
	put(dir, "memory.stat", "rss 1\n");
	put(dir, "memory.limit_in_bytes", "");
	put(dir, "memory.oom_control", "oom_kill_disable 0\nunder_oom 0\n");
	expect_waiting(&cg, false, false);
	put(dir, "memory.oom_control", "");
	assert_int_equal(cgroup_at_limit(&cg, &limits, CGROUP_WAITS, NULL), 0);
	expect_file(dir, "memory.limit_in_bytes", "104857600");
	expect_file(dir, "memory.oom_control", "1");
	put(dir, "memory.oom_control", "oom_kill_disable 1\nunder_oom 1\n");
	expect_waiting(&cg, true, true);
	assert_int_equal(cgroup_ease(&cg, &none, true, NULL), 0);
	expect_file(dir, "memory.limit_in_bytes", "104857600");
	assert_int_equal(cgroup_ease(&cg, &limits, true, NULL), 0);
	expect_file(dir, "memory.limit_in_bytes", "1125899906842624");
	put(dir, "memory.limit_in_bytes", "");
	assert_int_equal(cgroup_ease(&cg, &limits, false, NULL), 0);
	expect_file(dir, "memory.limit_in_bytes", "104857600");
	put(dir, "memory.oom_control", "");
	assert_int_equal(cgroup_at_limit(&cg, &limits, CGROUP_ENDS, NULL), 0);
	expect_file(dir, "memory.limit_in_bytes", "104857600");
	expect_file(dir, "memory.oom_control", "0");
	cgroup_deinit(&cg);
	cgroup_mounts_deinit(&m);
}

/* Who waits, in a group that is to freeze, is woken; in no other, and nobody else is. */
static void test_freezes_what_waits_v1(void **state)
{
	(void)state;
	struct cgroup_mounts m;
	struct cgroup cg = group(1, &m);
	const char *memory = cg.dirs[CGROUP_MEMORY], *freezer = cg.dirs[CGROUP_FREEZER];
	static const struct {
		const char *state, *under, *limit;
	} cases[] = {
		{ "THAWED", "under_oom 1", "8192" },
		{ "FROZEN", "under_oom 1", "8192" },
		{ "FREEZING", "under_oom 0", "8192" },
		{ "FREEZING", "under_oom 1", "12288" },
	};
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		bool frozen;
		put(memory, "memory.limit_in_bytes", "8192");
		put(memory, "memory.oom_control", cases[i].under);
		put(freezer, "freezer.state", cases[i].state);
		assert_int_equal(cgroup_frozen(&cg, &frozen, NULL), 0);
		assert_int_equal(frozen, i == 1);
		expect_file(memory, "memory.limit_in_bytes", cases[i].limit);
	}
	cgroup_deinit(&cg);
	cgroup_mounts_deinit(&m);
}

static void test_notices_v1(void **state)
{
	(void)state;
	struct cgroup_mounts m;
	struct cgroup cg = group(1, &m);
	const char *dir = cg.dirs[CGROUP_MEMORY];
	const int64_t marks[] = { 1000, 2000 };
	int a, b;
	long long mark;
	cleanup_buf struct buf text = BUF_INIT(256);
	cleanup_fd int fd = cgroup_notices_open(&cg, NULL);
	assert_true(fd >= 0);
	assert_true(cgroup_notices_add(&cg, fd, marks, 2, NULL) < 0);
	put(dir, "memory.oom_control", "");
	put(dir, "memory.usage_in_bytes", "");
	put(dir, "cgroup.event_control", "");
	assert_int_equal(cgroup_notices_add(&cg, fd, marks, 2, NULL), 0);
	assert_int_equal(cgroup_read(dir, "cgroup.event_control", &text, NULL), 0);
	assert_int_equal(sscanf(buf_text(&text), "%d %d %lld", &a, &b, &mark), 3);
	assert_true(a == fd && b != fd && mark == 2000);
	cgroup_notices_clear(fd);
	assert_true(cgroup_identity(&cg) != 0);
	cgroup_deinit(&cg);
	cgroup_mounts_deinit(&m);
}

static void test_at_limit_v2(void **state)
{
	(void)state;
	struct cgroup_mounts m;
	struct cgroup cg = group(2, &m);
	const char *dir = cgroup_freezer(&cg);
	struct session_limits limits = { .memory_bytes = 1000 };
	static const char *const files[] = { "memory.max", "memory.events", "memory.stat",
					     "cpu.max",    "pids.max",      "cpu.stat" };
	for (size_t i = 0; i < ARRAY_SIZE(files); i++)
		put(dir, files[i], "");
	put(dir, "memory.high", "max\n");
	put(dir, "memory.current", "1000\n");
	expect_waiting(&cg, false, false);
	assert_int_equal(cgroup_ease(&cg, &limits, true, NULL), 0);
	expect_file(dir, "memory.high", "max\n");
	expect_file(dir, "memory.max", "1125899906842624");
	put(dir, "memory.max", "");
	assert_int_equal(cgroup_ease(&cg, &limits, false, NULL), 0);
	expect_file(dir, "memory.max", "1049576"); /* what it uses, and a mebibyte */
	put(dir, "memory.max", "");
	assert_int_equal(cgroup_at_limit(&cg, &limits, CGROUP_WAITS, NULL), 0);
	expect_file(dir, "memory.high", "1000");
	expect_file(dir, "memory.max", "1250");
	expect_waiting(&cg, true, true);
	put(dir, "memory.stat", "anon 900\nfile 150\nshmem 50\n");
	expect_waiting(&cg, true, false); /* page cache may go */
	assert_int_equal(cgroup_ease(&cg, &limits, true, NULL), 0);
	expect_file(dir, "memory.high", "1125899906842624");
	expect_file(dir, "memory.max", "1125899906842624");
	expect_waiting(&cg, true, false);
	put(dir, "memory.high", "1125899906842624\n");
	put(dir, "memory.max", "");
	put(dir, "memory.current", "900\n");
	assert_int_equal(cgroup_ease(&cg, &limits, false, NULL), 0);
	expect_file(dir, "memory.max", "1049476");
	put(dir, "memory.high", "1000");
	put(dir, "memory.max", "");
	limits.memory_bytes = 2000;
	assert_int_equal(cgroup_create(&cg, &limits, NULL), 0);
	expect_file(dir, "memory.high", "2000");
	expect_file(dir, "memory.max", "2500");
	put(dir, "memory.high", "");
	assert_int_equal(cgroup_at_limit(&cg, &limits, CGROUP_ENDS, NULL), 0);
	expect_file(dir, "memory.high", "max");
	expect_file(dir, "memory.max", "2000");
	limits.memory_bytes = 3000;
	assert_int_equal(cgroup_create(&cg, &limits, NULL), 0);
	expect_file(dir, "memory.high", "max");
	expect_file(dir, "memory.max", "3000");
	cgroup_deinit(&cg);
	cgroup_mounts_deinit(&m);
}

static void test_notices_v2(void **state)
{
	(void)state;
	struct cgroup_mounts m;
	struct cgroup cg = group(2, &m);
	const char *dir = cgroup_freezer(&cg);
	cleanup_fd int fd = cgroup_notices_open(&cg, NULL);
	struct pollfd p = { .fd = fd, .events = POLLIN };
	assert_true(fd >= 0);
	put(dir, "memory.events", "");
	for (int i = 0; i < 2; i++)
		assert_int_equal(cgroup_notices_add(&cg, fd, NULL, 0, NULL), 0);
	assert_int_equal(poll(&p, 1, 0), 0);
	assert_int_equal(cgroup_write(dir, "memory.events", "high 1", NULL), 0);
	assert_int_equal(poll(&p, 1, 1000), 1);
	cgroup_notices_clear(fd);
	assert_int_equal(poll(&p, 1, 0), 0);
	cgroup_deinit(&cg);
	cgroup_mounts_deinit(&m);
}

static void test_usage_v1(void **state)
{
	(void)state;
	struct cgroup_mounts m;
	struct cgroup cg = group(1, &m);
	struct cgroup_usage usage;
	put(cg.dirs[CGROUP_MEMORY], "memory.stat", "cache 100\nrss 30\nshmem 12\nswap 9\n");
	put(cg.dirs[CGROUP_MEMORY], "memory.oom_control", "under_oom 0\noom_kill 2\n");
	put(cg.dirs[CGROUP_CPUACCT], "cpuacct.usage", "5000000\n");
	put(cg.dirs[CGROUP_FREEZER], "cgroup.procs", "11\n12\n");
	assert_int_equal(cgroup_usage(&cg, &usage, NULL), 0);
	assert_int_equal(usage.memory_bytes, 42);
	assert_int_equal(usage.taken_bytes, 42);
	assert_int_equal(usage.out_bytes, 9);
	assert_int_equal(usage.cpu_us, 5000);
	assert_int_equal(usage.processes, 2);
	assert_int_equal(usage.oom_kills, 2);
	cgroup_deinit(&cg);
	cgroup_mounts_deinit(&m);
}

static void test_usage_v2(void **state)
{
	(void)state;
	struct cgroup_mounts m;
	struct cgroup cg = group(2, &m);
	const char *dir = cgroup_freezer(&cg);
	struct cgroup_usage usage;
	put(dir, "memory.stat", "anon 40\nfile 1000\nshmem 2\nactive_anon 30\ninactive_anon 20\n");
	put(dir, "memory.events", "low 0\noom_kill 1\n");
	put(dir, "cpu.stat", "usage_usec 77\nuser_usec 70\n");
	put(dir, "cgroup.procs", "");
	assert_int_equal(cgroup_usage(&cg, &usage, NULL), 0);
	assert_int_equal(usage.memory_bytes, 42);
	assert_int_equal(usage.taken_bytes, 50);
	assert_int_equal(usage.out_bytes, 0);
	assert_int_equal(usage.cpu_us, 77);
	assert_int_equal(usage.processes, 0);
	assert_int_equal(usage.oom_kills, 1);
	/* Where the kernel tells of pressure, and where it tells of a part only. */
	assert_false(usage.stalls_known);
	put(dir, "cpu.pressure", "some avg10=0.00 avg60=0.00 avg300=0.00 total=5\n");
	put(dir, "memory.pressure", "some total=6\nfull total=1\n");
	assert_int_equal(cgroup_usage(&cg, &usage, NULL), 0);
	assert_false(usage.stalls_known);
	put(dir, "io.pressure", "some total=7\nfull total=2\n");
	assert_int_equal(cgroup_usage(&cg, &usage, NULL), 0);
	assert_true(usage.stalls_known);
	assert_int_equal(usage.cpu_stall_us, 5);
	assert_int_equal(usage.memory_stall_us, 6);
	assert_int_equal(usage.io_stall_us, 7);
	cgroup_deinit(&cg);
	cgroup_mounts_deinit(&m);
}

/* A group that is not there has nothing in it, and nothing is the matter. */
static void test_missing_group(void **state)
{
	(void)state;
	struct cgroup_mounts m = { .version = 2 };
	struct cgroup cg;
	struct cgroup_usage usage;
	bool frozen = true;
	for (int i = 0; i < CGROUP_CONTROLLER_COUNT; i++)
		m.paths[i] = strdup(place);
	assert_int_equal(cgroup_init_at(&cg, &m, "elsa", "ffffffffffffffff", NULL), 0);
	assert_false(cgroup_exists(&cg));
	assert_int_equal(cgroup_usage(&cg, &usage, NULL), 0);
	assert_int_equal(usage.processes, 0);
	assert_int_equal(cgroup_frozen(&cg, &frozen, NULL), 0);
	assert_false(frozen);
	assert_int_equal(cgroup_remove(&cg, NULL), 0);
	cgroup_deinit(&cg);
	cgroup_mounts_deinit(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_mounts_v2),
		cmocka_unit_test(test_mounts_hybrid),
		cmocka_unit_test(test_mounts_none),
		cmocka_unit_test(test_stat),
		cmocka_unit_test(test_stall),
		cmocka_unit_test_setup_teardown(test_limits_v2, make_place, drop_place),
		cmocka_unit_test_setup_teardown(test_limits_v1, make_place, drop_place),
		cmocka_unit_test_setup_teardown(test_missing_controller, make_place, drop_place),
		cmocka_unit_test_setup_teardown(test_freezer_v2, make_place, drop_place),
		cmocka_unit_test_setup_teardown(test_usage_v1, make_place, drop_place),
		cmocka_unit_test_setup_teardown(test_usage_v2, make_place, drop_place),
		cmocka_unit_test_setup_teardown(test_at_limit_v1, make_place, drop_place),
		cmocka_unit_test_setup_teardown(test_freezes_what_waits_v1, make_place, drop_place),
		cmocka_unit_test_setup_teardown(test_notices_v1, make_place, drop_place),
		cmocka_unit_test_setup_teardown(test_at_limit_v2, make_place, drop_place),
		cmocka_unit_test_setup_teardown(test_notices_v2, make_place, drop_place),
		cmocka_unit_test_setup_teardown(test_swap_v1, make_place, drop_place),
		cmocka_unit_test_setup_teardown(test_swap_v2, make_place, drop_place),
		cmocka_unit_test_setup_teardown(test_missing_group, make_place, drop_place),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
