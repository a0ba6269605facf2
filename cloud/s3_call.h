/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_CLOUD_S3_CALL_H
#define ELSA_CLOUD_S3_CALL_H

/*
 * One operation on S3 or Google's XML API: signed, sent, tried again as
 * cloud/retry.h says, its failure put in words. For the backend's own files
 * (cloud/s3*.c).
 */

#include "cloud/credentials.h"
#include "cloud/object.h"
#include "cloud/s3_http.h"
#include "cloud/s3_url.h"
#include "cloud/s3_xml.h"
#include "cloud/sigv4.h"

#include <pthread.h>
#include <stdatomic.h>

struct s3 {
	struct object_store base;
	struct s3_url url;
	struct s3_place place;
	struct s3_http *http;
	struct credentials *credentials;
	_Atomic int64_t clock_ahead_ms; /* of the server's clock, learnt from it */
	pthread_mutex_t probe_lock;
	enum { PROBE_UNKNOWN, PROBE_GOOD, PROBE_IGNORED } conditional;
};

enum { S3_PAIRS = 6 };

struct s3_call {
	const char *doing;  /* "write": what cannot be done */
	const char *action; /* "s3:PutObject": the permission it takes */
	const char *method;
	const char *key; /* NULL: the bucket itself */
	struct sigv4_pair query[S3_PAIRS], headers[S3_PAIRS];
	size_t query_count, header_count;
	const void *body; /* NULL: none */
	size_t body_len;
	/* Not to be carried out twice unnoticed: see struct s3_exchange's `resent`, which an empty
	 * body cannot tell. */
	bool once;
	/* Called before each try: may reset what on_data filled and change headers. May be NULL. */
	void (*before)(struct s3_call *c);
	int (*on_data)(const char *data, size_t len, void *arg);
	void *arg;
	const atomic_bool *stop; /* set by another thread: do not try again. May be NULL */

	/* results */
	struct s3_exchange x;   /* the last try */
	int64_t clock_ahead_ms; /* by which it was signed: others may have set the clock since */
	int status;             /* its status, 0 when there was no whole answer */
	struct s3_answer answer;
	unsigned tries;
	bool unsure; /* an earlier try may have been carried out though it seemed to fail */
};

void s3_call_query(struct s3_call *c, const char *name, const char *value);
void s3_call_header(struct s3_call *c, const char *name, const char *value);

/* 0 for 2xx; else negative with *e said (s3_call_fail). */
int s3_call(struct s3 *s, struct s3_call *c, struct error *e);
void s3_call_deinit(struct s3_call *c);

/* What the last try's failure means; returns a negative errno. */
int s3_call_fail(const struct s3 *s, const struct s3_call *c, struct error *e);

/* What became of a call that may find no object: r, unless that is -ENOENT and nothing but the
 * status says so. A missing bucket looks like that to HEAD, and a server that is no S3 server to
 * anybody: then the bucket is asked for, too. */
int s3_call_missing(struct s3 *s, const struct s3_call *c, int r, struct error *e);

/* "Tue, 24 May 2013 00:00:00 GMT"; 0 when it cannot be read. */
wall_ms s3_date(const char *text);

#endif
