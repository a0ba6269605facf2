/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "store/squeeze.h"
#include "store/writing.h"

#include <errno.h>
#include <string.h>

enum {
	CUTS_MAX = BATCH_PAGES / STORE_FRAME_PAGES + 1,
	FILE_PARTS = STORE_FILL_MOST / STORE_FILE_FRAME,
	SQUEEZED = STORE_FILL_MOST + CUTS_MAX * 16,
};

struct worker {
	struct store_write *w;
	struct sealer *sealer;
	struct sealer *digester;
	struct squeezer *squeezer;
	unsigned char *squeezed; /* SQUEEZED bytes */
	unsigned char *gathered; /* STORE_FRAME_BYTES, of pages that do not lie in a row */
	size_t used;             /* of squeezed */
	/* Of the batch under way: */
	struct page_at at[BATCH_PAGES];
	unsigned char digests[BATCH_PAGES * SEAL_DIGEST];
	bool soon[BATCH_PAGES];
	uint16_t wanted[BATCH_PAGES]; /* pages to be stored */
	unsigned wanted_count;
	unsigned hot; /* pages that went to the hot ones */
};

void *worker_free(struct worker *k)
{
	if (!k)
		return NULL;
	sealer_free(k->sealer);
	sealer_free(k->digester);
	squeezer_free(k->squeezer);
	free(k->squeezed);
	free(k->gathered);
	free(k);
	return NULL;
}

struct store_write *worker_write(const struct worker *k)
{
	return k->w;
}

int worker_new(struct store_write *w, struct worker **worker, struct error *e)
{
	cleanup(worker_freep) struct worker *k = calloc(1, sizeof(*k));
	if (!k)
		return store_oom(e);
	k->w = w;
	k->squeezed = malloc(SQUEEZED);
	k->gathered = malloc(STORE_FRAME_BYTES);
	int r = k->squeezed && k->gathered ? 0 : store_oom(e);
	if (r == 0)
		r = sealer_new(&w->frame_key, &k->sealer, e);
	if (r == 0)
		r = sealer_new(&w->keys.digest, &k->digester, e);
	if (r == 0)
		r = squeezer_new(&k->squeezer, e);
	if (r == 0)
		*worker = steal_ptr(&k);
	return r;
}

/* --- frames ------------------------------------------------------------------------- */

/* What a cut has become, on its way into a pack. */
struct squeezed {
	size_t at, len;
};

static void squeeze_cut(struct worker *k, const struct cut *c, struct squeezed *s)
{
	s->at = k->used;
	s->len = squeeze(k->squeezer, c->data, c->len, k->squeezed + k->used);
	k->used += s->len;
}

/* Under w->lock. */
static int make_room(struct store_write *w, size_t count, struct error *e)
{
	if (w->frame_count + count <= w->frame_room)
		return 0;
	size_t room = w->frame_room + w->frame_room / 2 + count + 64;
	struct index_frame *frames = realloc(w->frames, room * sizeof(*frames));
	if (!frames)
		return store_oom(e);
	w->frames = frames;
	w->frame_room = room;
	return 0;
}

static int add_frames(struct store_write *w, struct cut *cuts, const struct squeezed *s,
		      const struct pack_place *place, size_t count, struct error *e)
{
	uint32_t offset = place->offset;
	pthread_mutex_lock(&w->lock);
	int r = make_room(w, count, e);
	for (size_t i = 0; i < count && r == 0; i++) {
		uint32_t stored = (uint32_t)s[i].len + SEAL_TAG;
		cuts[i].id = (uint32_t)w->frame_count;
		w->frames[w->frame_count++] = (struct index_frame) {
			.at = { .pack = place->pack,
				.offset = offset,
				.stored = stored,
				.pages = cuts[i].pages,
				.hot = cuts[i].hot },
			.len = (uint32_t)cuts[i].len,
		};
		offset += stored;
	}
	pthread_mutex_unlock(&w->lock);
	return r;
}

static int seal_cuts(struct worker *k, const struct squeezed *s, size_t count,
		     const struct pack_place *place, struct error *e)
{
	size_t at = 0;
	int r = 0;
	for (size_t i = 0; i < count && r == 0; i++) {
		r = seal_frame(k->sealer, place->pack, place->offset + at, k->squeezed + s[i].at,
			       s[i].len, place->to + at, e);
		at += s[i].len + SEAL_TAG;
	}
	return r;
}

