/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "node/pages_service.h"

#include "base/cleanup.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { RESTORED_MS = 20000 }; /* from CRIU's end until it has told all */

static _Atomic size_t left;

/* --- beginnings and ends ----------------------------------------------------------- */

static void init_locks(struct pages *p)
{
	pthread_rwlockattr_t rw;
	pthread_condattr_t mono;
	pthread_rwlockattr_init(&rw);
	/* The session waits for events to be read. */
	pthread_rwlockattr_setkind_np(&rw, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	pthread_rwlock_init(&p->spaces_lock, &rw);
	pthread_rwlockattr_destroy(&rw);
	pthread_mutex_init(&p->lock, NULL);
	pthread_condattr_init(&mono);
	pthread_condattr_setclock(&mono, CLOCK_MONOTONIC);
	pthread_cond_init(&p->changed, &mono);
	pthread_cond_init(&p->work, &mono);
	pthread_cond_init(&p->standby_wake, &mono);
	pthread_cond_init(&p->wished, &mono);
	pthread_condattr_destroy(&mono);
}

static void destroy(struct pages *p)
{
	pages_drop_all(p);
	free(p->spaces);
	pages_record_close(&p->record);
	pages_index_deinit(&p->index);
	if (p->source.free)
		p->source.free(p->source.from);
	pages_kept_deinit(&p->early);
	pages_kept_deinit(&p->withheld);
	free(p->early_taken);
	free(p->last_set);
	free(p->faults);
	cleanup_close_fd(&p->wake);
	cleanup_close_fd(&p->hang_up);
	cleanup_close_fd(&p->listener);
	pthread_cond_destroy(&p->changed);
	pthread_cond_destroy(&p->work);
	pthread_cond_destroy(&p->standby_wake);
	pthread_cond_destroy(&p->wished);
	pthread_mutex_destroy(&p->lock);
	pthread_rwlock_destroy(&p->spaces_lock);
	free(p->session);
	free(p->dir);
	free(p);
	atomic_fetch_sub(&left, 1);
}

size_t pages_left(void)
{
	return atomic_load(&left);
}

int pages_init(struct error *e)
{
	return pages_keeper_start(e);
}

void pages_deinit(void)
{
	pages_keeper_stop();
}

void pages_unref(struct pages *p)
{
	if (atomic_fetch_sub(&p->references, 1) == 1)
		destroy(p);
}

int pages_make(const struct pages_options *options, const struct page_source *source,
	       struct pages **pages, struct error *e)
{
	struct pages *p = calloc(1, sizeof(*p));
	if (!p) {
		source->free(source->from);
		return error_set(e, ENOMEM, "out of memory");
	}
	*p = (struct pages) { .references = 1,
			      .source = *source,
			      .arrived = options->arrived,
			      .arg = options->arg,
			      .session = strdup(options->session),
			      .dir = strdup(options->dir),
			      .record = PAGES_RECORD_INIT,
			      .vault = VAULT_INIT,
			      .set_there = !options->set_follows,
			      .hold_back = options->hold_back,
			      .next_child = -1,
			      .listener = -1,
			      .wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK),
			      .hang_up = eventfd(0, EFD_CLOEXEC) };
	init_locks(p);
	atomic_fetch_add(&left, 1);
	int r = p->session && p->dir ? 0 : error_set(e, ENOMEM, "out of memory");
	if (r == 0 && (p->wake < 0 || p->hang_up < 0))
		r = error_errno(e, "cannot make an eventfd");
	if (r < 0)
		pages_unref(p);
	else
		*pages = p;
	return r;
}

/* Takes some time where there is much memory. Before any space is known. */
int pages_make_index(struct pages *p, struct error *e)
{
	int r = pages_index_init(&p->index, &p->source, e);
	if (r < 0)
		return r;
	pthread_mutex_lock(&p->lock);
	p->total = p->index.start[p->source.frame_count];
	atomic_store(&p->missing, p->total);
	pthread_mutex_unlock(&p->lock);
	return 0;
}

int pages_thread(struct pages *p, void *(*run)(void *arg), void *arg, struct error *e)
{
	pthread_t thread;
	pthread_attr_t detached;
	atomic_fetch_add(&p->references, 1);
	pthread_attr_init(&detached);
	pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
	int code = pthread_create(&thread, &detached, run, arg);
	pthread_attr_destroy(&detached);
	if (code == 0)
		return 0;
	pages_unref(p);
	return error_set(e, code, "cannot start a thread: %s", strerror(code));
}

