/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "node/doze_out.h"

#include "base/cleanup.h"
#include "base/fs.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT 21
#endif

enum {
	LEFT_FEW = 8 << 20, /* what is not worth another round */
	LEFT_SHARE = 32,    /* ... or such a part of all */
	MAPS_MOST = 64 << 20,
};

struct out {
	struct sandbox *sb;
	const struct doze_kept *kept;
	bool (*stop)(void *arg);
	void *arg;
};

/* --- what is private, process by process ----------------------------------------------- */

/* "START-END PERMS OFFSET DEV INODE   [NAME]"; of the kernel's own ranges ([vdso], [vvar]) nothing
 * can go. */
bool doze_out_parse(const char *line, uint64_t *start, uint64_t *end)
{
	char perms[5];
	uint64_t inode;
	int name = 0;
	if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %4s %*x %*x:%*x %" SCNu64 " %n", start, end,
		   perms, &inode, &name) != 4 ||
	    *end <= *start)
		return false;
	return perms[3] == 'p' && inode == 0 && (!name || strncmp(line + name, "[v", 2) != 0);
}

/* -ECANCELED when it was told to stop, or -errno: a range may be locked, or huge pages. */
static int page_out_range(const struct out *o, int pidfd, uint64_t start, uint64_t end)
{
	while (start < end) {
		uint64_t len = end - start < DOZE_OUT_PIECE ? end - start : DOZE_OUT_PIECE;
		struct iovec piece = { .iov_base = (void *)(uintptr_t)start, .iov_len = len };
		if (o->stop(o->arg))
			return -ECANCELED;
		ssize_t n = syscall(SYS_process_madvise, pidfd, &piece, 1, MADV_PAGEOUT, 0);
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		start += (uint64_t)n;
	}
	return 0;
}

static int page_out_but_kept(const struct out *o, pid_t pid, int pidfd, uint64_t start,
			     uint64_t end)
{
	uint64_t from, to;
	while (start < end) {
		if (!doze_kept_next(o->kept, pid, start, end, &from, &to))
			return page_out_range(o, pidfd, start, end);
		if (page_out_range(o, pidfd, start, from) == -ECANCELED)
			return -ECANCELED;
		start = to;
	}
	return 0;
}

/* One that ends meanwhile has nothing left. */
static int page_out_process(pid_t pid, void *arg)
{
	const struct out *o = arg;
	char path[64];
	cleanup_buf struct buf maps = BUF_INIT(MAPS_MOST);
	cleanup_fd int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	snprintf(path, sizeof(path), "/proc/%d/maps", (int)pid);
	if (pidfd < 0 || fs_read(path, &maps, NULL) < 0)
		return 0;
	char *save = NULL;
	char *line = maps.data ? strtok_r(maps.data, "\n", &save) : NULL;
	for (; line; line = strtok_r(NULL, "\n", &save)) {
		uint64_t start, end;
		if (doze_out_parse(line, &start, &end) &&
		    page_out_but_kept(o, pid, pidfd, start, end) == -ECANCELED)
			return -ECANCELED;
	}
	return 0;
}

/* --- the rest ------------------------------------------------------------------------- */

static int64_t left_of(const struct out *o)
{
	struct sandbox_usage usage = { 0 };
	sandbox_usage(o->sb, &usage, NULL);
	return usage.taken_bytes;
}

static void reclaim_rest(const struct out *o, int64_t enough)
{
	int64_t left = left_of(o);
	while (left > enough && !o->stop(o->arg)) {
		int64_t piece = left < 4 * DOZE_OUT_PIECE ? left : 4 * DOZE_OUT_PIECE;
		if (cgroup_reclaim(&o->sb->cgroup, piece, NULL) < 0)
			return;
		int64_t now = left_of(o);
		if (now >= left)
			return;
		left = now;
	}
}

enum cgroup_swap doze_out_else(const struct config *config)
{
	bool ours =
		strcmp(config->doze.swap, "zram") == 0 || strcmp(config->doze.swap, "file") == 0;
	return ours ? CGROUP_SWAP_NONE : CGROUP_SWAP_SYSTEM;
}

int doze_out(struct sandbox *sb, const struct doze_kept *kept, bool (*stop)(void *arg), void *arg,
	     struct error *e)
{
	struct out o = { .sb = sb, .kept = kept, .stop = stop, .arg = arg };
	int64_t part = left_of(&o) / LEFT_SHARE;
	int r = cgroup_set_swap(&sb->cgroup, CGROUP_SWAP_ALL, e);
	if (r == 0)
		r = cgroup_processes(&sb->cgroup, page_out_process, &o, e);
	if (r == 0)
		reclaim_rest(&o, (part > LEFT_FEW ? part : LEFT_FEW) + doze_kept_bytes(kept));
	bool fine = r == -ECANCELED || r == 0;
	int back = cgroup_set_swap(&sb->cgroup, doze_out_else(sb->config), fine ? e : NULL);
	return fine ? back : r;
}
