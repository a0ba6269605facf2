/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_CLOUD_SIGV4_H
#define ELSA_CLOUD_SIGV4_H

/*
 * AWS Signature Version 4 ("Signature Calculations for the Authorization
 * Header", Amazon S3 API reference) and its twin GOOG4 of Google's XML API.
 * Bytes in, bytes out: no clock, no socket. libcurl's own signer is right for S3
 * only from 8.14 on, and Debian 12 has 7.88.
 *
 * As S3 wants it, and unlike other AWS services, a path is encoded once and
 * "." and ".." in it are kept. The Query APIs (EC2, Auto Scaling) know no path
 * but "/", where that makes no difference. Thread-safe.
 */

#include "base/buf.h"
#include "base/clock.h"

#include <stdbool.h>
#include <stddef.h>

/* The words in which the two differ. */
struct sigv4_dialect {
	const char *algorithm;  /* AWS4-HMAC-SHA256 */
	const char *key_prefix; /* AWS4 */
	const char *terminator; /* aws4_request */
};
extern const struct sigv4_dialect sigv4_aws, sigv4_google;

struct sigv4_key {
	const struct sigv4_dialect *dialect;
	const char *access_key, *secret, *region, *service;
};

struct sigv4_pair {
	const char *name, *value;
};

struct sigv4_request {
	const char *method;
	const char *path;               /* decoded, begins with '/' */
	const struct sigv4_pair *query; /* decoded, in any order */
	size_t query_count;
	const struct sigv4_pair *headers; /* all that are to be signed; "host" must be among them */
	size_t header_count;
	const char *payload_hash; /* SHA-256 in hexadecimal, or SIGV4_UNSIGNED */
};

#define SIGV4_UNSIGNED       "UNSIGNED-PAYLOAD"
#define SIGV4_TIMESTAMP_SIZE 17 /* "20130524T000000Z" */
#define SIGV4_HEX_SIZE       65
#define SIGV4_EMPTY_HASH     "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

/* All append to `to`; 0, -ENOBUFS, -ENOMEM, or -E2BIG for more than 64 headers or parameters. */
int sigv4_encode(struct buf *to, const char *text, bool keep_slashes);
int sigv4_query(struct buf *to, const struct sigv4_pair *query, size_t count);
int sigv4_canonical(struct buf *to, const struct sigv4_request *request);
int sigv4_string_to_sign(struct buf *to, const struct sigv4_key *key, const char *timestamp,
			 const char *canonical);
/* The Authorization header's value. */
int sigv4_authorization(struct buf *to, const struct sigv4_request *request,
			const struct sigv4_key *key, const char *timestamp);

void sigv4_timestamp(wall_ms now, char to[SIGV4_TIMESTAMP_SIZE]);
void sigv4_hex(const unsigned char *bytes, size_t len, char *to); /* 2 * len + 1 bytes */

#endif
