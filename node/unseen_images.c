/* SPDX-License-Identifier: Apache-2.0 */
/* What CRIU's images say of memory that it has not seen. */
#define _GNU_SOURCE
#include "node/unseen.h"

#include "base/cleanup.h"
#include "base/fs.h"
#include "node/pagemap_image.h"
#include "node/pages.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* Linux 6.15; older kernels have neither the category nor such pages. */
#define GUARD UINT64_C(256) /* PAGE_IS_GUARD */

enum { IMAGE_MOST = 256 << 20, AT_ONCE = 4096 };

/* --- which pages there are --------------------------------------------------------------- */

/* Room grows by doubling. What is mapped apart stays so: small pieces come first where it goes. */
static int add(struct unseen_process *p, uint64_t start, uint64_t end, bool first)
{
	struct store_extent *last = p->extent_count ? &p->extents[p->extent_count - 1] : NULL;
	if (!first && last && last->vaddr + last->pages * STORE_PAGE == start) {
		last->pages += (end - start) / STORE_PAGE;
		return 0;
	}
	if ((p->extent_count & (p->extent_count + 1)) == 0) {
		void *more = realloc(p->extents, (2 * p->extent_count + 1) * sizeof(*p->extents));
		if (!more)
			return -ENOMEM;
		p->extents = more;
	}
	p->extents[p->extent_count++] = (struct store_extent) { .vaddr = start,
								.pages = (end - start) / STORE_PAGE,
								.flags = PAGES_LAZY };
	return 0;
}

/* What CRIU asks for (criu/pagemap-cache.c): in memory or swapped out, but not what all zeros
 * share. */
static long scan_some(int fd, uint64_t start, uint64_t end, struct page_region *regions,
		      uint64_t *next)
{
	uint64_t but = PAGE_IS_PFNZERO | PAGE_IS_FILE | GUARD;
	struct pm_scan_arg arg = { .size = sizeof(arg),
				   .start = start,
				   .end = end,
				   .vec = (uint64_t)(uintptr_t)regions,
				   .vec_len = AT_ONCE,
				   .category_inverted = but,
				   .category_mask = but,
				   .category_anyof_mask = PAGE_IS_PRESENT | PAGE_IS_SWAPPED,
				   .return_mask = PAGE_IS_PRESENT };
	long n = ioctl(fd, PAGEMAP_SCAN, &arg);
	if (n < 0 && errno == EINVAL) {
		arg.category_inverted = arg.category_mask = but & ~GUARD;
		n = ioctl(fd, PAGEMAP_SCAN, &arg);
	}
	/* Where what it had for a part of the regions was full it says, and then goes on. */
	*next = arg.walk_end;
	if (n > 0 && regions[n - 1].end > *next)
		*next = regions[n - 1].end;
	return n < 0 ? -errno : n;
}

static int scan_range(int fd, struct unseen_process *p, const struct unseen_range *r,
		      struct page_region *regions)
{
	for (uint64_t at = r->start, next; at < r->end; at = next) {
		long n = scan_some(fd, at, r->end, regions, &next);
		if (n < 0)
			return (int)n;
		if (next <= at)
			return -EIO;
		for (long i = 0; i < n; i++)
			if (add(p, regions[i].start, regions[i].end, at == r->start && i == 0) < 0)
				return -ENOMEM;
	}
	return 0;
}

static int scan_process(const struct unseen *u, struct unseen_process *p,
			struct page_region *regions)
{
	char path[64];
	snprintf(path, sizeof(path), "/proc/%d/pagemap", (int)p->outside);
	cleanup_fd int fd = open(path, O_RDONLY | O_CLOEXEC);
	int r = fd < 0 ? -errno : 0;
	for (size_t i = p->first; r == 0 && i < p->first + p->count; i++)
		r = scan_range(fd, p, &u->ranges[i], regions);
	return r;
}

