/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "base/cleanup.h"
#include "node/store_transfer.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define BYTES ((size_t)5 << 20 | 77)

/* A job as store_jobs.c runs one: a worker at one end of the pipe, the loop at the other. */
struct world {
	struct event_base *base;
	struct transfer *t;
	pthread_t worker;
	bool out;
	size_t worker_bytes; /* it ends after so many */
	const char *failure;

	unsigned char *data; /* BYTES */
	unsigned char *seen; /* what came out at the other end */
	size_t seen_len;
	int worker_errno;

	int told;
	size_t told_len;
	struct error error;
};

static void *work(void *arg)
{
	struct world *w = arg;
	int fd = transfer_worker_fd(w->t);
	size_t at = 0;
	while (at < w->worker_bytes) {
		ssize_t n = w->out ? write(fd, w->data + at, w->worker_bytes - at)
				   : read(fd, w->seen + at, BYTES - at);
		if (n <= 0) {
			w->worker_errno = n < 0 ? errno : 0;
			break;
		}
		at += (size_t)n;
	}
	if (!w->out)
		w->seen_len = at;
	transfer_worker_ends(w->t);
	return NULL;
}

static void open_world(struct world *w, bool out, size_t worker_bytes)
{
	*w = (struct world) { .out = out, .worker_bytes = worker_bytes };
	signal(SIGPIPE, SIG_IGN);
	w->base = event_base_new();
	w->data = malloc(BYTES);
	w->seen = malloc(BYTES);
	assert_true(w->base && w->data && w->seen);
	for (size_t i = 0; i < BYTES; i++)
		w->data[i] = (unsigned char)(i * 2654435761u >> 24);
	assert_int_equal(transfer_new(w->base, out, &w->t, NULL), 0);
	assert_int_equal(pthread_create(&w->worker, NULL, work, w), 0);
}

/* As the pool gives a finished job back. */
static void end_worker(struct world *w)
{
	struct error e = ERROR_INIT;
	pthread_join(w->worker, NULL);
	if (w->failure)
		error_fault(&e, FAULT_CORRUPT, "%s", w->failure);
	transfer_ended(w->t, w->failure ? &e : NULL);
}

static void close_world(struct world *w)
{
	transfer_free(w->t);
	event_base_free(w->base);
	free(w->data);
	free(w->seen);
}

static void told(const char *data, size_t len, const struct error *e, void *arg)
{
	struct world *w = arg;
	w->told++;
	w->told_len = len;
	w->error = e ? *e : ERROR_INIT;
	if (data && w->out) {
		assert_true(w->seen_len + len <= BYTES);
		memcpy(w->seen + w->seen_len, data, len);
		w->seen_len += len;
	}
}

static void wait_told(struct world *w, int before)
{
	while (w->told == before)
		event_base_loop(w->base, EVLOOP_ONCE);
}

static void take(struct world *w)
{
	int before = w->told;
	assert_int_equal(transfer_take(w->t, STORE_PART, told, w, NULL), 0);
	wait_told(w, before);
	assert_true(w->told_len <= STORE_PART);
}

static void give(struct world *w, size_t at, size_t len)
{
	int before = w->told;
	assert_int_equal(transfer_give(w->t, (char *)w->data + at, len, told, w, NULL), 0);
	wait_told(w, before);
}

static void test_out(void **state)
{
	struct world w;
	(void)state;
	open_world(&w, true, BYTES);
	while (w.seen_len < BYTES) {
		take(&w);
		assert_int_equal(w.error.fault, FAULT_NONE);
		assert_true(w.told_len > 0);
	}
	assert_memory_equal(w.seen, w.data, BYTES);
	/* All is there, but whether it is good only the worker's end tells. */
	int before = w.told;
	assert_int_equal(transfer_take(w.t, STORE_PART, told, &w, NULL), 0);
	event_base_loop(w.base, EVLOOP_ONCE);
	event_base_loop(w.base, EVLOOP_NONBLOCK);
	assert_int_equal(w.told, before);
	assert_int_equal(transfer_take(w.t, STORE_PART, told, &w, NULL), -EBUSY);
	end_worker(&w);
	assert_int_equal(w.told, before + 1);
	assert_int_equal(w.told_len, 0);
	take(&w); /* and again */
	assert_int_equal(w.told_len, 0);
	assert_int_equal(w.error.fault, FAULT_NONE);
	close_world(&w);
}

