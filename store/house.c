/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "base/fs.h"
#include "base/id.h"
#include "store/internal.h"
#include "store/parallel.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

enum { LIST_AT_ONCE = 64, FORGET_TRIES = 10 };

/* --- listing ------------------------------------------------------------------------ */

struct entry {
	const struct store_object *object;
	struct manifest m;
	int r;
	struct error error;
};

struct listing {
	struct store *store;
	struct store_scan scan;
	struct entry entries[LIST_AT_ONCE];
	size_t count;
	int (*each)(const struct store_meta *meta, void *arg);
	int (*damaged)(const char *session, int64_t generation, const struct error *why, void *arg);
	void *arg;
	int first_r; /* the first that is damaged, told at the end */
	struct error first;
};

static int read_entry(void *arg, size_t i, struct error *e)
{
	(void)e;
	struct listing *l = arg;
	struct entry *entry = &l->entries[i];
	entry->r = store_manifest_read(l->store, entry->object->session, entry->object->generation,
				       NULL, &entry->m, &entry->error);
	return 0;
}

/* One bad manifest must not hide the others. */
static int tell_bad(struct listing *l, const struct entry *entry)
{
	if (entry->r == -ENOENT)
		return 0; /* removed meanwhile */
	if (l->damaged && entry->r == -EBADMSG)
		return l->damaged(entry->object->session, entry->object->generation, &entry->error,
				  l->arg);
	if (l->first_r == 0) {
		l->first_r = entry->r;
		l->first = entry->error;
	}
	return 0;
}

static int tell(struct listing *l)
{
	int r = 0;
	parallel(l->store->local ? 1 : STORE_REQUESTS, l->count, read_entry, l, NULL);
	for (size_t i = 0; i < l->count; i++) {
		struct entry *entry = &l->entries[i];
		const struct store_object *o = entry->object;
		if (r == 0 && entry->r < 0) {
			r = tell_bad(l, entry);
		} else if (r == 0) {
			entry->m.meta.aside = store_scan_find(&l->scan, o->session, o->generation,
							      STORE_KIND_ASIDE, NULL, 0) != NULL;
			r = l->each(&entry->m.meta, l->arg);
		}
		if (entry->r == 0)
			manifest_deinit(&entry->m);
	}
	l->count = 0;
	return r;
}

static int list_all(struct listing *l)
{
	int r = 0;
	for (size_t i = 0; i < l->scan.count && r == 0; i++) {
		if (l->scan.list[i].kind != STORE_KIND_MANIFEST)
			continue;
		l->entries[l->count++] = (struct entry) { .object = &l->scan.list[i] };
		if (l->count == LIST_AT_ONCE)
			r = tell(l);
	}
	return r ? r : tell(l);
}

int store_list(struct store *store, const char *session,
	       int (*each)(const struct store_meta *meta, void *arg),
	       int (*damaged)(const char *session, int64_t generation, const struct error *why,
			      void *arg),
	       void *arg, struct error *e)
{
	struct listing *l = calloc(1, sizeof(*l));
	if (!l)
		return store_oom(e);
	*l = (struct listing) { .store = store, .each = each, .damaged = damaged, .arg = arg };
	int r = store_scan(store, session, -1, &l->scan, e);
	if (r == 0)
		r = list_all(l);
	if (r == 0 && l->first_r) {
		r = l->first_r;
		if (e)
			*e = l->first;
	}
	store_scan_deinit(&l->scan);
	free(l);
	return r;
}

int store_newest(struct store *store, const char *session, int64_t *generation, struct error *e)
{
	struct store_numbers numbers;
	int r = store_numbers(store, session, &numbers, e);
	if (r == 0 && numbers.checkpoint < 0)
		return error_set(e, ENOENT, "session %s has no checkpoint", session);
	if (r == 0)
		*generation = numbers.checkpoint;
	return r;
}

/* --- removing ----------------------------------------------------------------------- */

static int is_fence(struct store *store, const char *session, int64_t generation,
		    const struct object_stat *st, struct error *e)
{
	struct store_object o = { .kind = STORE_KIND_MANIFEST,
				  .generation = generation,
				  .st = *st };
	memcpy(o.session, session, sizeof(o.session));
	return store_is_fence(store, &o, e);
}

/* Its manifest's key, and that of what sets it aside. 1: it is a fence; -ENOENT: there is neither,
 * and *e says nothing of it. */