int unseen_scan(struct unseen *u, struct error *e)
{
	int r = 0;
	cleanup_free struct page_region *regions = calloc(AT_ONCE, sizeof(*regions));
	if (!regions)
		return error_set(e, ENOMEM, "out of memory");
	for (size_t i = 0; r == 0 && i < u->process_count; i++) {
		r = scan_process(u, &u->processes[i], regions);
		/* While they run, what has ended since it was found has none. */
		if (u->whole && (r == -ENOENT || r == -ESRCH)) {
			u->processes[i].extent_count = 0;
			r = 0;
		}
		if (r < 0)
			r = error_set(e, -r, "cannot see which memory process %d has",
				      (int)u->processes[i].inside);
	}
	return r;
}

int unseen_take_whole(struct unseen *u, uint64_t most, struct error *e)
{
	for (size_t i = 0; i < u->process_count; i++) {
		struct unseen_process *p = &u->processes[i];
		for (size_t k = p->first; k < p->first + p->count; k++) {
			const struct unseen_range *r = &u->ranges[k];
			if (r->end - r->start <= most && add(p, r->start, r->end, true) < 0)
				return error_set(e, ENOMEM, "out of memory");
		}
	}
	return 0;
}

/* --- images ------------------------------------------------------------------------------- */

/* Both are ascending, and have no page in common. */
static void merge(const struct store_memory *theirs, const struct unseen_process *p,
		  struct store_memory *to)
{
	const struct store_extent *a = theirs->extents, *a_end = a + theirs->extent_count;
	const struct store_extent *b = p->extents, *b_end = b + p->extent_count;
	struct store_extent *at = to->extents;
	while (a < a_end || b < b_end)
		*at++ = b == b_end || (a < a_end && a->vaddr < b->vaddr) ? *a++ : *b++;
	to->extent_count = (size_t)(at - to->extents);
}

static bool is_ascending(const struct store_memory *m)
{
	for (size_t i = 1; i < m->extent_count; i++) {
		const struct store_extent *x = &m->extents[i - 1];
		if (m->extents[i].vaddr < x->vaddr + x->pages * STORE_PAGE)
			return false;
	}
	return true;
}

static int write_merged(const char *path, const struct store_memory *theirs, uint32_t pages_id,
			const struct unseen_process *p, struct error *e)
{
	cleanup_buf struct buf image = BUF_INIT(IMAGE_MOST);
	cleanup_free struct store_extent *all =
		calloc(theirs->extent_count + p->extent_count + 1, sizeof(*all));
	struct store_memory both = { .extents = all };
	if (!all)
		return error_set(e, ENOMEM, "out of memory");
	merge(theirs, p, &both);
	if (!is_ascending(&both))
		return error_fault(e, FAULT_INTERNAL,
				   "CRIU has dumped memory that it was not to see");
	int r = pagemap_image(&both, pages_id, &image);
	if (r < 0)
		return error_set(e, -r, "%s becomes too large", path);
	return fs_replace_soon(path, buf_text(&image), image.len, 0600, e);
}

static int add_to_image(const struct unseen_process *p, const char *images, struct error *e)
{
	char name[64];
	uint32_t pages_id;
	struct store_memory theirs = { 0 };
	cleanup_buf struct buf image = BUF_INIT(IMAGE_MOST);
	snprintf(name, sizeof(name), "pagemap-%d.img", (int)p->inside);
	cleanup_free char *path = fs_join(images, name);
	int r = path ? fs_read(path, &image, e) : error_set(e, ENOMEM, "out of memory");
	if (r == 0)
		r = pagemap_extents(buf_text(&image), image.len, &pages_id, &theirs.extents,
				    &theirs.extent_count, e);
	if (r == 0)
		r = write_merged(path, &theirs, pages_id, p, e);
	free(theirs.extents);
	return r;
}

int unseen_add(const struct unseen *u, const char *images, struct error *e)
{
	int r = 0;
	for (size_t i = 0; r == 0 && i < u->process_count; i++)
		if (u->processes[i].extent_count)
			r = add_to_image(&u->processes[i], images, e);
	return r;
}
