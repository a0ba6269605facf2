/* SPDX-License-Identifier: Apache-2.0 */
#include "node/cgroup_ops.h"

#include "base/cleanup.h"
#include "base/fs.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>

/* All of a group's entries name the same directory. */
static const char *dir_of(const struct cgroup *cg)
{
	return cg->dirs[CGROUP_FREEZER];
}

/* Controllers reach a group only when every group above hands them on. `top` is MOUNT/NAME. */
static int v2_host_setup(const struct cgroup *top, struct error *e)
{
	static const enum cgroup_controller handed_on[] = { CGROUP_MEMORY, CGROUP_CPU,
							    CGROUP_PIDS };
	const char *slash = strrchr(dir_of(top), '/');
	cleanup_free char *mount = strndup(dir_of(top), (size_t)(slash - dir_of(top)));
	if (!mount)
		return error_set(e, ENOMEM, "out of memory");
	const char *dirs[] = { mount, dir_of(top) };
	for (size_t d = 0; d < ARRAY_SIZE(dirs); d++) {
		for (size_t i = 0; i < ARRAY_SIZE(handed_on); i++) {
			if (!top->dirs[handed_on[i]])
				continue;
			char text[32];
			snprintf(text, sizeof(text), "+%s", cgroup_controller_names[handed_on[i]]);
			int r = cgroup_write(dirs[d], "cgroup.subtree_control", text, e);
			if (r < 0)
				return error_remedy(
					e, r,
					"a cgroup that has processes of its own cannot "
					"hand controllers on: move them to a child, or have "
					"systemd delegate a cgroup to elsa-node (Delegate=yes)");
		}
	}
	return 0;
}

static int write_limit(const struct cgroup *cg, const char *file, int64_t value, struct error *e)
{
	cleanup_free char *text = value > 0 ? str_printf("%lld", (long long)value) : strdup("max");
	if (!text)
		return error_set(e, ENOMEM, "out of memory");
	return cgroup_write(dir_of(cg), file, text, e);
}

static int write_cpu(const struct cgroup *cg, double cpus, struct error *e)
{
	cleanup_free char *text =
		cpus > 0 ? str_printf("%ld %d", (long)(cpus * CGROUP_CPU_PERIOD_US),
				      CGROUP_CPU_PERIOD_US)
			 : strdup("max");
	if (!text)
		return error_set(e, ENOMEM, "out of memory");
	return cgroup_write(dir_of(cg), "cpu.max", text, e);
}

/* --- memory's limit ------------------------------------------------------------- */

/* What is over memory.high is held up on its way out of the kernel, the longer the further over it
 * is: from a fifth on two seconds for every quarter of a megabyte (mem_cgroup_handle_over_high()).
 * So who has such a limit goes on to memory.max in minutes. */
static bool waits(const struct cgroup *cg)
{
	return cgroup_read_number(dir_of(cg), "memory.high") > 0;
}

static int64_t last_of(int64_t limit)
{
	return limit + limit / 4;
}

static int v2_at_limit(const struct cgroup *cg, int64_t limit, enum cgroup_at_limit what,
		       struct error *e)
{
	bool ends = what == CGROUP_ENDS;
	int r = write_limit(cg, "memory.high", ends ? 0 : limit, e);
	return r < 0 ? r : write_limit(cg, "memory.max", ends ? limit : last_of(limit), e);
}

/* The kernel ends a process of whoever uses more than a limit that it is given. */
static int v2_ease(const struct cgroup *cg, int64_t limit, bool eased, struct error *e)
{
	enum { MARGIN = 1 << 20 };
	bool has_high = waits(cg);
	int64_t used = cgroup_read_number(dir_of(cg), "memory.current") + MARGIN;
	int64_t last = has_high ? last_of(limit) : limit;
	int64_t max = eased ? CGROUP_EASED_BYTES : used > last ? used : last;
	int r = write_limit(cg, "memory.max", max, e);
	if (r < 0 || !has_high)
		return r;
	return write_limit(cg, "memory.high", eased ? CGROUP_EASED_BYTES : limit, e);
}

/* Nobody sleeps for long. */
static void v2_wake(const struct cgroup *cg)
{
	(void)cg;
}

static int v2_notices_open(void)
{
	return inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
}

/* The kernel tells of changed files of its own by inotify: memory.events, "high", is the mark. */
static int v2_notices_add(const struct cgroup *cg, int fd, const int64_t *marks, size_t count,
			  struct error *e)
{
	(void)marks;
	(void)count;
	cleanup_free char *path = fs_join(dir_of(cg), "memory.events");
	if (!path)
		return error_set(e, ENOMEM, "out of memory");
	return inotify_add_watch(fd, path, IN_MODIFY) < 0 ? error_errno(e, "cannot watch %s", path)
							  : 0;
}

static int limit_memory(const struct cgroup *cg, int64_t bytes, struct error *e)
{
	if (!waits(cg))
		return write_limit(cg, "memory.max", bytes, e);
	return v2_at_limit(cg, bytes, bytes > 0 ? CGROUP_WAITS : CGROUP_ENDS, e);
}

