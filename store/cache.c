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
	WAIT_MS = 500, /* for a block that somebody else asks for: he may hang */
	RECENT_S = 60, /* who was used so long ago need not be marked as used */
};

/* Blocks that somebody is asking for. */
struct coming {
	struct coming *next;
	const char *key;
	uint64_t first, end;
};

struct cache {
	char *path;
	int dir; /* stays this number */
	uint64_t most;
	pthread_mutex_t lock; /* of what follows */
	pthread_cond_t came;
	struct coming *asked;
	uint64_t bytes;  /* about what there is: others may add to it */
	uint64_t coming; /* being written by us */
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

static int open_dir(const char *path)
{
	return fs_mkdirs(path, 0700, NULL) == 0 ? open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
						: -1;
}

/* Somebody has removed it, as one may. */
static void make_dir_again(struct cache *c)
{
	cleanup_fd int fd = open_dir(c->path);
	if (fd >= 0)
		dup3(fd, c->dir, O_CLOEXEC);
}

struct cache *cache_open(const char *dir, uint64_t bytes)
{
	struct cache *c = calloc(1, sizeof(*c));
	if (!c)
		return NULL;
	c->most = bytes;
	c->path = strdup(dir);
	c->dir = c->path ? open_dir(dir) : -1;
	if (c->dir < 0) {
		free(c->path);
		free(c);
		return NULL;
	}
	pthread_condattr_t mono;
	pthread_condattr_init(&mono);
	pthread_condattr_setclock(&mono, CLOCK_MONOTONIC);
	pthread_cond_init(&c->came, &mono);
	pthread_condattr_destroy(&mono);
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
	free(c->path);
	pthread_cond_destroy(&c->came);
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
	enum { FLAGS = O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC };
	char id[ID_SIZE];
	char temp[sizeof(TEMP) + ID_SIZE];
	id_new(id);
	snprintf(temp, sizeof(temp), TEMP "%s", id);
	cleanup_fd int fd = openat(c->dir, temp, FLAGS, 0600);
	if (fd < 0 && errno == ENOENT) {
		make_dir_again(c);
		fd = openat(c->dir, temp, FLAGS, 0600);
	}
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
	uint64_t first; /* block */
	uint64_t *left; /* bits: blocks that others ask for */
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

/* Who asks for one of these blocks at this moment; NULL. Under the lock. */
static const struct coming *who_asks(const struct span *s, uint64_t first, uint64_t end)
{
	const struct coming *c = s->c->asked;
	while (c && (strcmp(c->key, s->key) != 0 || c->end <= first || c->first >= end))
		c = c->next;
	return c;
}

/* How many blocks from `first` on nobody asks for: they are ours to ask for. */
static uint64_t claim(const struct span *s, uint64_t first, uint64_t end, struct coming *ours)
{
	pthread_mutex_lock(&s->c->lock);
	for (const struct coming *c; end > first && (c = who_asks(s, first, end));)
		end = c->first > first ? c->first : first;
	*ours = (struct coming) { s->c->asked, s->key, first, end };
	if (end > first)
		s->c->asked = ours;
	pthread_mutex_unlock(&s->c->lock);
	return end - first;
}

static void unclaim(struct cache *c, const struct coming *ours)
{
	pthread_mutex_lock(&c->lock);
	struct coming **at = &c->asked;
	while (*at != ours)
		at = &(*at)->next;
	*at = ours->next;
	pthread_cond_broadcast(&c->came);
	pthread_mutex_unlock(&c->lock);
}

/* False: whoever asks for the block has not got it, or not yet. */
static bool await(const struct span *s, uint64_t block)
{
	struct timespec until;
	int r = 0;
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_nsec += WAIT_MS * 1000000L;
	until.tv_sec += until.tv_nsec / 1000000000;
	until.tv_nsec %= 1000000000;
	pthread_mutex_lock(&s->c->lock);
	while (r == 0 && who_asks(s, block, block + 1))
		r = pthread_cond_timedwait(&s->c->came, &s->c->lock, &until);
	pthread_mutex_unlock(&s->c->lock);
	return get_block(s, block);
}

/* Blocks that are not there, but for those that others ask for. */
static int ask(const struct span *s, uint64_t first, uint64_t end, struct error *e)
{
	int r = 0;
	for (uint64_t count; first < end && r == 0; first += count) {
		struct coming ours;
		count = claim(s, first, end, &ours);
		if (count) {
			r = fetch(s, first, first + count, e);
			unclaim(s->c, &ours);
		} else {
			count = 1;
			s->left[(first - s->first) / 64] |= UINT64_C(1) << (first - s->first) % 64;
		}
	}
	return r;
}

/* Those that others have asked for. */
static int gather(const struct span *s, uint64_t first, uint64_t end, struct error *e)
{
	int r = 0;
	for (uint64_t block = first; block < end && r == 0; block++) {
		uint64_t bit = UINT64_C(1) << (block - s->first) % 64;
		if (s->left[(block - s->first) / 64] & bit && !await(s, block))
			r = fetch(s, block, block + 1, e);
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
	struct span s = { c, objects, key, size, offset, offset + len, to, 0, NULL };
	uint64_t block;
	uint64_t end;
	if (len == 0 || offset > size || len > size - offset)
		return object_read(objects, key, offset, to, len, e);
	span_init(&s, &block, &end);
	cleanup_free uint64_t *left = calloc((end - block) / 64 + 1, sizeof(*left));
	if (!left)
		return error_set(e, ENOMEM, "out of memory");
	s.first = block;
	s.left = left;
	int r = 0;
	for (; block < end && r == 0; block++) { /* the one that ends a run was there */
		uint64_t first = block;
		while (block < end && !get_block(&s, block))
			block++;
		if (block > first)
			r = ask(&s, first, block, e);
	}
	return r < 0 ? r : gather(&s, s.first, end, e);
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
