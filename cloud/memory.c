/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
/* Objects in memory, sorted by key: for tests of what has no local files. */
#include "base/cleanup.h"
#include "base/clock.h"
#include "cloud/backends.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <string.h>

struct memory_object {
	char *key;
	struct buf data;
	wall_ms modified_at;
};

struct memory_store {
	struct object_store base;
	pthread_mutex_t lock;
	struct memory_object *objects;
	size_t count;
};

static struct memory_store *lock(struct object_store *s)
{
	struct memory_store *m = (struct memory_store *)s;
	pthread_mutex_lock(&m->lock);
	return m;
}

static void unlock(struct memory_store **m)
{
	pthread_mutex_unlock(&(*m)->lock);
}

/* Where the key is, or belongs. */
static size_t place_of(const struct memory_store *m, const char *key, bool *found)
{
	size_t low = 0;
	size_t high = m->count;
	while (low < high) {
		size_t middle = (low + high) / 2;
		if (strcmp(m->objects[middle].key, key) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	*found = low < m->count && strcmp(m->objects[low].key, key) == 0;
	return low;
}

static const struct memory_object *find(const struct memory_store *m, const char *key,
					struct error *e)
{
	bool found;
	size_t i = place_of(m, key, &found);
	if (found)
		return &m->objects[i];
	error_set(e, ENOENT, "object %s is missing", key);
	return NULL;
}

/* Takes the data over. */
static int insert(struct memory_store *m, const char *key, struct buf *data, struct error *e)
{
	bool found;
	size_t i = place_of(m, key, &found);
	if (!found) {
		struct memory_object *objects =
			realloc(m->objects, (m->count + 1) * sizeof(*objects));
		char *copy = strdup(key);
		if (objects)
			m->objects = objects;
		if (!objects || !copy) {
			free(copy);
			return error_set(e, ENOMEM, "out of memory for object %s", key);
		}
		memmove(&objects[i + 1], &objects[i], (m->count++ - i) * sizeof(*objects));
		objects[i] = (struct memory_object) { .key = copy };
	}
	struct memory_object *object = &m->objects[i];
	buf_deinit(&object->data);
	object->data = *data; /* NOLINT(clang-analyzer-core.NullDereference) */
	object->modified_at = clock_wall();
	*data = BUF_INIT(0);
	return 0;
}

static int memory_put(struct object_store *s, const char *key, const void *data, size_t len,
		      bool if_absent, struct error *e)
{
	cleanup(unlock) struct memory_store *m = lock(s);
	cleanup_buf struct buf copy = BUF_INIT(OBJECT_PUT_MAX);
	if (if_absent && find(m, key, NULL))
		return error_set(e, EEXIST, "object %s exists already", key);
	if (buf_append(&copy, data, len) < 0)
		return error_set(e, ENOSPC, "object %s: too large", key);
	return insert(m, key, &copy, e);
}

static int memory_read(struct object_store *s, const char *key, uint64_t offset, void *to,
		       size_t len, struct error *e)
{
	cleanup(unlock) struct memory_store *m = lock(s);
	const struct memory_object *o = find(m, key, e);
	if (!o)
		return -ENOENT;
	if (offset > o->data.len || len > o->data.len - offset)
		return error_set(e, EBADMSG,
				 "object %s: ends at offset %zu, %" PRIu64 " bytes early", key,
				 o->data.len, offset + len - o->data.len);
	if (len)
		memcpy(to, o->data.data + offset, len);
	return 0;
}

static int memory_stat(struct object_store *s, const char *key, struct object_stat *st,
		       struct error *e)
{
	cleanup(unlock) struct memory_store *m = lock(s);
	const struct memory_object *o = find(m, key, e);
	if (!o)
		return -ENOENT;
	*st = (struct object_stat) { .size = o->data.len, .modified_at = o->modified_at };
	return 0;
}

/* The first key after `last`, copied, so that `each` may use the store. */
static char *next_key(struct object_store *s, const char *last, struct object_stat *st)
{
	bool found;
	cleanup(unlock) struct memory_store *m = lock(s);
	size_t i = place_of(m, last, &found);
	i += found;
	if (i == m->count)
		return NULL;
	*st = (struct object_stat) { .size = m->objects[i].data.len,
				     .modified_at = m->objects[i].modified_at };
	return strdup(m->objects[i].key);
}

static int memory_list(struct object_store *s, const char *prefix,
		       int (*each)(const char *key, const struct object_stat *st, void *arg),
		       void *arg, struct error *e)
{
	struct object_stat st;
	cleanup_free char *last = strdup(prefix);
	int r = 0;
	if (!last)
		return error_set(e, ENOMEM, "out of memory");
	while (r == 0) {
		char *key = next_key(s, last, &st);
		free(last);
		last = key;
		if (!key || strncmp(key, prefix, strlen(prefix)) != 0)
			break;
		r = each(key, &st, arg);
	}
	return r;
}

static int memory_remove(struct object_store *s, const char *key, struct error *e)
{
	(void)e;
	bool found;
	cleanup(unlock) struct memory_store *m = lock(s);
	size_t i = place_of(m, key, &found);
	if (!found)
		return 0;
	free(m->objects[i].key);
	buf_deinit(&m->objects[i].data);
	m->count--;
	memmove(&m->objects[i], &m->objects[i + 1], (m->count - i) * sizeof(*m->objects));
	return 0;
}

static void memory_free(struct object_store *s)
{
	struct memory_store *m = (struct memory_store *)s;
	for (size_t i = 0; i < m->count; i++) {
		free(m->objects[i].key);
		buf_deinit(&m->objects[i].data);
	}
	free(m->objects);
	pthread_mutex_destroy(&m->lock);
	free(m);
}

static const struct object_backend memory_backend = {
	.name = "memory",
	.local = true,
	.put = memory_put,
	.read = memory_read,
	.stat = memory_stat,
	.list = memory_list,
	.remove = memory_remove,
	.free = memory_free,
};

int memory_store_open(const char *rest, struct object_store **store, struct error *e)
{
	if (*rest)
		return error_set(e, EINVAL, "\"memory:%s\": nothing follows \"memory:\"", rest);
	struct memory_store *m = calloc(1, sizeof(*m));
	if (!m)
		return error_set(e, ENOMEM, "out of memory");
	m->base.backend = &memory_backend;
	pthread_mutex_init(&m->lock, NULL);
	*store = &m->base;
	return 0;
}
