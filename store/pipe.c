/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "store/parallel.h"
#include "store/writing.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

enum { BATCHES = 6 }; /* besides those held by memories that are begun */

static struct batch *next_queued(struct pipe *p)
{
	while (!p->queue && !p->stop)
		pthread_cond_wait(&p->changed, &p->lock);
	struct batch *batch = p->queue;
	if (!batch)
		return NULL;
	p->queue = batch->next;
	if (!p->queue)
		p->queue_end = &p->queue;
	return batch;
}

static void put_away(struct pipe *p, struct batch *batch)
{
	batch->next = p->spare;
	p->spare = batch;
	pthread_cond_broadcast(&p->changed);
}

/* After a failure batches are only given back, so that nobody waits for ever. */
static void *run_worker(void *arg)
{
	struct worker *k = arg;
	struct store_write *w = worker_write(k);
	struct pipe *p = &w->pipe;
	struct batch *batch;
	pthread_mutex_lock(&p->lock);
	while ((batch = next_queued(p))) {
		struct error e = ERROR_INIT;
		pthread_mutex_unlock(&p->lock);
		int r = failure_check(&w->failure, NULL);
		if (r == 0 && (r = worker_batch(k, batch, &e)) < 0)
			failure_note(&w->failure, r, &e);
		pthread_mutex_lock(&p->lock);
		p->busy--;
		put_away(p, batch);
	}
	pthread_mutex_unlock(&p->lock);
	return NULL;
}

int pipe_start(struct store_write *w, struct error *e)
{
	struct pipe *p = &w->pipe;
	unsigned threads = parallel_threads();
	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->changed, NULL);
	p->queue_end = &p->queue;
	p->most = BATCHES;
	while (p->count < threads && p->count < WORKERS_MAX) {
		struct worker **k = &p->workers[p->count];
		int r = worker_new(w, k, e);
		if (r < 0)
			return r;
		if (pthread_create(&p->threads[p->count], NULL, run_worker, *k) != 0) {
			*k = worker_free(*k);
			break;
		}
		p->count++;
	}
	return p->count ? 0 : error_set(e, EAGAIN, "cannot start a thread");
}

static void free_batch(struct batch *batch)
{
	if (batch->data)
		munmap(batch->data, STORE_FILL_MOST);
	free(batch);
}

void pipe_stop(struct store_write *w)
{
	struct pipe *p = &w->pipe;
	pthread_mutex_lock(&p->lock);
	p->stop = true;
	pthread_cond_broadcast(&p->changed);
	pthread_mutex_unlock(&p->lock);
	while (p->count) {
		pthread_join(p->threads[--p->count], NULL);
		worker_free(p->workers[p->count]);
	}
	while (p->spare) {
		struct batch *next = p->spare->next;
		free_batch(p->spare);
		p->spare = next;
	}
	pthread_cond_destroy(&p->changed);
	pthread_mutex_destroy(&p->lock);
}

static struct batch *make_batch(void)
{
	struct batch *batch = calloc(1, sizeof(*batch));
	if (!batch)
		return NULL;
	void *data = mmap(NULL, STORE_FILL_MOST, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (data != MAP_FAILED) {
		batch->data = data;
		return batch;
	}
	free(batch);
	return NULL;
}

int pipe_take(struct store_write *w, struct batch **batch, struct error *e)
{
	struct pipe *p = &w->pipe;
	pthread_mutex_lock(&p->lock);
	while (!p->spare && p->made >= p->most)
		pthread_cond_wait(&p->changed, &p->lock);
	struct batch *b = p->spare;
	if (b)
		p->spare = b->next;
	else if ((b = make_batch()))
		p->made++;
	pthread_mutex_unlock(&p->lock);
	int r = b ? failure_check(&w->failure, e) : store_oom(e);
	if (r < 0) {
		if (b)
			pipe_give_back(w, b);
		return r;
	}
	*b = (struct batch) { .data = b->data };
	*batch = b;
	return 0;
}

void pipe_give_back(struct store_write *w, struct batch *batch)
{
	pthread_mutex_lock(&w->pipe.lock);
	put_away(&w->pipe, batch);
	pthread_mutex_unlock(&w->pipe.lock);
}

void pipe_queue(struct store_write *w, struct batch *batch)
{
	struct pipe *p = &w->pipe;
	pthread_mutex_lock(&w->lock);
	w->total += batch->len;
	pthread_mutex_unlock(&w->lock);
	pthread_mutex_lock(&p->lock);
	batch->next = NULL;
	*p->queue_end = batch;
	p->queue_end = &batch->next;
	p->busy++;
	pthread_cond_broadcast(&p->changed);
	pthread_mutex_unlock(&p->lock);
}

void pipe_allow(struct store_write *w, int more)
{
	struct pipe *p = &w->pipe;
	pthread_mutex_lock(&p->lock);
	p->most += (unsigned)more;
	pthread_cond_broadcast(&p->changed);
	pthread_mutex_unlock(&p->lock);
}

int pipe_drain(struct store_write *w, struct error *e)
{
	struct pipe *p = &w->pipe;
	pthread_mutex_lock(&p->lock);
	while (p->busy)
		pthread_cond_wait(&p->changed, &p->lock);
	pthread_mutex_unlock(&p->lock);
	return failure_check(&w->failure, e);
}
