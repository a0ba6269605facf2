/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What was written, put in order: packs, frames and the index. Our packs are
 * numbered as they were opened: first those with data, and after the older ones
 * that frames were taken over from, those with the index.
 */
#define _GNU_SOURCE
#include "store/committing.h"

#include <errno.h>
#include <string.h>

/* --- packs and frames --------------------------------------------------------------- */

static int add_pack(struct manifest *m, size_t *room, const struct manifest_pack *pack,
		    struct error *e)
{
	if (m->pack_count == MANIFEST_MAX_PACKS)
		return error_set(e, E2BIG, "the checkpoint has too many packs");
	if (m->pack_count == *room) {
		*room = *room ? *room * 2 : 64;
		struct manifest_pack *packs = realloc(m->packs, *room * sizeof(*packs));
		if (!packs)
			return store_oom(e);
		m->packs = packs;
	}
	m->packs[m->pack_count++] = *pack;
	return 0;
}

static int add_own_pack(struct commit *c, size_t *room, size_t number)
{
	struct manifest_pack pack = { .generation = c->w->generation, .number = (uint32_t)number };
	memcpy(pack.writer, c->w->id, sizeof(pack.writer));
	return add_pack(&c->made->m, room, &pack, c->e);
}

/* Numbers of the basis' packs in the new manifest, for those that are still named. */
static int add_older_packs(struct commit *c, size_t *room, uint32_t *place)
{
	struct store_write *w = c->w;
	const struct manifest *old = w->basis ? &w->basis->read->m : NULL;
	int r = 0;
	for (size_t i = 0; i < w->frame_count; i++)
		if (w->frames[i].at.pack & FRAME_OF_BASIS)
			place[w->frames[i].at.pack & ~(uint32_t)FRAME_OF_BASIS] = 1;
	for (size_t i = 0; old && i < old->pack_count && r == 0; i++) {
		if (!place[i])
			continue;
		place[i] = (uint32_t)c->made->m.pack_count;
		r = add_pack(&c->made->m, room, &old->packs[i], c->e);
	}
	return r;
}

int commit_list_packs(struct commit *c, size_t *room)
{
	struct store_write *w = c->w;
	size_t old = w->basis ? w->basis->read->m.pack_count : 0;
	cleanup_free uint32_t *place = calloc(old + 1, sizeof(*place));
	int r = place ? 0 : store_oom(c->e);
	c->data_packs = packer_count(w->packer);
	for (size_t i = 0; i < c->data_packs && r == 0; i++)
		r = add_own_pack(c, room, i);
	if (r == 0)
		r = add_older_packs(c, room, place);
	for (size_t i = 0; i < w->frame_count && r == 0; i++) {
		struct store_frame *f = &w->frames[i].at;
		if (f->pack & FRAME_OF_BASIS) {
			f->pack = place[f->pack & ~(uint32_t)FRAME_OF_BASIS];
			w->shared += f->stored;
		}
	}
	return r;
}

struct place {
	uint64_t at;
	uint32_t id;
};

static int by_place(const void *a, const void *b)
{
	const struct place *x = a;
	const struct place *y = b;
	return (x->at > y->at) - (x->at < y->at);
}

/* Puts frames in order; number[id]: what each has become. */
static int sort_frames(struct commit *c, uint32_t *number)
{
	struct store_write *w = c->w;
	cleanup_free struct place *places = calloc(w->frame_count + 1, sizeof(*places));
	struct index *x = &c->made->index;
	x->frames = calloc(w->frame_count + 1, sizeof(*x->frames));
	if (!places || !x->frames)
		return store_oom(c->e);
	for (size_t i = 0; i < w->frame_count; i++)
		places[i] = (struct place) {
			(uint64_t)w->frames[i].at.pack << 32 | w->frames[i].at.offset, (uint32_t)i
		};
	if (w->frame_count)
		qsort(places, w->frame_count, sizeof(*places), by_place);
	for (size_t i = 0; i < w->frame_count; i++) {
		x->frames[i] = w->frames[places[i].id];
		number[places[i].id] = (uint32_t)i;
	}
	x->frame_count = w->frame_count;
	return 0;
}

/* --- the index ---------------------------------------------------------------------- */

static int file_by_name(const void *a, const void *b)
{
	return strcmp(((const struct index_file *)a)->name, ((const struct index_file *)b)->name);
}

static int memory_by_name(const void *a, const void *b)
{
	return strcmp(((const struct index_memory *)a)->m.name,
		      ((const struct index_memory *)b)->m.name);
}

