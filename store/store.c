/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "base/fs.h"
#include "base/id.h"
#include "store/cache.h"
#include "store/fence.h"
#include "store/internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

DEFINE_CLEANUP(struct store *, store_close)

#undef store_oom
int store_oom(struct error *e)
{
	return error_set(e, ENOMEM, "out of memory");
}

int store_damage(struct error *e, int r)
{
	if (r == -ENOENT)
		r = -EBADMSG;
	if (r == -EBADMSG && e)
		e->fault = FAULT_CORRUPT;
	return r;
}

static bool is_local(const char *url)
{
	return strncmp(url, "file:", 5) == 0 || strncmp(url, "memory:", 7) == 0;
}

int store_open(const struct store_options *options, struct store **store, struct error *e)
{
	cleanup(store_closep) struct store *s = calloc(1, sizeof(*s));
	if (!s)
		return store_oom(e);
	pthread_mutex_init(&s->lock, NULL);
	id_new(s->id);
	s->local = is_local(options->url);
	int r = object_store_open(options->url, &s->objects, e);
	if (r == 0)
		r = keyring_open(options, s->objects, &s->keys, e);
	/* Without a cache everything works, only later. */
	if (r == 0 && options->cache_dir && options->cache_bytes && !s->local)
		s->cache = cache_open(options->cache_dir, options->cache_bytes);
	if (r < 0)
		return r;
	*store = steal_ptr(&s);
	return 0;
}

void *store_close(struct store *store)
{
	if (!store)
		return NULL;
	cache_free(store->cache);
	keyring_free(store->keys);
	object_store_free(store->objects);
	pthread_mutex_destroy(&store->lock);
	free(store);
	return NULL;
}

int store_key(const char *session, int64_t generation, const char *rest, char **key,
	      struct error *e)
{
	if (!id_valid(session) || generation < 0)
		return error_set(e, EINVAL, "\"%.40s\", %" PRId64 ": not a session and generation",
				 session, generation);
	*key = str_printf("s/%s/%" PRId64 "/%s", session, generation, rest);
	return *key ? 0 : store_oom(e);
}

int store_pack_key(const char *session, const struct manifest_pack *pack, char **key,
		   struct error *e)
{
	char rest[40];
	snprintf(rest, sizeof(rest), "%.16s-%" PRIu32, pack->writer, pack->number);
	return store_key(session, pack->generation, rest, key, e);
}

/* A number as store_key() writes it, so that an object has only one name. */
static bool parse_number(const char *text, size_t len, int64_t most, int64_t *number)
{
	char digits[20];
	char again[24];
	if (len == 0 || len >= sizeof(digits) || strspn(text, "0123456789") < len)
		return false;
	memcpy(digits, text, len);
	digits[len] = '\0';
	*number = (int64_t)strtoll(digits, NULL, 10);
	snprintf(again, sizeof(again), "%" PRId64, *number);
	return strcmp(digits, again) == 0 && *number <= most;
}

static bool parse_id(const char *text, char id[17])
{
	if (strnlen(text, 16) < 16)
		return false;
	memcpy(id, text, 16);
	id[16] = '\0';
	return id_valid(id);
}

static enum store_kind parse_rest(const char *rest, struct store_object *o)
{
	int64_t number;
	if (strcmp(rest, STORE_MANIFEST) == 0)
		return STORE_KIND_MANIFEST;
	if (strcmp(rest, STORE_ASIDE) == 0)
		return STORE_KIND_ASIDE;
	if (!parse_id(rest, o->writer))
		return STORE_OTHER;
	if (strcmp(rest + 16, ".mark") == 0)
		return STORE_KIND_MARK;
	if (rest[16] != '-' || !parse_number(rest + 17, strlen(rest + 17), UINT32_MAX, &number))
		return STORE_OTHER;
	o->number = (uint32_t)number;
	return STORE_KIND_PACK;
}

/* What lies beside the generations. */
static enum store_kind parse_top(const char *name, char id[17])
{
	static const struct {
		const char *prefix;
		enum store_kind kind;
	} announced[] = { { STORE_SWEEP, STORE_KIND_SWEEP }, { STORE_FORGET, STORE_KIND_FORGET } };
	if (strncmp(name, "key-", 4) == 0)
		return STORE_KIND_KEY;
	for (size_t i = 0; i < ARRAY_SIZE(announced); i++) {
		size_t len = strlen(announced[i].prefix);
		if (strncmp(name, announced[i].prefix, len) == 0 && parse_id(name + len, id))
			return announced[i].kind;
	}
	return STORE_OTHER;
}

