/* SPDX-License-Identifier: Apache-2.0 */
#include "cloud/object.h"

#include "base/cleanup.h"
#include "cloud/backends.h"

#include <errno.h>
#include <string.h>

static const struct {
	const char *scheme;
	int (*open)(const char *rest, struct object_store **store, struct error *e);
} schemes[] = {
	{ "file://", file_store_open },
	{ "memory:", memory_store_open },
	{ "s3://", s3_store_open },
	{ "gs://", gs_store_open },
};

int object_store_open(const char *url, struct object_store **store, struct error *e)
{
	for (size_t i = 0; i < ARRAY_SIZE(schemes); i++) {
		size_t len = strlen(schemes[i].scheme);
		if (strncmp(url, schemes[i].scheme, len) == 0)
			return schemes[i].open(url + len, store, e);
	}
	int r = error_set(e, EINVAL, "\"%s\" is not the URL of a store", url);
	return error_remedy(e, r,
			    "set store.url to \"file:///DIRECTORY\", \"s3://BUCKET\" or "
			    "\"gs://BUCKET\"");
}

void *object_store_free(struct object_store *store)
{
	if (store)
		store->backend->free(store);
	return NULL;
}

bool object_key_valid(const char *key)
{
	static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
				      "0123456789._-";
	if (strlen(key) > OBJECT_KEY_MAX)
		return false;
	for (;;) {
		size_t len = strspn(key, allowed);
		if (len == 0 || len > 255 || key[0] == '.')
			return false;
		if (key[len] == '\0')
			return true;
		if (key[len] != '/')
			return false;
		key += len + 1;
	}
}

bool object_is_local(const struct object_store *s)
{
	return s->backend->local;
}

static int check_key(const char *key, struct error *e)
{
	if (object_key_valid(key))
		return 0;
	return error_set(e, EINVAL, "\"%.200s\" cannot be the name of an object", key);
}

int object_put(struct object_store *s, const char *key, const void *data, size_t len,
	       bool if_absent, struct error *e)
{
	int r = check_key(key, e);
	if (r == 0 && len > OBJECT_PUT_MAX)
		r = error_set(e, EFBIG, "object %s: larger than %d MiB", key, OBJECT_PUT_MAX >> 20);
	return r < 0 ? r : s->backend->put(s, key, data, len, if_absent, e);
}

int object_read(struct object_store *s, const char *key, uint64_t offset, void *to, size_t len,
		struct error *e)
{
	int r = check_key(key, e);
	return r < 0 ? r : s->backend->read(s, key, offset, to, len, e);
}

int object_read_all(struct object_store *s, const char *key, struct buf *to, struct error *e)
{
	struct object_stat st;
	int r = check_key(key, e);
	if (r == 0 && s->backend->read_all)
		return s->backend->read_all(s, key, to, e);
	if (r == 0)
		r = s->backend->stat(s, key, &st, e);
	if (r < 0)
		return r;
	if (st.size > to->cap - to->len)
		return error_set(e, EBADMSG, "object %s: larger than %zu bytes", key, to->cap);
	cleanup_free char *data = malloc(st.size + 1);
	if (!data)
		return error_set(e, ENOMEM, "out of memory for object %s", key);
	r = object_read(s, key, 0, data, st.size, e);
	if (r == 0 && buf_append(to, data, st.size) < 0)
		r = error_set(e, ENOMEM, "out of memory for object %s", key);
	return r;
}

int object_stat(struct object_store *s, const char *key, struct object_stat *st, struct error *e)
{
	int r = check_key(key, e);
	return r < 0 ? r : s->backend->stat(s, key, st, e);
}

int object_list(struct object_store *s, const char *prefix,
		int (*each)(const char *key, const struct object_stat *st, void *arg), void *arg,
		struct error *e)
{
	size_t len = strlen(prefix);
	cleanup_free char *folder = strndup(prefix, len ? len - 1 : 0);
	if (!folder)
		return error_set(e, ENOMEM, "out of memory");
	if (len && (prefix[len - 1] != '/' || !object_key_valid(folder)))
		return error_set(e, EINVAL, "\"%.200s\" cannot be the prefix of objects", prefix);
	return s->backend->list(s, prefix, each, arg, e);
}

int object_remove(struct object_store *s, const char *key, struct error *e)
{
	int r = check_key(key, e);
	return r < 0 ? r : s->backend->remove(s, key, e);
}
