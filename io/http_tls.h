/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_IO_HTTP_TLS_H
#define ELSA_IO_HTTP_TLS_H

/*
 * The server's side of TLS, for io/http_server.c: what accepted connections
 * are wrapped in, and whose certificate they have shown.
 *
 * TLS 1.2 or newer. A client certificate is asked for and, when there is one,
 * must be of the authority: the handshake fails otherwise, and what was wrong
 * is reported, a few at once at most. Sessions are not resumed, so every
 * connection has shown its certificate itself. The files are looked at with
 * each connection: what replaced them is taken up, and what cannot be used
 * (half of it replaced so far) leaves the old ones in use.
 */

#include "io/http_server.h"

struct bufferevent;
struct http_tls_context;

int http_tls_new(const struct http_tls *options, struct http_tls_context **context,
		 struct error *e);
void *http_tls_free(struct http_tls_context *context); /* returns NULL; after its connections */

/* Of a connection that is to be accepted: without a socket yet. NULL: out of memory. */
struct bufferevent *http_tls_accept(struct http_tls_context *context, struct event_base *base);

bool http_tls_is_on(struct bufferevent *connection);

/* 1: `peer` has shown a certificate of the authority that is still valid; 0: none; or negative:
 * one that is past its time. */
int http_tls_peer(struct bufferevent *connection, struct http_peer *peer, struct error *e);

#endif