void store_key_parse(const char *key, struct store_object *o)
{
	*o = (struct store_object) { .kind = STORE_OTHER, .generation = -1 };
	if (strncmp(key, "s/", 2) != 0 || !parse_id(key + 2, o->session) || key[18] != '/')
		return;
	const char *slash = strchr(key + 19, '/');
	if (!slash)
		o->kind = parse_top(key + 19, o->writer);
	else if (parse_number(key + 19, (size_t)(slash - key) - 19, INT64_MAX, &o->generation))
		o->kind = parse_rest(slash + 1, o);
}

/* Whose it says it is comes first: a manifest from another session would only be said to be forged.
 */
static int decode(const char *text, size_t len, const struct seal_key *mac_key, const char *session,
		  int64_t generation, struct manifest *m, struct error *e)
{
	int r = manifest_decode(text, len, NULL, m, e);
	if (r < 0)
		return r;
	if (strcmp(m->meta.session, session) == 0 && m->meta.generation == generation) {
		if (!mac_key)
			return 0;
		manifest_deinit(m);
		return manifest_decode(text, len, mac_key, m, e);
	}
	r = error_set(e, EBADMSG, "it belongs to generation %" PRId64 " of session %s",
		      m->meta.generation, m->meta.session);
	manifest_deinit(m);
	return r;
}

int store_manifest_decode(const char *key, const struct buf *text, const struct seal_key *mac_key,
			  const char *session, int64_t generation, struct manifest *m,
			  struct error *e)
{
	*m = (struct manifest) { 0 };
	int r = decode(buf_text(text), text->len, mac_key, session, generation, m, e);
	if (r < 0) {
		*m = (struct manifest) { 0 };
		error_wrap(e, r, "object %s", key);
	}
	return store_damage(e, r);
}

static int read_manifest(struct store *store, const char *session, int64_t generation,
			 const struct seal_key *mac_key, struct manifest *m, struct error *e)
{
	cleanup_free char *key = NULL;
	cleanup_buf struct buf text = BUF_INIT(MANIFEST_MAX_BYTES);
	int r = store_key(session, generation, STORE_MANIFEST, &key, e);
	if (r == 0)
		r = object_read_all(store->objects, key, &text, e);
	if (r == -ENOENT)
		return error_set(e, ENOENT, "session %s has no checkpoint %" PRId64, session,
				 generation);
	if (r == -EBADMSG && e)
		e->fault = FAULT_CORRUPT;
	if (r == 0 && fence_is(text.data, text.len))
		return store_tell_fence(key, &text, mac_key, session, generation, ENOENT, e);
	return r < 0 ? r : store_manifest_decode(key, &text, mac_key, session, generation, m, e);
}

/* What arrives wrong may be the network's fault the first time. */
int store_manifest_read(struct store *store, const char *session, int64_t generation,
			const struct seal_key *mac_key, struct manifest *m, struct error *e)
{
	int r = read_manifest(store, session, generation, mac_key, m, e);
	if (r != -EBADMSG)
		return r;
	error_clear(e);
	return read_manifest(store, session, generation, mac_key, m, e);
}

int store_keys_get(struct store *store, const char *session, bool make, struct store_keys *keys,
		   struct error *e)
{
	cleanup_free char *mac = str_printf("%s manifest", session);
	cleanup_free char *digest = str_printf("%s digest", session);
	if (!mac || !digest)
		return store_oom(e);
	int r = keyring_session(store->keys, session, make, &keys->data, e);
	if (r == 0)
		r = seal_derive(&keys->data, mac, &keys->mac, e);
	if (r == 0)
		r = seal_derive(&keys->data, digest, &keys->digest, e);
	return r;
}

int store_writer_key(const struct store_keys *keys, const char *session, int64_t generation,
		     const char *writer, struct seal_key *key, struct error *e)
{
	cleanup_free char *purpose =
		str_printf("%s %" PRId64 " %s frames", session, generation, writer);
	return purpose ? seal_derive(&keys->data, purpose, key, e) : store_oom(e);
}
