/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "store/fetch.h"

#include "base/fs.h"
#include "store/cache.h"
#include "store/squeeze.h"

#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <string.h>

enum {
	GAP = 64 << 10,  /* read through rather than asked for in two requests */
	GROUP = 1 << 20, /* most in one request, unless it is one piece */
	AHEAD = 8,       /* requests made before their turn */
	BLOCK = 4096,    /* of whole ones a disk is read without a detour (cloud/file.c) */
};

/* A writer of packs, as far as its key goes. */
struct writer {
	int64_t generation;
	char id[17];
	struct seal_key key;
};

/* One thread's tools. */
struct decoder {
	struct decoder *next;
	struct squeezer *squeezer;
	struct sealer **sealers; /* for each writer, made when wanted */
	unsigned char *raw, *out;
	size_t raw_size, out_size;
};

struct fetch {
	struct store *store;
	const struct manifest *m;
	struct writer *writers;
	size_t writer_count;
	uint32_t *writer_of; /* each pack's */
	pthread_mutex_t lock;
	struct decoder *spare;
};

static void *decoder_free(struct decoder *d, size_t writers)
{
	if (!d)
		return NULL;
	for (size_t i = 0; d->sealers && i < writers; i++)
		sealer_free(d->sealers[i]);
	squeezer_free(d->squeezer);
	free(d->sealers);
	free(d->raw);
	free(d->out);
	free(d);
	return NULL;
}

static int take_decoder(struct fetch *f, struct decoder **decoder, struct error *e)
{
	pthread_mutex_lock(&f->lock);
	struct decoder *d = f->spare;
	if (d)
		f->spare = d->next;
	pthread_mutex_unlock(&f->lock);
	*decoder = d;
	if (d)
		return 0;
	d = calloc(1, sizeof(*d));
	if (!d)
		return store_oom(e);
	d->sealers = calloc(f->writer_count + 1, sizeof(*d->sealers));
	int r = d->sealers ? squeezer_new(&d->squeezer, e) : store_oom(e);
	if (r < 0)
		decoder_free(d, f->writer_count);
	else
		*decoder = d;
	return r;
}

static void give_back_decoder(struct fetch *f, struct decoder *d)
{
	pthread_mutex_lock(&f->lock);
	d->next = f->spare;
	f->spare = d;
	pthread_mutex_unlock(&f->lock);
}

static int ensure(unsigned char **data, size_t *size, size_t wanted, struct error *e)
{
	if (wanted <= *size)
		return 0;
	free(*data);
	wanted = (wanted + BLOCK - 1) / BLOCK * BLOCK;
	*data = aligned_alloc(BLOCK, wanted);
	*size = *data ? wanted : 0;
	return *data ? 0 : store_oom(e);
}

static int sealer_for(struct fetch *f, struct decoder *d, uint32_t pack, struct sealer **sealer,
		      struct error *e)
{
	uint32_t i = f->writer_of[pack];
	int r = d->sealers[i] ? 0 : sealer_new(&f->writers[i].key, &d->sealers[i], e);
	*sealer = d->sealers[i];
	return r;
}

/* Opens in place, then unsqueezes to d->out. */
static int decode(struct fetch *f, struct decoder *d, const struct piece *p, unsigned char *sealed,
		  struct error *e)
{
	struct sealer *sealer;
	if (p->stored <= SEAL_TAG)
		return error_set(e, EBADMSG, "too short");
	int r = sealer_for(f, d, p->pack, &sealer, e);
	if (r == 0)
		r = ensure(&d->out, &d->out_size, p->len, e);
	if (r == 0)
		r = open_frame(sealer, f->m->packs[p->pack].number, p->offset, sealed, p->stored,
			       sealed, e);
	if (r == 0)
		r = unsqueeze(d->squeezer, sealed, p->stored - SEAL_TAG, d->out, p->len, e);
	return r;
}

/* AGAIN: what the cache has of it is wrong. */
enum how { CACHED, FRESH, AGAIN };

static int read_span(struct fetch *f, uint32_t pack, uint32_t offset, size_t len, enum how how,
		     void *to, struct error *e)
{
	const struct manifest_pack *mp = &f->m->packs[pack];
	cleanup_free char *key = NULL;
	int r = store_pack_key(f->m->meta.session, mp, &key, e);
	if (r < 0)
		return r;
	if (f->store->cache && how == AGAIN)
		cache_drop(f->store->cache, key, offset, len);
	if (f->store->cache && how == CACHED)
		r = cache_read(f->store->cache, f->store->objects, key, mp->size, offset, to, len,
			       e);
	else
		r = object_read(f->store->objects, key, offset, to, len, e);
	return store_damage(e, r);
}