/* Lock held. */
static void wake_threads(struct pages *p)
{
	pthread_cond_broadcast(&p->changed);
	pthread_cond_broadcast(&p->work);
	pthread_cond_broadcast(&p->standby_wake);
	pthread_cond_broadcast(&p->wished);
	eventfd_write(p->wake, 1);
}

/* spaces_lock held for writing. The vault keeps what is in it. */
static void let_go(struct pages *p)
{
	p->settled = false;
	p->keeper = pages_keeper_unwatch(p->keeper);
	pages_drop_all(p);
	vault_close(&p->vault);
}

void *pages_free(struct pages *p)
{
	if (!p)
		return NULL;
	pthread_mutex_lock(&p->lock);
	p->stop = p->let_go = true;
	eventfd_write(p->hang_up, 1);
	wake_threads(p);
	while (p->saying)
		pthread_cond_wait(&p->changed, &p->lock);
	pthread_mutex_unlock(&p->lock);
	pthread_rwlock_wrlock(&p->spaces_lock);
	let_go(p);
	pthread_rwlock_unlock(&p->spaces_lock);
	pages_unref(p);
	return NULL;
}

/* --- for the threads --------------------------------------------------------------- */

bool pages_over(struct pages *p)
{
	pthread_mutex_lock(&p->lock);
	bool over = p->let_go;
	pthread_mutex_unlock(&p->lock);
	return over;
}

void pages_wait_for(pthread_cond_t *cond, pthread_mutex_t *lock, int64_t us)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	us = us > 0 ? us : 0;
	t.tv_sec += us / 1000000;
	t.tv_nsec += us % 1000000 * 1000;
	t.tv_sec += t.tv_nsec / 1000000000;
	t.tv_nsec %= 1000000000;
	pthread_cond_timedwait(cond, lock, &t);
}

void pages_failing(struct pages *p, bool *failing, const struct error *why)
{
	pthread_mutex_lock(&p->lock);
	if (!*failing && p->failing++ == 0)
		p->stalled_since = clock_wall();
	*failing = true;
	p->stalled = *why;
	pthread_cond_broadcast(&p->changed);
	pthread_mutex_unlock(&p->lock);
}

void pages_recovered(struct pages *p, bool *failing)
{
	if (!*failing)
		return;
	pthread_mutex_lock(&p->lock);
	*failing = false;
	p->recoveries++;
	pthread_cond_broadcast(&p->changed);
	if (--p->failing == 0) {
		p->stalled_since = 0;
		error_clear(&p->stalled);
	}
	pthread_mutex_unlock(&p->lock);
}

void pages_back_off(struct pages *p, int *wait_ms)
{
	enum { FIRST_MS = 50, MOST_MS = 5000 };
	*wait_ms = *wait_ms < FIRST_MS ? FIRST_MS : *wait_ms * 2 > MOST_MS ? MOST_MS : *wait_ms * 2;
	mono_us until = clock_mono() + *wait_ms * 1000LL;
	pthread_mutex_lock(&p->lock);
	unsigned before = p->recoveries;
	while (!p->let_go && p->recoveries == before && clock_mono() < until)
		pages_wait_for(&p->changed, &p->lock, until - clock_mono());
	pthread_mutex_unlock(&p->lock);
}

static bool try_to_finish(struct pages *p, struct error *e)
{
	bool done = true;
	pthread_rwlock_wrlock(&p->spaces_lock);
	if (p->vault.out >= 0) {
		pages_record_complete(&p->record);
		/* What is in it is forgotten there before it is closed here: whoever finds
		 * something in it finds the record that says so, too. */
		int r = vault_empty(&p->vault, e);
		done = r == 0;
	}
	if (done)
		let_go(p);
	pthread_rwlock_unlock(&p->spaces_lock);
	return done;
}

void pages_finish(struct pages *p)
{
	struct error e = ERROR_INIT;
	bool failing = false;
	int wait_ms = 0;
	pthread_mutex_lock(&p->lock);
	pthread_cond_broadcast(&p->changed);
	while (p->recording)
		pthread_cond_wait(&p->changed, &p->lock);
	pthread_mutex_unlock(&p->lock);
	while (!pages_over(p) && !try_to_finish(p, &e)) {
		pages_failing(p, &failing, &e);
		pages_back_off(p, &wait_ms);
	}
	pages_recovered(p, &failing);
	pthread_mutex_lock(&p->lock);
	p->saying = !p->stop;
	p->let_go = true;
	p->has_arrived = p->saying;
	wake_threads(p);
	bool say = p->saying;
	pthread_mutex_unlock(&p->lock);
	if (say && p->arrived)
		p->arrived(p->arg);
	pthread_mutex_lock(&p->lock);
	p->saying = false;
	pthread_cond_broadcast(&p->changed);
	pthread_mutex_unlock(&p->lock);
}

