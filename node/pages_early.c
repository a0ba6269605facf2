/* SPDX-License-Identifier: Apache-2.0 */
/* The working set of the last wake, read while CRIU still restores. */
#define _GNU_SOURCE
#include "node/pages_service.h"

#include "base/cleanup.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

enum {
	EARLY_BYTES = 32 << 20,   /* before there is a place for them */
	EARLY_PUT_MS = 8,         /* to put them there before the session runs */
	EARLY_WAIT_MS = 20,       /* for what is still being read when the rest is ready, */
	EARLY_WAIT_SLOW_MS = 200, /* ... from afar */
	EARLY_SLOW_US = 10000,
	NEAR_FRAMES = 64, /* read at once where what is wanted first comes first */
	NICE = 10,
};

/* --- what to read --------------------------------------------------------------------- */

/* The frame of a page of the set; STORE_ZERO when it needs none. `maps` are made as they are
 * needed. */
static uint32_t frame_of(struct pages *p, struct pages_map *maps,
			 const struct working_set_page *page)
{
	unsigned slot;
	int memory = pages_index_find(&p->index, page->pid);
	if (memory < 0)
		return STORE_ZERO;
	struct pages_map *map = &maps[memory];
	if (map->count == 0 && pages_index_map(&p->index, (size_t)memory, map) < 0)
		return STORE_ZERO;
	const struct pages_range *r = pages_map_at(map, page->address);
	if (!r)
		return STORE_ZERO;
	return pages_index_frame(&p->index, r->page + (page->address - r->start) / STORE_PAGE,
				 &slot);
}

/* What the store has put aside for us. A hot frame without a lazy page is CRIU's. */
static size_t choose_hot(struct pages *p, uint32_t *frames)
{
	size_t count = 0;
	for (uint32_t f = 0; f < p->source.frame_count; f++) {
		if (!p->source.frames[f].hot || p->index.start[f + 1] == p->index.start[f])
			continue;
		p->early_taken[f] = true;
		frames[count++] = f;
	}
	return count;
}

/* Frames of the last working set that are not among them. */
static size_t choose_set(struct pages *p, uint32_t *frames)
{
	size_t count = 0, memories = p->source.memory_count;
	cleanup_free struct pages_map *maps = calloc(memories + 1, sizeof(*maps));
	for (size_t i = 0; maps && i < p->last_set_count; i++) {
		uint32_t frame = frame_of(p, maps, &p->last_set[i]);
		if (frame == STORE_ZERO || p->early_taken[frame])
			continue;
		p->early_taken[frame] = true;
		frames[count++] = frame;
	}
	for (size_t i = 0; maps && i < memories; i++)
		pages_map_deinit(&maps[i]);
	return count;
}

/* --- reading --------------------------------------------------------------------------- */

/* False when there is a place for it now, or all is over. What there is no memory for is read
 * again. */
static bool keep(struct pages *p, uint32_t frame, const void *data, size_t len)
{
	pthread_mutex_lock(&p->lock);
	while (!p->early_over && !p->let_go && p->early.bytes + len > EARLY_BYTES) {
		p->early_full = true;
		pthread_cond_broadcast(&p->changed);
		pthread_cond_wait(&p->changed, &p->lock);
	}
	bool early = !p->early_over && !p->let_go;
	if (early)
		pages_kept_add(&p->early, frame, data, len);
	pthread_mutex_unlock(&p->lock);
	return early;
}

/* Of this thread only: CRIU goes first. Then the session does, and who serves its faults waits for
 * what we hold: from then on we do not. */
static void stand_behind(struct pages *p, pid_t *thread)
{
	pthread_mutex_lock(&p->lock);
	*thread = gettid();
	if (!p->early_over)
		setpriority(PRIO_PROCESS, (id_t)*thread, NICE);
	pthread_mutex_unlock(&p->lock);
}

