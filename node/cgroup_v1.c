/* SPDX-License-Identifier: Apache-2.0 */
#include "node/cgroup_ops.h"

#include "base/cleanup.h"
#include "base/fs.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/eventfd.h>

static int v1_host_setup(const struct cgroup *top, struct error *e)
{
	(void)top;
	(void)e;
	return 0;
}

/* Of v1_wake(), which goes by the limit that it has read. */
static pthread_mutex_t limits_lock = PTHREAD_MUTEX_INITIALIZER;

static int write_limit(const char *dir, int64_t bytes, struct error *e)
{
	cleanup_free char *text = str_printf("%lld", bytes > 0 ? (long long)bytes : -1LL);
	if (!text)
		return error_set(e, ENOMEM, "out of memory");
	return cgroup_write(dir, "memory.limit_in_bytes", text, e);
}

static int limit_memory(const char *dir, int64_t bytes, struct error *e)
{
	pthread_mutex_lock(&limits_lock);
	int r = write_limit(dir, bytes, e);
	pthread_mutex_unlock(&limits_lock);
	return r;
}

static int limit_cpu(const char *dir, double cpus, struct error *e)
{
	long quota = cpus > 0 ? (long)(cpus * CGROUP_CPU_PERIOD_US) : -1;
	cleanup_free char *text = str_printf("%ld", quota);
	cleanup_free char *period = str_printf("%d", CGROUP_CPU_PERIOD_US);
	if (!text || !period)
		return error_set(e, ENOMEM, "out of memory");
	int r = cgroup_write(dir, "cpu.cfs_period_us", period, e);
	return r < 0 ? r : cgroup_write(dir, "cpu.cfs_quota_us", text, e);
}

static int limit_pids(const char *dir, int64_t pids, struct error *e)
{
	cleanup_free char *text = pids > 0 ? str_printf("%lld", (long long)pids) : strdup("max");
	if (!text)
		return error_set(e, ENOMEM, "out of memory");
	return cgroup_write(dir, "pids.max", text, e);
}

static int v1_limit(const struct cgroup *cg, const struct session_limits *limits, struct error *e)
{
	int r = 0;
	if (cg->dirs[CGROUP_MEMORY])
		r = limit_memory(cg->dirs[CGROUP_MEMORY], limits->memory_bytes, e);
	if (r == 0 && cg->dirs[CGROUP_CPU])
		r = limit_cpu(cg->dirs[CGROUP_CPU], limits->cpus, e);
	if (r == 0 && cg->dirs[CGROUP_PIDS])
		r = limit_pids(cg->dirs[CGROUP_PIDS], limits->pids, e);
	return r;
}

/* --- at the limit ------------------------------------------------------------- */

enum { PAGE = 4096 };

static int64_t oom_control(const char *dir, const char *key)
{
	cleanup_buf struct buf text = BUF_INIT(4096);
	return cgroup_read(dir, "memory.oom_control", &text, NULL) < 0
		       ? 0
		       : cgroup_stat(buf_text(&text), key);
}

/* There is no other way than more, if only by a page. */
static void v1_wake(const struct cgroup *cg)
{
	const char *dir = cg->dirs[CGROUP_MEMORY];
	if (!oom_control(dir, "under_oom"))
		return;
	pthread_mutex_lock(&limits_lock);
	int64_t limit = cgroup_read_number(dir, "memory.limit_in_bytes");
	if (limit > 0)
		write_limit(dir, limit + PAGE, NULL);
	pthread_mutex_unlock(&limits_lock);
}

static int64_t used_of(const char *dir)
{
	return cgroup_read_number(dir, "memory.usage_in_bytes");
}

/* What it has above its limit, by being woken or since it was eased, may be in use: then it is left
 * to it. */
static int limit_or_used(const char *dir, int64_t limit, struct error *e)
{
	int r = limit_memory(dir, limit, e);
	for (int64_t more = 0; r == -EBUSY && more <= 64 * PAGE; more = 2 * more + PAGE)
		r = limit_memory(dir, used_of(dir) + more, e);
	return r;
}

static int v1_ease(const struct cgroup *cg, int64_t limit, bool eased, struct error *e)
{
	const char *dir = cg->dirs[CGROUP_MEMORY];
	return eased ? limit_memory(dir, CGROUP_EASED_BYTES, e) : limit_or_used(dir, limit, e);
}

static int v1_at_limit(const struct cgroup *cg, int64_t limit, enum cgroup_at_limit what,
		       struct error *e)
{
	const char *dir = cg->dirs[CGROUP_MEMORY];
	int r = limit_or_used(dir, limit, e);
	if (r < 0 && r != -EBUSY)
		return r;
	return cgroup_write(dir, "memory.oom_control", what == CGROUP_ENDS ? "0" : "1", e);
}

static int v1_notices_open(void)
{
	return eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
}

/* Documentation/admin-guide/cgroup-v1/memcg_test.rst and memory.rst: "<event_fd> <control_fd>
 * <argument>". */
