/* SPDX-License-Identifier: Apache-2.0 */
#include "node/doze_kept.h"

#include "base/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define ADDRESS_MOST (((uint64_t)1 << 47) - PAGE) /* no process has more */
enum { PAGE = 4096, AT_ONCE = 512 };

struct range {
	uint64_t start, end;
	pid_t pid;
};

struct doze_kept {
	size_t count, size;
	int64_t bytes;
	struct range ranges[];
};

static int make_room(struct doze_kept **kept)
{
	struct doze_kept *k = *kept;
	if (k && k->count < k->size)
		return 0;
	size_t size = k ? 2 * k->size : AT_ONCE;
	k = realloc(k, sizeof(*k) + size * sizeof(k->ranges[0]));
	if (!k)
		return -ENOMEM;
	if (!*kept)
		*k = (struct doze_kept) { 0 };
	k->size = size;
	*kept = k;
	return 0;
}

int doze_kept_add(struct doze_kept **kept, pid_t pid, uint64_t start, uint64_t end)
{
	int r = make_room(kept);
	if (r < 0)
		return r;
	struct doze_kept *k = *kept;
	k->ranges[k->count++] = (struct range) { .start = start, .end = end, .pid = pid };
	k->bytes += (int64_t)(end - start);
	return 0;
}

int64_t doze_kept_bytes(const struct doze_kept *kept)
{
	return kept ? kept->bytes : 0;
}

void *doze_kept_free(struct doze_kept *kept)
{
	free(kept);
	return NULL;
}

bool doze_kept_next(const struct doze_kept *kept, pid_t pid, uint64_t start, uint64_t end,
		    uint64_t *from, uint64_t *to)
{
	for (size_t i = 0; kept && i < kept->count; i++) {
		const struct range *r = &kept->ranges[i];
		if (r->pid != pid || r->end <= start || r->start >= end)
			continue;
		*from = r->start > start ? r->start : start;
		*to = r->end < end ? r->end : end;
		return true;
	}
	return false;
}

/* --- learning ------------------------------------------------------------------------- */

static int add_all(struct doze_kept **kept, pid_t pid, const struct page_region *regions,
		   long count)
{
	int r = 0;
	for (long i = 0; i < count && r == 0; i++)
		r = doze_kept_add(kept, pid, regions[i].start, regions[i].end);
	if (r == 0 && doze_kept_bytes(*kept) > DOZE_KEPT_MOST)
		r = -E2BIG;
	return r;
}

/* Of what is no file's. The walk ends early when it has found more than is worth keeping. */
static int scan(int fd, pid_t pid, struct doze_kept **kept)
{
	struct page_region regions[AT_ONCE];
	for (uint64_t at = 0; at < ADDRESS_MOST;) {
		struct pm_scan_arg arg = { .size = sizeof(arg),
					   .start = at,
					   .end = ADDRESS_MOST,
					   .vec = (uint64_t)(uintptr_t)regions,
					   .vec_len = AT_ONCE,
					   .max_pages = DOZE_KEPT_MOST / PAGE + 1,
					   .category_inverted = PAGE_IS_FILE | PAGE_IS_PFNZERO,
					   .category_mask =
						   PAGE_IS_FILE | PAGE_IS_PFNZERO | PAGE_IS_PRESENT,
					   .return_mask = PAGE_IS_PRESENT };
		long n = ioctl(fd, PAGEMAP_SCAN, &arg);
		if (n < 0)
			return -errno;
		int r = add_all(kept, pid, regions, n);
		if (r < 0 || arg.walk_end <= at)
			return r;
		at = arg.walk_end;
	}
	return 0;
}

/* One that ends meanwhile wants nothing. */
static int learn_process(pid_t pid, void *arg)
{
	char path[64];
	snprintf(path, sizeof(path), "/proc/%d/pagemap", (int)pid);
	cleanup_fd int fd = open(path, O_RDONLY | O_CLOEXEC);
	return fd < 0 ? 0 : scan(fd, pid, arg);
}

struct doze_kept *doze_kept_learn(const struct cgroup *cg)
{
	struct doze_kept *kept = NULL;
	if (cgroup_processes(cg, learn_process, &kept, NULL) < 0)
		return doze_kept_free(kept);
	return kept;
}
