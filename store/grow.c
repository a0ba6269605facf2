/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "store/grow.h"

#include "base/clock.h"
#include "store/digest.h"
#include "store/internal.h"
#include "store/parallel.h"

#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <pthread.h>
#include <string.h>
#include <sys/resource.h>

enum {
	LOOK_US = 5000, /* between two looks at the directory */
	LOOK_MAX_US = 50000,
	LOOK_SHARE = 5, /* times as long as a look took, for a directory with many files */
	THREADS_MAX = 4,
	FILES_MAX = 256, /* each holds a descriptor; more are left for the end */
	NICENESS = 10,
};

struct growing {
	int fd; /* keeps the inode's number from being used again */
	dev_t dev;
	ino_t ino;
	uint64_t size;
	size_t next; /* chunk; all before it are hashed or in hand */
	unsigned char *digests;
	bool broken; /* shrank or cannot be read: to be hashed from its beginning */
};

struct grow {
	char *dir;
	pthread_t threads[THREADS_MAX];
	unsigned thread_count;
	pthread_mutex_t lock; /* of all that follows */
	pthread_cond_t changed;
	bool stopping;
	bool looking; /* one thread looks at the directory, the others wait for it */
	struct growing files[FILES_MAX];
	size_t count;
	uint64_t hashed, seen, seen_now;
};

static struct growing *find(struct grow *g, const struct stat *st)
{
	for (size_t i = 0; i < g->count; i++)
		if (g->files[i].ino == st->st_ino && g->files[i].dev == st->st_dev)
			return &g->files[i];
	return NULL;
}

static bool is_append_only(const char *name)
{
	const char *slash = strrchr(name, '/');
	return fnmatch("pages-*.img", slash ? slash + 1 : name, 0) == 0;
}

