/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
/*
 * From what was written to a checkpoint. Our packs are numbered as they were
 * opened: first those with data, and after the older ones that frames were taken
 * over from, those with the index.
 */
#include "base/clock.h"
#include "store/fence.h"
#include "store/writing.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

enum { SAMPLE = 8 }; /* frames read back in a sample */

struct commit {
	struct store_write *w;
	struct store_read *made; /* as if it had been read */
	struct buf text;         /* of the index */
	size_t bare;             /* ... before its digests */
	struct buf manifest;
	char *key;  /* the manifest's */
	bool put;   /* it was, for certain */
	bool wrong; /* ... or all it stands for, is not there as it was written */
	int back;   /* what reading it back gave */
	size_t data_packs;
	struct error *e;
};

static void commit_deinit(struct commit *c)
{
	store_read_free(c->made);
	buf_deinit(&c->text);
	buf_deinit(&c->manifest);
	free(c->key);
}

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

static int list_packs(struct commit *c, size_t *room)
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

static int build_index(struct commit *c, const struct store_meta *meta)
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
static int store_index(struct commit *c, size_t *room)
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

/* --- the manifest ------------------------------------------------------------------- */

static void fill_meta(struct commit *c, struct store_meta *meta)
{
	const struct manifest *m = &c->made->m;
	struct store_write *w = c->w;
	memcpy(meta->session, w->session, sizeof(meta->session));
	meta->generation = w->generation;
	meta->basis = w->basis_generation;
	meta->shared_bytes = (int64_t)w->shared;
	meta->stored_bytes = meta->objects = 0;
	for (size_t i = 0; i < m->pack_count; i++)
		if (m->packs[i].generation == w->generation) {
			meta->stored_bytes += (int64_t)m->packs[i].size;
			meta->objects++;
		}
	meta->aside = false;
	if (!meta->created_at)
		meta->created_at = clock_wall();
}

static int make_manifest(struct commit *c, struct store_meta *meta)
{
	struct manifest *m = &c->made->m;
	struct store_write *w = c->w;
	for (size_t i = 0; i < m->pack_count; i++)
		if (m->packs[i].generation == w->generation)
			m->packs[i].size = packer_size(w->packer, m->packs[i].number);
	memcpy(m->writer, w->id, sizeof(m->writer));
	fill_meta(c, meta);
	/* Its strings are the caller's, and borrowed only here. */
	m->meta = *meta;
	m->meta.spec = NULL;
	int r = manifest_encode(m, &w->keys.mac, &c->manifest, c->e);
	m->meta = (struct store_meta) { .generation = meta->generation };
	memcpy(m->meta.session, meta->session, sizeof(m->meta.session));
	return r;
}

enum whose { OURS, THEIRS, FENCED, NOBODYS, UNKNOWN };

/* Both: only what proves itself is somebody else's, for what arrives may be wrong. */
static bool is_fence(struct commit *c, const struct buf *back)
{
	return fence_is(back->data, back->len) &&
	       store_tell_fence(c->key, back, &c->w->keys.mac, c->w->session, c->w->generation,
				EEXIST, NULL) == -EEXIST;
}

static bool is_theirs(struct commit *c, const struct buf *back)
{
	cleanup(manifest_deinit) struct manifest m = { 0 };
	int r = manifest_decode(back->data, back->len, &c->w->keys.mac, &m, NULL);
	return r == 0 && strcmp(m.writer, c->w->id) != 0;
}

static enum whose ask_whose(struct commit *c)
{
	cleanup_buf struct buf back = BUF_INIT(MANIFEST_MAX_BYTES);
	int r = object_read_all(c->w->store->objects, c->key, &back, NULL);
	c->back = r;
	if (r < 0)
		return r == -ENOENT ? NOBODYS : UNKNOWN;
	if (back.len == c->manifest.len && memcmp(back.data, c->manifest.data, back.len) == 0)
		return OURS;
	if (is_fence(c, &back))
		return FENCED;
	return is_theirs(c, &back) ? THEIRS : UNKNOWN;
}

static int tell_not_ours(struct commit *c, enum whose whose)
{
	const struct store_write *w = c->w;
	if (whose == FENCED)
		return store_refuse_taken(w->store, w->session, w->generation, c->e);
	return error_set(c->e, EEXIST,
			 "another writer has stored checkpoint %" PRId64 " of session %s meanwhile",
			 w->generation, w->session);
}

/* What is there tells, and not the answer: that may be lost, or be to a request made twice. */
static int put_manifest(struct commit *c)
{
	int r = object_put(c->w->store->objects, c->key, c->manifest.data, c->manifest.len, true,
			   c->e);
	enum whose whose = ask_whose(c);
	if (whose == UNKNOWN)
		whose = ask_whose(c);
	c->put = whose == OURS || (r == 0 && whose == UNKNOWN);
	if (whose == OURS) {
		error_clear(c->e);
		return 0;
	}
	if (whose == THEIRS || whose == FENCED)
		return tell_not_ours(c, whose);
	if (r < 0 && r != -EEXIST)
		return r;
	c->wrong = c->back == 0 || c->back == -ENOENT;
	if (c->back < 0)
		return error_set(c->e, -c->back, "object %s: cannot be read back", c->key);
	return error_set(c->e, EBADMSG, "object %s: read back, it is not what was written", c->key);
}

