/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "store/writing.h"

#include <errno.h>
#include <string.h>

enum {
	WORN_PART = 4,    /* of a pack's bytes one in so many must still be used */
	MANY_PACKS = 256, /* more than that, and small rests are not kept either: */
	REST = 256 << 10,
};

void *basis_free(struct basis *b)
{
	if (!b)
		return NULL;
	store_read_free(b->read);
	free(b->worn);
	free(b->ids);
	free(b);
	return NULL;
}

/* Bytes of each pack that pages and files still stand for: a frame of 16 pages of which one is used
 * counts for a sixteenth. */
static void count_used(const struct index *x, uint64_t *used)
{
	for (size_t i = 0; i < x->memory_count; i++) {
		const struct store_memory *m = &x->memories[i].m;
		for (uint64_t p = 0; p < m->pages; p++) {
			if (m->frames[p] == STORE_ZERO)
				continue;
			const struct store_frame *f = &x->frames[m->frames[p]].at;
			used[f->pack] += f->stored / (f->pages ? f->pages : 1u);
		}
	}
	for (size_t i = 0; i < x->file_count; i++)
		for (size_t k = 0; k < x->files[i].frame_count; k++) {
			const struct store_frame *f = &x->frames[x->files[i].frames[k]].at;
			used[f->pack] += f->stored;
		}
}

static int find_worn(struct basis *b, struct error *e)
{
	const struct manifest *m = &b->read->m;
	cleanup_free uint64_t *used = calloc(m->pack_count + 1, sizeof(*used));
	b->worn = calloc(m->pack_count + 1, sizeof(*b->worn));
	if (!used || !b->worn)
		return store_oom(e);
	count_used(&b->read->index, used);
	for (size_t i = 0; i < m->pack_count; i++)
		b->worn[i] = used[i] < m->packs[i].size / WORN_PART ||
			     (m->pack_count > MANY_PACKS && used[i] < REST);
	return 0;
}

static int prepare(struct basis *b, struct error *e)
{
	size_t count = b->read->index.frame_count;
	b->ids = calloc(count + 1, sizeof(*b->ids));
	if (!b->ids)
		return store_oom(e);
	for (size_t i = 0; i < count; i++)
		atomic_init(&b->ids[i], FRAME_NONE);
	return find_worn(b, e);
}

/* Left of an earlier checkpoint of this number, it would hide the new one. */
static int remove_aside(struct store *store, const struct store_scan *scan, const char *session,
			int64_t generation, struct error *e)
{
	const struct store_object *aside =
		store_scan_find(scan, session, generation, STORE_KIND_ASIDE, NULL, 0);
	if (!aside || store_scan_find(scan, session, generation, STORE_KIND_MANIFEST, NULL, 0))
		return 0;
	return object_remove(store->objects, aside->key, e);
}

/* From the newest down. Above a fence that is newer than it nothing is to be stored. */
static int consider(struct store *store, const struct store_scan *scan,
		    const struct store_object *o, int64_t generation, int64_t *basis,
		    struct error *e)
{
	if (o->kind != STORE_KIND_MANIFEST)
		return 0;
	int fence = store_is_fence(store, o, e);
	if (fence < 0)
		return fence;
	if (fence && o->generation >= generation)
		return store_refuse_taken(store, o->session, o->generation, e);
	if (!fence && o->generation < generation &&
	    !store_scan_find(scan, o->session, o->generation, STORE_KIND_ASIDE, NULL, 0))
		*basis = o->generation;
	return 0;
}

int basis_find(struct store *store, const char *session, int64_t generation, int64_t *basis,
	       struct error *e)
{
	cleanup(store_scan_deinit) struct store_scan scan = { 0 };
	int r = store_scan(store, session, -1, &scan, e);
	if (r == 0)
		r = store_check_forgotten(store, &scan, e);
	if (r == 0)
		r = remove_aside(store, &scan, session, generation, e);
	*basis = -1;
	for (size_t i = scan.count; i-- > 0 && r == 0 && *basis < 0;)
		r = consider(store, &scan, &scan.list[i], generation, basis, e);
	return r;
}

int basis_open(struct store *store, const struct store_keys *keys, const char *session,
	       int64_t number, struct basis **basis, struct error *e)
{
	*basis = NULL;
	if (number < 0)
		return 0;
	cleanup(basis_freep) struct basis *b = calloc(1, sizeof(*b));
	if (!b)
		return store_oom(e);
	int r = store_read_load(store, keys, session, number, false, &b->read, e);
	/* Gone meanwhile, damaged, or of another key: then all is stored anew. */
	if (r == -ENOENT || r == -EBADMSG || r == -EKEYREJECTED)
		return 0;
	if (r == 0)
		r = prepare(b, e);
	if (r == 0)
		*basis = steal_ptr(&b);
	return r;
}

static int memory_by_name(const void *a, const void *b)
{
	return strcmp(((const struct index_memory *)a)->m.name,
		      ((const struct index_memory *)b)->m.name);
}

const struct index_memory *basis_memory(const struct basis *b, const char *name)
{
	const struct index *x = b ? &b->read->index : NULL;
	const struct index_memory wanted = { .m.name = (char *)name };
	if (!x || !x->memory_count)
		return NULL;
	return bsearch(&wanted, x->memories, x->memory_count, sizeof(wanted), memory_by_name);
}

static int file_by_name(const void *a, const void *b)
{
	return strcmp(((const struct index_file *)a)->name, ((const struct index_file *)b)->name);
}

const struct index_file *basis_file(const struct basis *b, const char *name)
{
	const struct index *x = b ? &b->read->index : NULL;
	const struct index_file wanted = { .name = (char *)name };
	if (!x || !x->file_count)
		return NULL;
	return bsearch(&wanted, x->files, x->file_count, sizeof(wanted), file_by_name);
}

void basis_cursor_init(struct basis_cursor *c, const struct index_memory *m, uint64_t vaddr)
{
	*c = (struct basis_cursor) { .m = m };
	if (!m)
		return;
	/* Extents before it are passed by; their pages are counted. */
	while (c->extent < m->m.extent_count) {
		const struct store_extent *x = &m->m.extents[c->extent];
		if (x->vaddr + x->pages * STORE_PAGE > vaddr)
			break;
		c->before += x->pages;
		c->extent++;
	}
}

bool basis_cursor_find(struct basis_cursor *c, uint64_t vaddr, uint64_t *page)
{
	for (; c->m && c->extent < c->m->m.extent_count; c->extent++) {
		const struct store_extent *x = &c->m->m.extents[c->extent];
		if (vaddr < x->vaddr)
			return false;
		if (vaddr < x->vaddr + x->pages * STORE_PAGE) {
			*page = c->before + (vaddr - x->vaddr) / STORE_PAGE;
			return true;
		}
		c->before += x->pages;
	}
	return false;
}
