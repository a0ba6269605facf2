/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "store/parallel.h"
#include "store/reading.h"

#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <string.h>

struct group {
	size_t first, count;
};

struct verification {
	struct store_read *read;
	struct piece *pieces;
	size_t count;
	struct group *groups;
	size_t group_count;
	pthread_t caller; /* the only thread that reports */
	void (*progress)(uint64_t done, uint64_t total, void *arg);
	void *arg;
	atomic_uint_fast64_t done;
	uint64_t total;
};

static void verification_deinit(struct verification *v)
{
	free(v->pieces);
	free(v->groups);
}

static int nothing(size_t i, const void *data, size_t len, void *arg)
{
	(void)i;
	(void)data;
	(void)len;
	(void)arg;
	return 0;
}

static int check_group(void *arg, size_t i, struct error *e)
{
	struct verification *v = arg;
	const struct group *g = &v->groups[i];
	uint64_t bytes = 0;
	int r = fetch_pieces(v->read->fetch, v->pieces + g->first, g->count, true, nothing, NULL,
			     e);
	for (size_t k = g->first; k < g->first + g->count; k++)
		bytes += v->pieces[k].stored;
	uint64_t done = atomic_fetch_add(&v->done, bytes) + bytes;
	if (v->progress && pthread_equal(pthread_self(), v->caller))
		v->progress(done, v->total, v->arg);
	return r;
}

static int list_groups(struct verification *v, struct error *e)
{
	v->groups = calloc(v->count + 1, sizeof(*v->groups));
	if (!v->groups)
		return store_oom(e);
	for (size_t i = 0, n; i < v->count; i += n) {
		n = fetch_group(v->pieces + i, v->count - i);
		v->groups[v->group_count++] = (struct group) { i, n };
	}
	for (size_t i = 0; i < v->count; i++)
		v->total += v->pieces[i].stored;
	return 0;
}

static int list_pieces(struct verification *v, bool own, struct error *e)
{
	const struct index *x = &v->read->index;
	const struct manifest *m = &v->read->m;
	v->pieces = calloc(x->frame_count + 1, sizeof(*v->pieces));
	if (!v->pieces)
		return store_oom(e);
	for (size_t i = 0; i < x->frame_count; i++)
		if (!own || m->packs[x->frames[i].at.pack].generation == m->meta.generation)
			v->pieces[v->count++] = store_piece(&x->frames[i]);
	return 0;
}

static int by_place(const void *a, const void *b)
{
	const struct piece *x = a;
	const struct piece *y = b;
	if (x->pack != y->pack)
		return x->pack < y->pack ? -1 : 1;
	return (x->offset > y->offset) - (x->offset < y->offset);
}

/* Any of them with the same chance. */
static void take_sample(struct verification *v, size_t sample)
{
	if (v->count <= sample)
		return;
	for (size_t i = 0; i < sample; i++) {
		uint64_t random = 0; /* then always the same ones */
		seal_random(&random, sizeof(random), NULL);
		size_t other = i + (size_t)(random % (v->count - i));
		struct piece p = v->pieces[i];
		v->pieces[i] = v->pieces[other];
		v->pieces[other] = p;
	}
	v->count = sample;
	qsort(v->pieces, sample, sizeof(*v->pieces), by_place);
}

int store_verify_frames(struct store_read *read, size_t sample,
			void (*progress)(uint64_t done, uint64_t total, void *arg), void *arg,
			struct error *e)
{
	cleanup(verification_deinit) struct verification v = {
		.read = read, .caller = pthread_self(), .progress = progress, .arg = arg
	};
	int r = list_pieces(&v, sample > 0, e);
	if (r < 0)
		return r;
	if (sample)
		take_sample(&v, sample);
	r = list_groups(&v, e);
	if (r == 0)
		r = parallel(read->store->local ? parallel_threads() : STORE_REQUESTS,
			     v.group_count, check_group, &v, e);
	if (r == 0 && progress)
		progress(v.total, v.total, arg);
	return r;
}

int store_read_verify(struct store_read *read,
		      void (*progress)(uint64_t done, uint64_t total, void *arg), void *arg,
		      struct error *e)
{
	int r = store_check_packs(read->store, &read->m, NULL, e);
	if (r == 0)
		r = store_read_index(read, false, true, nothing, NULL, e);
	return r < 0 ? r : store_verify_frames(read, 0, progress, arg, e);
}
