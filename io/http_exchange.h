/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_IO_HTTP_EXCHANGE_H
#define ELSA_IO_HTTP_EXCHANGE_H

/*
 * One request between its arrival and the end of its answer, for
 * io/http_server.c; its public face is in io/http_server.h.
 *
 * The request belongs to its evhttp connection until the connection breaks
 * under it. Then, if there is an on_close, it is called and all is freed; if
 * not, the handler does not know yet, so the exchange lives on until it is
 * answered into the void.
 */

#include "io/http_route.h"
#include "io/http_server.h"

#include <event2/http.h>
#include <sys/queue.h>

struct http_watch;

struct http_exchange {
	struct evhttp_request *request; /* NULL: the server is gone, answers lead nowhere */
	struct http_watch *watch;
	struct http_params params;
	struct http_params query;
	char peer[64];
	struct http_peer certified; /* by the certificate it has shown */
	const char *body;           /* of the request's */
	size_t body_len;
	int fd;
	struct timeval idle; /* the connection's timeout */
	bool watched;
	bool lost; /* on_close is being told */
	void (*closed)(void *arg);
	void *closed_arg;
	void (*ended)(struct http_exchange *x, void *arg); /* answered, lost or abandoned */
	void *ended_arg;
	LIST_ENTRY(http_exchange) link; /* the owner's */
};

/* NULL when out of memory; the request is not answered then. */
struct http_exchange *http_exchange_new(struct evhttp_request *request, struct http_watch *watch);

/* The server goes away: on_close is told, or the exchange cut off from it. */
void http_exchange_abandon(struct http_exchange *x);

/* http_reply_error() with another status than the fault's. */
void http_reply_status_error(struct http_exchange *x, int status, const struct error *error);

/* Tells exchanges that their caller has gone. One per server. */
int http_watch_new(struct event_base *base, struct http_watch **watch, struct error *e);
void *http_watch_free(struct http_watch *watch); /* returns NULL */

#endif