/* A bit may have been turned over on the way, or in the cache. */
static int once_more(struct fetch *f, struct decoder *d, const struct piece *p, struct error *e)
{
	cleanup_free char *key = NULL;
	cleanup_free unsigned char *sealed = malloc(p->stored + 1);
	int r = sealed ? store_pack_key(f->m->meta.session, &f->m->packs[p->pack], &key, e)
		       : store_oom(e);
	if (r == 0)
		r = read_span(f, p->pack, p->offset, p->stored, AGAIN, sealed, e);
	if (r < 0)
		return r;
	r = decode(f, d, p, sealed, e);
	if (r == -EBADMSG)
		error_wrap(e, r, "object %s: %" PRIu32 " bytes at offset %" PRIu32, key, p->stored,
			   p->offset);
	return store_damage(e, r);
}

static uint64_t span_end(const struct piece *p)
{
	return (uint64_t)p->offset + p->stored;
}

size_t fetch_group(const struct piece *pieces, size_t count)
{
	size_t n = 1;
	while (n < count && pieces[n].pack == pieces[0].pack &&
	       pieces[n].offset <= span_end(&pieces[n - 1]) + GAP &&
	       span_end(&pieces[n]) - pieces[0].offset <= GROUP)
		n++;
	return n;
}

/* Whole blocks around a group's pieces, to where the pack ends. */
struct span {
	uint32_t offset;
	size_t len;
};

static struct span group_span(const struct fetch *f, const struct piece *pieces, size_t count)
{
	uint64_t end = (span_end(&pieces[count - 1]) + BLOCK - 1) / BLOCK * BLOCK;
	uint64_t size = f->m->packs[pieces[0].pack].size;
	struct span s = { .offset = pieces[0].offset / BLOCK * BLOCK };
	s.len = (size_t)((end < size ? end : size) - s.offset);
	return s;
}

/* Where each piece goes. */
struct job {
	struct fetch *f;
	const struct piece *pieces;
	size_t count;
	enum how how;
	int (*each)(size_t i, const void *data, size_t len, void *arg);
	void *arg;
};

/* Pieces from `first` on whose span is in `raw`. */
static int deliver(const struct job *j, struct decoder *d, size_t first, size_t count,
		   unsigned char *raw, struct error *e)
{
	struct span span = group_span(j->f, &j->pieces[first], count);
	for (size_t i = first; i < first + count; i++) {
		const struct piece *p = &j->pieces[i];
		int r = decode(j->f, d, p, raw + (p->offset - span.offset), e);
		if (r == -EBADMSG)
			r = once_more(j->f, d, p, e);
		if (r < 0)
			return r;
		r = j->each(i, d->out, p->len, j->arg);
		if (r)
			return r;
	}
	return 0;
}

static int read_group(const struct job *j, size_t first, size_t count, unsigned char *raw,
		      struct error *e)
{
	uint32_t pack = j->pieces[first].pack;
	struct span s = group_span(j->f, &j->pieces[first], count);
	int r = read_span(j->f, pack, s.offset, s.len, j->how, raw, e);
	/* A short answer may be the network's fault. */
	return r == -EBADMSG ? read_span(j->f, pack, s.offset, s.len, AGAIN, raw, e) : r;
}

static int fetch_in_turn(const struct job *j, struct decoder *d, struct error *e)
{
	int r = 0;
	for (size_t i = 0, n; i < j->count && r == 0; i += n) {
		n = fetch_group(j->pieces + i, j->count - i);
		r = ensure(&d->raw, &d->raw_size, group_span(j->f, j->pieces + i, n).len, e);
		if (r == 0)
			r = read_group(j, i, n, d->raw, e);
		if (r == 0)
			r = deliver(j, d, i, n, d->raw, e);
	}
	return r;
}

/* --- several requests at once ------------------------------------------------------- */

struct slot {
	size_t first, count;
	unsigned char *raw; /* NULL until it is there */
	int r;
	struct error error;
	bool done;
};

struct ahead {
	const struct job *j;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	struct slot *slots;
	size_t slot_count;
	size_t next;      /* slot to be asked for */
	size_t delivered; /* slots */
	bool stop;
};

static void request(const struct job *j, struct slot *s)
{
	size_t size = 0;
	ensure(&s->raw, &size, group_span(j->f, j->pieces + s->first, s->count).len, NULL);
	s->r = s->raw ? read_group(j, s->first, s->count, s->raw, &s->error) : store_oom(&s->error);
}

static void *run_requests(void *arg)
{
	struct ahead *a = arg;
	pthread_mutex_lock(&a->lock);
	while (!a->stop && a->next < a->slot_count) {
		if (a->next >= a->delivered + AHEAD) {
			pthread_cond_wait(&a->changed, &a->lock);
			continue;
		}
		struct slot *s = &a->slots[a->next++];
		pthread_mutex_unlock(&a->lock);
		request(a->j, s);
		pthread_mutex_lock(&a->lock);
		s->done = true;
		pthread_cond_broadcast(&a->changed);
	}
	pthread_mutex_unlock(&a->lock);
	return NULL;
}

