/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "store/writing.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

void *memory_free(struct store_memory_write *m)
{
	if (!m)
		return NULL;
	pthread_mutex_destroy(&m->lock);
	free(m->name);
	free(m->extents);
	free(m->frames);
	free(m->slots);
	free(m->digests);
	free(m);
	return NULL;
}

int store_write_hot(struct store_write *w, const char *memory, const uint64_t *pages, size_t count,
		    struct error *e)
{
	struct hot_list *hot = calloc(1, sizeof(*hot));
	if (!hot)
		return store_oom(e);
	hot->memory = strdup(memory);
	hot->pages = calloc(count + 1, sizeof(*hot->pages));
	hot->count = count;
	if (!hot->memory || !hot->pages) {
		free(hot->memory);
		free(hot->pages);
		free(hot);
		return store_oom(e);
	}
	if (count)
		memcpy(hot->pages, pages, count * sizeof(*pages));
	pthread_mutex_lock(&w->lock);
	hot->next = w->hot_lists;
	w->hot_lists = hot;
	pthread_mutex_unlock(&w->lock);
	return 0;
}

static int add_memory(struct store_write *w, struct store_memory_write *m, struct error *e)
{
	for (size_t i = 0; i < w->memory_count; i++)
		if (strcmp(w->memories[i]->name, m->name) == 0)
			return error_set(e, EINVAL, "memory %s is there twice", m->name);
	if (w->memory_count == INDEX_MAX_MEMORIES)
		return error_set(e, E2BIG, "too many memories");
	if (w->memory_count == w->memory_room) {
		size_t room = w->memory_room ? w->memory_room * 2 : 16;
		struct store_memory_write **list = realloc(w->memories, room * sizeof(*list));
		if (!list)
			return store_oom(e);
		w->memories = list;
		w->memory_room = room;
	}
	w->memories[w->memory_count++] = m;
	for (m->hot = w->hot_lists; m->hot && strcmp(m->hot->memory, m->name) != 0;)
		m->hot = m->hot->next;
	return 0;
}

int store_memory_begin(struct store_write *w, const char *name, struct store_memory_write **memory,
		       struct error *e)
{
	int r = write_check(w, e);
	if (r == 0 && !index_name_valid(name))
		r = error_set(e, EINVAL, "\"%.100s\" cannot be the name of a memory", name);
	if (r < 0)
		return r;
	struct store_memory_write *m = calloc(1, sizeof(*m));
	if (!m)
		return store_oom(e);
	pthread_mutex_init(&m->lock, NULL);
	m->write = w;
	m->name = strdup(name);
	m->basis = basis_memory(w->basis, name);
	pthread_mutex_lock(&w->lock);
	r = m->name ? add_memory(w, m, e) : store_oom(e);
	pthread_mutex_unlock(&w->lock);
	if (r < 0) {
		memory_free(m);
		return r;
	}
	pipe_allow(w, 1);
	*memory = m;
	return 0;
}

/* Room in the lists for all pages so far. Untouched memory of theirs costs nothing. */
static int make_room(struct store_memory_write *m, struct error *e)
{
	if (m->pages <= m->page_room)
		return 0;
	size_t room = m->page_room + m->page_room / 2 + m->pages;
	pthread_mutex_lock(&m->lock);
	uint32_t *frames = realloc(m->frames, room * sizeof(*frames));
	m->frames = frames ? frames : m->frames;
	uint8_t *slots = realloc(m->slots, room);
	m->slots = slots ? slots : m->slots;
	unsigned char *digests = realloc(m->digests, room * SEAL_DIGEST);
	m->digests = digests ? digests : m->digests;
	if (frames && slots && digests)
		m->page_room = room;
	pthread_mutex_unlock(&m->lock);
	return m->page_room == room ? 0 : store_oom(e);
}

void memory_set(struct store_memory_write *m, uint64_t page, struct page_at at)
{
	pthread_mutex_lock(&m->lock);
	m->frames[page] = at.frame;
	m->slots[page] = at.slot;
	pthread_mutex_unlock(&m->lock);
}

void memory_set_batch(struct store_memory_write *m, const struct batch *batch,
		      const struct page_at *at, const unsigned char *digests)
{
	size_t count = batch->len / STORE_PAGE;
	pthread_mutex_lock(&m->lock);
	for (size_t i = 0; i < count; i++) {
		m->frames[batch->first + i] = at[i].frame;
		m->slots[batch->first + i] = at[i].slot;
	}
	memcpy(m->digests + batch->first * SEAL_DIGEST, digests, count * SEAL_DIGEST);
	pthread_mutex_unlock(&m->lock);
}

