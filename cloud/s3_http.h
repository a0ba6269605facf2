/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_CLOUD_S3_HTTP_H
#define ELSA_CLOUD_S3_HTTP_H

/*
 * One HTTP exchange at a time per thread, over connections that are kept: a
 * pool of libcurl handles, each with its own connections. Bodies are read from
 * memory or a file as they are sent and handed on as they arrive, so that an
 * exchange of any size needs no memory. Blocking; thread-safe on one pool.
 */

#include "base/buf.h"
#include "base/clock.h"
#include "base/error.h"
#include "cloud/retry.h"

#include <curl/curl.h>

struct s3_http;

struct s3_body {
	const char *data; /* or, when NULL, from the file: */
	int fd;
	uint64_t offset;
	uint64_t len;
};

/* What is read of an answer's headers; "" when it has none. */
struct s3_headers {
	char etag[128];
	char date[64];
	char last_modified[64];
	char content_range[96];
	char retry_after[32];
	char region[64];   /* x-amz-bucket-region */
	char checksum[64]; /* x-amz-checksum-sha256 */
};

struct s3_exchange {
	const char *method, *url;
	struct curl_slist *headers;
	const struct s3_body *body; /* NULL: none */
	/* Takes the body of a 2xx answer; nonzero ends the exchange, which then counts as lost. */
	int (*on_data)(const char *data, size_t len, void *arg);
	void *arg;
	bool new_connection;

	/* results */
	enum retry_transfer transfer;
	char why[CURL_ERROR_SIZE]; /* unless RETRY_ANSWERED */
	bool timed_out;
	int status;
	uint64_t length; /* of the body, as announced; UINT64_MAX: not */
	struct s3_headers got;
	struct buf text; /* the body of any other answer, cut at its cap; the caller's to free */
};

int s3_http_new(const char *ca, int timeout_ms, struct s3_http **http, struct error *e);
void *s3_http_free(struct s3_http *http); /* returns NULL; no exchange may be under way */

/* -ENOMEM, or 0 with the results filled in. */
int s3_http_exchange(struct s3_http *http, struct s3_exchange *x, struct error *e);

#endif
