/* SPDX-License-Identifier: Apache-2.0 */
#include "node/move_pages.h"

#include "base/cleanup.h"
#include "base/fs.h"
#include "node/pagemap_image.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PREFIX "pagemap-"

enum {
	IMAGE_MOST = 256 << 20,
	PACK_BYTES = 1 << 30,
	SMALL = 16 << 20,       /* bytes of a piece that is an interpreter's, and not its data, */
	LIKELY_MOST = 48 << 20, /* ... and of all such pieces that are thought of */
};

static int no_memory(struct error *e)
{
	return error_set(e, ENOMEM, "out of memory");
}

/* --- frames ------------------------------------------------------------------------ */

/* The store's places are of no meaning here, but what follows in a row is read in a row. */
static int add_frame(struct move_pages *p, const struct move_range *range, uint64_t *at,
		     struct error *e)
{
	if (p->frame_count == p->frame_size) {
		size_t size = p->frame_size ? 2 * p->frame_size : 1024;
		void *frames = realloc(p->frames, size * sizeof(*p->frames));
		p->frames = frames ? frames : p->frames;
		void *ranges = realloc(p->ranges, size * sizeof(*p->ranges));
		p->ranges = ranges ? ranges : p->ranges;
		if (!frames || !ranges)
			return no_memory(e);
		p->frame_size = size;
	}
	uint32_t bytes = range->pages * STORE_PAGE;
	p->frames[p->frame_count] = (struct store_frame) { .pack = (uint32_t)(*at / PACK_BYTES),
							   .offset = (uint32_t)(*at % PACK_BYTES),
							   .stored = bytes,
							   .pages = (uint8_t)range->pages };
	p->ranges[p->frame_count++] = *range;
	*at += bytes;
	return 0;
}

/* They end where their addresses are whole frames. */
static int add_extent(struct move_pages *p, size_t memory, const struct store_extent *x,
		      uint64_t first, uint64_t *at, struct error *e)
{
	struct store_memory *m = &p->memories[memory];
	for (uint64_t n = 0; n < x->pages;) {
		uint64_t address = x->vaddr + n * STORE_PAGE;
		uint64_t to_end = STORE_FRAME_PAGES - address / STORE_PAGE % STORE_FRAME_PAGES;
		uint64_t pages = to_end < x->pages - n ? to_end : x->pages - n;
		const struct move_range range = { .pid = p->pids[memory],
						  .pages = (uint32_t)pages,
						  .address = address };
		for (uint64_t i = 0; i < pages; i++) {
			m->frames[first + n + i] = (uint32_t)p->frame_count;
			m->slots[first + n + i] = (uint8_t)i;
		}
		int r = add_frame(p, &range, at, e);
		if (r < 0)
			return r;
		n += pages;
	}
	return 0;
}

static int add_frames(struct move_pages *p, size_t memory, uint64_t *at, struct error *e)
{
	struct store_memory *m = &p->memories[memory];
	uint64_t first = 0;
	int r = 0;
	for (size_t k = 0; k < m->extent_count; k++)
		m->pages += m->extents[k].pages;
	if (m->pages > UINT32_MAX)
		return error_set(e, EFBIG, "%s has too many pages", m->name);
	m->frames = calloc(m->pages + 1, sizeof(*m->frames));
	m->slots = calloc(m->pages + 1, sizeof(*m->slots));
	if (!m->frames || !m->slots)
		return no_memory(e);
	for (size_t k = 0; r == 0 && k < m->extent_count; k++) {
		r = add_extent(p, memory, &m->extents[k], first, at, e);
		first += m->extents[k].pages;
	}
	return r;
}

/* A session goes on in its programs' own memory, which lies in small pieces; what they work on lies
 * in large ones. One piece at a time: those of a memory that were not yet looked at begin at *k. */
static uint64_t add_likely(struct move_pages *p, size_t memory, size_t *k, uint64_t *first)
{
	const struct store_memory *m = &p->memories[memory];
	uint64_t pages = 0;
	for (; *k < m->extent_count && pages == 0; *first += m->extents[(*k)++].pages) {
		if (m->extents[*k].pages * STORE_PAGE > SMALL)
			continue;
		pages = m->extents[*k].pages;
		for (uint32_t f = m->frames[*first]; f <= m->frames[*first + pages - 1]; f++)
			p->likely[p->likely_count++] = f;
	}
	return pages;
}

