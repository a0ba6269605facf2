/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "store/pack.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

enum { PACK_BUFFERS = 5, PUTTERS = 3 };

struct pack {
	struct pack *next;
	unsigned char *data;
	uint32_t number;
	size_t used, filled;
	uint64_t raw;
	bool closed;
};

struct packer {
	struct store *store;
	char session[17], writer[17];
	int64_t generation;
	struct failure *failure;
	pthread_t putters[PUTTERS];
	unsigned putter_count;
	pthread_mutex_t lock; /* of what follows */
	pthread_cond_t changed;
	struct pack packs[PACK_BUFFERS];
	struct pack *spare;
	struct pack *open[PACK_STREAMS];
	struct pack *full, **full_end; /* waiting for a putter */
	unsigned closed;               /* closed, and not yet durable */
	uint64_t *sizes;
	size_t count, room;
	uint64_t durable;
	bool stop;
};

void failure_init(struct failure *f)
{
	pthread_mutex_init(&f->lock, NULL);
	atomic_init(&f->r, 0);
}

void failure_deinit(struct failure *f)
{
	pthread_mutex_destroy(&f->lock);
}

int failure_note(struct failure *f, int r, const struct error *e)
{
	pthread_mutex_lock(&f->lock);
	if (atomic_load(&f->r) == 0) {
		f->error = *e;
		atomic_store(&f->r, r);
	}
	pthread_mutex_unlock(&f->lock);
	return r;
}

int failure_check(struct failure *f, struct error *e)
{
	int r = atomic_load(&f->r);
	if (r && e) {
		pthread_mutex_lock(&f->lock);
		*e = f->error;
		pthread_mutex_unlock(&f->lock);
	}
	return r;
}

static void unlock(pthread_mutex_t **lock)
{
	pthread_mutex_unlock(*lock);
}

#define HOLD(mutex)                                                                                \
	cleanup(unlock) pthread_mutex_t *held = &(mutex);                                          \
	pthread_mutex_lock(held)

/* A pack that is closed and filled goes to the putters. */
static void pass_on(struct packer *p, struct pack *pack)
{
	if (!pack->closed || pack->filled < pack->used)
		return;
	pack->next = NULL;
	*p->full_end = pack;
	p->full_end = &pack->next;
	pthread_cond_broadcast(&p->changed);
}

static void close_pack(struct packer *p, enum pack_stream stream)
{
	struct pack *pack = p->open[stream];
	if (!pack)
		return;
	p->open[stream] = NULL;
	p->sizes[pack->number] = pack->used;
	p->closed++;
	pack->closed = true;
	pass_on(p, pack);
}

static int put(struct packer *p, const struct pack *pack, struct error *e)
{
	cleanup_free char *key = NULL;
	struct manifest_pack named = { .generation = p->generation, .number = pack->number };
	memcpy(named.writer, p->writer, sizeof(named.writer));
	int r = failure_check(p->failure, e);
	if (r == 0)
		r = store_pack_key(p->session, &named, &key, e);
	if (r == 0)
		r = object_put(p->store->objects, key, pack->data, pack->used, true, e);
	/* Nobody else's: a request that was made twice. */
	return r == -EEXIST ? 0 : r;
}

static struct pack *next_full(struct packer *p)
{
	while (!p->full && !p->stop)
		pthread_cond_wait(&p->changed, &p->lock);
	struct pack *pack = p->full;
	if (!pack)
		return NULL;
	p->full = pack->next;
	if (!p->full)
		p->full_end = &p->full;
	return pack;
}

static void *run_putter(void *arg)
{
	struct packer *p = arg;
	struct pack *pack;
	HOLD(p->lock);
	while ((pack = next_full(p))) {
		struct error e = ERROR_INIT;
		pthread_mutex_unlock(&p->lock);
		int r = put(p, pack, &e);
		if (r < 0)
			failure_note(p->failure, r, &e);
		pthread_mutex_lock(&p->lock);
		if (r == 0)
			p->durable += pack->raw;
		p->closed--;
		pack->next = p->spare;
		p->spare = pack;
		pthread_cond_broadcast(&p->changed);
	}
	return NULL;
}

static int note_new(struct packer *p, struct error *e)
{
	if (p->count < p->room)
		return 0;
	size_t room = p->room ? p->room * 2 : 64;
	uint64_t *sizes = realloc(p->sizes, room * sizeof(*sizes));
	if (!sizes)
		return store_oom(e);
	p->sizes = sizes;
	p->room = room;
	return 0;
}

