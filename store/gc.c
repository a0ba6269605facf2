/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
/*
 * Removes packs that no manifest names. Manifests come and go and writers take
 * over frames of older packs while this looks, so it looks in this order, one
 * session at a time:
 *
 *	0. marks of dead writers are removed; one live writer, and nothing is done
 *	A. list: the packs that may go
 *	B. read every manifest of that list: what they name stays
 *	C. list again: any mark, or a manifest that was not read, and nothing is done
 *
 * If there is something to remove, all of this is done once more under a mark of
 * the sweep's own, which an import waits for: it puts packs under their old names.
 * docs/store.md says why that is enough.
 */
#include "base/clock.h"
#include "store/internal.h"

#include <errno.h>
#include <string.h>

enum { SWEEP_TRIES = 3 };
#define FENCE_KEPT_MS (INT64_C(7) * 24 * 3600 * 1000)

struct names {
	struct manifest_pack *list;
	size_t count, room;
};

struct sweep {
	struct store *store;
	const char *session;
	struct store_gc *gc;
	struct store_scan before, after;
	struct names names;
	int64_t newest;   /* checkpoint that is not set aside; -1: none */
	char (*dead)[17]; /* writers */
	size_t dead_count;
	bool announced;
	struct error *e;
};

static void sweep_deinit(struct sweep *s)
{
	store_scan_deinit(&s->before);
	store_scan_deinit(&s->after);
	free(s->names.list);
	free(s->dead);
}

static bool is_dead(const struct sweep *s, const char *writer)
{
	for (size_t i = 0; i < s->dead_count; i++)
		if (strcmp(s->dead[i], writer) == 0)
			return true;
	return false;
}

/* Counts what goes, and lets it go. */
static int drop(struct sweep *s, const struct store_object *o)
{
	s->gc->objects++;
	s->gc->bytes += (int64_t)o->st.size;
	return s->gc->dry_run ? 0 : object_remove(s->store->objects, o->key, s->e);
}

static bool is_mark(const struct store_object *o)
{
	return o->kind == STORE_KIND_MARK || o->kind == STORE_KIND_SWEEP ||
	       o->kind == STORE_KIND_FORGET;
}

/* Marks are no part of what is kept. */
static void keep(struct sweep *s, const struct store_object *o)
{
	if (is_mark(o))
		return;
	s->gc->kept_objects++;
	s->gc->kept_bytes += (int64_t)o->st.size;
}

static void keep_all(struct sweep *s)
{
	for (size_t i = 0; i < s->before.count; i++)
		keep(s, &s->before.list[i]);
}

/* 1: a writer is at work. */
static int bury(struct sweep *s)
{
	int alive = 0;
	s->dead = calloc(s->before.count + 1, sizeof(*s->dead));
	if (!s->dead)
		return store_oom(s->e);
	for (size_t i = 0; i < s->before.count; i++) {
		const struct store_object *o = &s->before.list[i];
		bool live;
		if (!is_mark(o))
			continue;
		int r = 0;
		live = o->kind == STORE_KIND_MARK && s->gc->live &&
		       s->gc->live(o->session, o->generation, s->gc->arg);
		if (!live)
			r = store_mark_live(s->store, o, &live, s->e);
		if (r == 0 && live)
			alive |= o->kind == STORE_KIND_MARK;
		else if (r == 0) {
			memcpy(s->dead[s->dead_count++], o->writer, sizeof(*s->dead));
			r = drop(s, o);
		}
		if (r < 0)
			return r;
	}
	return alive;
}

static int note_names(struct names *n, const struct manifest *m, struct error *e)
{
	if (n->count + m->pack_count > n->room) {
		size_t room = n->room * 2 + m->pack_count;
		struct manifest_pack *list = realloc(n->list, room * sizeof(*list));
		if (!list)
			return store_oom(e);
		n->list = list;
		n->room = room;
	}
	if (m->pack_count)
		memcpy(n->list + n->count, m->packs, m->pack_count * sizeof(*m->packs));
	n->count += m->pack_count;
	return 0;
}

static int by_name(const void *a, const void *b)
{
	const struct manifest_pack *x = a;
	const struct manifest_pack *y = b;
	if (x->generation != y->generation)
		return x->generation < y->generation ? -1 : 1;
	int order = strcmp(x->writer, y->writer);
	return order ? order : (x->number > y->number) - (x->number < y->number);
}

/* 1: one of them is damaged, so nobody knows what it needs. */
static int read_manifests(struct sweep *s)
{
	for (size_t i = 0; i < s->before.count; i++) {
		const struct store_object *o = &s->before.list[i];
		cleanup(manifest_deinit) struct manifest m = { 0 };
		if (o->kind != STORE_KIND_MANIFEST)
			continue;
		int r = store_manifest_read(s->store, o->session, o->generation, NULL, &m, s->e);
		if (r == -EBADMSG)
			return 1;
		if (r == 0 && !store_scan_find(&s->before, o->session, o->generation,
					       STORE_KIND_ASIDE, NULL, 0))
			s->newest = o->generation;
		if (r == 0)
			r = note_names(&s->names, &m, s->e);
		if (r < 0 && r != -ENOENT)
			return r;
	}
	if (s->names.count)
		qsort(s->names.list, s->names.count, sizeof(*s->names.list), by_name);
	return 0;
}