static void test_rest_is_fetched_after_the_end(void **state)
{
	struct world w;
	(void)state;
	open_world(&w, true, 1000);
	end_worker(&w);
	assert_true(transfer_busy(w.t));
	take(&w);
	assert_int_equal(w.told_len, 1000);
	take(&w);
	assert_int_equal(w.told_len, 0);
	assert_false(transfer_busy(w.t));
	close_world(&w);
}

static void test_failure_is_told(void **state)
{
	struct world w;
	(void)state;
	open_world(&w, true, 1000);
	w.failure = "a pack is short";
	end_worker(&w);
	take(&w);
	assert_int_equal(w.error.fault, FAULT_CORRUPT);
	assert_string_equal(w.error.text, "a pack is short");
	close_world(&w);
}

static void test_in(void **state)
{
	struct world w;
	(void)state;
	open_world(&w, false, SIZE_MAX);
	for (size_t at = 0; at < BYTES; at += 777777) {
		give(&w, at, BYTES - at < 777777 ? BYTES - at : 777777);
		assert_int_equal(w.error.fault, FAULT_NONE);
	}
	give(&w, 0, 0);
	end_worker(&w);
	assert_int_equal(w.worker_errno, 0);
	assert_int_equal(w.seen_len, BYTES);
	assert_memory_equal(w.seen, w.data, BYTES);
	close_world(&w);
}

/* The worker wants no more, and why is told to who brings it. */
static void test_in_refused(void **state)
{
	struct world w;
	(void)state;
	open_world(&w, false, 4096);
	int before = w.told;
	assert_int_equal(transfer_give(w.t, (char *)w.data, BYTES, told, &w, NULL), 0);
	w.failure = "no tar";
	end_worker(&w);
	wait_told(&w, before);
	assert_int_equal(w.error.fault, FAULT_CORRUPT);
	give(&w, 0, 100);
	assert_string_equal(w.error.text, "no tar");
	close_world(&w);
}

static void test_cut(void **state)
{
	struct world w;
	(void)state;
	open_world(&w, true, BYTES);
	take(&w);
	transfer_cut(w.t);
	pthread_join(w.worker, NULL);
	assert_int_equal(w.worker_errno, EPIPE);
	take(&w);
	assert_int_equal(w.error.fault, FAULT_UNAVAILABLE);
	close_world(&w);
}

/* Half a part of an import may be through: nothing can follow it. */
static void test_given_up(void **state)
{
	struct world w;
	(void)state;
	open_world(&w, false, 0);
	pthread_join(w.worker, NULL);
	assert_int_equal(transfer_give(w.t, (char *)w.data, 10, told, &w, NULL), 0);
	assert_int_equal(w.told, 0); /* its end is not known yet */
	transfer_give_up(w.t);
	transfer_ended(w.t, NULL);
	assert_int_equal(w.told, 0);
	close_world(&w);

	open_world(&w, true, BYTES);
	take(&w);
	size_t before = w.seen_len;
	while (w.seen_len < BYTES && transfer_take(w.t, 1, told, &w, NULL) == 0)
		if (w.told && w.seen_len > before + 10)
			break;
	assert_int_equal(w.error.fault, FAULT_NONE);
	transfer_give_up(w.t);
	while (w.seen_len < BYTES)
		take(&w);
	assert_memory_equal(w.seen, w.data, BYTES);
	end_worker(&w);
	close_world(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_out),
		cmocka_unit_test(test_rest_is_fetched_after_the_end),
		cmocka_unit_test(test_failure_is_told),
		cmocka_unit_test(test_in),
		cmocka_unit_test(test_in_refused),
		cmocka_unit_test(test_cut),
		cmocka_unit_test(test_given_up),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
