/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "node/pagemap_image.h"

#include "base/cleanup.h"
#include "base/fs.h"
#include "node/page_proto.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

enum { PAGEMAP_MOST = 1 << 30 };

/* A page that wants a frame's content. */
struct want {
	uint32_t page; /* in its memory, and so in its image */
	uint16_t memory;
	uint8_t slot;
};

struct writer {
	struct store_read *read;
	enum pages_part part;
	const struct store_memory *memories;
	size_t memory_count, frame_count;
	int *fds;           /* pages-N.img */
	struct want *wants; /* by frame */
	size_t *first;      /* of each frame's in `wants`; one more at the end */
	uint32_t *frames;   /* wanted by anybody */
	size_t wanted;
	struct error *e;
};

static void writer_deinit(struct writer *w)
{
	for (size_t i = 0; w->fds && i < w->memory_count; i++)
		cleanup_close_fd(&w->fds[i]);
	free(w->fds);
	free(w->wants);
	free(w->first);
	free(w->frames);
}

/* --- which pages want which frame ------------------------------------------------- */

static bool is_written(const struct writer *w, const struct store_extent *x)
{
	return w->part == PAGES_ALL || !(x->flags & PAGE_LAZY);
}

/* Calls `each` for every page that is to be written and not zero. */
static int each_page(struct writer *w,
		     int (*each)(struct writer *w, uint32_t frame, struct want page))
{
	int r = 0;
	for (size_t k = 0; r == 0 && k < w->memory_count; k++) {
		const struct store_memory *m = &w->memories[k];
		uint64_t page = 0;
		for (size_t i = 0; r == 0 && i < m->extent_count; i++) {
			uint64_t end = page + m->extents[i].pages;
			if (!is_written(w, &m->extents[i]))
				page = end;
			for (; r == 0 && page < end; page++)
				if (m->frames[page] != STORE_ZERO)
					r = each(w, m->frames[page],
						 (struct want) { (uint32_t)page, (uint16_t)k,
								 m->slots[page] });
		}
	}
	return r;
}

static int count_page(struct writer *w, uint32_t frame, struct want page)
{
	(void)page;
	if (frame >= w->frame_count)
		return error_set(w->e, EBADMSG, "a page is in a frame that there is not");
	w->first[frame + 1]++;
	return 0;
}

/* Leaves first[frame] at the end of the frame's, which is where the next one's begin. */
static int place_page(struct writer *w, uint32_t frame, struct want page)
{
	w->wants[w->first[frame]++] = page;
	return 0;
}

static int sort_pages(struct writer *w)
{
	w->first = calloc(w->frame_count + 2, sizeof(*w->first));
	w->frames = calloc(w->frame_count + 1, sizeof(*w->frames));
	if (!w->first || !w->frames)
		return error_set(w->e, ENOMEM, "out of memory");
	int r = each_page(w, count_page);
	if (r < 0)
		return r;
	for (size_t i = 0; i < w->frame_count; i++) {
		if (w->first[i + 1])
			w->frames[w->wanted++] = (uint32_t)i;
		w->first[i + 1] += w->first[i];
	}
	w->wants = malloc((w->first[w->frame_count] + 1) * sizeof(*w->wants));
	if (!w->wants)
		return error_set(w->e, ENOMEM, "out of memory");
	r = each_page(w, place_page);
	memmove(w->first + 1, w->first, w->frame_count * sizeof(*w->first));
	w->first[0] = 0;
	return r;
}

/* --- writing ------------------------------------------------------------------------ */

static int write_pages(struct writer *w, const struct want *at, size_t count, const char *pages,
		       size_t len)
{
	size_t from = (size_t)at->slot * STORE_PAGE, bytes = count * STORE_PAGE;
	if (from + bytes > len)
		return error_set(w->e, EBADMSG,
				 "a frame is shorter than the pages said to be in it");
	while (bytes) {
		off_t to = (off_t)at->page * STORE_PAGE + (off_t)(count * STORE_PAGE - bytes);
		ssize_t n = pwrite(w->fds[at->memory], pages + from, bytes, to);
		if (n < 0 && errno != EINTR)
			return error_errno(w->e, "cannot write the memory image of %s",
					   w->memories[at->memory].name);
		from += n > 0 ? (size_t)n : 0;
		bytes -= n > 0 ? (size_t)n : 0;
	}
	return 0;
}

