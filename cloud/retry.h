/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_CLOUD_RETRY_H
#define ELSA_CLOUD_RETRY_H

/*
 * When a request to object storage is tried again, how long to wait before,
 * and what to change. Pure: the caller brings clock and chance. Thread-safe.
 */

#include <stdbool.h>
#include <stdint.h>

/* How a try ended when there was no whole answer. */
enum retry_transfer {
	RETRY_ANSWERED,   /* `status` says */
	RETRY_NO_CONTACT, /* name not found, connection refused or timed out */
	RETRY_LOST,       /* reset, closed early, timed out, garbled */
	RETRY_IMPOSSIBLE, /* wrong certificate, malformed URL: trying again cannot help */
};

struct retry_try {
	unsigned count; /* tries made so far, this one included */
	enum retry_transfer transfer;
	int status;               /* HTTP, with RETRY_ANSWERED */
	const char *code;         /* S3's error code, "" when there is none */
	int retry_after_ms;       /* asked for by the server; 0: not */
	int64_t elapsed_ms;       /* since the first try */
	uint32_t random;          /* any 32 bits */
	bool refreshed, adjusted; /* already asked for new credentials, set the clock right */
};

struct retry_verdict {
	bool again;
	int wait_ms;
	bool new_connection;
	bool refresh; /* fetch new credentials first */
	bool adjust;  /* sign with the server's clock (its Date header) */
};

struct retry_limits {
	unsigned tries;
	int64_t total_ms; /* no new try begins after this */
	int base_ms, most_ms;
};

extern const struct retry_limits retry_default;

struct retry_verdict retry_decide(const struct retry_limits *limits, const struct retry_try *t);

#endif
