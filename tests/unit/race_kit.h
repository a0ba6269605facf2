/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two users of one store, each stopped before every request of its own with the
 * other before every one of its: for test_store_race.c and its like, after
 * cmocka.h.
 */
#include "tests/unit/store_kit.h"

#include <pthread.h>
#include <time.h>

/* Under a sanitizer a pair of steps takes ten times as long: then only some of the pairs,
 * differently from row to row. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { RACE_STRIDE = 11 };
#else
enum { RACE_STRIDE = 1 };
#endif

/* As small as can be: it is written thousands of times. */
static inline void tiny_model(struct model *m)
{
	*m = (struct model) { .file_count = 1, .file_seed = 5, .last_file = 5000 };
	model_add(m, "pagemap-1.img", 60, 1001);
}

/* Two threads that can be made to stop before a request of theirs. */
struct race {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	int single; /* the side that makes all its requests on one thread: */
	pthread_t single_thread;
	bool single_started;
	int count[2], stop_at[2];
	bool stopped[2], go[2], done[2];
	int r[2];
	struct store *s;
	const struct model *next;
	int (*run[2])(struct race *race);
	int tar;
};

static inline int step(enum hook_call call, int number, const char *key, int *after, void *arg)
{
	struct race *race = arg;
	(void)call;
	(void)number;
	(void)key;
	(void)after;
	pthread_mutex_lock(&race->lock);
	bool is_single = race->single_started && pthread_equal(pthread_self(), race->single_thread);
	int who = is_single ? race->single : !race->single;
	if (race->count[who]++ == race->stop_at[who]) {
		race->stopped[who] = true;
		pthread_cond_broadcast(&race->changed);
		while (!race->go[who])
			pthread_cond_wait(&race->changed, &race->lock);
	}
	pthread_mutex_unlock(&race->lock);
	return 0;
}

static inline void *run_side(struct race *race, int who)
{
	pthread_mutex_lock(&race->lock);
	if (who == race->single) {
		race->single_thread = pthread_self();
		race->single_started = true;
	}
	pthread_mutex_unlock(&race->lock);
	int r = race->run[who](race);
	pthread_mutex_lock(&race->lock);
	race->r[who] = r;
	race->done[who] = true;
	pthread_cond_broadcast(&race->changed);
	pthread_mutex_unlock(&race->lock);
	return NULL;
}

static inline void *run_a(void *arg)
{
	return run_side(arg, 0);
}

static inline void *run_b(void *arg)
{
	return run_side(arg, 1);
}

static inline void wait_stopped(struct race *race, int who)
{
	pthread_mutex_lock(&race->lock);
	while (!race->stopped[who] && !race->done[who])
		pthread_cond_wait(&race->changed, &race->lock);
	pthread_mutex_unlock(&race->lock);
}

static inline void let_go(struct race *race, int who)
{
	pthread_mutex_lock(&race->lock);
	race->go[who] = true;
	pthread_cond_broadcast(&race->changed);
	pthread_mutex_unlock(&race->lock);
}

/* Until it is done, or for a moment: it may be waiting for the other. */
static inline void wait_done(struct race *race, int who)
{
	struct timespec until;
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_nsec += 30 * 1000000L;
	until.tv_sec += until.tv_nsec / 1000000000L;
	until.tv_nsec %= 1000000000L;
	pthread_mutex_lock(&race->lock);
	while (!race->done[who] && pthread_cond_timedwait(&race->changed, &race->lock, &until) == 0)
		;
	pthread_mutex_unlock(&race->lock);
}

/* A up to its request i, B up to its request j, the rest of A, the rest of B. False when i, or j
 * (with *j_over), is more than there are. */
static inline bool race_play(struct race *race, int i, int j, void (*between)(struct race *race),
			     bool *j_over)
{
	pthread_t a;
	pthread_t b;
	pthread_mutex_init(&race->lock, NULL);
	pthread_cond_init(&race->changed, NULL);
	race->stop_at[0] = i;
	race->stop_at[1] = j;
	hook_on(race->s);
	hook.arg = race;
	hook.before = step;
	assert_int_equal(pthread_create(&a, NULL, run_a, race), 0);
	wait_stopped(race, 0);
	bool reached = race->stopped[0];
	hook.before = NULL;
	if (between)
		between(race);
	hook.before = step;
	assert_int_equal(pthread_create(&b, NULL, run_b, race), 0);
	wait_stopped(race, 1);
	*j_over = !race->stopped[1];
	let_go(race, 0);
	wait_done(race, 0);
	let_go(race, 1);
	pthread_join(a, NULL);
	pthread_join(b, NULL);
	hook.before = NULL;
	pthread_cond_destroy(&race->changed);
	pthread_mutex_destroy(&race->lock);
	return reached;
}

/* For each game a store of its own. */
static inline void race_fresh_store(struct kit *k, const char *key)
{
	store_close(k->s);
	k->s = kit_open(k, "", key);
}
