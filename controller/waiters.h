/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_CONTROLLER_WAITERS_H
#define ELSA_CONTROLLER_WAITERS_H

/*
 * Requests that wait for news: answered when something happened or their time
 * is over, forgotten when their caller goes away. One thread.
 */

#include "io/http_server.h"

#include <event2/event.h>
#include <stdbool.h>
#include <sys/queue.h>

struct waiter;
TAILQ_HEAD(waiters, waiter);

/* Must answer the exchange. Called once: at the news or when the time is over. */
typedef void (*waiter_answer)(struct http_exchange *x, void *arg);

/* Without memory it answers at once. */
void waiters_add(struct waiters *list, struct event_base *base, struct http_exchange *x,
		 int seconds, waiter_answer answer, void *arg);
void waiters_wake(struct waiters *list); /* answers all */
bool waiters_any(const struct waiters *list);

#endif
