/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_CLOUD_S3_HTTP_H
#define ELSA_CLOUD_S3_HTTP_H

/*
 * For cloud/s3*.c and cloud/capacity_call.c.
 *
 * One HTTP exchange at a time per thread, over connections that are kept: a
 * pool of libcurl handles, each with its own connections. Bodies are sent from
 * the caller's memory and handed on as they arrive. Blocking; thread-safe on
 * one pool.
 */

#include "base/buf.h"
#include "base/clock.h"
#include "base/error.h"
#include "cloud/retry.h"

#include <curl/curl.h>

struct s3_http;

/* What is read of an answer's headers; "" when it has none. */
struct s3_headers {
	char etag[128];
	char date[64];
	char last_modified[64];
	char content_range[96];
	char retry_after[32];
	char region[64]; /* x-amz-bucket-region */
	char sha256[64]; /* x-amz-checksum-sha256 */
	char crc32[16];  /* x-amz-checksum-crc32 */
};

struct s3_exchange {
	const char *method, *url;
	struct curl_slist *headers;
	const char *body; /* NULL: none */
	size_t body_len;
	/* Takes the body of a 2xx answer; nonzero ends the exchange, which then counts as lost. */
	int (*on_data)(const char *data, size_t len, void *arg);
	void *arg;
	bool new_connection;
	struct retry_patience patience; /* not 0; with a new connection it is for its life */

	/* results */
	enum retry_transfer transfer;
	char why[CURL_ERROR_SIZE]; /* unless RETRY_ANSWERED */
	bool timed_out;
	/* The body was sent again by libcurl itself, because a kept connection turned out to be
	 * closed: the server may have carried out the request the first time. */
	bool resent;
	int status;
	uint64_t
		length; /* of the body, as announced; UINT64_MAX: not. Known to on_data, as `got` */
	struct s3_headers got;
	struct buf text; /* the body of any other answer, cut at its cap; the caller's to free */
};

int s3_http_new(const char *ca, struct s3_http **http, struct error *e);
void *s3_http_free(struct s3_http *http); /* returns NULL; no exchange may be under way */

/* -ENOMEM, or 0 with the results filled in. */
int s3_http_exchange(struct s3_http *http, struct s3_exchange *x, struct error *e);

#endif