/* Puts what was squeezed next to each other, straight from there into the pack. */
static int pack_cuts(struct worker *k, enum pack_stream stream, struct cut *cuts,
		     const struct squeezed *s, size_t count, struct error *e)
{
	struct pack_place place;
	size_t len = k->used + count * SEAL_TAG;
	uint64_t raw = 0;
	for (size_t i = 0; i < count; i++)
		raw += cuts[i].len;
	k->used = 0;
	int r = packer_reserve(k->w->packer, stream, len, &place, e);
	if (r < 0)
		return r;
	r = seal_cuts(k, s, count, &place, e);
	if (r == 0)
		r = add_frames(k->w, cuts, s, &place, count, e);
	if (r < 0)
		failure_note(&k->w->failure, r, e); /* before the pack can be put */
	packer_filled(k->w->packer, &place, len, raw);
	return r;
}

int worker_store(struct worker *k, enum pack_stream stream, struct cut *cuts, size_t count,
		 struct error *e)
{
	struct squeezed s[CUTS_MAX];
	if (count == 0)
		return 0;
	k->used = 0;
	for (size_t i = 0; i < count; i++)
		squeeze_cut(k, &cuts[i], &s[i]);
	return pack_cuts(k, stream, cuts, s, count, e);
}

/* --- pages -------------------------------------------------------------------------- */

static bool is_zero(const unsigned char *page)
{
	uint64_t first;
	memcpy(&first, page, sizeof(first));
	return first == 0 && memcmp(page, page + sizeof(first), STORE_PAGE - sizeof(first)) == 0;
}

static int by_address(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a;
	uint64_t y = *(const uint64_t *)b;
	return (x > y) - (x < y);
}

static bool is_hot(const struct store_memory_write *m, uint64_t vaddr)
{
	return m->hot && bsearch(&vaddr, m->hot->pages, m->hot->count, sizeof(vaddr), by_address);
}

/* The number here of a frame of the basis, from now on one of ours too. */
static int take_over(struct worker *k, uint32_t frame, uint32_t *id, struct error *e)
{
	struct store_write *w = k->w;
	atomic_uint *known = &w->basis->ids[frame];
	*id = atomic_load(known);
	if (*id != FRAME_NONE)
		return 0;
	int r = 0;
	pthread_mutex_lock(&w->lock);
	*id = atomic_load(known);
	if (*id == FRAME_NONE)
		r = make_room(w, 1, e);
	if (*id == FRAME_NONE && r == 0) {
		struct index_frame *f = &w->frames[w->frame_count];
		*f = w->basis->read->index.frames[frame];
		f->at.pack |= FRAME_OF_BASIS;
		*id = (uint32_t)w->frame_count++;
		atomic_store(known, *id);
	}
	pthread_mutex_unlock(&w->lock);
	return r;
}

/* 1 when the page is as in the basis and stays where it is. */
static int as_before(struct worker *k, const struct index_memory *m, uint64_t page, bool hot,
		     unsigned i, struct error *e)
{
	const struct index *x = &k->w->basis->read->index;
	uint32_t frame = m->m.frames[page];
	if (frame == STORE_ZERO || !m->digests ||
	    memcmp(m->digests + page * SEAL_DIGEST, k->digests + (size_t)i * SEAL_DIGEST,
		   SEAL_DIGEST) != 0)
		return 0;
	const struct store_frame *f = &x->frames[frame].at;
	if (k->w->basis->worn[f->pack] || (hot && !f->hot))
		return 0;
	k->at[i].slot = m->m.slots[page];
	int r = take_over(k, frame, &k->at[i].frame, e);
	return r < 0 ? r : 1;
}

static int flush_hot(struct worker *k, struct hot_gather *h, struct error *e)
{
	struct cut c = { .data = h->data,
			 .len = (size_t)h->count * STORE_PAGE,
			 .pages = (uint8_t)h->count,
			 .hot = true };
	if (h->count == 0)
		return 0;
	int r = worker_store(k, PACK_HOT, &c, 1, e);
	for (unsigned i = 0; i < h->count && r == 0; i++)
		memory_set(h->pages[i].memory, h->pages[i].page,
			   (struct page_at) { c.id, (uint8_t)i });
	h->count = 0;
	return r;
}