static int move_files(struct commit *c, const uint32_t *number)
{
	struct store_write *w = c->w;
	struct index *x = &c->made->index;
	x->files = calloc(w->file_count + 1, sizeof(*x->files));
	if (!x->files)
		return store_oom(c->e);
	for (size_t i = 0; i < w->file_count; i++) {
		struct file_write *f = w->files[i];
		for (size_t k = 0; k < f->frame_count; k++)
			f->frames[k] = number[f->frames[k]];
		x->files[x->file_count++] = (struct index_file) {
			.name = steal_ptr(&f->name),
			.size = f->size,
			.mode = f->mode,
			.frames = steal_ptr(&f->frames),
			.digests = steal_ptr(&f->digests),
			.frame_count = f->frame_count,
		};
	}
	if (x->file_count)
		qsort(x->files, x->file_count, sizeof(*x->files), file_by_name);
	for (size_t i = 1; i < x->file_count; i++)
		if (strcmp(x->files[i - 1].name, x->files[i].name) == 0)
			return error_set(c->e, EINVAL, "file %s is there twice", x->files[i].name);
	return 0;
}

static void move_memory(struct store_memory_write *m, const uint32_t *number,
			struct index_memory *to)
{
	for (uint64_t i = 0; i < m->pages; i++)
		if (m->frames[i] != STORE_ZERO)
			m->frames[i] = number[m->frames[i]];
	*to = (struct index_memory) {
		.m = { .name = steal_ptr(&m->name),
		       .extents = steal_ptr(&m->extents),
		       .extent_count = m->extent_count,
		       .pages = m->pages,
		       .frames = steal_ptr(&m->frames),
		       .slots = steal_ptr(&m->slots) },
		.digests = steal_ptr(&m->digests),
	};
}

static int move_memories(struct commit *c, const uint32_t *number)
{
	struct store_write *w = c->w;
	struct index *x = &c->made->index;
	x->memories = calloc(w->memory_count + 1, sizeof(*x->memories));
	if (!x->memories)
		return store_oom(c->e);
	for (size_t i = 0; i < w->memory_count; i++)
		move_memory(w->memories[i], number, &x->memories[x->memory_count++]);
	if (x->memory_count)
		qsort(x->memories, x->memory_count, sizeof(*x->memories), memory_by_name);
	return 0;
}

int commit_build_index(struct commit *c, const struct store_meta *meta)
{
	struct store_write *w = c->w;
	cleanup_free uint32_t *number = calloc(w->frame_count + 1, sizeof(*number));
	int r = number ? sort_frames(c, number) : store_oom(c->e);
	if (r == 0)
		r = move_files(c, number);
	if (r == 0)
		r = move_memories(c, number);
	if (r == 0 && meta->spec && !(c->made->index.spec = strdup(meta->spec)))
		r = store_oom(c->e);
	/* What remains of it are frames, and it is large. */
	w->basis_generation = w->basis && w->shared ? w->basis->read->m.meta.generation : 0;
	w->basis = basis_free(w->basis);
	if (r == 0)
		r = index_encode(&c->made->index, &c->text, c->e);
	c->bare = index_bare_len(&c->made->index);
	return r;
}

/* What comes before the digests ends with the first piece that is shorter than others may be:
 * readers that want no more know by that where to stop. */
static size_t piece_len(const struct commit *c, size_t at)
{
	size_t left = (at < c->bare ? c->bare : c->text.len) - at;
	if (at < c->bare && left == STORE_PIECE)
		return STORE_PIECE / 2;
	return left < STORE_PIECE ? left : STORE_PIECE;
}

static int store_pieces(struct commit *c)
{
	struct manifest *m = &c->made->m;
	struct store_write *w = c->w;
	m->index = calloc(c->text.len / STORE_PIECE + 4, sizeof(*m->index));
	if (!m->index)
		return store_oom(c->e);
	for (size_t at = 0; at < c->text.len; m->index_count++) {
		struct cut cut = { .data = (unsigned char *)c->text.data + at,
				   .len = piece_len(c, at) };
		int r = worker_store(w->pipe.workers[0], PACK_COLD, &cut, 1, c->e);
		if (r < 0)
			return r;
		const struct index_frame *f = &w->frames[cut.id];
		m->index[m->index_count] = (struct manifest_piece) {
			.pack = f->at.pack,
			.offset = f->at.offset,
			.stored = f->at.stored,
			.len = f->len,
		};
		at += cut.len;
	}
	return 0;
}

/* Its packs come last. */
int commit_store_index(struct commit *c, size_t *room)
{
	struct manifest *m = &c->made->m;
	size_t before = m->pack_count;
	int r = store_pieces(c);
	for (size_t i = c->data_packs; i < packer_count(c->w->packer) && r == 0; i++)
		r = add_own_pack(c, room, i);
	for (size_t i = 0; i < m->index_count; i++)
		m->index[i].pack = (uint32_t)(before + (m->index[i].pack - c->data_packs));
	return r;
}