/*
 * While it may be there its packs must be too. And one that is there and not known to be wrong may
 * be what another node restores from at this moment, having fenced us just behind it: it stays.
 */
static void take_back_manifest(struct commit *c)
{
	enum whose whose = c->put ? OURS : ask_whose(c);
	bool stays = whose == UNKNOWN || (whose == OURS && !c->wrong);
	if (!stays && c->wrong)
		stays = object_remove(c->w->store->objects, c->key, NULL) < 0;
	c->w->keep = stays;
}

/* --- reading back ------------------------------------------------------------------- */

struct comparison {
	const struct buf *text;
	size_t at;
};

static int compare_piece(size_t i, const void *data, size_t len, void *arg)
{
	(void)i;
	struct comparison *c = arg;
	int r = memcmp(c->text->data + c->at, data, len) == 0 ? 0 : 1;
	c->at += len;
	return r;
}

static int read_back_index(struct commit *c)
{
	struct comparison with = { .text = &c->text };
	int r = store_read_index(c->made, false, true, compare_piece, &with, c->e);
	return r > 0 ? error_set(c->e, EBADMSG, "the index, read back, is not what was written")
		     : r;
}

static int read_back(struct commit *c, enum store_verify verify)
{
	struct store_write *w = c->w;
	int r = fetch_new(w->store, &w->keys, &c->made->m, &c->made->fetch, c->e);
	if (r == 0)
		r = read_back_index(c);
	if (r == 0)
		r = store_verify_frames(c->made, verify == STORE_VERIFY_ALL ? 0 : SAMPLE, NULL,
					NULL, c->e);
	return r;
}

/* All is there, and our mark still is: whoever took it for dead may be removing our packs. */
static int look_at_all(struct commit *c)
{
	struct store_write *w = c->w;
	cleanup(store_scan_deinit) struct store_scan scan = { 0 };
	int r = store_scan(w->store, w->session, -1, &scan, c->e);
	if (r == 0)
		r = store_check_packs(w->store, &c->made->m, &scan, c->e);
	if (r == 0 && !store_scan_find(&scan, w->session, w->generation, STORE_KIND_MARK, w->id, 0))
		r = error_fault(c->e, FAULT_CONFLICT,
				"session %s was removed, or cleaned up after, while its checkpoint "
				"%" PRId64 " was stored",
				w->session, w->generation);
	return r;
}

/* A store that does not answer says nothing about what is in it. */
static int look_twice(struct commit *c)
{
	int r = look_at_all(c);
	if (r < 0) {
		error_clear(c->e);
		r = look_at_all(c);
	}
	c->wrong = r == -EBADMSG || r == -fault_errno(FAULT_CONFLICT);
	return r;
}

static int publish(struct commit *c, enum store_verify verify)
{
	struct store_write *w = c->w;
	int r = store_key(w->session, w->generation, STORE_MANIFEST, &c->key, c->e);
	if (r == 0)
		r = read_back(c, verify);
	if (r < 0)
		return r;
	r = put_manifest(c);
	if (r == 0)
		r = look_twice(c);
	if (r < 0 && r != -EEXIST)
		take_back_manifest(c);
	return r;
}

static int check_memories(struct store_write *w, struct error *e)
{
	for (size_t i = 0; i < w->memory_count; i++)
		if (!w->memories[i]->ended)
			return error_set(e, EINVAL, "memory %s has not been ended",
					 w->memories[i]->name);
	return 0;
}

/* Nobody works at anything: the first worker's tools can be used here. */
static int finish_data(struct store_write *w, struct error *e)
{
	int r = pipe_drain(w, e);
	if (r == 0)
		r = check_memories(w, e);
	if (r == 0)
		r = worker_flush_hot(w->pipe.workers[0], e);
	packer_close(w->packer);
	return r;
}

static int commit(struct commit *c, struct store_meta *meta, enum store_verify verify)
{
	size_t room = 0;
	int r = finish_data(c->w, c->e);
	if (r == 0)
		r = list_packs(c, &room);
	if (r == 0)
		r = build_index(c, meta);
	if (r == 0)
		r = store_index(c, &room);
	packer_close(c->w->packer);
	if (r == 0)
		r = packer_wait(c->w->packer, c->e);
	if (r == 0)
		r = make_manifest(c, meta);
	if (r == 0)
		r = publish(c, verify);
	return r;
}

int store_write_commit(struct store_write *w, struct store_meta *meta, enum store_verify verify,
		       struct error *e)
{
	struct error why = ERROR_INIT; /* wanted here even where the caller wants none */
	cleanup(commit_deinit) struct commit c = {
		.w = w,
		.text = BUF_INIT(SIZE_MAX / 2),
		.manifest = BUF_INIT(MANIFEST_MAX_BYTES),
		.e = &why,
	};
	if (w->tried)
		return error_set(e, EINVAL, "a checkpoint can be committed only once");
	w->tried = true;
	c.made = calloc(1, sizeof(*c.made));
	int r = c.made ? failure_check(&w->failure, &why) : store_oom(&why);
	if (c.made)
		c.made->store = w->store;
	if (r == 0)
		r = commit(&c, meta, verify);
	if (r < 0)
		failure_note(&w->failure, r, &why);
	w->committed = r == 0;
	write_stop(w);
	if (r < 0)
		write_take_back(w);
	else
		store_unmark(w->store, w->session, w->generation, &w->writer);
	if (r < 0 && e)
		*e = why;
	return r;
}
