/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_CLOUD_RETRY_H
#define ELSA_CLOUD_RETRY_H

/*
 * When a request to object storage is tried again, how long to wait before,
 * what to change, and how long a try is waited for. Pure: the caller brings
 * clock and chance. Thread-safe.
 */

#include <stdbool.h>
#include <stddef.h>
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

/* How long a try goes on without any progress. */
struct retry_patience {
	int connect_ms;        /* until there is a connection, its TLS included */
	int silence_ms;        /* no byte of a body handed on, or of an answer */
	int unacknowledged_ms; /* what was sent has not arrived; 0: as the kernel has it */
};

/* The most that a body may have to count as small: sent by libcurl at once, and answered in a
 * moment by a server that is well. */
#define RETRY_SMALL (64 * 1024)

/* Of try `count`, from 1 on. Short at first, since a new connection helps against most stalls;
 * longer each time, up to most_ms, since some servers are slow. */
struct retry_patience retry_patience(unsigned count, size_t body_len, int most_ms);

#endif
