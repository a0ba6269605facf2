/* SPDX-License-Identifier: Apache-2.0 */
#include "node/pages_map.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { PAGE = 4096 };

void pages_map_deinit(struct pages_map *m)
{
	free(m->by_address);
	free(m->by_page);
	*m = (struct pages_map) { 0 };
}

static int reserve(struct pages_map *m, size_t count)
{
	if (count <= m->size)
		return 0;
	size_t size = count + count / 2 + 16;
	struct pages_range *a = realloc(m->by_address, size * sizeof(*a));
	if (!a)
		return -ENOMEM;
	m->by_address = a;
	struct pages_range *p = realloc(m->by_page, size * sizeof(*p));
	if (!p)
		return -ENOMEM;
	m->by_page = p;
	m->size = size;
	return 0;
}

int pages_map_copy(struct pages_map *to, const struct pages_map *from)
{
	*to = (struct pages_map) { 0 };
	if (from->count == 0)
		return 0;
	if (reserve(to, from->count) < 0) {
		pages_map_deinit(to);
		return -ENOMEM;
	}
	memcpy(to->by_address, from->by_address, from->count * sizeof(*to->by_address));
	memcpy(to->by_page, from->by_page, from->count * sizeof(*to->by_page));
	to->count = from->count;
	return 0;
}

static uint64_t length(const struct pages_range *r)
{
	return (r->end - r->start) / PAGE;
}

/* Index of the first range that ends behind `address`; of the first with pages behind `page`. */
static size_t search_address(const struct pages_map *m, uint64_t address)
{
	size_t low = 0, high = m->count;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (m->by_address[middle].end <= address)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static size_t search_page(const struct pages_map *m, uint64_t page)
{
	size_t low = 0, high = m->count;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (m->by_page[middle].page + length(&m->by_page[middle]) <= page)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static void insert_at(struct pages_range *list, size_t count, size_t at, struct pages_range r)
{
	memmove(list + at + 1, list + at, (count - at) * sizeof(*list));
	list[at] = r;
}

int pages_map_add(struct pages_map *m, uint64_t start, uint64_t end, uint64_t page)
{
	struct pages_range r = { start, end, page };
	if (reserve(m, m->count + 1) < 0)
		return -ENOMEM;
	insert_at(m->by_address, m->count, search_address(m, start), r);
	insert_at(m->by_page, m->count, search_page(m, page), r);
	m->count++;
	return 0;
}

/* Afterwards no range goes across `address`. */
static int split(struct pages_map *m, uint64_t address)
{
	size_t at = search_address(m, address);
	if (at == m->count || m->by_address[at].start >= address)
		return 0;
	struct pages_range *r = &m->by_address[at];
	struct pages_range tail = { address, r->end, r->page + (address - r->start) / PAGE };
	m->by_page[search_page(m, r->page)].end = address;
	r->end = address;
	return pages_map_add(m, tail.start, tail.end, tail.page);
}

static int split_both(struct pages_map *m, uint64_t start, uint64_t end)
{
	int r = split(m, start);
	return r < 0 ? r : split(m, end);
}

int pages_map_drop(struct pages_map *m, uint64_t start, uint64_t end)
{
	if (start >= end)
		return 0;
	if (split_both(m, start, end) < 0)
		return -ENOMEM;
	size_t first = search_address(m, start), behind = first, kept = 0;
	while (behind < m->count && m->by_address[behind].start < end)
		behind++;
	if (first == behind)
		return 0;
	memmove(m->by_address + first, m->by_address + behind,
		(m->count - behind) * sizeof(*m->by_address));
	for (size_t i = 0; i < m->count; i++) {
		struct pages_range r = m->by_page[i];
		if (r.start < start || r.start >= end)
			m->by_page[kept++] = r;
	}
	m->count -= behind - first;
	return 0;
}

/* Puts in as much of a range as has room. */
static int add_where_free(struct pages_map *m, struct pages_range r)
{
	while (r.start < r.end) {
		size_t at = search_address(m, r.start);
		uint64_t taken = at < m->count ? m->by_address[at].start : UINT64_MAX;
		uint64_t end = r.end < taken ? r.end : taken;
		if (r.start < end && pages_map_add(m, r.start, end, r.page) < 0)
			return -ENOMEM;
		if (end == r.end)
			return 0;
		at = search_address(m, end);
		uint64_t next = m->by_address[at].end;
		if (next >= r.end)
			return 0;
		r.page += (next - r.start) / PAGE;
		r.start = next;
	}
	return 0;
}

int pages_map_move(struct pages_map *m, uint64_t from, uint64_t to, uint64_t len)
{
	uint64_t end = from + len;
	if (from == to || len == 0)
		return 0;
	if (split_both(m, from, end) < 0)
		return -ENOMEM;
	size_t first = search_address(m, from), count = 0;
	while (first + count < m->count && m->by_address[first + count].start < end)
		count++;
	if (count == 0)
		return 0;
	struct pages_range *moved = malloc(count * sizeof(*moved));
	if (!moved)
		return -ENOMEM;
	memcpy(moved, m->by_address + first, count * sizeof(*moved));
	int r = pages_map_drop(m, from, end);
	for (size_t i = 0; i < count && r == 0; i++) {
		moved[i].start += to - from;
		moved[i].end += to - from;
		r = add_where_free(m, moved[i]);
	}
	free(moved);
	return r;
}

const struct pages_range *pages_map_at(const struct pages_map *m, uint64_t address)
{
	size_t at = search_address(m, address);
	return at < m->count && m->by_address[at].start <= address ? &m->by_address[at] : NULL;
}

const struct pages_range *pages_map_of(const struct pages_map *m, uint64_t page)
{
	size_t at = search_page(m, page);
	return at < m->count && m->by_page[at].page <= page ? &m->by_page[at] : NULL;
}

uint64_t pages_map_gap(const struct pages_map *m, uint64_t address, uint64_t most)
{
	size_t at = search_address(m, address);
	if (at == m->count || m->by_address[at].start >= address + most)
		return most;
	return m->by_address[at].start > address ? m->by_address[at].start - address : 0;
}
