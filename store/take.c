/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
/*
 * Fences. A taker goes over the numbers upwards, so that whichever of them a
 * writer is about to commit is either found with a manifest, and then what comes
 * of it counts, or is the taker's before.
 */
#include "base/clock.h"
#include "base/id.h"
#include "store/fence.h"
#include "store/internal.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

enum { TAKE_TRIES = 64 };
#define MAX_TAKEN (INT64_C(1) << 49)

/* --- seeing one ----------------------------------------------------------------------- */

int store_tell_fence(const char *key, const struct buf *text, const struct seal_key *mac_key,
		     const char *session, int64_t generation, int code, struct error *e)
{
	struct fence f;
	char when[CLOCK_TEXT_SIZE];
	int r = fence_decode(text->data, text->len, mac_key, &f, e);
	if (r == 0 && (strcmp(f.session, session) != 0 || f.generation != generation))
		r = error_set(e, EBADMSG, "it belongs to generation %" PRId64 " of session %s",
			      f.generation, f.session);
	if (r < 0)
		return store_damage(e, error_wrap(e, r, "object %s", key));
	return error_set(e, code,
			 "%" PRId64 " of session %s is no checkpoint: the number was taken, "
			 "fenced at %s by %s",
			 generation, session, clock_format(f.taken_at, when), f.by);
}

static int read_fence(struct store *store, const char *session, int64_t generation,
		      struct buf *text, struct error *e)
{
	cleanup_free char *key = NULL;
	int r = store_key(session, generation, STORE_MANIFEST, &key, e);
	if (r == 0)
		r = object_read_all(store->objects, key, text, e);
	return r;
}

/* Most manifests are larger than a fence may be. */
int store_is_fence(struct store *store, const struct store_object *o, struct error *e)
{
	cleanup_buf struct buf text = BUF_INIT(FENCE_MAX_BYTES);
	if (o->kind != STORE_KIND_MANIFEST || o->st.size > FENCE_MAX_BYTES)
		return 0;
	int r = read_fence(store, o->session, o->generation, &text, e);
	if (r == -ENOENT || r == -EBADMSG) {
		error_clear(e);
		return 0;
	}
	return r < 0 ? r : fence_is(text.data, text.len);
}

int store_refuse_taken(struct store *store, const char *session, int64_t generation,
		       struct error *e)
{
	cleanup_buf struct buf text = BUF_INIT(FENCE_MAX_BYTES);
	int r = read_fence(store, session, generation, &text, NULL);
	if (r == 0 && fence_is(text.data, text.len))
		return store_tell_fence("", &text, NULL, session, generation, EEXIST, e);
	return error_set(e, EEXIST, "session %s already has a checkpoint %" PRId64, session,
			 generation);
}

int store_numbers_in(struct store *store, const struct store_scan *scan, const char *session,
		     struct store_numbers *n, struct error *e)
{
	*n = (struct store_numbers) { -1, -1, -1 };
	for (size_t i = scan->count; i-- > 0 && (n->checkpoint < 0 || n->fence < 0);) {
		const struct store_object *o = &scan->list[i];
		if (o->kind != STORE_KIND_MANIFEST)
			continue;
		int fence = store_is_fence(store, o, e);
		if (fence < 0)
			return fence;
		if (n->used < 0)
			n->used = o->generation;
		if (fence && n->fence < 0)
			n->fence = o->generation;
		if (!fence && n->checkpoint < 0 &&
		    !store_scan_find(scan, session, o->generation, STORE_KIND_ASIDE, NULL, 0))
			n->checkpoint = o->generation;
	}
	return 0;
}

int store_numbers(struct store *store, const char *session, struct store_numbers *numbers,
		  struct error *e)
{
	cleanup(store_scan_deinit) struct store_scan scan = { 0 };
	int r = session ? store_scan(store, session, -1, &scan, e)
			: error_set(e, EINVAL, "no session given");
	return r < 0 ? r : store_numbers_in(store, &scan, session, numbers, e);
}

int store_list_fences(struct store *store, const char *session,
		      int (*each)(const char *session, int64_t generation, int64_t taken_at,
				  const char *by, void *arg),
		      void *arg, struct error *e)
{
	cleanup(store_scan_deinit) struct store_scan scan = { 0 };
	int r = store_scan(store, session, -1, &scan, e);
	for (size_t i = 0; i < scan.count && r == 0; i++) {
		const struct store_object *o = &scan.list[i];
		cleanup_buf struct buf text = BUF_INIT(FENCE_MAX_BYTES);
		struct fence f;
		if (o->kind != STORE_KIND_MANIFEST || o->st.size > FENCE_MAX_BYTES)
			continue;
		r = read_fence(store, o->session, o->generation, &text, e);
		if (r == 0 && fence_decode(text.data, text.len, NULL, &f, NULL) == 0)
			r = each(o->session, o->generation, f.taken_at, f.by, arg);
		else if (r == -ENOENT || r == -EBADMSG)
			r = 0;
	}
	return r;
}