static int v2_limit(const struct cgroup *cg, const struct session_limits *limits, struct error *e)
{
	int r = 0;
	if (cg->dirs[CGROUP_MEMORY])
		r = limit_memory(cg, limits->memory_bytes, e);
	if (r == 0 && cg->dirs[CGROUP_PIDS])
		r = write_limit(cg, "pids.max", limits->pids, e);
	if (r == 0 && cg->dirs[CGROUP_CPU])
		r = write_cpu(cg, limits->cpus, e);
	return r;
}

static int v2_ask_freeze(const struct cgroup *cg, bool freeze, struct error *e)
{
	return cgroup_write(dir_of(cg), "cgroup.freeze", freeze ? "1" : "0", e);
}

static int v2_frozen(const struct cgroup *cg, bool *frozen, struct error *e)
{
	cleanup_buf struct buf events = BUF_INIT(4096);
	int r = cgroup_read(dir_of(cg), "cgroup.events", &events, e);
	*frozen = r == 0 && cgroup_stat(buf_text(&events), "frozen") == 1;
	return r;
}

/* What is out already may be more than the limit: it is left there. A kernel without swap has no
 * such file. */
static int v2_swap(const struct cgroup *cg, enum cgroup_swap what, struct error *e)
{
	int r = cgroup_write(dir_of(cg), "memory.swap.max", what == CGROUP_SWAP_NONE ? "0" : "max",
			     e);
	return r == -ENOENT ? 0 : r;
}

/* How much of it may be page cache an older kernel (before 6.9) takes from vm.swappiness. */
static int v2_reclaim(const struct cgroup *cg, int64_t bytes, struct error *e)
{
	cleanup_free char *plain = str_printf("%lld", (long long)bytes);
	cleanup_free char *text =
		str_printf("%lld swappiness=%d", (long long)bytes, SWAPPINESS_MOST);
	if (!plain || !text)
		return error_set(e, ENOMEM, "out of memory");
	int r = cgroup_write(dir_of(cg), "memory.reclaim", text, e);
	return r == -EINVAL ? cgroup_write(dir_of(cg), "memory.reclaim", plain, e) : r;
}

static void take_stalls(const char *dir, struct cgroup_usage *usage)
{
	int64_t cpu = cgroup_read_stall(dir, "cpu.pressure");
	int64_t memory = cgroup_read_stall(dir, "memory.pressure");
	int64_t io = cgroup_read_stall(dir, "io.pressure");
	usage->stalls_known = cpu >= 0 && memory >= 0 && io >= 0;
	if (!usage->stalls_known)
		return;
	usage->cpu_stall_us = cpu;
	usage->memory_stall_us = memory;
	usage->io_stall_us = io;
}

/* Page cache, at memory.high, is let go of first, and nobody held up for it. */
static bool is_held_up(const struct cgroup *cg, int64_t cache)
{
	int64_t high = cgroup_read_number(dir_of(cg), "memory.high");
	return high > 0 && cache < high / 16 &&
	       cgroup_read_number(dir_of(cg), "memory.current") >= high;
}

static int v2_usage(const struct cgroup *cg, struct cgroup_usage *usage, struct error *e)
{
	cleanup_buf struct buf text = BUF_INIT(65536);
	int r = 0;
	if (cg->dirs[CGROUP_MEMORY]) {
		r = cgroup_read(dir_of(cg), "memory.stat", &text, e);
		usage->shared_bytes = cgroup_stat(buf_text(&text), "shmem");
		usage->memory_bytes = cgroup_stat(buf_text(&text), "anon") + usage->shared_bytes;
		usage->taken_bytes = cgroup_taken(buf_text(&text), usage->memory_bytes);
		usage->waiting =
			is_held_up(cg, cgroup_stat(buf_text(&text), "file") - usage->shared_bytes);
		int64_t out = cgroup_read_number(dir_of(cg), "memory.swap.current");
		usage->out_bytes = out > 0 ? out : 0;
		buf_reset(&text);
		if (r == 0)
			r = cgroup_read(dir_of(cg), "memory.events", &text, e);
		usage->oom_kills = cgroup_stat(buf_text(&text), "oom_kill");
		usage->waits = waits(cg);
	}
	/* cpu.stat is there with or without the controller. */
	buf_reset(&text);
	if (r == 0)
		r = cgroup_read(dir_of(cg), "cpu.stat", &text, e);
	usage->cpu_us = cgroup_stat(buf_text(&text), "usage_usec");
	take_stalls(dir_of(cg), usage);
	return r;
}

const struct cgroup_ops cgroup_v2 = {
	.version = 2,
	.host_setup = v2_host_setup,
	.limit = v2_limit,
	.ask_freeze = v2_ask_freeze,
	.frozen = v2_frozen,
	.at_limit = v2_at_limit,
	.ease = v2_ease,
	.wake = v2_wake,
	.notices_open = v2_notices_open,
	.notices_add = v2_notices_add,
	.swap = v2_swap,
	.reclaim = v2_reclaim,
	.usage = v2_usage,
};
