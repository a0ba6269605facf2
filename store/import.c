/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
/*
 * Puts objects of an export under the names they had, for their frames open
 * nowhere else. Those names may be known to a sweep that is removing just them:
 * so no import while one is at work.
 */
#include "base/fs.h"
#include "store/reading.h"
#include "store/tar.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <time.h>

enum { KEY_MOST = 4096, SWEEP_TRIES = 3000, SWEEP_PAUSE_MS = 20 };

struct import {
	struct store *store;
	struct tar *tar;
	struct store_writer writer;
	struct buf text; /* the manifest's */
	char *key;       /* ... and its key */
	struct manifest m;
	bool had_key; /* the session has one here */
	bool key_fits;
	char **keys; /* that we put */
	size_t key_count;
	unsigned char *pack;
	uint64_t done, total;
	void (*progress)(uint64_t done, uint64_t total, void *arg);
	void *arg;
	struct error *e;
};

static void import_deinit(struct import *m)
{
	tar_free(m->tar);
	buf_deinit(&m->text);
	free(m->key);
	manifest_deinit(&m->m);
	for (size_t i = 0; i < m->key_count; i++)
		free(m->keys[i]);
	free(m->keys);
	free(m->pack);
}

static int not_ours(struct import *m)
{
	int r = error_set(m->e, EBADMSG, "the archive is not an export of a checkpoint");
	return error_remedy(m->e, r, "give the output of `elsa store export`");
}

static int read_text(struct import *m, struct buf *to, uint64_t size)
{
	cleanup_free char *data = size < to->cap ? malloc(size + 1) : NULL;
	if (size >= to->cap)
		return not_ours(m);
	if (!data)
		return store_oom(m->e);
	int r = tar_read(m->tar, data, (size_t)size, m->e);
	if (r == 0 && buf_append(to, data, (size_t)size) < 0)
		r = store_oom(m->e);
	return r;
}

/* --- what comes first ------------------------------------------------------------------ */

static int read_manifest(struct import *m)
{
	struct store_object o = { 0 };
	const char *name;
	uint64_t size;
	int r = tar_next(m->tar, &name, &size, m->e);
	if (r > 0)
		store_key_parse(name, &o);
	if (r < 0 || o.kind != STORE_KIND_MANIFEST)
		return r < 0 ? r : not_ours(m);
	m->key = strdup(name);
	r = m->key ? read_text(m, &m->text, size) : store_oom(m->e);
	if (r == 0)
		r = store_manifest_decode(m->key, &m->text, NULL, o.session, o.generation, &m->m,
					  m->e);
	for (size_t i = 0; i < m->m.pack_count && r == 0; i++) {
		m->total += m->m.packs[i].size;
		if (m->m.packs[i].size > STORE_PACK_MOST)
			r = not_ours(m);
	}
	return r;
}

static int check_new(struct import *m)
{
	struct object_stat st;
	int r = object_stat(m->store->objects, m->key, &st, m->e);
	if (r == 0)
		return store_refuse_taken(m->store, m->m.meta.session, m->m.meta.generation, m->e);
	return r == -ENOENT ? 0 : r;
}

/* 1: somebody sweeps. */
static int look(struct import *m)
{
	cleanup(store_scan_deinit) struct store_scan scan = { 0 };
	int r = store_scan(m->store, m->m.meta.session, -1, &scan, m->e);
	for (size_t i = 0; i < scan.count && r == 0; i++) {
		bool live = false;
		m->had_key |= scan.list[i].kind == STORE_KIND_KEY;
		if (scan.list[i].kind == STORE_KIND_SWEEP || scan.list[i].kind == STORE_KIND_FORGET)
			r = store_mark_live(m->store, &scan.list[i], &live, m->e);
		if (live)
			r = 1;
	}
	return r;
}

/* After our mark is there. A sweep that begins later sees it. */
static int wait_for_sweeps(struct import *m)
{
	int r = look(m);
	for (int i = 0; r > 0 && i < SWEEP_TRIES; i++) {
		nanosleep(&(struct timespec) { .tv_nsec = SWEEP_PAUSE_MS * 1000000L }, NULL);
		r = look(m);
	}
	return r > 0 ? error_set(m->e, EBUSY, "session %s is being cleaned up after",
				 m->m.meta.session)
		     : r;
}

