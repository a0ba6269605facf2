/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The background transfer: all frames that are not in place yet, in the order in
 * which they lie in their packs, on a few threads that stand back while there
 * are faults. What could not be read is tried again in the next pass.
 */
#define _GNU_SOURCE
#include "node/pages_service.h"

#include <errno.h>
#include <sys/resource.h>
#include <unistd.h>

enum {
	RUN_FRAMES = 256,
	RUN_BYTES = 1 << 20,
	LOOK_FRAMES = 1024,    /* at one go, with the spaces held still */
	QUIET_US = 2000,       /* since the last fault */
	STAND_BACK_US = 20000, /* at most, for each run: a slow drip of faults must not stop it */
	NICE = 10,
};

struct run {
	struct pages *p;
	uint32_t frames[RUN_FRAMES];
	size_t count;
	mono_us stand_back_until;
};

static void stand_back(struct run *run)
{
	struct pages *p = run->p;
	while (clock_mono() - atomic_load(&p->last_fault) < QUIET_US &&
	       clock_mono() < run->stand_back_until && !pages_over(p))
		usleep(500);
}

static int on_frame(uint32_t frame, const void *data, size_t len, void *arg)
{
	struct run *run = arg;
	(void)len;
	stand_back(run);
	return pages_place(run->p, frame, data);
}

/* What is left of the run when it was broken off: those not in place. */
static void drop_done(struct run *run)
{
	size_t left = 0;
	pthread_rwlock_rdlock(&run->p->spaces_lock);
	for (size_t i = 0; i < run->count; i++)
		if (!pages_record_has(&run->p->record, run->frames[i]))
			run->frames[left++] = run->frames[i];
	pthread_rwlock_unlock(&run->p->spaces_lock);
	run->count = left;
}

/* One by one, so that a damaged one does not keep the others back. */
static int fetch_singly(struct run *run, struct error *e)
{
	struct pages *p = run->p;
	int result = 0;
	for (size_t i = 0; i < run->count && !pages_over(p); i++) {
		struct error why = ERROR_INIT;
		int r = p->source.read(p->source.from, &run->frames[i], 1, on_frame, run, &why);
		if (r < 0 && result == 0) {
			result = r;
			*e = why;
		}
		if (r < 0 && r != -EBADMSG)
			break;
	}
	return result;
}

static int fetch(struct run *run, struct error *e)
{
	struct pages *p = run->p;
	run->stand_back_until = clock_mono() + STAND_BACK_US;
	stand_back(run);
	int r = p->source.read(p->source.from, run->frames, run->count, on_frame, run, e);
	if (r == -EBADMSG && run->count > 1) {
		drop_done(run);
		r = fetch_singly(run, e);
	}
	return r;
}

/* --- passes -------------------------------------------------------------------------- */

static bool joins(const struct run *run, uint32_t frame)
{
	const struct store_frame *f = run->p->source.frames;
	if (run->count == 0)
		return true;
	const struct store_frame *first = &f[run->frames[0]], *last = &f[frame];
	return run->count < RUN_FRAMES && last->pack == first->pack &&
	       (uint64_t)last->offset + last->stored - first->offset <= RUN_BYTES;
}

/* False at the end of the pass. With the spaces held still, or a page that nobody wants any more
 * could be taken for one that nobody ever will. */
static bool choose(struct run *run)
{
	struct pages *p = run->p;
	run->count = 0;
	pthread_rwlock_rdlock(&p->spaces_lock);
	pthread_mutex_lock(&p->lock);
	size_t frames = p->source.frame_count, looked = 0;
	for (; p->cursor < frames && looked < LOOK_FRAMES; p->cursor++, looked++) {
		if (pages_record_has(&p->record, p->cursor))
			continue;
		if (!pages_is_wanted(p, p->cursor)) {
			pages_frame_done(p, p->cursor);
			continue;
		}
		if (!joins(run, p->cursor))
			break;
		run->frames[run->count++] = p->cursor;
	}
	bool more = p->cursor < frames || run->count > 0;
	pthread_mutex_unlock(&p->lock);
	pthread_rwlock_unlock(&p->spaces_lock);
	return more;
}

/* Lock held. The last thread of a pass begins the next one; true when there is nothing left. */
static bool end_pass(struct pages *p)
{
	uint32_t pass = p->pass;
	if (--p->fetching > 0) {
		while (p->pass == pass && !p->let_go)
			pthread_cond_wait(&p->changed, &p->lock);
		return false;
	}
	if (atomic_load(&p->missing) == 0)
		return true;
	pthread_mutex_unlock(&p->lock);
	pages_back_off(p, &p->pass_wait_ms);
	pthread_mutex_lock(&p->lock);
	if (!p->pass_failed)
		p->pass_wait_ms = 0;
	p->pass_failed = false;
	p->cursor = 0;
	p->fetching = PAGES_FETCH_THREADS;
	p->pass++;
	pthread_cond_broadcast(&p->changed);
	return false;
}

/* A store that does not answer is not asked for the rest of the pass as well. */
static void note_failure(struct pages *p, int r)
{
	pthread_mutex_lock(&p->lock);
	p->pass_failed = true;
	if (r != -EBADMSG)
		p->cursor = (uint32_t)p->source.frame_count;
	pthread_mutex_unlock(&p->lock);
}

static void do_pass(struct pages *p, struct run *run, bool *failing)
{
	bool bad = false;
	while (!pages_over(p) && choose(run)) {
		struct error e = ERROR_INIT;
		int r = run->count ? fetch(run, &e) : 0;
		if (r < 0 && !pages_over(p)) {
			bad = true;
			pages_failing(p, failing, &e);
			note_failure(p, r);
		} else if (run->count && !bad) {
			pages_recovered(p, failing);
		}
	}
}

static void *fetch_main(void *arg)
{
	struct pages *p = arg;
	struct run run = { .p = p };
	bool failing = false, all_in = false;
	/* Of this thread only. The session and its faults go first. */
	setpriority(PRIO_PROCESS, (id_t)gettid(), NICE);
	/* What it brought by then would not be known as wanted, and is in the way of what is. */
	pages_record_wait(p);
	while (!pages_over(p) && !all_in) {
		do_pass(p, &run, &failing);
		pthread_mutex_lock(&p->lock);
		all_in = !p->let_go && end_pass(p);
		pthread_mutex_unlock(&p->lock);
	}
	pages_recovered(p, &failing);
	if (all_in)
		pages_finish(p);
	pages_unref(p);
	return NULL;
}

/* Asked again it has begun: what is taken up behind a crash does, and then the end of the migration
 * that the crash was in lets it go on. Twice as many threads would end it twice. */
int pages_fetch_start(struct pages *p, struct error *e)
{
	int r = 0;
	pthread_mutex_lock(&p->lock);
	bool begun = p->fetching_begun;
	p->fetching_begun = true;
	if (!begun)
		p->fetching = PAGES_FETCH_THREADS;
	pthread_mutex_unlock(&p->lock);
	for (int i = 0; !begun && i < PAGES_FETCH_THREADS && r == 0; i++)
		r = pages_thread(p, fetch_main, p, e);
	return r;
}