/* Memory of its own and not of malloc(), which would keep it, or pieces of it, for ever. */
static int map_buffer(struct pack *pack, struct error *e)
{
	if (pack->data)
		return 0;
	void *data = mmap(NULL, STORE_PACK_BYTES, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (data == MAP_FAILED)
		return store_oom(e);
	pack->data = data;
	return 0;
}

static int open_pack(struct packer *p, enum pack_stream stream, struct error *e)
{
	int r = failure_check(p->failure, e);
	while (r == 0 && !p->spare && !p->open[stream]) {
		pthread_cond_wait(&p->changed, &p->lock);
		r = failure_check(p->failure, e);
	}
	if (r < 0 || p->open[stream] || !p->spare) /* somebody else was quicker */
		return r;
	struct pack *pack = p->spare;
	if (p->count > UINT32_MAX / 2)
		return error_set(e, E2BIG, "too many packs");
	r = note_new(p, e);
	if (r == 0)
		r = map_buffer(pack, e);
	if (r < 0)
		return r;
	p->spare = pack->next;
	*pack = (struct pack) { .data = pack->data, .number = (uint32_t)p->count++ };
	p->sizes[pack->number] = 0;
	p->open[stream] = pack;
	pthread_cond_broadcast(&p->changed);
	return 0;
}

int packer_reserve(struct packer *p, enum pack_stream stream, size_t len, struct pack_place *place,
		   struct error *e)
{
	HOLD(p->lock);
	for (;;) {
		struct pack *pack = p->open[stream];
		if (pack && pack->used + len <= STORE_PACK_BYTES) {
			*place = (struct pack_place) {
				.pack = pack->number,
				.offset = (uint32_t)pack->used,
				.to = pack->data + pack->used,
				.in = pack,
			};
			pack->used += len;
			return failure_check(p->failure, e);
		}
		close_pack(p, stream);
		int r = open_pack(p, stream, e);
		if (r < 0)
			return r;
	}
}

void packer_filled(struct packer *p, const struct pack_place *place, size_t len, uint64_t raw)
{
	HOLD(p->lock);
	place->in->filled += len;
	place->in->raw += raw;
	pass_on(p, place->in);
}

void packer_close(struct packer *p)
{
	HOLD(p->lock);
	for (int i = 0; i < PACK_STREAMS; i++)
		close_pack(p, (enum pack_stream)i);
}

int packer_wait(struct packer *p, struct error *e)
{
	HOLD(p->lock);
	int r = failure_check(p->failure, e);
	while (r == 0 && p->closed) {
		pthread_cond_wait(&p->changed, &p->lock);
		r = failure_check(p->failure, e);
	}
	return r;
}

uint64_t packer_durable(struct packer *p)
{
	HOLD(p->lock);
	return p->durable;
}

size_t packer_count(struct packer *p)
{
	HOLD(p->lock);
	return p->count;
}

uint64_t packer_size(struct packer *p, uint32_t pack)
{
	HOLD(p->lock);
	return p->sizes[pack];
}

int packer_new(struct store *store, const char *session, int64_t generation, const char *writer,
	       struct failure *failure, struct packer **packer, struct error *e)
{
	cleanup(packer_freep) struct packer *p = calloc(1, sizeof(*p));
	if (!p)
		return store_oom(e);
	p->store = store;
	memcpy(p->session, session, sizeof(p->session));
	memcpy(p->writer, writer, sizeof(p->writer));
	p->generation = generation;
	p->failure = failure;
	p->full_end = &p->full;
	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->changed, NULL);
	for (int i = 0; i < PACK_BUFFERS; i++) {
		p->packs[i].next = p->spare;
		p->spare = &p->packs[i];
	}
	while (p->putter_count < PUTTERS &&
	       pthread_create(&p->putters[p->putter_count], NULL, run_putter, p) == 0)
		p->putter_count++;
	if (p->putter_count == 0)
		return error_set(e, EAGAIN, "cannot start a thread");
	*packer = steal_ptr(&p);
	return 0;
}

void *packer_free(struct packer *p)
{
	if (!p)
		return NULL;
	pthread_mutex_lock(&p->lock);
	p->stop = true;
	pthread_cond_broadcast(&p->changed);
	pthread_mutex_unlock(&p->lock);
	while (p->putter_count)
		pthread_join(p->putters[--p->putter_count], NULL);
	for (int i = 0; i < PACK_BUFFERS; i++)
		if (p->packs[i].data)
			munmap(p->packs[i].data, STORE_PACK_BYTES);
	pthread_cond_destroy(&p->changed);
	pthread_mutex_destroy(&p->lock);
	free(p->sizes);
	free(p);
	return NULL;
}
