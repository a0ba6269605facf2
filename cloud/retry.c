/* SPDX-License-Identifier: Apache-2.0 */
#include "cloud/retry.h"

#include <string.h>

/* S3 answers small requests within some 100 ms. What TCP has lost once or twice comes again within
 * 1 s; who sees more than that lost sees it on a new connection, too. */
enum { SMALL_MS = 4000, UNACKNOWLEDGED_MS = 10000, CONNECT_MOST_MS = 10000 };

/* A store that is back is to be seen within seconds: a machine may be about to go away. */
const struct retry_limits retry_default = {
	.tries = 10,
	.total_ms = 120000,
	.base_ms = 100,
	.most_ms = 3000,
};

enum kind {
	FINAL,
	PASSING, /* wait, then the same again */
	BUSY,    /* the server asks to slow down: wait longer, by another connection */
	SKEWED,  /* our clock is wrong */
	EXPIRED, /* our credentials are */
};

/* Error codes of Amazon's APIs and of Google's that say more than their status. */
static const struct {
	const char *code;
	enum kind kind;
} codes[] = {
	{ "SlowDown", BUSY },
	{ "Busy", BUSY },
	{ "ServiceUnavailable", BUSY },
	{ "TooManyRequests", BUSY },
	{ "RequestLimitExceeded", BUSY },
	{ "ThrottlingException", BUSY },
	{ "Throttling", BUSY },
	{ "RequestThrottled", BUSY },
	{ "rateLimitExceeded", BUSY },
	{ "userRateLimitExceeded", BUSY },
	{ "RequestTimeTooSkewed", SKEWED },
	{ "RequestInTheFuture", SKEWED },
	{ "ExpiredToken", EXPIRED },
	{ "TokenRefreshRequired", EXPIRED },
	{ "RequestExpired", EXPIRED },
	{ "InternalError", PASSING },
	{ "RequestTimeout", PASSING },
	{ "IncompleteBody", PASSING },
	{ "BadDigest", PASSING },
	{ "XAmzContentSHA256Mismatch", PASSING },
	{ "ConditionalRequestConflict", PASSING },
	{ "OperationAborted", PASSING },
};

static enum kind kind_of_code(const char *code, enum kind otherwise)
{
	for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++)
		if (strcmp(codes[i].code, code) == 0)
			return codes[i].kind;
	return otherwise;
}

static enum kind kind_of(const struct retry_try *t)
{
	if (t->transfer == RETRY_IMPOSSIBLE)
		return FINAL;
	if (t->transfer != RETRY_ANSWERED)
		return PASSING;
	switch (t->status) {
	case 408:
		return PASSING;
	case 409: /* two conditional writes at once: one must try again and then finds out */
		return kind_of_code(t->code, PASSING);
	case 429:
	case 503:
		return BUSY;
	case 401: /* a bearer token that has run out */
		return kind_of_code(t->code, EXPIRED);
	case 501:
	case 505:
		return FINAL;
	default:
		return kind_of_code(t->code, t->status >= 500 ? PASSING : FINAL);
	}
}

/* Between half and the whole of base * 2^tries ("equal jitter"): spread out, but never at once. */
static int backoff(const struct retry_limits *limits, const struct retry_try *t, int factor)
{
	int64_t most = (int64_t)limits->base_ms * factor;
	for (unsigned i = 1; i < t->count && most < limits->most_ms; i++)
		most *= 2;
	if (most > limits->most_ms)
		most = limits->most_ms;
	int64_t wait =
		most / 2 + (int64_t)((uint64_t)t->random * (uint64_t)(most - most / 2) >> 32);
	return (int)(wait < t->retry_after_ms ? t->retry_after_ms : wait);
}

struct retry_verdict retry_decide(const struct retry_limits *limits, const struct retry_try *t)
{
	struct retry_verdict v = { 0 };
	enum kind kind = kind_of(t);
	v.again = kind != FINAL;
	v.wait_ms = backoff(limits, t, kind == BUSY ? 4 : 1);
	v.new_connection = kind == BUSY || t->transfer != RETRY_ANSWERED || t->status >= 500;
	v.refresh = kind == EXPIRED;
	v.adjust = kind == SKEWED;
	/* These are put right once; if that does not help, nothing will. */
	if ((v.refresh && t->refreshed) || (v.adjust && t->adjusted))
		v.again = false;
	if (v.refresh || v.adjust)
		v.wait_ms = 0;
	if (t->count >= limits->tries || t->elapsed_ms + v.wait_ms > limits->total_ms)
		v.again = false;
	return v;
}

static int doubled(int ms, unsigned times, int most)
{
	while (times-- && ms < most)
		ms *= 2;
	return ms < most ? ms : most;
}

struct retry_patience retry_patience(unsigned count, size_t body_len, int most_ms)
{
	int connect_most = most_ms < CONNECT_MOST_MS ? most_ms : CONNECT_MOST_MS;
	int small = doubled(SMALL_MS, count - 1, most_ms);
	return (struct retry_patience) {
		.connect_ms = small < connect_most ? small : connect_most,
		/* Of a large body libcurl hands on some megabytes, and then none until they are
		 * through; and it takes a server its time to make it durable. */
		.silence_ms = body_len <= RETRY_SMALL ? small : most_ms,
		.unacknowledged_ms = doubled(UNACKNOWLEDGED_MS, count - 1, most_ms),
	};
}
