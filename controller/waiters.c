/* SPDX-License-Identifier: Apache-2.0 */
#include "controller/waiters.h"

#include <stdlib.h>

struct waiter {
	TAILQ_ENTRY(waiter) entry;
	struct waiters *list;
	struct http_exchange *x;
	struct event *timer;
	waiter_answer answer;
	void *arg;
};

static void waiter_free(struct waiter *w)
{
	TAILQ_REMOVE(w->list, w, entry);
	if (w->timer)
		event_free(w->timer);
	free(w);
}

static void answer_now(struct waiter *w)
{
	struct http_exchange *x = w->x;
	waiter_answer answer = w->answer;
	void *arg = w->arg;
	waiter_free(w);
	http_exchange_on_close(x, NULL, NULL); /* the answer may be to wait again */
	answer(x, arg);
}

static void time_is_over(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	answer_now(arg);
}

static void caller_left(void *arg)
{
	waiter_free(arg);
}

void waiters_add(struct waiters *list, struct event_base *base, struct http_exchange *x,
		 int seconds, waiter_answer answer, void *arg)
{
	struct waiter *w = calloc(1, sizeof(*w));
	if (!w) {
		answer(x, arg);
		return;
	}
	*w = (struct waiter) { .list = list, .x = x, .answer = answer, .arg = arg };
	TAILQ_INSERT_TAIL(list, w, entry);
	w->timer = event_new(base, -1, 0, time_is_over, w);
	const struct timeval time = { .tv_sec = seconds };
	if (!w->timer || event_add(w->timer, &time) < 0) {
		answer_now(w);
		return;
	}
	http_exchange_on_close(x, caller_left, w);
}

void waiters_wake(struct waiters *list)
{
	/* Only those who wait now: an answer must not bring its own next question's turn. */
	struct waiter *last = TAILQ_LAST(list, waiters);
	struct waiter *w;
	while (last && (w = TAILQ_FIRST(list))) {
		bool end = w == last;
		answer_now(w);
		if (end)
			break;
	}
}

bool waiters_any(const struct waiters *list)
{
	return !TAILQ_EMPTY(list);
}