/* Neighbours in the frame are mostly neighbours in the image. */
static int take_frame(uint32_t frame, const void *pages, size_t len, void *arg)
{
	struct writer *w = arg;
	int r = 0;
	for (size_t i = w->first[frame], n; r == 0 && i < w->first[frame + 1]; i += n) {
		const struct want *at = &w->wants[i];
		for (n = 1; i + n < w->first[frame + 1]; n++)
			if (at[n].memory != at->memory || at[n].page != at->page + n ||
			    at[n].slot != at->slot + n)
				break;
		r = write_pages(w, at, n, pages, len);
	}
	return r;
}

/* Names come from the checkpoint, which is authentic, but may be another program's. */
static bool is_image_name(const char *name)
{
	return strncmp(name, "pagemap-", 8) == 0 && !strchr(name, '/');
}

static int write_pagemap(const struct store_memory *m, uint32_t id, const char *dir,
			 struct error *e)
{
	cleanup_buf struct buf image = BUF_INIT(PAGEMAP_MOST);
	cleanup_free char *path = fs_join(dir, m->name);
	if (!is_image_name(m->name))
		return error_set(e, EBADMSG, "the checkpoint has a memory called %s", m->name);
	if (!path || pagemap_image(m, id, &image) < 0)
		return error_set(e, ENOMEM, "out of memory");
	cleanup_fd int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0 || fs_write_all(fd, buf_text(&image), image.len) < 0)
		return error_errno(e, "cannot write %s", path);
	return 0;
}

static int open_pages(const struct store_memory *m, uint32_t id, const char *dir, int *fd,
		      struct error *e)
{
	cleanup_free char *path = str_printf("%s/pages-%u.img", dir, id);
	*fd = path ? open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600) : -1;
	if (*fd < 0 || ftruncate(*fd, (off_t)(m->pages * STORE_PAGE)) < 0)
		return error_errno(e, "cannot create the memory image of %s", m->name);
	return 0;
}

static int open_all(struct writer *w, const char *dir, struct error *e)
{
	if (w->memory_count > UINT16_MAX)
		return error_set(e, E2BIG, "too many memories: %zu", w->memory_count);
	w->fds = malloc((w->memory_count + 1) * sizeof(*w->fds));
	if (!w->fds)
		return error_set(e, ENOMEM, "out of memory");
	memset(w->fds, -1, w->memory_count * sizeof(*w->fds));
	int r = 0;
	for (size_t k = 0; r == 0 && k < w->memory_count; k++) {
		r = write_pagemap(&w->memories[k], (uint32_t)k + 1, dir, e);
		if (r == 0)
			r = open_pages(&w->memories[k], (uint32_t)k + 1, dir, &w->fds[k], e);
	}
	return r;
}

uint64_t pagemap_images_bytes(struct store_read *read, enum pages_part part)
{
	struct writer w = { .part = part };
	uint64_t pages = 0;
	w.memory_count = store_read_memories(read, &w.memories);
	for (size_t k = 0; k < w.memory_count; k++)
		for (size_t i = 0; i < w.memories[k].extent_count; i++)
			if (is_written(&w, &w.memories[k].extents[i]))
				pages += w.memories[k].extents[i].pages;
	return pages * STORE_PAGE;
}

int pagemap_images_write(struct store_read *read, enum pages_part part, const char *dir,
			 struct error *e)
{
	const struct store_frame *frames;
	cleanup(writer_deinit) struct writer w = { .read = read, .part = part, .e = e };
	w.memory_count = store_read_memories(read, &w.memories);
	w.frame_count = store_read_frames(read, &frames);
	int r = open_all(&w, dir, e);
	if (r == 0)
		r = sort_pages(&w);
	return r < 0 ? r : store_read_pages(read, w.frames, w.wanted, take_frame, &w, e);
}