/* --- a restore ----------------------------------------------------------------------- */

int pages_listen(const struct pages_options *options, const char *work,
		 const struct page_source *source, struct pages **pages, struct error *e)
{
	struct pages *p;
	int r = pages_make(options, source, &p, e);
	if (r < 0)
		return r;
	r = pages_record_make(&p->record, pages_index_total(&p->source), p->source.frame_count, 0,
			      e);
	if (r == 0)
		r = pages_record_set_begin(p, e);
	if (r == 0)
		r = pages_keeper_start(e);
	if (r == 0)
		r = pages_fault_start(p, e);
	if (r == 0)
		r = pages_ahead_start(p, e);
	if (r == 0)
		r = pages_listen_start(p, work, e);
	if (r < 0) {
		pages_free(p);
		return r;
	}
	*pages = p;
	return 0;
}

static int wait_restored(struct pages *p, struct error *e)
{
	mono_us until = clock_mono() + RESTORED_MS * 1000LL;
	pthread_mutex_lock(&p->lock);
	while (p->restored == 0 && clock_mono() < until)
		pages_wait_for(&p->changed, &p->lock, until - clock_mono());
	int r = p->restored;
	if (r < 0 && e)
		*e = p->restore_error;
	pthread_mutex_unlock(&p->lock);
	if (r == 0)
		return error_set(e, ETIMEDOUT, "CRIU has not told whose memory is missing");
	return r < 0 ? r : 0;
}

int pages_settle(struct pages *p, pid_t init, struct error *e)
{
	int r = wait_restored(p, e);
	if (r < 0)
		return r;
	pthread_rwlock_wrlock(&p->spaces_lock);
	r = vault_open(init, &p->vault, e);
	if (r == 0)
		r = pages_keeper_watch(&p->vault, &p->keeper, e);
	if (r == 0)
		r = pages_save(p, e);
	p->settled = r == 0;
	pthread_rwlock_unlock(&p->spaces_lock);
	if (r == 0)
		pages_early_settled(p);
	return r;
}

void pages_go(struct pages *p)
{
	/* Without threads for the rest there are still those for faults. */
	struct error e = ERROR_INIT;
	bool failing = false;
	pages_record_set_go(p);
	if (pages_fetch_start(p, &e) < 0)
		pages_failing(p, &failing, &e);
}

/* --- asked from outside ---------------------------------------------------------------- */

void pages_status(struct pages *p, struct pages_status *to)
{
	pthread_mutex_lock(&p->lock);
	*to = (struct pages_status) { .missing = atomic_load(&p->missing) * STORE_PAGE,
				      .total = p->total * STORE_PAGE,
				      .arrived = p->has_arrived,
				      .stalled_since = p->has_arrived ? 0 : p->stalled_since,
				      .stalled = p->stalled };
	pthread_mutex_unlock(&p->lock);
}

int pages_wait(struct pages *p, int timeout_ms, struct error *e)
{
	mono_us until = clock_mono() + timeout_ms * 1000LL;
	pthread_mutex_lock(&p->lock);
	p->hurry = true;
	pthread_cond_broadcast(&p->changed);
	while (!p->has_arrived && !p->stop && clock_mono() < until)
		pages_wait_for(&p->changed, &p->lock, until - clock_mono());
	bool arrived = p->has_arrived, stalled = p->failing > 0;
	if (!arrived && stalled && e)
		*e = p->stalled;
	pthread_mutex_unlock(&p->lock);
	if (arrived)
		return 0;
	if (stalled)
		return error_wrap(e, -EAGAIN, "the session's memory does not come");
	return error_set(e, ETIMEDOUT, "the session's memory has not come within %d ms",
			 timeout_ms);
}

/* --- the store as a source --------------------------------------------------------------- */

static int read_store(void *from, const uint32_t *frames, size_t count,
		      int (*each)(uint32_t frame, const void *pages, size_t len, void *arg),
		      void *arg, struct error *e)
{
	return store_read_pages(from, frames, count, each, arg, e);
}

static void *free_store(void *from)
{
	return store_read_free(from);
}

void page_source_of(struct store_read *read, struct page_source *source)
{
	*source = (struct page_source) { .read = read_store, .from = read, .free = free_store };
	source->memory_count = store_read_memories(read, &source->memories);
	source->frame_count = store_read_frames(read, &source->frames);
}
