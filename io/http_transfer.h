/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_IO_HTTP_TRANSFER_H
#define ELSA_IO_HTTP_TRANSFER_H

/*
 * One request and its answer as a libcurl handle, whoever drives it: the event
 * loop (io/http_client.c) or a blocking call (io/http_call.c).
 */

#include "io/http_client.h"

#include <curl/curl.h>

struct http_transfer {
	CURL *easy;
	struct curl_slist *headers;
	struct curl_slist *connect_to;
	char pin[65];    /* ca_sha256 */
	struct buf body; /* collected */
	int (*on_data)(const char *data, size_t len, void *arg);
	void *arg;
	bool refused;               /* on_data said so */
	bool cancelled;             /* take no more data */
	char text[CURL_ERROR_SIZE]; /* libcurl's words for what went wrong */
};

/* Once per process, by whichever thread comes first. */
int http_transfer_global_init(struct error *e);

/* Prepares a handle for the request, which is copied. `t` must stay where it is until deinit. */
int http_transfer_init(struct http_transfer *t, const struct http_request *request, void *arg,
		       struct error *e);

/* What to tell the caller once libcurl is through; borrows from `t`. */
void http_transfer_reply(struct http_transfer *t, CURLcode code, struct http_reply *reply);

void http_transfer_deinit(struct http_transfer *t); /* idempotent */

#endif
