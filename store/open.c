/* SPDX-License-Identifier: Apache-2.0 */
/* Opening a checkpoint for reading: what does not depend on each other is asked for at once. */
#define _GNU_SOURCE
#include "base/id.h"
#include "store/fence.h"
#include "store/parallel.h"
#include "store/reading.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

enum part { PART_LIST, PART_KEYS, PART_MANIFEST, PART_COUNT };

struct opening {
	struct store *store;
	const char *session;
	int64_t generation;
	int64_t listed; /* -1: all generations */
	struct store_scan scan;
	struct store_keys keys;
	char *manifest_key;
	struct buf manifest;
	struct error errors[PART_COUNT];
	int results[PART_COUNT];
};

static void opening_deinit(struct opening *o)
{
	store_scan_deinit(&o->scan);
	explicit_bzero(&o->keys, sizeof(o->keys));
	free(o->manifest_key);
	buf_deinit(&o->manifest);
}

static int read_manifest(struct opening *o, struct error *e)
{
	int r = store_key(o->session, o->generation, STORE_MANIFEST, &o->manifest_key, e);
	return r < 0 ? r : object_read_all(o->store->objects, o->manifest_key, &o->manifest, e);
}

/* Which of the failures is told is for later: what the list says comes first. */
static int ask(void *arg, size_t part, struct error *e)
{
	struct opening *o = arg;
	struct error *why = &o->errors[part];
	int r = 0;
	(void)e;
	switch ((enum part)part) {
	case PART_LIST:
		r = store_scan(o->store, o->session, o->listed, &o->scan, why);
		break;
	case PART_KEYS:
		r = store_keys_get(o->store, o->session, false, &o->keys, why);
		break;
	case PART_MANIFEST:
		r = read_manifest(o, why);
		break;
	case PART_COUNT:
		break;
	}
	o->results[part] = r;
	return 0;
}

static int failed(const struct opening *o, enum part part, struct error *e)
{
	if (o->results[part] < 0 && e)
		*e = o->errors[part];
	return o->results[part];
}

static int no_such_checkpoint(const struct opening *o, struct error *e)
{
	return error_set(e, ENOENT, "session %s has no checkpoint %" PRId64, o->session,
			 o->generation);
}

static int check_newest(struct opening *o, struct store_numbers *n, struct error *e)
{
	int r = store_numbers_in(o->store, &o->scan, o->session, n, e);
	if (r < 0)
		return r;
	if (n->checkpoint < 0)
		return error_set(e, ENOENT, "session %s has no checkpoint", o->session);
	if (n->checkpoint == o->generation)
		return 0;
	return error_set(e, EBUSY,
			 "checkpoint %" PRId64 " of session %s is not the newest: %" PRId64 " is",
			 o->generation, o->session, n->checkpoint);
}

/* Without its manifest a session's key is nobody's loss. What arrives wrong may be the network's
 * fault the first time. */
static int prove(struct opening *o, struct manifest *m, struct error *e)
{
	const struct store_keys *keys = &o->keys;
	if (o->results[PART_MANIFEST] == -ENOENT)
		return no_such_checkpoint(o, e);
	int r = failed(o, PART_KEYS, e);
	if (r == -ENOENT)
		r = error_fault(e, FAULT_CORRUPT, "the key of session %s is missing", o->session);
	if (r < 0)
		return r;
	r = failed(o, PART_MANIFEST, e);
	if (r == 0 && fence_is(o->manifest.data, o->manifest.len))
		return store_tell_fence(o->manifest_key, &o->manifest, &keys->mac, o->session,
					o->generation, ENOENT, e);
	if (r == 0)
		r = store_manifest_decode(o->manifest_key, &o->manifest, &keys->mac, o->session,
					  o->generation, m, e);
	if (r != -EBADMSG)
		return r;
	error_clear(e);
	return store_manifest_read(o->store, o->session, o->generation, &keys->mac, m, e);
}

static int open_checkpoint(struct opening *o, struct store_numbers *numbers,
			   struct store_read **read, struct error *e)
{
	struct manifest m;
	o->listed = numbers ? -1 : o->generation;
	if (!id_valid(o->session) || o->generation < 0)
		return store_key(o->session, o->generation, STORE_MANIFEST, &o->manifest_key, e);
	parallel(o->store->local ? 1 : PART_COUNT, PART_COUNT, ask, o, NULL);
	int r = failed(o, PART_LIST, e);
	if (r == 0 && numbers)
		r = check_newest(o, numbers, e);
	if (r == 0)
		r = prove(o, &m, e);
	if (r < 0)
		return r;
	/* Better now than in the middle of what a session does. */
	r = numbers ? store_check_packs(o->store, &m, &o->scan, e) : 0;
	if (r < 0) {
		manifest_deinit(&m);
		return r;
	}
	r = store_read_from(o->store, &o->keys, &m, true, read, e);
	if (r == 0)
		(*read)->m.meta.aside = store_scan_find(&o->scan, o->session, o->generation,
							STORE_KIND_ASIDE, NULL, 0) != NULL;
	return r;
}

int store_read_open(struct store *store, const char *session, int64_t generation,
		    struct store_read **read, struct error *e)
{
	cleanup(opening_deinit) struct opening o = { .store = store,
						     .session = session,
						     .generation = generation,
						     .manifest = BUF_INIT(MANIFEST_MAX_BYTES) };
	return open_checkpoint(&o, NULL, read, e);
}

int store_read_open_newest(struct store *store, const char *session, int64_t generation,
			   struct store_numbers *numbers, struct store_read **read, struct error *e)
{
	cleanup(opening_deinit) struct opening o = { .store = store,
						     .session = session,
						     .generation = generation,
						     .manifest = BUF_INIT(MANIFEST_MAX_BYTES) };
	*numbers = (struct store_numbers) { -1, -1, -1 };
	return open_checkpoint(&o, numbers, read, e);
}