int worker_flush_hot(struct worker *k, struct error *e)
{
	int r = 0;
	for (size_t i = 0; i < GATHER_KINDS && r == 0; i++) {
		struct hot_gather *h = &k->w->gathers[i];
		pthread_mutex_lock(&h->lock);
		r = flush_hot(k, h, e);
		pthread_mutex_unlock(&h->lock);
	}
	return r;
}

static int add_hot(struct worker *k, const struct batch *batch, unsigned i, struct error *e)
{
	struct hot_gather *h = &k->w->gathers[k->soon[i] ? GATHER_SOON : GATHER_HOT];
	pthread_mutex_lock(&h->lock);
	memcpy(h->data + (size_t)h->count * STORE_PAGE, batch->data + (size_t)i * STORE_PAGE,
	       STORE_PAGE);
	h->pages[h->count++] = (struct hot_page) { batch->memory, batch->first + i };
	int r = h->count == STORE_FRAME_PAGES ? flush_hot(k, h, e) : 0;
	pthread_mutex_unlock(&h->lock);
	k->hot++;
	return r;
}

/* Decides where page `i` of the batch goes. */
static int sort_page(struct worker *k, const struct batch *batch, struct basis_cursor *cursor,
		     const struct run *run, uint32_t n, unsigned i, struct error *e)
{
	uint64_t vaddr = run->vaddr + (uint64_t)n * STORE_PAGE;
	const unsigned char *page = batch->data + (size_t)i * STORE_PAGE;
	unsigned char *digest = k->digests + (size_t)i * SEAL_DIGEST;
	uint64_t before;
	k->at[i] = (struct page_at) { STORE_ZERO, 0 };
	if (is_zero(page)) {
		memset(digest, 0, SEAL_DIGEST);
		return 0;
	}
	int r = seal_digest(k->digester, page, STORE_PAGE, digest);
	if (r < 0)
		return error_set(e, -r, "cannot make a page's digest");
	bool hot = run->soon || is_hot(batch->memory, vaddr);
	k->soon[i] = run->soon;
	if (basis_cursor_find(cursor, vaddr, &before)) {
		r = as_before(k, cursor->m, before, hot, i, e);
		if (r)
			return r < 0 ? r : 0;
	}
	k->at[i].frame = FRAME_LATER;
	if (hot)
		return 0;
	k->wanted[k->wanted_count++] = (uint16_t)i;
	return 0;
}

/* Pages that follow each other in the batch are squeezed from where they are. */
static const unsigned char *in_a_row(struct worker *k, const struct batch *batch,
				     const uint16_t *pages, unsigned count)
{
	if (pages[count - 1] - pages[0] == (int)count - 1)
		return batch->data + (size_t)pages[0] * STORE_PAGE;
	for (unsigned i = 0; i < count; i++)
		memcpy(k->gathered + (size_t)i * STORE_PAGE,
		       batch->data + (size_t)pages[i] * STORE_PAGE, STORE_PAGE);
	return k->gathered;
}

static int store_wanted(struct worker *k, const struct batch *batch, struct error *e)
{
	struct cut cuts[CUTS_MAX];
	struct squeezed s[CUTS_MAX];
	size_t count = 0;
	k->used = 0;
	for (unsigned i = 0; i < k->wanted_count; i += STORE_FRAME_PAGES, count++) {
		unsigned n = k->wanted_count - i;
		if (n > STORE_FRAME_PAGES)
			n = STORE_FRAME_PAGES;
		cuts[count] = (struct cut) { .data = in_a_row(k, batch, k->wanted + i, n),
					     .len = (size_t)n * STORE_PAGE,
					     .pages = (uint8_t)n };
		squeeze_cut(k, &cuts[count], &s[count]);
	}
	int r = count ? pack_cuts(k, PACK_COLD, cuts, s, count, e) : 0;
	for (unsigned i = 0; i < k->wanted_count && r == 0; i++)
		k->at[k->wanted[i]] = (struct page_at) { cuts[i / STORE_FRAME_PAGES].id,
							 (uint8_t)(i % STORE_FRAME_PAGES) };
	return r;
}

static int store_hot(struct worker *k, const struct batch *batch, unsigned pages, struct error *e)
{
	int r = 0;
	for (unsigned i = 0; i < pages && r == 0; i++)
		if (k->at[i].frame == FRAME_LATER)
			r = add_hot(k, batch, i, e);
	return r;
}