/* From all processes in turn: who will be at work is not known. */
static int note_likely(struct move_pages *p, struct error *e)
{
	struct {
		size_t k;
		uint64_t first;
	} *at = calloc(p->memory_count + 1, sizeof(*at));
	p->likely = calloc(p->frame_count + 1, sizeof(*p->likely));
	if (!at || !p->likely) {
		free(at);
		return no_memory(e);
	}
	for (uint64_t bytes = 0, pages = 1; pages && bytes < LIKELY_MOST;) {
		pages = 0;
		for (size_t i = 0; i < p->memory_count; i++)
			pages += add_likely(p, i, &at[i].k, &at[i].first);
		bytes += pages * STORE_PAGE;
	}
	free(at);
	return 0;
}

/* --- images ------------------------------------------------------------------------ */

/* The process whose pagemap that is; 0: none's. */
static int32_t pid_of(const char *name)
{
	char *end;
	if (strncmp(name, PREFIX, strlen(PREFIX)) != 0)
		return 0;
	long pid = strtol(name + strlen(PREFIX), &end, 10);
	return strcmp(end, ".img") == 0 && pid > 0 && pid <= INT32_MAX ? (int32_t)pid : 0;
}

static int add_pid(struct move_pages *p, int32_t pid, struct error *e)
{
	void *more = realloc(p->pids, (p->memory_count + 1) * sizeof(*p->pids));
	if (!more)
		return no_memory(e);
	p->pids = more;
	p->pids[p->memory_count++] = pid;
	return 0;
}

static int ascending(const void *a, const void *b)
{
	int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
	return (x > y) - (x < y);
}

static int find_images(struct move_pages *p, const char *dir, struct error *e)
{
	int r = 0;
	cleanup_dir DIR *d = opendir(dir);
	if (!d)
		return error_errno(e, "cannot read %s", dir);
	for (const struct dirent *at; r == 0 && (at = readdir(d));) {
		int32_t pid = pid_of(at->d_name);
		r = pid ? add_pid(p, pid, e) : 0;
	}
	if (r == 0 && p->memory_count == 0)
		r = error_set(e, EBADMSG, "there is no pagemap image in %s", dir);
	if (r == 0)
		qsort(p->pids, p->memory_count, sizeof(*p->pids), ascending);
	return r;
}

static int read_image(struct move_pages *p, size_t memory, const char *dir, struct error *e)
{
	struct store_memory *m = &p->memories[memory];
	cleanup_buf struct buf image = BUF_INIT(IMAGE_MOST);
	m->name = str_printf(PREFIX "%d.img", (int)p->pids[memory]);
	cleanup_free char *path = m->name ? fs_join(dir, m->name) : NULL;
	int r = path ? fs_read(path, &image, e) : no_memory(e);
	if (r == 0)
		r = error_wrap(e,
			       pagemap_lazy_extents(buf_text(&image), image.len, &m->extents,
						    &m->extent_count, e),
			       "%s", m->name);
	return r;
}

int move_pages_init(struct move_pages *p, const char *dir, struct error *e)
{
	uint64_t at = 0;
	*p = (struct move_pages) { 0 };
	int r = find_images(p, dir, e);
	if (r == 0 && !(p->memories = calloc(p->memory_count, sizeof(*p->memories))))
		r = no_memory(e);
	for (size_t i = 0; r == 0 && i < p->memory_count; i++) {
		r = read_image(p, i, dir, e);
		if (r == 0)
			r = add_frames(p, i, &at, e);
	}
	if (r == 0)
		r = note_likely(p, e);
	if (r < 0)
		move_pages_deinit(p);
	return r;
}

void move_pages_deinit(struct move_pages *p)
{
	for (size_t i = 0; p->memories && i < p->memory_count; i++) {
		free(p->memories[i].name);
		free(p->memories[i].extents);
		free(p->memories[i].frames);
		free(p->memories[i].slots);
	}
	free(p->memories);
	free(p->pids);
	free(p->frames);
	free(p->ranges);
	free(p->likely);
	*p = (struct move_pages) { 0 };
}
