/* SPDX-License-Identifier: Apache-2.0 */
#include "node/cgroup_ops.h"

#include "base/cleanup.h"
#include "base/fs.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

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

static int v2_limit(const struct cgroup *cg, const struct session_limits *limits, struct error *e)
{
	int r = 0;
	if (cg->dirs[CGROUP_MEMORY])
		r = write_limit(cg, "memory.max", limits->memory_bytes, e);
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

static int v2_usage(const struct cgroup *cg, struct cgroup_usage *usage, struct error *e)
{
	cleanup_buf struct buf text = BUF_INIT(65536);
	int r = 0;
	if (cg->dirs[CGROUP_MEMORY]) {
		r = cgroup_read(dir_of(cg), "memory.stat", &text, e);
		usage->shared_bytes = cgroup_stat(buf_text(&text), "shmem");
		usage->memory_bytes = cgroup_stat(buf_text(&text), "anon") + usage->shared_bytes;
		usage->taken_bytes = cgroup_taken(buf_text(&text), usage->memory_bytes);
		int64_t out = cgroup_read_number(dir_of(cg), "memory.swap.current");
		usage->out_bytes = out > 0 ? out : 0;
		buf_reset(&text);
		if (r == 0)
			r = cgroup_read(dir_of(cg), "memory.events", &text, e);
		usage->oom_kills = cgroup_stat(buf_text(&text), "oom_kill");
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
	.swap = v2_swap,
	.reclaim = v2_reclaim,
	.usage = v2_usage,
};