/* --- the rest -------------------------------------------------------------------------- */

static const struct manifest_pack *find_pack(const struct import *m, const struct store_object *o)
{
	for (size_t i = 0; i < m->m.pack_count; i++) {
		const struct manifest_pack *p = &m->m.packs[i];
		if (p->generation == o->generation && p->number == o->number &&
		    strcmp(p->writer, o->writer) == 0)
			return p;
	}
	return NULL;
}

/* A key that nobody here can unwrap would keep the session from being stored. */
static int check_key(struct import *m)
{
	struct seal_key key;
	int r = m->key_fits ? 0
			    : keyring_session(m->store->keys, m->m.meta.session, false, &key, m->e);
	m->key_fits = r == 0;
	return r == -ENOENT ? not_ours(m) : r;
}

static int put_pack(struct import *m, const char *name, const struct store_object *o, uint64_t size)
{
	const struct manifest_pack *p = find_pack(m, o);
	if (!p || p->size != size)
		return not_ours(m);
	if (!m->pack && !(m->pack = malloc(STORE_PACK_MOST)))
		return store_oom(m->e);
	int r = check_key(m);
	if (r == 0)
		r = tar_read(m->tar, m->pack, (size_t)size, m->e);
	if (r == 0)
		r = object_put(m->store->objects, name, m->pack, (size_t)size, true, m->e);
	if (r == -EEXIST) /* shared with another checkpoint; what it is will be read below */
		r = 0;
	m->done += size;
	if (r == 0 && m->progress)
		m->progress(m->done, m->total * 2, m->arg);
	return r;
}

static int put_key(struct import *m, const char *name, uint64_t size)
{
	cleanup_buf struct buf text = BUF_INIT(KEY_MOST);
	int r = read_text(m, &text, size);
	if (r < 0 || m->had_key)
		return r;
	char **keys = realloc(m->keys, (m->key_count + 1) * sizeof(*keys));
	if (!keys)
		return store_oom(m->e);
	m->keys = keys;
	keys[m->key_count] = strdup(name);
	if (!keys[m->key_count])
		return store_oom(m->e);
	r = object_put(m->store->objects, name, buf_text(&text), text.len, true, m->e);
	if (r == -EEXIST) /* somebody stores the session at this moment: that one counts */
		free(keys[m->key_count]);
	else
		m->key_count++;
	return r == -EEXIST ? 0 : r;
}

static int put_objects(struct import *m)
{
	const char *name;
	uint64_t size;
	int r;
	while ((r = tar_next(m->tar, &name, &size, m->e)) > 0) {
		struct store_object o;
		store_key_parse(name, &o);
		if (strcmp(o.session, m->m.meta.session) != 0)
			return not_ours(m);
		if (o.kind == STORE_KIND_PACK)
			r = put_pack(m, name, &o, size);
		else if (o.kind == STORE_KIND_KEY)
			r = put_key(m, name, size);
		else
			r = not_ours(m);
		if (r < 0)
			return r;
	}
	return r;
}

static void second_half(uint64_t done, uint64_t total, void *arg)
{
	const struct import *m = arg;
	(void)total;
	if (m->progress)
		m->progress(m->total + done, m->total * 2, m->arg);
}

/* Opens every frame with the session's key. */
static int verify(struct import *m, struct store_meta *meta)
{
	struct store_keys keys;
	struct manifest again;
	cleanup(store_read_freep) struct store_read *read = NULL;
	const char *session = m->m.meta.session;
	int r = check_key(m);
	if (r == 0)
		r = store_keys_get(m->store, session, false, &keys, m->e);
	if (r == 0)
		r = store_manifest_decode(m->key, &m->text, &keys.mac, session,
					  m->m.meta.generation, &again, m->e);
	if (r < 0 && m->had_key)
		return error_remedy(m->e, r,
				    "the session has a key in this store already: if it is not "
				    "the one it was exported with, `elsa store rm` its "
				    "checkpoints here first");
	if (r == 0)
		r = store_check_packs(m->store, &m->m, NULL, m->e);
	if (r == 0)
		r = store_read_from(m->store, &keys, &again, false, &read, m->e);
	if (r == 0)
		r = store_read_verify(read, second_half, m, m->e);
	if (r != 0)
		return r;
	*meta = read->m.meta;
	read->m.meta = (struct store_meta) { 0 };
	return 0;
}