static int listen_to(const char *dir, int fd, const char *file, int64_t mark, struct error *e)
{
	cleanup_free char *path = fs_join(dir, file);
	cleanup_fd int control = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	if (control < 0)
		return error_errno(e, "cannot open %s in %s", file, dir);
	cleanup_free char *text = mark > 0 ? str_printf("%d %d %lld", fd, control, (long long)mark)
					   : str_printf("%d %d", fd, control);
	if (!text)
		return error_set(e, ENOMEM, "out of memory");
	return cgroup_write(dir, "cgroup.event_control", text, e);
}

static int v1_notices_add(const struct cgroup *cg, int fd, const int64_t *marks, size_t count,
			  struct error *e)
{
	const char *dir = cg->dirs[CGROUP_MEMORY];
	int r = listen_to(dir, fd, "memory.oom_control", 0, e);
	for (size_t i = 0; i < count && r == 0; i++)
		r = listen_to(dir, fd, "memory.usage_in_bytes", marks[i], e);
	return r;
}

/* --- freezer -------------------------------------------------------------------- */

static int v1_ask_freeze(const struct cgroup *cg, bool freeze, struct error *e)
{
	return cgroup_write(cg->dirs[CGROUP_FREEZER], "freezer.state", freeze ? "FROZEN" : "THAWED",
			    e);
}

/* FREEZING stays until every task has stopped, and only a read of this file moves it on. One that
 * waits for memory stops when it is woken: before it tries again. */
static int v1_frozen(const struct cgroup *cg, bool *frozen, struct error *e)
{
	cleanup_buf struct buf state = BUF_INIT(256);
	int r = cgroup_read(cg->dirs[CGROUP_FREEZER], "freezer.state", &state, e);
	*frozen = r == 0 && strncmp(buf_text(&state), "FROZEN", 6) == 0;
	if (r == 0 && strncmp(buf_text(&state), "FREEZING", 8) == 0)
		cgroup_wake(cg);
	return r;
}

/* With 0 the kernel pages none of the group's out, with the most nothing else of it. */
static int v1_swap(const struct cgroup *cg, enum cgroup_swap what, struct error *e)
{
	const char *dir = cg->dirs[CGROUP_MEMORY];
	cleanup_buf struct buf text = BUF_INIT(64);
	int r = 0;
	if (what == CGROUP_SWAP_SYSTEM)
		r = fs_read("/proc/sys/vm/swappiness", &text, e);
	else
		r = buf_printf(&text, "%d", what == CGROUP_SWAP_ALL ? SWAPPINESS_MOST : 0);
	if (r == 0)
		r = cgroup_write(dir, "memory.swappiness", buf_text(&text), e);
	return r == -ENOENT ? 0 : r; /* nothing can be paged out where there is no such setting */
}

static int v1_reclaim(const struct cgroup *cg, int64_t bytes, struct error *e)
{
	(void)bytes;
	const char *dir = cg->dirs[CGROUP_MEMORY];
	int64_t before = used_of(dir);
	int r = cgroup_write(dir, "memory.force_empty", "0", e);
	return r < 0 || used_of(dir) < before ? r : error_set(e, EAGAIN, "nothing went out");
}

static int v1_usage(const struct cgroup *cg, struct cgroup_usage *usage, struct error *e)
{
	if (cg->dirs[CGROUP_MEMORY]) {
		cleanup_buf struct buf stat = BUF_INIT(65536);
		int r = cgroup_read(cg->dirs[CGROUP_MEMORY], "memory.stat", &stat, e);
		if (r < 0)
			return r;
		usage->shared_bytes = cgroup_stat(buf_text(&stat), "shmem");
		usage->memory_bytes = cgroup_stat(buf_text(&stat), "rss") + usage->shared_bytes;
		usage->out_bytes = cgroup_stat(buf_text(&stat), "swap");
		usage->taken_bytes = cgroup_taken(buf_text(&stat), usage->memory_bytes);
		cleanup_buf struct buf oom = BUF_INIT(4096);
		r = cgroup_read(cg->dirs[CGROUP_MEMORY], "memory.oom_control", &oom, e);
		if (r < 0)
			return r;
		usage->oom_kills = cgroup_stat(buf_text(&oom), "oom_kill");
		usage->waits = cgroup_stat(buf_text(&oom), "oom_kill_disable") == 1;
		usage->waiting = cgroup_stat(buf_text(&oom), "under_oom") == 1;
	}
	if (cg->dirs[CGROUP_CPUACCT])
		usage->cpu_us =
			cgroup_read_number(cg->dirs[CGROUP_CPUACCT], "cpuacct.usage") / 1000;
	return 0;
}

const struct cgroup_ops cgroup_v1 = {
	.version = 1,
	.host_setup = v1_host_setup,
	.limit = v1_limit,
	.ask_freeze = v1_ask_freeze,
	.frozen = v1_frozen,
	.at_limit = v1_at_limit,
	.ease = v1_ease,
	.wake = v1_wake,
	.notices_open = v1_notices_open,
	.notices_add = v1_notices_add,
	.swap = v1_swap,
	.reclaim = v1_reclaim,
	.usage = v1_usage,
};