/* One that is old and below a checkpoint: nobody can be about to store what it is there to stop. */
static bool is_old_fence(const struct sweep *s, const struct store_object *o)
{
	return o->kind == STORE_KIND_MANIFEST && o->generation < s->newest &&
	       clock_wall() > o->st.modified_at + FENCE_KEPT_MS &&
	       store_is_fence(s->store, o, NULL) > 0;
}

/* A checkpoint's own pack, mark and set-aside are known by their names alone. */
static bool is_garbage(const struct sweep *s, const struct store_object *o)
{
	struct manifest_pack wanted = { .generation = o->generation, .number = o->number };
	memcpy(wanted.writer, o->writer, sizeof(wanted.writer));
	if (o->kind == STORE_KIND_PACK)
		return !s->names.count ||
		       !bsearch(&wanted, s->names.list, s->names.count, sizeof(wanted), by_name);
	if (o->kind == STORE_KIND_MANIFEST)
		return is_old_fence(s, o);
	return o->kind == STORE_KIND_ASIDE &&
	       !store_scan_find(&s->after, o->session, o->generation, STORE_KIND_MANIFEST, NULL, 0);
}

/* 1: somebody has come meanwhile. */
static int look_again(struct sweep *s)
{
	int r = store_scan(s->store, s->session, -1, &s->after, s->e);
	for (size_t i = 0; i < s->after.count && r == 0; i++) {
		const struct store_object *o = &s->after.list[i];
		if (o->kind == STORE_KIND_MARK)
			r = !is_dead(s, o->writer);
		else if (o->kind == STORE_KIND_MANIFEST)
			r = !store_scan_find(&s->before, o->session, o->generation,
					     STORE_KIND_MANIFEST, NULL, 0);
	}
	return r;
}

static bool any_garbage(const struct sweep *s)
{
	for (size_t i = 0; i < s->before.count; i++)
		if (is_garbage(s, &s->before.list[i]))
			return true;
	return false;
}

static int remove_garbage(struct sweep *s)
{
	int r = 0;
	for (size_t i = 0; i < s->before.count && r == 0; i++) {
		const struct store_object *o = &s->before.list[i];
		if (is_garbage(s, o))
			r = drop(s, o);
		else
			keep(s, o);
	}
	return r;
}

static bool any_marks(const struct store_scan *scan)
{
	for (size_t i = 0; i < scan->count; i++)
		if (is_mark(&scan->list[i]))
			return true;
	return false;
}

enum outcome { DONE, AGAIN, ANNOUNCE, LEAVE };

static int look(struct sweep *s)
{
	int r = store_scan(s->store, s->session, -1, &s->before, s->e);
	if (r == 0 && any_marks(&s->before)) {
		r = bury(s);
		if (r)
			return r < 0 ? r : LEAVE;
		store_scan_deinit(&s->before);
		r = store_scan(s->store, s->session, -1, &s->before, s->e);
	}
	if (r == 0)
		r = read_manifests(s);
	if (r)
		return r < 0 ? r : LEAVE;
	r = look_again(s);
	return r > 0 ? AGAIN : r;
}

static int try_sweep(struct sweep *s, bool last)
{
	int r = look(s);
	if (r == LEAVE || (r == AGAIN && last)) {
		keep_all(s);
		return DONE;
	}
	if (r == 0 && !s->announced && !s->gc->dry_run && any_garbage(s))
		return ANNOUNCE;
	return r ? r : remove_garbage(s);
}

static int sweep(struct store *store, const char *session, struct store_gc *gc,
		 struct store_writer *self, struct error *e)
{
	int r = AGAIN;
	for (int i = 1; i <= SWEEP_TRIES && r > 0; i++) {
		cleanup(sweep_deinit) struct sweep s = { .store = store,
							 .session = session,
							 .gc = gc,
							 .newest = -1,
							 .announced = self->id[0],
							 .e = e };
		int64_t objects = gc->objects;
		int64_t bytes = gc->bytes;
		r = try_sweep(&s, i == SWEEP_TRIES);
		if (r == ANNOUNCE) {
			int begun = store_announce(store, session, STORE_KIND_SWEEP, self, e);
			if (begun < 0)
				return begun;
			i = 0;
		}
		if (r > 0 && gc->dry_run) { /* the same marks will be counted again */
			gc->objects = objects;
			gc->bytes = bytes;
		}
	}
	return r;
}

int store_sweep(struct store *store, const char *session, struct store_gc *gc, struct error *e)
{
	struct store_gc none = { 0 };
	struct store_writer self = { 0 };
	int r = sweep(store, session, gc ? gc : &none, &self, e);
	store_announce_end(store, session, STORE_KIND_SWEEP, &self);
	return r;
}

int store_gc(struct store *store, struct store_gc *gc, struct error *e)
{
	cleanup(store_scan_deinit) struct store_scan scan = { 0 };
	gc->objects = gc->bytes = gc->kept_objects = gc->kept_bytes = 0;
	int r = store_scan(store, NULL, -1, &scan, e);
	for (size_t i = 0; i < scan.count && r == 0; i++) {
		if (i && strcmp(scan.list[i - 1].session, scan.list[i].session) == 0)
			continue;
		r = store_sweep(store, scan.list[i].session, gc, e);
		if (r == 0 && gc->progress)
			gc->progress(i + 1, scan.count, gc->arg);
	}
	if (r == 0 && gc->progress)
		gc->progress(scan.count, scan.count, gc->arg);
	return r;
}
