/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "store/parallel.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

enum { THREADS_MAX = 4 };

struct work {
	size_t count;
	int (*each)(void *arg, size_t i, struct error *e);
	void *arg;
	atomic_size_t next;
	atomic_bool failed;
	pthread_mutex_t lock; /* of what follows */
	int r;
	struct error error;
};

unsigned parallel_threads(void)
{
	cpu_set_t set;
	if (sched_getaffinity(0, sizeof(set), &set) < 0)
		return 1;
	int count = CPU_COUNT(&set);
	return count < THREADS_MAX ? (unsigned)count : THREADS_MAX;
}

static void note_failure(struct work *w, int r, const struct error *e)
{
	pthread_mutex_lock(&w->lock);
	if (w->r == 0) {
		w->r = r;
		w->error = *e;
	}
	pthread_mutex_unlock(&w->lock);
	atomic_store(&w->failed, true);
}

static void *run(void *arg)
{
	struct work *w = arg;
	struct error e = ERROR_INIT;
	size_t i;
	while (!atomic_load(&w->failed) && (i = atomic_fetch_add(&w->next, 1)) < w->count) {
		int r = w->each(w->arg, i, &e);
		if (r < 0)
			note_failure(w, r, &e);
	}
	return NULL;
}

int parallel(unsigned threads, size_t count, int (*each)(void *arg, size_t i, struct error *e),
	     void *arg, struct error *e)
{
	struct work w = {
		.count = count, .each = each, .arg = arg, .lock = PTHREAD_MUTEX_INITIALIZER
	};
	pthread_t others[16];
	unsigned started = 0;
	while (started + 1 < threads && started + 1 < count &&
	       started < sizeof(others) / sizeof(others[0])) {
		if (pthread_create(&others[started], NULL, run, &w) != 0)
			break;
		started++;
	}
	run(&w);
	while (started)
		pthread_join(others[--started], NULL);
	if (w.r < 0 && e)
		*e = w.error;
	return w.r;
}