/* Lock held. */
static void stand_behind_no_more(const pid_t *thread)
{
	if (*thread)
		setpriority(PRIO_PROCESS, (id_t)*thread, 0);
}

static void note_end(struct pages *p, pid_t *thread)
{
	pthread_mutex_lock(&p->lock);
	*thread = 0;
	pthread_mutex_unlock(&p->lock);
}

struct reading {
	struct pages *p;
	mono_us begun;
};

static void note_first(struct pages *p, mono_us took)
{
	int64_t none = 0;
	if (!atomic_compare_exchange_strong(&p->early_us, &none, took + 1) || took < EARLY_SLOW_US)
		return;
	pages_note_far(p, took);
	pages_note_far(p, took);
}

static int on_frame(uint32_t frame, const void *data, size_t len, void *arg)
{
	struct reading *r = arg;
	struct pages *p = r->p;
	note_first(p, clock_mono() - r->begun);
	bool late = !keep(p, frame, data, len);
	if (late)
		pages_place(p, frame, data);
	return pages_over(p) || (late && p->source.near) ? -ECANCELED : 0;
}

typedef int each_frame(uint32_t frame, const void *data, size_t len, void *arg);

/* All at once: the source knows best what can be asked for together. From near it is a little at a
 * time, in the order in which it is wanted, and none of it when the session goes on: it has better
 * uses for the link and the processors. What is not read now will be wanted again, and is told
 * then. */
static void read_frames(struct pages *p, uint32_t *frames, size_t count, each_frame *each,
			void *arg)
{
	int r = 0;
	for (size_t at = 0, n; at < count && r == 0; at += n) {
		n = p->source.near && count - at > NEAR_FRAMES ? NEAR_FRAMES : count - at;
		pages_frames_tidy(frames + at, n); /* no frame is chosen twice */
		r = p->source.read(p->source.from, frames + at, n, each, arg, NULL);
	}
}

static void read_set(struct pages *p, uint32_t *frames, size_t count)
{
	struct reading r = { p, clock_mono() };
	read_frames(p, frames, count, on_frame, &r);
}

static void note_early_end(struct pages *p)
{
	pthread_mutex_lock(&p->lock);
	p->early_threads--;
	pthread_cond_broadcast(&p->changed);
	pthread_mutex_unlock(&p->lock);
}

static void end_early(struct pages *p)
{
	note_early_end(p);
	pages_unref(p);
}

struct hot {
	struct pages *p;
	size_t count;
	uint32_t frames[];
};

static void *hot_main(void *arg)
{
	struct hot *hot = arg;
	stand_behind(hot->p, &hot->p->hot_thread);
	read_set(hot->p, hot->frames, hot->count);
	note_end(hot->p, &hot->p->hot_thread);
	end_early(hot->p);
	free(hot);
	return NULL;
}

static bool wait_set(struct pages *p)
{
	pthread_mutex_lock(&p->lock);
	while (!p->set_there && !p->let_go)
		pthread_cond_wait(&p->changed, &p->lock);
	bool over = p->let_go;
	pthread_mutex_unlock(&p->lock);
	return !over;
}

void pages_early_set(struct pages *p)
{
	pthread_mutex_lock(&p->lock);
	p->set_there = true;
	pthread_cond_broadcast(&p->changed);
	pthread_mutex_unlock(&p->lock);
}

static size_t choose_likely(struct pages *p, uint32_t *frames)
{
	size_t count = 0;
	for (size_t i = 0; i < p->source.likely_count; i++)
		if (!p->early_taken[p->source.likely[i]])
			frames[count++] = p->source.likely[i];
	return count;
}

/* Kept, not put: it is to be seen what of it is wanted. */
static int on_likely(uint32_t frame, const void *data, size_t len, void *arg)
{
	struct pages *p = arg;
	pthread_mutex_lock(&p->lock);
	bool early = !p->early_over && !p->let_go;
	pthread_mutex_unlock(&p->lock);
	return early && pages_keep(p, frame, data, len) ? 0 : -ECANCELED;
}

