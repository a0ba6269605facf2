/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "store/cache.h"

#include "base/cleanup.h"
#include "base/fs.h"
#include "base/id.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define TEMP ".new-"

enum {
	LEFT_S = 60,   /* writing a block takes less */
	RECENT_S = 60, /* who was used so long ago need not be marked as used */
};

struct cache {
	int dir;
	uint64_t most;
	pthread_mutex_t lock; /* of what follows */
	uint64_t bytes;       /* about what there is: others may add to it */
	uint64_t coming;      /* being written by us */
};

/* --- what is there ------------------------------------------------------------------ */

struct block {
	char *name;
	struct timespec used;
	uint64_t size;
};

struct blocks {
	struct block *list;
	size_t count, room;
	uint64_t bytes;
};

static void blocks_deinit(struct blocks *b)
{
	for (size_t i = 0; i < b->count; i++)
		free(b->list[i].name);
	free(b->list);
}

static bool add_block(struct blocks *b, const char *name, const struct stat *st)
{
	if (b->count == b->room) {
		size_t room = b->room ? b->room * 2 : 256;
		struct block *list = realloc(b->list, room * sizeof(*list));
		if (!list)
			return false;
		b->list = list;
		b->room = room;
	}
	char *copy = strdup(name);
	if (!copy)
		return false;
	b->list[b->count++] = (struct block) { copy, st->st_mtim, (uint64_t)st->st_size };
	b->bytes += (uint64_t)st->st_size;
	return true;
}

