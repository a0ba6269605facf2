/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_IO_HTTP_CLIENT_H
#define ELSA_IO_HTTP_CLIENT_H

/*
 * HTTP requests on the event loop: libcurl's multi interface driven by
 * libevent. One client per loop; all calls and callbacks on the loop's thread.
 * Connections are kept and reused.
 */

#include "base/buf.h"
#include "base/error.h"

#include <event2/event.h>
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

struct http_client;
struct http_call;

struct http_request {
	const char *method;         /* "GET" when NULL */
	const char *url;            /* http(s)://...; the host is a placeholder with unix_socket */
	const char *unix_socket;    /* path, or NULL for TCP */
	const char *const *headers; /* "Name: value", NULL-terminated; may be NULL */
	const char *body;           /* copied; may be NULL. Sent as JSON unless `headers` has a */
	size_t body_len;            /* Content-Type */
	int timeout_ms;             /* whole call; 0: 30,000 */
	int connect_timeout_ms;     /* 0: 5,000 */
	size_t max_body;            /* most bytes of answer taken; 0: 16 MiB */
	const char *ca_file;        /* trust only this; may be NULL */
	const char *ca_sha256;      /* or only the authority with this digest (64 hexadecimal */
				    /* digits), which the server has to show; may be NULL */
	const char *cert_file;      /* our own certificate and key, PEM; may be NULL */
	const char *key_file;
	const char *connect_to; /* "10.0.0.5:8444": where to connect in place of the URL's host, */
				/* whose certificate is nevertheless asked for; may be NULL */
	/* When set, the body of a 2xx answer goes here piece by piece and is not collected; nonzero
	 * aborts the call. For listings of any size. It may cancel calls but not start any. */
	int (*on_data)(const char *data, size_t len, void *arg);
	void *data_arg; /* on_data's in http_call_blocking(); else it gets the call's */
};

struct http_reply {
	int status;       /* 0 when there was no answer: then `error` says why */
	const char *body; /* NUL-terminated; valid during the callback only */
	size_t body_len;
	struct error error; /* FAULT_NONE for any HTTP answer, even 500 */
	int retry_after_s;  /* from Retry-After; 0: none */
	void *transfer;     /* http_reply_field()'s */
};

/* The value of a header of the answer; NULL when it has none. Valid during the callback only. */
const char *http_reply_field(const struct http_reply *reply, const char *name);

/* Called exactly once per call, never from within http_client_call(). Not called after
 * http_call_cancel(). May start new calls; must not free the client. */
typedef void (*http_done)(const struct http_reply *reply, void *arg);

/* The program ignores SIGPIPE from here on. */
int http_client_new(struct event_base *base, struct http_client **client, struct error *e);
void *http_client_free(struct http_client *client); /* cancels what is under way; returns NULL */

/* The request is copied. *call (may be NULL) stays valid until done or cancelled. */
int http_client_call(struct http_client *client, const struct http_request *request, http_done done,
		     void *arg, struct http_call **call, struct error *e);
void http_call_cancel(struct http_call *call);

/* The same for programs without a loop (the command line): blocks. For any HTTP answer the result
 * is 0, *status is set and *body allocated. Thread-safe. */
int http_call_blocking(const struct http_request *request, int *status, char **body,
		       struct error *e);

/* A URL component, percent-encoded (everything but unreserved characters); allocated, or NULL. */
char *http_escape(const char *text);

#endif