static int add_extent(struct store_memory_write *m, uint64_t vaddr, uint64_t pages, uint32_t flags,
		      struct error *e)
{
	struct store_extent *last = m->extent_count ? &m->extents[m->extent_count - 1] : NULL;
	uint64_t end;
	if (vaddr % STORE_PAGE || pages == 0 || vaddr < m->end ||
	    __builtin_mul_overflow(pages, (uint64_t)STORE_PAGE, &end) ||
	    __builtin_add_overflow(end, vaddr, &end) || m->pages + pages > INDEX_MAX_PAGES)
		return error_set(e, EINVAL,
				 "memory %s: %" PRIu64 " pages at %#" PRIx64
				 " are not a next extent of it",
				 m->name, pages, vaddr);
	if (last && vaddr == m->end && last->flags == flags) {
		last->pages += pages;
		m->end = end;
		return 0;
	}
	if (!m->extents || m->extent_count == m->room) {
		size_t room = m->room ? m->room * 2 : 64;
		struct store_extent *list = realloc(m->extents, room * sizeof(*list));
		if (!list)
			return store_oom(e);
		m->extents = list;
		m->room = room;
	}
	m->extents[m->extent_count++] = (struct store_extent) { vaddr, pages, flags };
	m->end = end;
	return 0;
}

static int flush(struct store_memory_write *m, struct error *e)
{
	struct batch *batch = steal_ptr(&m->batch);
	if (!batch)
		return 0;
	int r = batch->len ? make_room(m, e) : 0;
	if (r < 0 || !batch->len)
		pipe_give_back(m->write, batch);
	else
		pipe_queue(m->write, batch);
	return r;
}

static int open_batch(struct store_memory_write *m, struct error *e)
{
	int r = pipe_take(m->write, &m->batch, e);
	if (r == 0) {
		m->batch->memory = m;
		m->batch->first = m->pages;
	}
	return r;
}

/* As much of an extent as goes into the open batch; *pages: taken. */
static int fill_batch(struct store_memory_write *m, uint64_t vaddr, uint64_t left, bool soon,
		      store_fill *fill, void *arg, uint64_t *pages, struct error *e)
{
	int r = m->batch ? 0 : open_batch(m, e);
	if (r < 0)
		return r;
	struct batch *b = m->batch;
	uint64_t room = (STORE_FILL_MOST - b->len) / STORE_PAGE;
	*pages = left < room ? left : room;
	size_t len = (size_t)*pages * STORE_PAGE;
	r = fill(b->data + b->len, len, arg, e);
	if (r < 0)
		return r;
	struct run *last = b->run_count ? &b->runs[b->run_count - 1] : NULL;
	if (last && last->vaddr + (uint64_t)last->pages * STORE_PAGE == vaddr && last->soon == soon)
		last->pages += (uint32_t)*pages;
	else
		b->runs[b->run_count++] = (struct run) { vaddr, (uint32_t)*pages, soon };
	b->len += len;
	m->pages += *pages;
	return b->len == STORE_FILL_MOST ? flush(m, e) : 0;
}

int store_memory_extent(struct store_memory_write *m, uint64_t vaddr, uint64_t pages,
			uint32_t flags, store_fill *fill, void *arg, struct error *e)
{
	int r = write_check(m->write, e);
	if (r == 0 && m->ended)
		r = error_set(e, EINVAL, "memory %s has been ended", m->name);
	if (r == 0)
		r = add_extent(m, vaddr, pages, flags & ~STORE_SOON, e);
	while (r == 0 && pages) {
		uint64_t n = 0;
		r = fill_batch(m, vaddr, pages, flags & STORE_SOON, fill, arg, &n, e);
		vaddr += n * STORE_PAGE;
		pages -= n;
	}
	return r < 0 ? write_fail(m->write, r, e) : r;
}

int store_memory_end(struct store_memory_write *m, struct error *e)
{
	if (m->ended)
		return error_set(e, EINVAL, "memory %s has been ended", m->name);
	m->ended = true;
	int r = flush(m, e);
	pipe_allow(m->write, -1);
	return r < 0 ? write_fail(m->write, r, e) : write_check(m->write, e);
}