/* Also removes what a crash left half-written. */
static void list_blocks(const struct cache *c, struct blocks *b)
{
	cleanup_dir DIR *d = NULL;
	int fd = openat(c->dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct dirent *entry;
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	if (fd < 0)
		return;
	if (!(d = fdopendir(fd))) {
		close(fd);
		return;
	}
	while ((entry = readdir(d))) {
		struct stat st;
		if (fstatat(c->dir, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
		    !S_ISREG(st.st_mode))
			continue;
		if (strncmp(entry->d_name, TEMP, strlen(TEMP)) != 0) {
			if (!add_block(b, entry->d_name, &st))
				return;
		} else if (st.st_mtim.tv_sec + LEFT_S < now.tv_sec) {
			unlinkat(c->dir, entry->d_name, 0);
		}
	}
}

static int by_use(const void *a, const void *b)
{
	const struct timespec *x = &((const struct block *)a)->used;
	const struct timespec *y = &((const struct block *)b)->used;
	if (x->tv_sec != y->tv_sec)
		return x->tv_sec < y->tv_sec ? -1 : 1;
	return (x->tv_nsec > y->tv_nsec) - (x->tv_nsec < y->tv_nsec);
}

/* Down to nine tenths of the limit, so that it is not done for every block. Under the lock. */
static void evict(struct cache *c, uint64_t most)
{
	cleanup(blocks_deinit) struct blocks b = { 0 };
	list_blocks(c, &b);
	if (b.count)
		qsort(b.list, b.count, sizeof(*b.list), by_use);
	for (size_t i = 0; i < b.count && b.bytes > most; i++)
		if (unlinkat(c->dir, b.list[i].name, 0) == 0 || errno == ENOENT)
			b.bytes -= b.list[i].size;
	c->bytes = b.bytes;
}

struct cache *cache_open(const char *dir, uint64_t bytes)
{
	struct cache *c = calloc(1, sizeof(*c));
	if (!c)
		return NULL;
	c->most = bytes;
	c->dir = fs_mkdirs(dir, 0700, NULL) == 0 ? open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
						 : -1;
	if (c->dir < 0) {
		free(c);
		return NULL;
	}
	pthread_mutex_init(&c->lock, NULL);
	pthread_mutex_lock(&c->lock);
	evict(c, c->most);
	pthread_mutex_unlock(&c->lock);
	return c;
}

void *cache_free(struct cache *c)
{
	if (!c)
		return NULL;
	close(c->dir);
	pthread_mutex_destroy(&c->lock);
	free(c);
	return NULL;
}

/* --- one block ---------------------------------------------------------------------- */

/* "s/SESSION/GENERATION/WRITER-N" and a block: "SESSION_GENERATION_WRITER-N_BLOCK". */
static bool block_name(const char *key, uint64_t block, char *to, size_t size)
{
	int n = snprintf(to, size, "%s_%" PRIu64, strncmp(key, "s/", 2) == 0 ? key + 2 : key,
			 block);
	for (char *p = to; (p = strchr(p, '/'));)
		*p = '_';
	return n > 0 && (size_t)n < size;
}

/* A part of a block that is all there. */
static bool get(struct cache *c, const char *name, size_t block_len, size_t offset, void *to,
		size_t len)
{
	struct stat st;
	struct timespec now;
	cleanup_fd int fd = openat(c->dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0 || (size_t)st.st_size != block_len ||
	    pread(fd, to, len, (off_t)offset) != (ssize_t)len)
		return false;
	clock_gettime(CLOCK_REALTIME, &now);
	if (st.st_mtim.tv_sec + RECENT_S < now.tv_sec)
		futimens(fd, NULL);
	return true;
}

/* Not synced: a block that a crash has spoiled does not open. */
static bool write_block(struct cache *c, const char *name, const void *data, size_t len)
{
	char id[ID_SIZE];
	char temp[sizeof(TEMP) + ID_SIZE];
	id_new(id);
	snprintf(temp, sizeof(temp), TEMP "%s", id);
	cleanup_fd int fd = openat(c->dir, temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return false;
	if (fs_write_all(fd, data, len) == 0 && renameat(c->dir, temp, c->dir, name) == 0)
		return true;
	unlinkat(c->dir, temp, 0);
	return false;
}

/* Makes room for a block, and takes it. Not all of it is used again at once, so that not every
 * block has to look for the oldest ones. */
static bool reserve(struct cache *c, size_t len)
{
	pthread_mutex_lock(&c->lock);
	if (c->bytes + c->coming + len > c->most) {
		uint64_t taken = c->coming + len;
		uint64_t aim = c->most - c->most / 10;
		evict(c, aim > taken ? aim - taken : 0);
	}
	bool fits = c->bytes + c->coming + len <= c->most;
	if (fits)
		c->coming += len;
	pthread_mutex_unlock(&c->lock);
	return fits;
}

static void put(struct cache *c, const char *name, const void *data, size_t len)
{
	if (len > c->most || !reserve(c, len))
		return;
	bool written = write_block(c, name, data, len);
	pthread_mutex_lock(&c->lock);
	c->coming -= len;
	if (written)
		c->bytes += len;
	pthread_mutex_unlock(&c->lock);
}

/* --- reading ------------------------------------------------------------------------ */

/* What is wanted of an object, and the blocks that it lies in. */
struct span {
	struct cache *c;
	struct object_store *objects;
	const char *key;
	uint64_t size; /* of the object */
	uint64_t offset, end;
	unsigned char *to;
};

static uint64_t block_start(uint64_t block)
{
	return block * CACHE_BLOCK;
}

static uint64_t block_end(const struct span *s, uint64_t block)
{
	uint64_t end = block_start(block + 1);
	return end < s->size ? end : s->size;
}

/* The wanted part of a block. */
static uint64_t part_start(const struct span *s, uint64_t block)
{
	return block_start(block) > s->offset ? block_start(block) : s->offset;
}

static uint64_t part_end(const struct span *s, uint64_t block)
{
	return block_end(s, block) < s->end ? block_end(s, block) : s->end;
}

static bool get_block(const struct span *s, uint64_t block)
{
	char name[256];
	uint64_t from = part_start(s, block);
	return block_name(s->key, block, name, sizeof(name)) &&
	       get(s->c, name, (size_t)(block_end(s, block) - block_start(block)),
		   (size_t)(from - block_start(block)), s->to + (from - s->offset),
		   (size_t)(part_end(s, block) - from));
}

/* Blocks `first` to before `end`, in one request. */
static int fetch(const struct span *s, uint64_t first, uint64_t end, struct error *e)
{
	uint64_t start = block_start(first);
	size_t len = (size_t)(block_end(s, end - 1) - start);
	cleanup_free unsigned char *raw = malloc(len);
	if (!raw)
		return error_set(e, ENOMEM, "out of memory");
	int r = object_read(s->objects, s->key, start, raw, len, e);
	for (uint64_t block = first; block < end && r == 0; block++) {
		char name[256];
		uint64_t from = part_start(s, block);
		const unsigned char *data = raw + (block_start(block) - start);
		memcpy(s->to + (from - s->offset), raw + (from - start),
		       (size_t)(part_end(s, block) - from));
		if (block_name(s->key, block, name, sizeof(name)))
			put(s->c, name, data, (size_t)(block_end(s, block) - block_start(block)));
	}
	return r;
}

static void span_init(struct span *s, uint64_t *first, uint64_t *end)
{
	*first = s->offset / CACHE_BLOCK;
	*end = (s->end - 1) / CACHE_BLOCK + 1;
}

int cache_read(struct cache *c, struct object_store *objects, const char *key, uint64_t size,
	       uint64_t offset, void *to, size_t len, struct error *e)
{
	struct span s = { c, objects, key, size, offset, offset + len, to };
	uint64_t block;
	uint64_t end;
	if (len == 0 || offset > size || len > size - offset)
		return object_read(objects, key, offset, to, len, e);
	span_init(&s, &block, &end);
	int r = 0;
	for (; block < end && r == 0; block++) { /* the one that ends a run was there */
		uint64_t first = block;
		while (block < end && !get_block(&s, block))
			block++;
		if (block > first)
			r = fetch(&s, first, block, e);
	}
	return r;
}

void cache_drop(struct cache *c, const char *key, uint64_t offset, size_t len)
{
	struct span s = { .offset = offset, .end = offset + len };
	uint64_t block;
	uint64_t end;
	if (len == 0)
		return;
	for (span_init(&s, &block, &end); block < end; block++) {
		char name[256];
		if (block_name(key, block, name, sizeof(name)))
			unlinkat(c->dir, name, 0);
	}
}
