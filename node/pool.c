/* SPDX-License-Identifier: Apache-2.0 */
#include "node/pool.h"

#include "base/cleanup.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct task {
	struct task *next;
	void (*work)(void *arg);
	void (*done)(void *arg);
	void *arg;
};

struct queue {
	struct task *first, **last;
};

struct pool {
	pthread_mutex_t lock;
	pthread_cond_t more;
	struct queue waiting, finished;
	bool stopping;
	size_t load; /* the loop's: submitted and not yet given back */
	int wake;    /* eventfd: something is in `finished` */
	struct event *event;
	size_t thread_count;
	pthread_t threads[];
};

static void queue_put(struct queue *q, struct task *t)
{
	t->next = NULL;
	if (!q->first)
		q->last = &q->first;
	*q->last = t;
	q->last = &t->next;
}

static struct task *queue_take(struct queue *q)
{
	struct task *t = q->first;
	if (t)
		q->first = t->next;
	return t;
}

static void *worker(void *arg)
{
	struct pool *pool = arg;
	pthread_mutex_lock(&pool->lock);
	for (;;) {
		struct task *t = queue_take(&pool->waiting);
		if (!t && pool->stopping)
			break;
		if (!t) {
			pthread_cond_wait(&pool->more, &pool->lock);
			continue;
		}
		pthread_mutex_unlock(&pool->lock);
		t->work(t->arg);
		pthread_mutex_lock(&pool->lock);
		queue_put(&pool->finished, t);
		eventfd_write(pool->wake, 1);
	}
	pthread_mutex_unlock(&pool->lock);
	return NULL;
}

static void give_back(evutil_socket_t fd, short what, void *arg)
{
	(void)what;
	struct pool *pool = arg;
	eventfd_t count;
	eventfd_read(fd, &count);
	for (;;) {
		pthread_mutex_lock(&pool->lock);
		struct task *t = queue_take(&pool->finished);
		if (t)
			pool->load--;
		pthread_mutex_unlock(&pool->lock);
		if (!t)
			return;
		if (t->done)
			t->done(t->arg);
		free(t);
	}
}

/* Signals are for the loop's thread. */
static int start_thread(struct pool *pool)
{
	sigset_t all, before;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	int code = pthread_create(&pool->threads[pool->thread_count], NULL, worker, pool);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (code == 0)
		pool->thread_count++;
	return code;
}

int pool_new(struct event_base *base, size_t threads, struct pool **to, struct error *e)
{
	struct pool *pool = calloc(1, sizeof(*pool) + threads * sizeof(pool->threads[0]));
	if (!pool)
		return error_set(e, ENOMEM, "out of memory");
	pthread_mutex_init(&pool->lock, NULL);
	pthread_cond_init(&pool->more, NULL);
	pool->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (pool->wake >= 0)
		pool->event = event_new(base, pool->wake, EV_READ | EV_PERSIST, give_back, pool);
	if (!pool->event || event_add(pool->event, NULL) < 0) {
		pool_free(pool);
		return error_set(e, ENOMEM, "cannot watch the worker threads");
	}
	while (pool->thread_count < threads) {
		int code = start_thread(pool);
		if (code) {
			pool_free(pool);
			return error_set(e, code, "cannot start a worker thread: %s",
					 strerror(code));
		}
	}
	*to = pool;
	return 0;
}

static struct task *new_task(void (*work)(void *arg), void (*done)(void *arg), void *arg,
			     struct error *e)
{
	struct task *t = malloc(sizeof(*t));
	if (t)
		*t = (struct task) { .work = work, .done = done, .arg = arg };
	else
		error_set(e, ENOMEM, "out of memory");
	return t;
}

int pool_post(struct pool *pool, void (*done)(void *arg), void *arg, struct error *e)
{
	struct task *t = new_task(NULL, done, arg, e);
	if (!t)
		return -ENOMEM;
	pthread_mutex_lock(&pool->lock);
	pool->load++;
	queue_put(&pool->finished, t);
	pthread_mutex_unlock(&pool->lock);
	eventfd_write(pool->wake, 1);
	return 0;
}

int pool_submit(struct pool *pool, void (*work)(void *arg), void (*done)(void *arg), void *arg,
		struct error *e)
{
	struct task *t = new_task(work, done, arg, e);
	if (!t)
		return -ENOMEM;
	pthread_mutex_lock(&pool->lock);
	pool->load++;
	queue_put(&pool->waiting, t);
	pthread_cond_signal(&pool->more);
	pthread_mutex_unlock(&pool->lock);
	return 0;
}

size_t pool_load(const struct pool *pool)
{
	struct pool *p = (struct pool *)pool;
	pthread_mutex_lock(&p->lock);
	size_t load = p->load;
	pthread_mutex_unlock(&p->lock);
	return load;
}

void *pool_free(struct pool *pool)
{
	if (!pool)
		return NULL;
	pthread_mutex_lock(&pool->lock);
	pool->stopping = true;
	pthread_cond_broadcast(&pool->more);
	pthread_mutex_unlock(&pool->lock);
	for (size_t i = 0; i < pool->thread_count; i++)
		pthread_join(pool->threads[i], NULL);
	for (struct task *t; (t = queue_take(&pool->finished));)
		free(t);
	assert(!pool->waiting.first);
	if (pool->event)
		event_free(pool->event);
	if (pool->wake >= 0)
		close(pool->wake);
	pthread_cond_destroy(&pool->more);
	pthread_mutex_destroy(&pool->lock);
	free(pool);
	return NULL;
}
