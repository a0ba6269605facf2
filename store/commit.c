/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
/* From what was written to a checkpoint: the manifest, and whether it is there. */
#include "base/clock.h"
#include "store/committing.h"
#include "store/fence.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

enum { SAMPLE = 8 }; /* frames read back in a sample */

static void commit_deinit(struct commit *c)
{
	store_read_free(c->made);
	buf_deinit(&c->text);
	buf_deinit(&c->manifest);
	free(c->key);
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
		r = commit_list_packs(c, &room);
	if (r == 0)
		r = commit_build_index(c, meta);
	if (r == 0)
		r = commit_store_index(c, &room);
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