static bool is_put(struct import *m, int *r)
{
	cleanup_buf struct buf back = BUF_INIT(MANIFEST_MAX_BYTES);
	*r = object_read_all(m->store->objects, m->key, &back, m->e);
	return *r == 0 && back.len == m->text.len && memcmp(back.data, m->text.data, back.len) == 0;
}

/* All is there, and our mark still is. */
static int look_at_all(struct import *m)
{
	cleanup(store_scan_deinit) struct store_scan scan = { 0 };
	const struct store_meta *meta = &m->m.meta;
	int r = store_scan(m->store, meta->session, -1, &scan, m->e);
	if (r == 0)
		r = store_check_packs(m->store, &m->m, &scan, m->e);
	if (r == 0 && !store_scan_find(&scan, meta->session, meta->generation, STORE_KIND_MARK,
				       m->writer.id, 0))
		r = error_fault(m->e, FAULT_CONFLICT,
				"session %s was removed, or cleaned up after, meanwhile",
				meta->session);
	return r;
}

static int publish(struct import *m)
{
	int back;
	int r = object_put(m->store->objects, m->key, m->text.data, m->text.len, true, m->e);
	if (r == -EEXIST)
		return error_set(m->e, EEXIST, "session %s already has a checkpoint %" PRId64,
				 m->m.meta.session, m->m.meta.generation);
	if (r == 0 && !is_put(m, &back))
		r = back < 0
			    ? back
			    : error_set(m->e, EBADMSG,
					"object %s: read back, it is not what was written", m->key);
	if (r == 0)
		r = look_at_all(m);
	if (r < 0) {
		struct error *told = m->e;
		m->e = NULL;
		if (is_put(m, &back))
			object_remove(m->store->objects, m->key, NULL);
		m->e = told;
	}
	return r;
}

/* Packs are left to the sweep, and a key that fits to whoever may use it already. */
static void take_back(struct import *m)
{
	for (size_t i = 0; i < m->key_count && !m->key_fits; i++)
		object_remove(m->store->objects, m->keys[i], NULL);
	keyring_forget(m->store->keys, m->m.meta.session);
	store_unmark(m->store, m->m.meta.session, m->m.meta.generation, &m->writer);
	store_sweep(m->store, m->m.meta.session, NULL, NULL);
}

static int import(struct import *m, struct store_meta *meta)
{
	int r = read_manifest(m);
	if (r == 0)
		r = check_new(m);
	if (r < 0)
		return r;
	r = store_mark(m->store, m->m.meta.session, m->m.meta.generation, &m->writer, m->e);
	if (r == 0)
		r = wait_for_sweeps(m);
	if (r == 0)
		r = put_objects(m);
	if (r == 0)
		r = verify(m, meta);
	if (r == 0 && (r = publish(m)) < 0)
		store_meta_deinit(meta);
	if (r == 0 && m->progress)
		m->progress(m->total * 2, m->total * 2, m->arg);
	if (r < 0)
		take_back(m);
	else
		store_unmark(m->store, m->m.meta.session, m->m.meta.generation, &m->writer);
	return r;
}

int store_import(struct store *store, int fd, struct store_meta *meta,
		 void (*progress)(uint64_t done, uint64_t total, void *arg), void *arg,
		 struct error *e)
{
	cleanup(import_deinit) struct import m = {
		.store = store,
		.text = BUF_INIT(MANIFEST_MAX_BYTES + 1),
		.progress = progress,
		.arg = arg,
		.e = e,
	};
	int r = tar_read_open(fd, &m.tar, e);
	return r < 0 ? r : import(&m, meta);
}