static void count_spared(struct worker *k, unsigned pages)
{
	pthread_mutex_lock(&k->w->lock);
	k->w->spared += (uint64_t)(pages - k->wanted_count - k->hot) * STORE_PAGE;
	pthread_mutex_unlock(&k->w->lock);
}

static int memory_batch(struct worker *k, const struct batch *batch, struct error *e)
{
	unsigned page = 0;
	int r = 0;
	k->wanted_count = k->hot = 0;
	for (size_t i = 0; i < batch->run_count && r == 0; i++) {
		struct basis_cursor cursor;
		const struct run *run = &batch->runs[i];
		basis_cursor_init(&cursor, batch->memory->basis, run->vaddr);
		for (uint32_t n = 0; n < run->pages && r == 0; n++, page++)
			r = sort_page(k, batch, &cursor, run, n, page, e);
	}
	if (r == 0)
		r = store_wanted(k, batch, e);
	if (r == 0) {
		/* Places of hot pages are set when their frame is made. */
		memory_set_batch(batch->memory, batch, k->at, k->digests);
		r = store_hot(k, batch, page, e);
	}
	if (r == 0)
		count_spared(k, page);
	return r;
}

/* --- files -------------------------------------------------------------------------- */

/* The parts of a batch of a file, and which of them are to be stored. */
struct parts {
	uint32_t ids[FILE_PARTS];
	unsigned char digests[FILE_PARTS * SEAL_DIGEST];
	struct cut cuts[FILE_PARTS];
	uint8_t part_of[FILE_PARTS]; /* each cut's */
	size_t count, cut_count;
	uint64_t spared;
};

/* 1 when that frame of the file is as in the basis. */
static int file_as_before(struct worker *k, const struct batch *batch, struct parts *p, size_t i,
			  size_t len, struct error *e)
{
	const struct index_file *old = batch->file->basis;
	uint64_t at = batch->first + i;
	if (!old || !old->digests || at >= old->frame_count ||
	    memcmp(old->digests + at * SEAL_DIGEST, p->digests + i * SEAL_DIGEST, SEAL_DIGEST) != 0)
		return 0;
	const struct index_frame *f = &k->w->basis->read->index.frames[old->frames[at]];
	if (f->len != len || k->w->basis->worn[f->at.pack])
		return 0;
	int r = take_over(k, old->frames[at], &p->ids[i], e);
	return r < 0 ? r : 1;
}

static int sort_part(struct worker *k, const struct batch *batch, struct parts *p, size_t i,
		     struct error *e)
{
	const unsigned char *data = batch->data + i * STORE_FILE_FRAME;
	size_t len = batch->len - i * STORE_FILE_FRAME;
	if (len > STORE_FILE_FRAME)
		len = STORE_FILE_FRAME;
	int r = seal_digest(k->digester, data, len, p->digests + i * SEAL_DIGEST);
	if (r < 0)
		return error_set(e, -r, "cannot make a file's digest");
	r = file_as_before(k, batch, p, i, len, e);
	if (r > 0)
		p->spared += len;
	if (r)
		return r < 0 ? r : 0;
	p->part_of[p->cut_count] = (uint8_t)i;
	p->cuts[p->cut_count++] = (struct cut) { .data = data, .len = len };
	return 0;
}

static int file_batch(struct worker *k, const struct batch *batch, struct error *e)
{
	struct parts p = { .count = (batch->len + STORE_FILE_FRAME - 1) / STORE_FILE_FRAME };
	struct file_write *f = batch->file;
	int r = 0;
	for (size_t i = 0; i < p.count && r == 0; i++)
		r = sort_part(k, batch, &p, i, e);
	if (r == 0)
		r = worker_store(k, PACK_COLD, p.cuts, p.cut_count, e);
	if (r < 0)
		return r;
	for (size_t i = 0; i < p.cut_count; i++)
		p.ids[p.part_of[i]] = p.cuts[i].id;
	pthread_mutex_lock(&k->w->lock);
	memcpy(f->frames + batch->first, p.ids, p.count * sizeof(*p.ids));
	memcpy(f->digests + batch->first * SEAL_DIGEST, p.digests, p.count * SEAL_DIGEST);
	k->w->spared += p.spared;
	pthread_mutex_unlock(&k->w->lock);
	return 0;
}

int worker_batch(struct worker *k, struct batch *batch, struct error *e)
{
	return batch->memory ? memory_batch(k, batch, e) : file_batch(k, batch, e);
}