static int find_manifest(struct store *store, const char *session, int64_t generation,
			 char **manifest, char **aside, struct error *e)
{
	struct object_stat st;
	int r = store_key(session, generation, STORE_MANIFEST, manifest, e);
	if (r == 0)
		r = store_key(session, generation, STORE_ASIDE, aside, e);
	if (r == 0)
		r = object_stat(store->objects, *manifest, &st, e);
	return r < 0 ? r : is_fence(store, session, generation, &st, e);
}

int store_set_aside(struct store *store, const char *session, int64_t generation, struct error *e)
{
	cleanup_free char *manifest = NULL;
	cleanup_free char *aside = NULL;
	int r = find_manifest(store, session, generation, &manifest, &aside, e);
	if (r > 0 || r == -ENOENT)
		return error_set(e, ENOENT, "session %s has no checkpoint %" PRId64, session,
				 generation);
	return r < 0 ? r : object_put(store->objects, aside, "", 0, false, e);
}

int store_remove(struct store *store, const char *session, int64_t generation, struct error *e)
{
	cleanup_free char *manifest = NULL;
	cleanup_free char *aside = NULL;
	int r = find_manifest(store, session, generation, &manifest, &aside, e);
	if (r > 0)
		return error_fault(e, FAULT_CONFLICT,
				   "%" PRId64 " of session %s is no checkpoint but a fence: gc "
				   "removes it when it is old",
				   generation, session);
	if (r == -ENOENT)
		r = 0;
	if (r == 0)
		r = object_remove(store->objects, manifest, e);
	if (r == 0)
		r = object_remove(store->objects, aside, e);
	return r < 0 ? r : store_sweep(store, session, NULL, e);
}

/* `kinds`: their bits. */
static int forget_kinds(struct store *store, const struct store_scan *scan, unsigned kinds,
			size_t *removed, struct error *e)
{
	for (size_t i = 0; i < scan->count; i++) {
		const struct store_object *o = &scan->list[i];
		if (!(kinds & 1u << o->kind))
			continue;
		int r = object_remove(store->objects, o->key, e);
		if (r < 0)
			return r;
		++*removed;
	}
	return 0;
}

/* Manifests first, so that no checkpoint lacks anything; marks after the packs, so that a writer at
 * work sees that it must give up (look_at_all() in commit.c). *removed: how much there was. */
static int forget_data(struct store *store, const char *session, size_t *removed, struct error *e)
{
	static const unsigned order[] = {
		1u << STORE_KIND_MANIFEST,
		1u << STORE_KIND_ASIDE | 1u << STORE_KIND_PACK | 1u << STORE_KIND_SWEEP |
			1u << STORE_OTHER,
		1u << STORE_KIND_MARK,
	};
	cleanup(store_scan_deinit) struct store_scan scan = { 0 };
	int r = store_scan(store, session, -1, &scan, e);
	*removed = 0;
	for (size_t i = 0; i < ARRAY_SIZE(order) && r == 0; i++)
		r = forget_kinds(store, &scan, order[i], removed, e);
	return r;
}

/* What is left: the key, and announcements that a crash has left. */
static int forget_key(struct store *store, const char *session, struct error *e)
{
	cleanup(store_scan_deinit) struct store_scan scan = { 0 };
	size_t removed = 0;
	int r = store_scan(store, session, -1, &scan, e);
	if (r == 0)
		r = forget_kinds(store, &scan, 1u << STORE_KIND_KEY, &removed, e);
	keyring_forget(store->keys, session);
	if (r == 0)
		r = forget_kinds(store, &scan, 1u << STORE_KIND_FORGET, &removed, e);
	return r;
}

/* A writer that begins either sees the announcement and gives up, or its mark is seen in the last
 * look here. So nobody has read the key that is removed at last. */
int store_forget(struct store *store, const char *session, struct error *e)
{
	struct store_writer self = { 0 };
	size_t removed = 1;
	if (!session || !id_valid(session))
		return error_set(e, EINVAL, "\"%.40s\" is not a session", session ? session : "");
	int r = store_announce(store, session, STORE_KIND_FORGET, &self, e);
	for (int i = 0; i < FORGET_TRIES && r == 0 && removed; i++)
		r = forget_data(store, session, &removed, e);
	if (r == 0 && removed)
		r = error_fault(e, FAULT_CONFLICT,
				"session %s is being stored at this moment: cannot forget it",
				session);
	if (r == 0)
		r = forget_key(store, session, e);
	store_announce_end(store, session, STORE_KIND_FORGET, &self);
	return r;
}
