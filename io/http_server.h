/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_IO_HTTP_SERVER_H
#define ELSA_IO_HTTP_SERVER_H

/*
 * An HTTP/1.1 API on unix and TCP sockets (libevent's evhttp), by one table of
 * routes. Requests may be answered later. All on the loop's thread.
 *
 * Who may call: on a unix socket the peer's uid must be root's, our own, or
 * one of `allowed_uids`; on TCP a bearer token must match (compared in
 * constant time), or with TLS a client certificate be shown; `open` listeners
 * let everybody in (the activity webhook, which checks by itself), as do
 * `open` routes on TLS. Refusals never reach a route.
 */

#include "base/error.h"

#include <event2/event.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct http_server;
struct http_exchange; /* one request being answered */

struct http_route {
	const char *method;
	const char *path; /* "/v1/effects/{id}": {name} takes one segment, percent-decoded;
			   * a last "{name*}" takes the rest undecoded */
	void (*handle)(struct http_exchange *x, void *arg);
	bool open; /* with TLS: asked without a certificate as well */
};

/* PEM files, looked at with each connection: replace them and the new ones are used. */
struct http_tls {
	const char *cert_file; /* and what else of its chain is to be shown */
	const char *key_file;
	const char *ca_file; /* whose certificates clients must have */
	/* Told what was wrong with a certificate, theirs or ours; at most a few times a minute. */
	void (*report)(const char *what, void *arg);
	void *report_arg;
};

/* From a client's certificate. */
struct http_peer {
	char name[256];  /* common name; "": it has shown none */
	char serial[64]; /* upper-case hexadecimal */
};

struct http_server_options {
	const struct http_route *routes; /* ended by a zeroed one; must outlive the server */
	void *arg;                       /* handed to the handlers */
	size_t max_body;                 /* 0: 4 MiB */
	int idle_ms;                     /* silence that ends a connection between requests, or */
					 /* when a reader stalls; 0: 60,000 */
	bool open;                       /* no credentials asked */
	const char *token;               /* TCP: copied; NULL with open only */
	const struct http_tls *tls;      /* TCP: serve TLS alone; copied. With a token as well */
					 /* either will do */
	/* With TLS: may the owner of this certificate, which is good, call? 0, or negative to
	 * refuse. `arg` is the handlers'. NULL: all may. */
	int (*admit)(const struct http_peer *peer, void *arg, struct error *e);
	const uid_t *allowed_uids; /* unix: besides root and our own; copied */
	size_t allowed_uid_count;
};

/* `where`: "unix:/run/elsa/elsad.sock" (mode 0666 in effect guarded by peer credentials; a stale
 * socket is replaced, a live one is an error) or "10.0.0.1:8082", "[::1]:8082". The program ignores
 * SIGPIPE from here on. */
int http_server_new(struct event_base *base, const char *where,
		    const struct http_server_options *options, struct http_server **server,
		    struct error *e);

/* Not from a handler or on_close. Exchanges that have an on_close are told and gone; others remain
 * the handler's to answer, without effect. Returns NULL. */
void *http_server_free(struct http_server *server);

int http_server_port(const struct http_server *server); /* of TCP, also for "...:0"; else 0 */

/* What was asked. Borrowed until the exchange is answered. */
const char *http_exchange_param(struct http_exchange *x, const char *name); /* {name}; NULL */
const char *http_exchange_query(struct http_exchange *x, const char *name); /* ?name=; NULL */
const char *http_exchange_header(struct http_exchange *x, const char *name);
const char *http_exchange_body(struct http_exchange *x, size_t *len); /* NUL-terminated */
const char *http_exchange_peer(struct http_exchange *x); /* "uid 0" or "10.99.0.2": for events */

/* Common name of the client's certificate; NULL: it has shown none, or none that counts. */
const char *http_exchange_peer_name(struct http_exchange *x);
const char *http_exchange_peer_serial(struct http_exchange *x); /* likewise */

/* The body as a JSON object (new reference), or an answered 400 and NULL. */
json_t *http_exchange_json(struct http_exchange *x);

/* Told when the caller goes away before the answer (or only ends its sending side); the exchange is
 * gone after it returns. */
void http_exchange_on_close(struct http_exchange *x, void (*closed)(void *arg), void *arg);

/* Adds a header to the answer that is to come. A value with a line break is left out. */
void http_reply_header(struct http_exchange *x, const char *name, const char *value);

/* Each answers and ends the exchange. reply_json steals `body`. */
void http_reply_json(struct http_exchange *x, int status, json_t *body);
void http_reply_text(struct http_exchange *x, int status, const char *type, const char *body,
		     size_t len);
void http_reply_error(struct http_exchange *x, const struct error *error);

/* For answers of any size, piece by piece. */
void http_reply_begin(struct http_exchange *x, int status, const char *type);
void http_reply_chunk(struct http_exchange *x, const char *data, size_t len);
void http_reply_end(struct http_exchange *x);

#endif
