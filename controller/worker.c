/* SPDX-License-Identifier: Apache-2.0 */
#include "controller/worker.h"

#include "base/cleanup.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>

STAILQ_HEAD(tasks, worker_task);

struct worker {
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t wanted;
	struct tasks waiting, over;
	atomic_bool stop;
	int fd; /* an eventfd: something is over */
	struct event *event;
};

static struct worker_task *take(struct tasks *from)
{
	struct worker_task *task = STAILQ_FIRST(from);
	if (task)
		STAILQ_REMOVE_HEAD(from, entry);
	return task;
}

static void *work(void *arg)
{
	struct worker *w = arg;
	pthread_mutex_lock(&w->lock);
	while (!atomic_load(&w->stop)) {
		struct worker_task *task = take(&w->waiting);
		if (!task) {
			pthread_cond_wait(&w->wanted, &w->lock);
			continue;
		}
		pthread_mutex_unlock(&w->lock);
		task->run(task);
		pthread_mutex_lock(&w->lock);
		STAILQ_INSERT_TAIL(&w->over, task, entry);
		/* The counter is never near its end. */
		if (eventfd_write(w->fd, 1) < 0)
			abort();
	}
	pthread_mutex_unlock(&w->lock);
	return NULL;
}

static void end_tasks(evutil_socket_t fd, short what, void *arg)
{
	struct worker *w = arg;
	struct tasks over = STAILQ_HEAD_INITIALIZER(over);
	struct worker_task *task;
	eventfd_t count;
	(void)what;
	if (eventfd_read(fd, &count) < 0)
		return;
	pthread_mutex_lock(&w->lock);
	STAILQ_CONCAT(&over, &w->over);
	pthread_mutex_unlock(&w->lock);
	while ((task = take(&over)))
		task->done(task);
}

/* Signals are the loop's. */
static int start_thread(struct worker *w)
{
	sigset_t all, before;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	int r = pthread_create(&w->thread, NULL, work, w);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return r;
}

static void destroy(struct worker *w)
{
	if (w->event)
		event_free(w->event);
	if (w->fd >= 0)
		close(w->fd);
	pthread_cond_destroy(&w->wanted);
	pthread_mutex_destroy(&w->lock);
	free(w);
}

int worker_new(struct event_base *base, struct worker **worker, struct error *e)
{
	struct worker *w = calloc(1, sizeof(*w));
	if (!w)
		return error_set(e, ENOMEM, "out of memory");
	pthread_mutex_init(&w->lock, NULL);
	pthread_cond_init(&w->wanted, NULL);
	STAILQ_INIT(&w->waiting);
	STAILQ_INIT(&w->over);
	w->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	w->event = w->fd < 0 ? NULL : event_new(base, w->fd, EV_READ | EV_PERSIST, end_tasks, w);
	int r = w->event ? start_thread(w) : ENOMEM;
	if (r) {
		destroy(w);
		return error_set(e, r, "no thread can be started");
	}
	event_add(w->event, NULL);
	*worker = w;
	return 0;
}

void worker_give(struct worker *w, struct worker_task *task)
{
	pthread_mutex_lock(&w->lock);
	STAILQ_INSERT_TAIL(&w->waiting, task, entry);
	pthread_cond_signal(&w->wanted);
	pthread_mutex_unlock(&w->lock);
}

const atomic_bool *worker_stop(const struct worker *w)
{
	return &w->stop;
}

void worker_end(struct worker *w)
{
	pthread_mutex_lock(&w->lock);
	atomic_store(&w->stop, true);
	pthread_cond_signal(&w->wanted);
	pthread_mutex_unlock(&w->lock);
}

void worker_free(struct worker *w, void (*drop)(struct worker_task *task))
{
	struct worker_task *task;
	if (!w)
		return;
	worker_end(w);
	pthread_join(w->thread, NULL);
	while ((task = take(&w->over)) || (task = take(&w->waiting)))
		drop(task);
	destroy(w);
}
