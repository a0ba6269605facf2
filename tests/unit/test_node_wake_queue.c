/* SPDX-License-Identifier: Apache-2.0 */
#include "node/wake_queue.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

enum { MANY = 100, MOST = 3 };

static struct wake_queue queue;
static struct wake_place places[MANY];

static int setup(void **state)
{
	(void)state;
	wake_queue_init(&queue);
	for (size_t i = 0; i < MANY; i++)
		places[i] = (struct wake_place) { 0 };
	return 0;
}

static long next(size_t most)
{
	struct wake_place *p = wake_queue_next(&queue, most);
	if (p)
		wake_queue_begin(&queue, p);
	return p ? p - places : -1;
}

static void first_come_first_served(void **state)
{
	(void)state;
	for (long i = 0; i < MANY; i++) {
		wake_queue_add(&queue, &places[(i * 37) % MANY]);
		/* Who is wanted again and again does not get ahead of others, nor behind them. */
		wake_queue_add(&queue, &places[0]);
		wake_queue_add(&queue, &places[37 % MANY]);
	}
	for (long i = 0; i < MANY; i++) {
		assert_int_equal(next(MANY), (i * 37) % MANY);
		wake_queue_add(&queue, &places[0]);
	}
	assert_int_equal(next(MANY + 1), -1);
}

static void so_many_at_once_and_the_next_in_order(void **state)
{
	(void)state;
	for (long i = 0; i < MANY; i++)
		wake_queue_add(&queue, &places[i]);
	for (long i = 0; i < MOST; i++)
		assert_int_equal(next(MOST), i);
	assert_int_equal(next(MOST), -1);
	/* Whichever of them is done first, and however often that is said. */
	wake_queue_remove(&queue, &places[1]);
	wake_queue_remove(&queue, &places[1]);
	assert_int_equal(next(MOST), 3);
	assert_int_equal(next(MOST), -1);
	wake_queue_remove(&queue, &places[3]);
	assert_int_equal(next(MOST), 4);
	wake_queue_remove(&queue, &places[0]);
	wake_queue_remove(&queue, &places[2]);
	assert_int_equal(next(MOST), 5);
	assert_int_equal(next(MOST), 6);
	assert_int_equal(next(MOST), -1);
}

/* One that failed and is wanted again comes after those who have waited meanwhile. */
static void who_failed_comes_last(void **state)
{
	(void)state;
	for (long i = 0; i < 4; i++)
		wake_queue_add(&queue, &places[i]);
	assert_int_equal(next(1), 0);
	wake_queue_remove(&queue, &places[0]);
	wake_queue_add(&queue, &places[0]);
	for (long i = 1; i < 5; i++) {
		assert_int_equal(next(1), i % 4);
		wake_queue_remove(&queue, &places[i % 4]);
	}
	assert_int_equal(next(1), -1);
}

static void who_is_gone_leaves_the_rest_in_order(void **state)
{
	(void)state;
	for (long gone = 0; gone < 4; gone++) {
		setup(NULL);
		for (long i = 0; i < 4; i++)
			wake_queue_add(&queue, &places[i]);
		wake_queue_remove(&queue, &places[gone]);
		wake_queue_add(&queue, &places[4]);
		for (long i = 0; i < 5; i++)
			if (i != gone)
				assert_int_equal(next(MANY), i);
		assert_int_equal(next(MANY), -1);
	}
}

/* All of them at random, against what a plain list says. */
static void as_a_plain_list_would(void **state)
{
	(void)state;
	long waiting[MANY], waking[MANY];
	size_t wait = 0, wake = 0;
	uint32_t seed = 7;
	for (int step = 0; step < 20000; step++) {
		seed = seed * 1664525 + 1013904223;
		long who = seed / 3 % MANY, what = seed >> 16 & 3;
		if (what == 0) {
			if (!places[who].queued && !places[who].waking)
				waiting[wait++] = who;
			wake_queue_add(&queue, &places[who]);
		} else if (what == 1) {
			for (size_t i = 0; i < wait; i++)
				if (waiting[i] == who) {
					for (wait--; i < wait; i++)
						waiting[i] = waiting[i + 1];
				}
			for (size_t i = 0; i < wake; i++)
				if (waking[i] == who)
					waking[i] = waking[--wake];
			wake_queue_remove(&queue, &places[who]);
		} else if (wait && wake < MOST) {
			assert_int_equal(next(MOST), waiting[0]);
			waking[wake++] = waiting[0];
			wait--;
			for (size_t i = 0; i < wait; i++)
				waiting[i] = waiting[i + 1];
		} else {
			assert_int_equal(next(MOST), -1);
		}
		assert_int_equal(queue.waking, wake);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(first_come_first_served, setup),
		cmocka_unit_test_setup(so_many_at_once_and_the_next_in_order, setup),
		cmocka_unit_test_setup(who_failed_comes_last, setup),
		cmocka_unit_test_setup(who_is_gone_leaves_the_rest_in_order, setup),
		cmocka_unit_test_setup(as_a_plain_list_would, setup),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
