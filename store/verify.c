/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "store/digest.h"
#include "store/internal.h"
#include "store/parallel.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

enum { SAMPLE = 4 }; /* chunks read back in a sample */

struct chunk {
	const struct manifest_file *file;
	size_t i;
};

struct verification {
	struct object_store *objects;
	const struct manifest *m;
	struct chunk *chunks;
	size_t count;
	pthread_t caller; /* the only thread that reports */
	void (*progress)(uint64_t done, uint64_t total, void *arg);
	void *arg;
	atomic_uint_fast64_t done;
	uint64_t total;
};

static void verification_deinit(struct verification *v)
{
	free(v->chunks);
}

/* That an object is missing is damage too, once a manifest names it. */
static int damage(struct error *e, int r)
{
	if (r == -ENOENT)
		r = -EBADMSG;
	if (r == -EBADMSG && e)
		e->fault = FAULT_CORRUPT;
	return r;
}

static int check_size(void *arg, size_t i, struct error *e)
{
	const struct verification *v = arg;
	const struct manifest_file *file = &v->m->files[i];
	struct object_stat st;
	cleanup_free char *key = NULL;
	int r = store_object_key(v->m, file, &key, e);
	if (r == 0)
		r = object_stat(v->objects, key, &st, e);
	if (r != 0)
		return damage(e, r);
	if (st.size != file->size)
		return error_set(e, EBADMSG,
				 "object %s: has %" PRIu64 " bytes, and %" PRIu64
				 " in the manifest",
				 key, st.size, file->size);
	return 0;
}

static int check_chunk(void *arg, size_t i, struct error *e)
{
	struct verification *v = arg;
	const struct chunk *c = &v->chunks[i];
	unsigned char digest[DIGEST_SIZE];
	cleanup_free char *key = NULL;
	uint64_t offset = c->i * v->m->chunk;
	size_t len = manifest_chunk_size(c->file, v->m->chunk, c->i);
	int r = store_object_key(v->m, c->file, &key, e);
	if (r == 0)
		r = digest_object(v->objects, key, offset, len, digest, e);
	if (r < 0)
		return damage(e, r);
	if (memcmp(digest, c->file->digests + c->i * DIGEST_SIZE, DIGEST_SIZE) != 0)
		return error_set(e, EBADMSG,
				 "object %s: %zu bytes at offset %" PRIu64
				 " differ from the manifest's SHA-256",
				 key, len, offset);
	uint64_t done = atomic_fetch_add(&v->done, len) + len;
	if (v->progress && pthread_equal(pthread_self(), v->caller))
		v->progress(done, v->total, v->arg);
	return 0;
}

static int list_chunks(struct verification *v, struct error *e)
{
	size_t count = 0;
	for (size_t i = 0; i < v->m->count; i++)
		count += v->m->files[i].chunks;
	v->chunks = calloc(count + 1, sizeof(*v->chunks));
	if (!v->chunks)
		return error_set(e, ENOMEM, "out of memory");
	for (size_t i = 0; i < v->m->count; i++)
		for (size_t k = 0; k < v->m->files[i].chunks; k++)
			v->chunks[v->count++] = (struct chunk) { &v->m->files[i], k };
	return 0;
}

/* Brings SAMPLE chunks to the front, any with the same chance. */
static void take_sample(struct verification *v)
{
	uint64_t random[SAMPLE];
	if (v->count <= SAMPLE)
		return;
	if (getrandom(random, sizeof(random), GRND_NONBLOCK) != sizeof(random))
		memset(random, 0, sizeof(random)); /* then always the same ones */
	for (size_t i = 0; i < SAMPLE; i++) {
		size_t other = i + (size_t)(random[i] % (v->count - i));
		struct chunk c = v->chunks[i];
		v->chunks[i] = v->chunks[other];
		v->chunks[other] = c;
	}
	v->count = SAMPLE;
}

int store_verify_sizes(struct object_store *objects, const struct manifest *m, struct error *e)
{
	struct verification v = { .objects = objects, .m = m };
	return parallel(parallel_threads(), m->count, check_size, &v, e);
}

int store_verify_objects(struct object_store *objects, const struct manifest *m,
			 enum store_verify how,
			 void (*progress)(uint64_t done, uint64_t total, void *arg), void *arg,
			 struct error *e)
{
	cleanup(verification_deinit) struct verification v = {
		.objects = objects,
		.m = m,
		.caller = pthread_self(),
		.progress = progress,
		.arg = arg,
	};
	int r = list_chunks(&v, e);
	if (r < 0)
		return r;
	if (how == STORE_VERIFY_SAMPLE)
		take_sample(&v);
	for (size_t i = 0; i < v.count; i++)
		v.total += manifest_chunk_size(v.chunks[i].file, m->chunk, v.chunks[i].i);
	r = store_verify_sizes(objects, m, e);
	if (r == 0)
		r = parallel(parallel_threads(), v.count, check_chunk, &v, e);
	if (r == 0 && progress)
		progress(v.total, v.total, arg);
	return r;
}