static int deliver_slots(struct ahead *a, struct decoder *d, struct error *e)
{
	int r = 0;
	for (size_t i = 0; i < a->slot_count && r == 0; i++) {
		struct slot *s = &a->slots[i];
		pthread_mutex_lock(&a->lock);
		while (!s->done)
			pthread_cond_wait(&a->changed, &a->lock);
		pthread_mutex_unlock(&a->lock);
		r = s->r;
		if (r < 0 && e)
			*e = s->error;
		if (r == 0)
			r = deliver(a->j, d, s->first, s->count, s->raw, e);
		free(s->raw);
		s->raw = NULL;
		pthread_mutex_lock(&a->lock);
		a->delivered++;
		pthread_cond_broadcast(&a->changed);
		pthread_mutex_unlock(&a->lock);
	}
	return r;
}

static int make_slots(struct ahead *a, struct error *e)
{
	const struct job *j = a->j;
	for (size_t i = 0; i < j->count; i += fetch_group(j->pieces + i, j->count - i))
		a->slot_count++;
	a->slots = calloc(a->slot_count + 1, sizeof(*a->slots));
	if (!a->slots)
		return store_oom(e);
	size_t k = 0;
	for (size_t i = 0, n; i < j->count; i += n) {
		n = fetch_group(j->pieces + i, j->count - i);
		a->slots[k++] = (struct slot) { .first = i, .count = n };
	}
	return 0;
}

static int fetch_ahead(const struct job *j, struct decoder *d, struct error *e)
{
	struct ahead a = { .j = j };
	pthread_t threads[AHEAD];
	size_t started = 0;
	int r = make_slots(&a, e);
	if (r < 0)
		return r;
	pthread_mutex_init(&a.lock, NULL);
	pthread_cond_init(&a.changed, NULL);
	while (a.slot_count > 1 && started < AHEAD && started < a.slot_count &&
	       pthread_create(&threads[started], NULL, run_requests, &a) == 0)
		started++;
	r = started ? deliver_slots(&a, d, e) : fetch_in_turn(j, d, e);
	pthread_mutex_lock(&a.lock);
	a.stop = true;
	pthread_cond_broadcast(&a.changed);
	pthread_mutex_unlock(&a.lock);
	while (started)
		pthread_join(threads[--started], NULL);
	for (size_t i = 0; i < a.slot_count; i++)
		free(a.slots[i].raw);
	free(a.slots);
	pthread_cond_destroy(&a.changed);
	pthread_mutex_destroy(&a.lock);
	return r;
}

int fetch_pieces(struct fetch *f, const struct piece *pieces, size_t count, bool fresh,
		 int (*each)(size_t i, const void *data, size_t len, void *arg), void *arg,
		 struct error *e)
{
	struct job j = {
		.f = f,
		.pieces = pieces,
		.count = count,
		.how = fresh ? FRESH : CACHED,
		.each = each,
		.arg = arg,
	};
	struct decoder *d;
	if (count == 0)
		return 0;
	int r = take_decoder(f, &d, e);
	if (r < 0)
		return r;
	r = f->store->local ? fetch_in_turn(&j, d, e) : fetch_ahead(&j, d, e);
	give_back_decoder(f, d);
	return r;
}

static int note_writer(struct fetch *f, const struct store_keys *keys, size_t pack, struct error *e)
{
	const struct manifest_pack *p = &f->m->packs[pack];
	size_t i = 0;
	/* A writer's packs come one after the other. */
	for (i = f->writer_count; i-- > 0;)
		if (f->writers[i].generation == p->generation &&
		    strcmp(f->writers[i].id, p->writer) == 0)
			break;
	if (i == SIZE_MAX) {
		struct writer *w = &f->writers[i = f->writer_count];
		w->generation = p->generation;
		memcpy(w->id, p->writer, sizeof(w->id));
		int r = store_writer_key(keys, f->m->meta.session, p->generation, p->writer,
					 &w->key, e);
		if (r < 0)
			return r;
		f->writer_count++;
	}
	f->writer_of[pack] = (uint32_t)i;
	return 0;
}

int fetch_new(struct store *store, const struct store_keys *keys, const struct manifest *m,
	      struct fetch **fetch, struct error *e)
{
	cleanup(fetch_freep) struct fetch *f = calloc(1, sizeof(*f));
	if (!f)
		return store_oom(e);
	pthread_mutex_init(&f->lock, NULL);
	f->store = store;
	f->m = m;
	f->writers = calloc(m->pack_count + 1, sizeof(*f->writers));
	f->writer_of = calloc(m->pack_count + 1, sizeof(*f->writer_of));
	if (!f->writers || !f->writer_of)
		return store_oom(e);
	for (size_t i = 0; i < m->pack_count; i++) {
		int r = note_writer(f, keys, i, e);
		if (r < 0)
			return r;
	}
	*fetch = steal_ptr(&f);
	return 0;
}

void *fetch_free(struct fetch *f)
{
	if (!f)
		return NULL;
	while (f->spare) {
		struct decoder *next = f->spare->next;
		decoder_free(f->spare, f->writer_count);
		f->spare = next;
	}
	pthread_mutex_destroy(&f->lock);
	free(f->writers);
	free(f->writer_of);
	free(f);
	return NULL;
}