static void *set_main(void *arg)
{
	struct pages *p = arg;
	struct working_set_page *list;
	size_t count;
	cleanup_free uint32_t *frames = calloc(p->source.frame_count + 1, sizeof(*frames));
	stand_behind(p, &p->set_thread);
	/* Without one, nothing is known to come first. */
	if (frames && wait_set(p) && working_set_read(p->dir, &list, &count, NULL) == 0) {
		pthread_mutex_lock(&p->lock);
		p->last_set = list;
		p->last_set_count = count;
		pthread_mutex_unlock(&p->lock);
		read_set(p, frames, choose_set(p, frames));
	}
	note_early_end(p);
	if (frames)
		read_frames(p, frames, choose_likely(p, frames), on_likely, p);
	note_end(p, &p->set_thread);
	pages_unref(p);
	return NULL;
}

static int start_early(struct pages *p, void *(*run)(void *arg), void *arg, struct error *e)
{
	pthread_mutex_lock(&p->lock);
	p->early_threads++;
	pthread_mutex_unlock(&p->lock);
	int r = pages_thread(p, run, arg, e);
	if (r < 0) {
		pthread_mutex_lock(&p->lock);
		p->early_threads--;
		pthread_mutex_unlock(&p->lock);
	}
	return r;
}

int pages_early_start(struct pages *p, struct error *e)
{
	size_t frames = p->source.frame_count;
	struct hot *hot = malloc(sizeof(*hot) + (frames + 1) * sizeof(hot->frames[0]));
	p->early_taken = calloc(frames + 1, sizeof(*p->early_taken));
	if (!hot || !p->early_taken) {
		free(hot);
		return error_set(e, ENOMEM, "out of memory");
	}
	hot->p = p;
	hot->count = choose_hot(p, hot->frames);
	int r = start_early(p, hot_main, hot, e);
	if (r < 0) {
		free(hot);
		return r;
	}
	return start_early(p, set_main, p, e);
}

void pages_place_kept(struct pages *p, struct pages_kept *kept, mono_us until)
{
	struct pages_kept_frame one;
	bool any = true;
	while (clock_mono() < until && any) {
		pthread_mutex_lock(&p->lock);
		any = !p->let_go && pages_kept_take(kept, &one);
		pthread_mutex_unlock(&p->lock);
		if (!any)
			break;
		pages_place(p, one.frame, one.data);
		free(one.data);
	}
}

static void *put_main(void *arg)
{
	struct pages *p = arg;
	pages_place_kept(p, &p->early, INT64_MAX);
	end_early(p);
	return NULL;
}

/* Nothing read yet is slow, too. */
static mono_us wait_until(struct pages *p)
{
	int64_t took = atomic_load(&p->early_us);
	bool slow = took == 0 || took > EARLY_SLOW_US;
	int ms = p->source.near ? 0 : slow ? EARLY_WAIT_SLOW_MS : EARLY_WAIT_MS;
	return clock_mono() + ms * 1000LL;
}

/* Whoever wants what is not yet in place gets it from here. */
void pages_early_settled(struct pages *p)
{
	mono_us until = wait_until(p);
	pthread_mutex_lock(&p->lock);
	while (p->early_threads > 0 && !p->early_full && clock_mono() < until && !p->let_go)
		pages_wait_for(&p->changed, &p->lock, until - clock_mono());
	p->early_over = true;
	stand_behind_no_more(&p->hot_thread);
	stand_behind_no_more(&p->set_thread);
	pthread_cond_broadcast(&p->changed);
	pthread_mutex_unlock(&p->lock);
	pages_place_kept(p, &p->early, clock_mono() + EARLY_PUT_MS * 1000);
	if (start_early(p, put_main, p, NULL) < 0)
		pages_place_kept(p, &p->early, INT64_MAX);
}
