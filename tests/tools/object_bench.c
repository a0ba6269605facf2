/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Measures an object store: COUNT objects of BYTES put by THREADS at once, or as
 * many scattered ranges of that length read from what was put before.
 *
 *	object_bench URL put COUNT BYTES THREADS
 *	object_bench URL read COUNT BYTES THREADS
 *	object_bench URL remove
 *
 * Says what it took as JSON: seconds, and processor seconds of this process.
 */
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fs.h"
#include "cloud/object.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

enum { THREADS_MOST = 64, OBJECTS_MOST = 4096 };

struct objects {
	char *keys[OBJECTS_MOST];
	uint64_t sizes[OBJECTS_MOST];
	size_t count;
};

struct bench {
	struct object_store *s;
	int (*one)(struct bench *b, size_t i, char *data, struct error *e);
	size_t count, bytes;
	struct objects objects;
	_Atomic size_t next;
	atomic_bool failed;
};

/* Not compressible, and another for each object. */
static void fill(char *data, size_t len, uint64_t seed)
{
	uint64_t x = seed * 0x9e3779b97f4a7c15U + 1;
	for (size_t i = 0; i + 8 <= len; i += 8) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		memcpy(data + i, &x, 8);
	}
}

static int put_one(struct bench *b, size_t i, char *data, struct error *e)
{
	char key[64];
	snprintf(key, sizeof(key), "bench/%zu/pack-%zu", i % 2, i);
	memcpy(data, &i, b->bytes < sizeof(i) ? b->bytes : sizeof(i));
	return object_put(b->s, key, data, b->bytes, false, e);
}

static int read_one(struct bench *b, size_t i, char *data, struct error *e)
{
	uint64_t chance = (i + 1) * 0x9e3779b97f4a7c15U;
	size_t n = (size_t)(chance >> 32) % b->objects.count;
	uint64_t room = b->objects.sizes[n] - b->bytes + 1;
	return object_read(b->s, b->objects.keys[n], (chance & 0xffffffff) * 4096 % room, data,
			   b->bytes, e);
}

static int remove_one(struct bench *b, size_t i, char *data, struct error *e)
{
	(void)data;
	return object_remove(b->s, b->objects.keys[i], e);
}

static void *work(void *arg)
{
	struct bench *b = arg;
	struct error e = ERROR_INIT;
	cleanup_free char *data = malloc(b->bytes + 1);
	size_t i;
	if (b->one == put_one)
		fill(data, b->bytes, (uint64_t)(uintptr_t)&e);
	while ((i = atomic_fetch_add(&b->next, 1)) < b->count && !atomic_load(&b->failed)) {
		if (b->one(b, i, data, &e) < 0) {
			atomic_store(&b->failed, true);
			fprintf(stderr, "%s\n", e.text);
		}
	}
	return NULL;
}

static int note(const char *key, const struct object_stat *st, void *arg)
{
	struct bench *b = arg;
	struct objects *o = &b->objects;
	if (o->count == OBJECTS_MOST || st->size < b->bytes)
		return 0;
	o->keys[o->count] = strdup(key);
	o->sizes[o->count++] = st->size;
	return 0;
}

static double seconds(struct timeval t)
{
	return (double)t.tv_sec + (double)t.tv_usec / 1e6;
}

static int run(struct bench *b, size_t threads)
{
	pthread_t ids[THREADS_MOST];
	struct rusage used;
	mono_us began = clock_mono();
	for (size_t i = 0; i < threads; i++)
		if (pthread_create(&ids[i], NULL, work, b) != 0)
			abort();
	for (size_t i = 0; i < threads; i++)
		pthread_join(ids[i], NULL);
	double took = (double)(clock_mono() - began) / 1e6;
	getrusage(RUSAGE_SELF, &used);
	printf("{\"seconds\": %.4f, \"user\": %.4f, \"system\": %.4f, \"mib_per_second\": %.1f}\n",
	       took, seconds(used.ru_utime), seconds(used.ru_stime),
	       (double)b->count * (double)b->bytes / took / (1 << 20));
	return atomic_load(&b->failed) ? 1 : 0;
}

static int choose(struct bench *b, const char *what, struct error *e)
{
	b->one = strcmp(what, "put") == 0    ? put_one
		 : strcmp(what, "read") == 0 ? read_one
					     : remove_one;
	if (b->one == put_one)
		return 0;
	int r = object_list(b->s, "bench/", note, b, e);
	if (b->one == remove_one)
		b->count = b->objects.count;
	return r;
}

int main(int argc, char **argv)
{
	static struct bench b;
	struct error e = ERROR_INIT;
	if (argc < 3)
		return 1;
	size_t threads = argc > 5 ? strtoul(argv[5], NULL, 10) : 1;
	b.count = argc > 3 ? strtoul(argv[3], NULL, 10) : 0;
	b.bytes = argc > 4 ? strtoul(argv[4], NULL, 10) : 0;
	int r = object_store_open(argv[1], &b.s, &e);
	if (r == 0)
		r = choose(&b, argv[2], &e);
	if (r < 0 || threads < 1 || threads > THREADS_MOST ||
	    (b.one == read_one && !b.objects.count)) {
		fprintf(stderr, "%s\n", r < 0 ? e.text : "nothing to do");
		return 1;
	}
	r = run(&b, threads);
	for (size_t i = 0; i < b.objects.count; i++)
		free(b.objects.keys[i]);
	object_store_free(b.s);
	return r;
}