/* --- taking --------------------------------------------------------------------------- */

struct take {
	struct store *store;
	const char *session;
	int64_t at_least;
	struct store_keys keys;
	struct store_writer self;
	struct fence fence; /* as it will be put */
	struct store_numbers numbers;
	struct error *e;
};

/* 1: something else lies there; -ENOENT: nothing. */
static int compare_back(struct take *t, const char *key, const struct buf *text)
{
	cleanup_buf struct buf back = BUF_INIT(FENCE_MAX_BYTES);
	int r = object_read_all(t->store->objects, key, &back, NULL);
	if (r == -EBADMSG)
		return 1; /* too large for a fence */
	return r < 0 ? r : back.len != text->len || memcmp(back.data, text->data, back.len) != 0;
}

/* 1: somebody else has that number now. An answer may have been lost, and the request repeated. */
static int take_number(struct take *t, int64_t number)
{
	cleanup_free char *key = NULL;
	cleanup_buf struct buf text = BUF_INIT(FENCE_MAX_BYTES);
	t->fence.generation = number;
	int r = fence_encode(&t->fence, &t->keys.mac, &text, t->e);
	if (r == 0)
		r = store_key(t->session, number, STORE_MANIFEST, &key, t->e);
	if (r < 0)
		return r;
	r = object_put(t->store->objects, key, text.data, text.len, true, t->e);
	int back = compare_back(t, key, &text);
	if (back != 0 && back != 1 && r == 0) /* once more: what arrives may be wrong */
		back = compare_back(t, key, &text);
	if (back == 0)
		return 0;
	if (r == -EEXIST)
		return 1;
	if (r < 0)
		return r;
	return error_set(t->e, back == 1 ? EBADMSG : -back,
			 "object %s: read back, it is not what was written", key);
}

/* 1: somebody has come meanwhile. */
static int take_all(struct take *t)
{
	cleanup(store_scan_deinit) struct store_scan scan = { 0 };
	int r = store_scan(t->store, t->session, -1, &scan, t->e);
	if (r == 0)
		r = store_numbers_in(t->store, &scan, t->session, &t->numbers, t->e);
	if (r < 0)
		return r;
	int64_t used = t->numbers.used;
	int64_t last = (used > t->at_least ? used : t->at_least) + 1;
	int64_t first = last - STORE_TAKEN_MOST + 1;
	if (first <= used)
		first = used + 1;
	for (int64_t n = first > 0 ? first : 1; n <= last && r == 0; n++) /* 0 is no number */
		r = take_number(t, n);
	return r;
}

static int prepare(struct take *t, const char *by)
{
	cleanup(store_scan_deinit) struct store_scan scan = { 0 };
	int r = store_mark(t->store, t->session, t->at_least + 1, &t->self, t->e);
	if (r == 0)
		r = store_scan(t->store, t->session, -1, &scan, t->e);
	if (r == 0)
		r = store_check_forgotten(t->store, &scan, t->e);
	if (r == 0)
		r = store_keys_get(t->store, t->session, true, &t->keys, t->e);
	memcpy(t->fence.session, t->session, sizeof(t->fence.session));
	memcpy(t->fence.writer, t->self.id, sizeof(t->fence.writer));
	t->fence.taken_at = clock_wall();
	fence_set_by(&t->fence, by);
	return r;
}

int store_take(struct store *store, const char *session, int64_t at_least, const char *by,
	       int64_t *taken, int64_t *newest, struct error *e)
{
	struct error why = ERROR_INIT;
	struct take t = { .store = store, .session = session, .at_least = at_least, .e = &why };
	if (!session || !id_valid(session) || at_least < 0 || at_least > MAX_TAKEN)
		return error_set(e, EINVAL, "not a session and a number");
	int r = prepare(&t, by);
	int moved = r == 0;
	for (int i = 0; i < TAKE_TRIES && moved > 0; i++) {
		error_clear(&why);
		moved = take_all(&t);
	}
	if (moved > 0)
		r = error_fault(&why, FAULT_CONFLICT,
				"checkpoints of session %s are stored faster than it is fenced",
				session);
	else if (r == 0)
		r = moved;
	store_unmark(store, session, at_least + 1, &t.self);
	if (r < 0 && e)
		*e = why;
	if (r < 0)
		return r;
	*taken = t.fence.generation;
	*newest = t.numbers.checkpoint > 0 ? t.numbers.checkpoint : 0;
	return 0;
}
