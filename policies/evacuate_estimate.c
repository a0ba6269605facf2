/* SPDX-License-Identifier: Apache-2.0 */
#include "policies/evacuate.h"

#define MIB ((int64_t)1 << 20)

/* What is smaller says how long the rest of a checkpoint takes, and nothing about rates. */
#define SMALL_RESIDENT (32 * MIB)
#define SMALL_SENT     (4 * MIB)
#define PARALLEL       1.5 /* from here on a sample is of several at once */
#define RATE_MOST      (INT64_MAX / 1000)

enum {
	FULL_MS = 10 * 60 * 1000, /* without better knowledge all is other by then */
	LEAST_SHARE = 10,
	LEAST_OF_LAST = 4
};

int64_t evacuate_unsent(const struct evacuate_history *h, int64_t resident_bytes, wall_ms now)
{
	if (h->last_at == 0)
		return resident_bytes;
	double since = now > h->last_at ? (double)(now - h->last_at) : 0;
	double last = (double)h->last_bytes, unsent;
	if (h->before_at == 0) {
		/* That one sent everything, and what changes is not known yet. */
		double share = 1.0 / LEAST_SHARE + since / FULL_MS;
		unsent = last * (share < 1 ? share : 1);
	} else {
		double between =
			h->last_at > h->before_at ? (double)(h->last_at - h->before_at) : 1;
		double least = last / LEAST_OF_LAST;
		unsent = last * since / between;
		unsent = unsent > least ? unsent : least;
	}
	return unsent < (double)resident_bytes ? (int64_t)unsent : resident_bytes;
}

static int64_t rate(int64_t bytes, int64_t ms, double times)
{
	double r = (double)bytes * 1000.0 / (double)ms * times;
	return r < 1 ? 1 : r < (double)RATE_MOST ? (int64_t)r : RATE_MOST;
}

/* The latest counts for three tenths. */
static void mix(int64_t *known, int64_t seen)
{
	*known = *known > 0 ? *known / 10 * 7 + seen / 10 * 3 : seen;
}

/* Several at once show what all get together; of one alone only that it can be no less. */
static void measure_rate(int64_t *all, int64_t *one, int64_t bytes, int64_t ms, double at_once)
{
	int64_t stream = rate(bytes, ms, 1);
	if (at_once >= PARALLEL)
		mix(all, rate(bytes, ms, at_once));
	if (at_once < PARALLEL || stream > *one)
		mix(one, stream);
}

void evacuate_measure(struct evacuate_rates *r, const struct evacuate_sample *s)
{
	double n = s->at_once >= 1 ? s->at_once : 1;
	int64_t took = s->took_ms > 0 ? s->took_ms : 1;
	if (s->resident_bytes < SMALL_RESIDENT && s->sent_bytes < SMALL_SENT) {
		mix(&r->fixed_ms, took);
		return;
	}
	const struct evacuate_facts known = {
		.store_bytes_per_s = r->store_bytes_per_s,
		.stream_bytes_per_s = r->stream_bytes_per_s,
		.dump_bytes_per_s = r->dump_bytes_per_s,
		.dump_stream_bytes_per_s = r->dump_stream_bytes_per_s,
		.fixed_ms = 1,
	};
	size_t at_once = (size_t)(n + 0.5);
	int64_t fixed = r->fixed_ms > 0 ? r->fixed_ms : 0;
	int64_t ms = took - fixed > took / 2 ? took - fixed : took / 2 + 1;
	if (evacuate_takes(&known, s->resident_bytes, 0, at_once) >=
	    evacuate_takes(&known, 0, s->sent_bytes, at_once))
		measure_rate(&r->dump_bytes_per_s, &r->dump_stream_bytes_per_s, s->resident_bytes,
			     ms, n);
	else
		measure_rate(&r->store_bytes_per_s, &r->stream_bytes_per_s, s->sent_bytes, ms, n);
}