static void begin_file(struct grow *g, const struct walk_file *file)
{
	if (g->count == FILES_MAX)
		return;
	int fd = open(file->path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return;
	g->files[g->count++] = (struct growing) {
		.fd = fd,
		.dev = file->st.st_dev,
		.ino = file->st.st_ino,
		.size = (uint64_t)file->st.st_size,
	};
}

static void note_size(struct growing *f, uint64_t size)
{
	f->broken |= size < f->size;
	f->size = size;
}

static int look_at_file(const struct walk_file *file, void *arg)
{
	struct grow *g = arg;
	uint64_t size = (uint64_t)file->st.st_size;
	pthread_mutex_lock(&g->lock);
	g->seen_now += size;
	if (size > GROW_CHUNK && is_append_only(file->name)) {
		struct growing *known = find(g, &file->st);
		if (known)
			note_size(known, size);
		else
			begin_file(g, file);
	}
	bool stop = g->stopping;
	pthread_mutex_unlock(&g->lock);
	return stop ? 1 : 0;
}

static struct growing *next_work(struct grow *g)
{
	for (size_t i = 0; i < g->count; i++) {
		struct growing *f = &g->files[i];
		if (!f->broken && (f->next + 1) * (uint64_t)GROW_CHUNK <= f->size)
			return f;
	}
	return NULL;
}

/* Called and left with the lock held; `f` stays where it is because files[] never moves. */
static void hash_chunk(struct grow *g, struct growing *f)
{
	unsigned char digest[DIGEST_SIZE];
	size_t i = f->next;
	off_t offset = (off_t)i * GROW_CHUNK;
	unsigned char *digests = realloc(f->digests, (i + 1) * DIGEST_SIZE);
	if (!digests) {
		f->broken = true;
		return;
	}
	f->digests = digests;
	f->next++;
	pthread_mutex_unlock(&g->lock);
	/* Starts writing and does not wait; that it may fail is fsync's to find out. */
	(void)sync_file_range(f->fd, offset, GROW_CHUNK, SYNC_FILE_RANGE_WRITE);
	int r = digest_fd(f->fd, "", (uint64_t)offset, GROW_CHUNK, digest, NULL);
	pthread_mutex_lock(&g->lock);
	struct stat st;
	if (r < 0 || fstat(f->fd, &st) < 0) {
		f->broken = true;
		return;
	}
	note_size(f, (uint64_t)st.st_size);
	memcpy(f->digests + i * DIGEST_SIZE, digest, DIGEST_SIZE);
	g->hashed += GROW_CHUNK;
}

static void wait_until(struct grow *g, mono_us when)
{
	struct timespec t = { .tv_sec = when / 1000000, .tv_nsec = when % 1000000 * 1000 };
	while (!g->stopping && pthread_cond_timedwait(&g->changed, &g->lock, &t) != ETIMEDOUT)
		;
}

/* Called and left with the lock held, by one thread at a time. */
static void look(struct grow *g)
{
	g->looking = true;
	g->seen_now = 0;
	pthread_mutex_unlock(&g->lock);
	mono_us before = clock_mono();
	(void)store_walk(g->dir, false, look_at_file, g, NULL);
	mono_us after = clock_mono();
	pthread_mutex_lock(&g->lock);
	g->seen = g->seen_now;
	if (!next_work(g)) {
		mono_us pause = (after - before) * LOOK_SHARE;
		pause = pause < LOOK_US ? LOOK_US : pause;
		wait_until(g, after + (pause > LOOK_MAX_US ? LOOK_MAX_US : pause));
	}
	g->looking = false;
	pthread_cond_broadcast(&g->changed);
}

static void *run(void *arg)
{
	struct grow *g = arg;
	/* The writer goes first: a session stands still until it is done, and what is not hashed by
	 * then is hashed with nobody to compete with. (Linux has a nice value per thread.) */
	setpriority(PRIO_PROCESS, 0, NICENESS);
	pthread_mutex_lock(&g->lock);
	while (!g->stopping) {
		struct growing *f = next_work(g);
		if (f)
			hash_chunk(g, f);
		else if (!g->looking)
			look(g);
		else
			pthread_cond_wait(&g->changed, &g->lock);
	}
	pthread_mutex_unlock(&g->lock);
	return NULL;
}

int grow_start(const char *dir, struct grow **grow, struct error *e)
{
	struct grow *g = calloc(1, sizeof(*g));
	if (!g)
		return error_set(e, ENOMEM, "out of memory");
	pthread_condattr_t attr;
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&g->changed, &attr);
	pthread_condattr_destroy(&attr);
	pthread_mutex_init(&g->lock, NULL);
	g->dir = strdup(dir);
	unsigned wanted = g->dir ? parallel_threads() : 0;
	while (g->thread_count < wanted &&
	       pthread_create(&g->threads[g->thread_count], NULL, run, g) == 0)
		g->thread_count++;
	if (!g->thread_count) {
		grow_free(g);
		return error_set(e, ENOMEM, "cannot start a thread for hashing");
	}
	*grow = g;
	return 0;
}

void grow_stop(struct grow *g)
{
	pthread_mutex_lock(&g->lock);
	g->stopping = true;
	pthread_cond_broadcast(&g->changed);
	pthread_mutex_unlock(&g->lock);
	while (g->thread_count)
		pthread_join(g->threads[--g->thread_count], NULL);
}

void *grow_free(struct grow *g)
{
	if (!g)
		return NULL;
	grow_stop(g);
	for (size_t i = 0; i < g->count; i++) {
		close(g->files[i].fd);
		free(g->files[i].digests);
	}
	pthread_cond_destroy(&g->changed);
	pthread_mutex_destroy(&g->lock);
	free(g->dir);
	free(g);
	return NULL;
}

void grow_progress(struct grow *g, uint64_t *done, uint64_t *total)
{
	pthread_mutex_lock(&g->lock);
	*done = g->hashed;
	*total = g->seen;
	pthread_mutex_unlock(&g->lock);
}

unsigned char *grow_take(struct grow *g, const struct stat *st, size_t *chunks)
{
	struct growing *f = find(g, st);
	*chunks = 0;
	if (!f || f->broken || (uint64_t)st->st_size < f->next * (uint64_t)GROW_CHUNK)
		return NULL;
	*chunks = f->next;
	return steal_ptr(&f->digests);
}
