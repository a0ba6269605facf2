/* SPDX-License-Identifier: Apache-2.0 */
#include "node/pages_index.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool is_lazy(const struct store_extent *x)
{
	return x->flags & PAGES_LAZY;
}

/* Calls `each` with every lazy page that is in a frame. */
static int each_page(const struct page_source *s,
		     int (*each)(uint64_t page, uint32_t frame, unsigned slot, void *arg),
		     void *arg)
{
	uint64_t page = 0;
	int r = 0;
	for (size_t i = 0; i < s->memory_count; i++) {
		const struct store_memory *m = &s->memories[i];
		uint64_t at = 0;
		for (size_t k = 0; k < m->extent_count; k++) {
			const struct store_extent *x = &m->extents[k];
			for (uint64_t n = 0; is_lazy(x) && n < x->pages && r == 0; n++)
				if (m->frames[at + n] != STORE_ZERO)
					r = each(page + at + n, m->frames[at + n], m->slots[at + n],
						 arg);
			at += x->pages;
		}
		page += m->pages;
	}
	return r;
}

static int check_memory(const struct store_memory *m, struct error *e)
{
	uint64_t pages = 0, end = 0;
	for (size_t k = 0; k < m->extent_count; k++) {
		const struct store_extent *x = &m->extents[k];
		if (x->vaddr % STORE_PAGE || x->vaddr < end || x->pages == 0 ||
		    x->pages > m->pages - pages || x->vaddr > UINT64_MAX - x->pages * STORE_PAGE)
			return error_set(e, EBADMSG, "the extents of %s do not fit together",
					 m->name);
		end = x->vaddr + x->pages * STORE_PAGE;
		pages += x->pages;
	}
	if (pages != m->pages)
		return error_set(e, EBADMSG, "the extents of %s do not fit its pages", m->name);
	return 0;
}

static int count_page(uint64_t page, uint32_t frame, unsigned slot, void *arg)
{
	struct pages_index *x = arg;
	(void)page;
	if (frame >= x->source->frame_count || slot >= x->source->frames[frame].pages)
		return -EBADMSG;
	x->start[frame + 1]++;
	return 0;
}

static int put_page(uint64_t page, uint32_t frame, unsigned slot, void *arg)
{
	struct pages_index *x = arg;
	(void)slot;
	/* The start of the next frame is moved to its right place by this. */
	x->pages[x->start[frame + 1]++] = (uint32_t)page;
	return 0;
}

/* Sorted by counting. start[f + 1] is first the number of pages, then where the frame begins, then
 * where it ends. */
static int sort_pages(struct pages_index *x, struct error *e)
{
	size_t frames = x->source->frame_count;
	if (each_page(x->source, count_page, x) < 0)
		return error_set(e, EBADMSG, "the checkpoint names a page that is in no frame");
	uint64_t total = 0;
	for (size_t f = 1; f <= frames; f++) {
		uint64_t count = x->start[f];
		x->start[f] = total;
		total += count;
	}
	x->pages = malloc((total + 1) * sizeof(*x->pages));
	if (!x->pages)
		return error_set(e, ENOMEM, "out of memory");
	return each_page(x->source, put_page, x);
}

int pages_index_init(struct pages_index *x, const struct page_source *source, struct error *e)
{
	*x = (struct pages_index) { .source = source };
	x->first = calloc(source->memory_count + 1, sizeof(*x->first));
	x->start = calloc(source->frame_count + 1, sizeof(*x->start));
	int r = x->first && x->start ? 0 : error_set(e, ENOMEM, "out of memory");
	for (size_t i = 0; i < source->memory_count && r == 0; i++) {
		r = check_memory(&source->memories[i], e);
		x->first[i + 1] = x->first[i] + source->memories[i].pages;
	}
	if (r == 0 && x->first[source->memory_count] > UINT32_MAX)
		r = error_set(e, EFBIG, "the checkpoint has too many pages");
	if (r == 0)
		r = sort_pages(x, e);
	if (r < 0)
		pages_index_deinit(x);
	return r;
}

void pages_index_deinit(struct pages_index *x)
{
	free(x->first);
	free(x->start);
	free(x->pages);
	*x = (struct pages_index) { 0 };
}

uint64_t pages_index_total(const struct page_source *source)
{
	uint64_t total = 0;
	for (size_t i = 0; i < source->memory_count; i++)
		total += source->memories[i].pages;
	return total;
}

size_t pages_index_memory(const struct pages_index *x, uint64_t page)
{
	size_t low = 0, high = x->source->memory_count;
	while (high - low > 1) {
		size_t middle = low + (high - low) / 2;
		if (x->first[middle] <= page)
			low = middle;
		else
			high = middle;
	}
	return low;
}

uint32_t pages_index_frame(const struct pages_index *x, uint64_t page, unsigned *slot)
{
	size_t i = pages_index_memory(x, page);
	const struct store_memory *m = &x->source->memories[i];
	*slot = m->slots[page - x->first[i]];
	return m->frames[page - x->first[i]];
}

int pages_index_find(const struct pages_index *x, int32_t pid)
{
	char name[32];
	snprintf(name, sizeof(name), "pagemap-%d.img", (int)pid);
	for (size_t i = 0; i < x->source->memory_count; i++)
		if (strcmp(x->source->memories[i].name, name) == 0)
			return (int)i;
	return -1;
}

int pages_index_map(const struct pages_index *x, size_t memory, struct pages_map *to)
{
	const struct store_memory *m = &x->source->memories[memory];
	uint64_t page = x->first[memory];
	int r = 0;
	*to = (struct pages_map) { 0 };
	for (size_t k = 0; k < m->extent_count && r == 0; k++) {
		const struct store_extent *extent = &m->extents[k];
		if (is_lazy(extent))
			r = pages_map_add(to, extent->vaddr,
					  extent->vaddr + extent->pages * STORE_PAGE, page);
		page += extent->pages;
	}
	if (r < 0)
		pages_map_deinit(to);
	return r;
}

static int ascending(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
	return (x > y) - (x < y);
}

size_t pages_frames_tidy(uint32_t *frames, size_t count)
{
	size_t kept = 0;
	if (count)
		qsort(frames, count, sizeof(*frames), ascending);
	for (size_t i = 0; i < count; i++)
		if (kept == 0 || frames[i] != frames[kept - 1])
			frames[kept++] = frames[i];
	return kept;
}
