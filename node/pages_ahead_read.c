/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Read-ahead: windows that were asked for with a fault, on threads of their own,
 * so that the page itself waits for none of it. What fails is not tried again:
 * it is asked for by a fault, or by the background transfer.
 */
#define _GNU_SOURCE
#include "node/pages_service.h"

#include "base/cleanup.h"

#include <stdlib.h>

enum { MOST_FRAMES = 256, FAR_US = 5000, FAR_MORE = 16, FAR_MOST = 64 };

struct list {
	struct pages *p;
	bool follows;
	uint32_t frames[MOST_FRAMES];
	size_t count;
};

/* A slow disk is not far, nor is a frame near that happens to be in a cache: more than one of some
 * dozen takes long. */
void pages_note_far(struct pages *p, mono_us took)
{
	int far = atomic_load(&p->far);
	if (took > FAR_US)
		atomic_store(&p->far, far + FAR_MORE < FAR_MOST ? far + FAR_MORE : FAR_MOST);
	else if (far > 0)
		atomic_store(&p->far, far - 1);
}

bool pages_is_far(struct pages *p)
{
	return atomic_load(&p->far) > FAR_MORE;
}

void pages_ahead_ask(struct pages *p, int32_t number, const struct pages_window *w)
{
	if (w->start >= w->end)
		return;
	if (p->wish_count == PAGES_AHEAD_QUEUE) {
		p->wish_head = (p->wish_head + 1) % PAGES_AHEAD_QUEUE;
		p->wish_count--;
	}
	p->wishes[(p->wish_head + p->wish_count++) % PAGES_AHEAD_QUEUE] =
		(struct pages_wish) { number, w->follows, w->start, w->end };
	pthread_cond_signal(&p->wished);
}

/* Hot frames come by themselves, and hold pages from all over the place. */
static bool is_worth(struct pages *p, uint32_t frame)
{
	if (frame == STORE_ZERO || p->source.frames[frame].hot ||
	    pages_record_has(&p->record, frame))
		return false;
	for (size_t i = 0; i < PAGES_FAULT_THREADS; i++)
		if (p->flights[i].busy && p->flights[i].frame == frame)
			return false;
	return true;
}

/* The frames in which a window's pages are. With the spaces held still, and the lock. */
static void look_up(struct pages *p, const struct pages_wish *w, struct list *l)
{
	struct pages_space *s = pages_space_find(p, w->number);
	uint64_t at = w->start, step;
	uint32_t last = STORE_ZERO;
	for (l->count = 0; s && at < w->end && l->count < MOST_FRAMES; at += step) {
		const struct pages_range *r = pages_map_at(&s->map->map, at);
		unsigned slot;
		step = r ? STORE_PAGE : pages_map_gap(&s->map->map, at, w->end - at);
		if (!r)
			continue;
		uint64_t page = r->page + (at - r->start) / STORE_PAGE;
		uint32_t frame = pages_index_frame(&p->index, page, &slot);
		if (frame != last && is_worth(p, frame))
			l->frames[l->count++] = frame;
		last = frame;
	}
	l->count = pages_frames_tidy(l->frames, l->count);
}

static int on_frame(uint32_t frame, const void *data, size_t len, void *arg)
{
	const struct list *l = arg;
	/* What lies around a fault may be wanted or not; what follows it most likely is. */
	if (!l->follows && pages_withhold(l->p, frame, data, len))
		return 0;
	return pages_place(l->p, frame, data);
}

/* Those that are kept need not be read, and those that are wanted not be kept any longer. */
static void drop_kept(struct list *l, unsigned char *buffer)
{
	size_t left = 0, len;
	for (size_t i = 0; i < l->count; i++) {
		uint32_t frame = l->frames[i];
		if (!pages_find_kept(l->p, frame, buffer, &len))
			l->frames[left++] = frame;
		else if (l->follows)
			pages_place(l->p, frame, buffer);
	}
	l->count = left;
}

static bool next_wish(struct pages *p, struct pages_wish *w)
{
	pthread_mutex_lock(&p->lock);
	while (!p->let_go && p->wish_count == 0)
		pthread_cond_wait(&p->wished, &p->lock);
	bool any = !p->let_go;
	if (any) {
		*w = p->wishes[p->wish_head];
		p->wish_head = (p->wish_head + 1) % PAGES_AHEAD_QUEUE;
		p->wish_count--;
	}
	pthread_mutex_unlock(&p->lock);
	return any;
}

static void bring(struct list *l, const struct pages_wish *w, unsigned char *buffer)
{
	struct pages *p = l->p;
	l->follows = w->follows;
	pthread_rwlock_rdlock(&p->spaces_lock);
	pthread_mutex_lock(&p->lock);
	look_up(p, w, l);
	pthread_mutex_unlock(&p->lock);
	pthread_rwlock_unlock(&p->spaces_lock);
	drop_kept(l, buffer);
	if (l->count)
		p->source.read(p->source.from, l->frames, l->count, on_frame, l, NULL);
}

static void *ahead_main(void *arg)
{
	struct pages *p = arg;
	struct pages_wish w;
	struct list l = { .p = p };
	cleanup_free unsigned char *buffer = malloc(STORE_FRAME_BYTES);
	while (buffer && next_wish(p, &w))
		bring(&l, &w, buffer);
	pages_unref(p);
	return NULL;
}

int pages_ahead_start(struct pages *p, struct error *e)
{
	int r = 0;
	for (int i = 0; i < PAGES_AHEAD_THREADS && r == 0; i++)
		r = pages_thread(p, ahead_main, p, e);
	return r;
}
