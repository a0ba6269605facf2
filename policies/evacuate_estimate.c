/* SPDX-License-Identifier: Apache-2.0 */
#include "policies/evacuate.h"

#define MIB ((int64_t)1 << 20)

/* Until something has been measured. Hopeful: what is not tried is lost for certain. */
#define GUESS_STREAM (250 * MIB)
#define GUESS_DUMP   (1000 * MIB)
/* ... but a move that is not tried is a checkpoint. */
#define GUESS_MOVE (100 * MIB)
enum { GUESS_FIXED_MS = 500, GUESS_STREAMS = 2, MOVE_FIXED_MS = 1000 };
#define TIME_MOST (INT64_MAX / 4)

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

/* --- how long things take ------------------------------------------------------------ */

/* Milliseconds; saturating. */
static int64_t time_for(int64_t bytes, int64_t bytes_per_s)
{
	double ms = (double)bytes * 1000.0 / (double)(bytes_per_s > 0 ? bytes_per_s : 1);
	return ms < (double)TIME_MOST ? (int64_t)ms : TIME_MOST;
}

static int64_t stream_rate(const struct evacuate_facts *f)
{
	return f->stream_bytes_per_s > 0 ? f->stream_bytes_per_s : GUESS_STREAM;
}

static int64_t store_rate(const struct evacuate_facts *f)
{
	int64_t stream = stream_rate(f);
	if (f->store_bytes_per_s <= 0)
		return stream < TIME_MOST / GUESS_STREAMS ? stream * GUESS_STREAMS : stream;
	return f->store_bytes_per_s > stream ? f->store_bytes_per_s : stream;
}

static int64_t dump_stream_rate(const struct evacuate_facts *f)
{
	if (f->dump_stream_bytes_per_s > 0)
		return f->dump_stream_bytes_per_s;
	return f->dump_bytes_per_s > 0 ? f->dump_bytes_per_s : GUESS_DUMP;
}

static int64_t dump_rate(const struct evacuate_facts *f)
{
	int64_t one = dump_stream_rate(f);
	int64_t streams = f->cpus / 2 > 1 ? (int64_t)(f->cpus / 2) : 1;
	if (f->dump_bytes_per_s <= 0)
		return one < TIME_MOST / streams ? one * streams : one;
	return f->dump_bytes_per_s > one ? f->dump_bytes_per_s : one;
}

/* Memory is read, squeezed and sent at the same time: the slower of the two counts. */
int64_t evacuate_takes(const struct evacuate_facts *f, int64_t resident_bytes, int64_t unsent_bytes,
		       size_t at_once)
{
	int64_t n = at_once ? (int64_t)at_once : 1;
	int64_t dump_share = dump_rate(f) / n, dump = dump_stream_rate(f);
	int64_t share = store_rate(f) / n, stream = stream_rate(f);
	int64_t read = time_for(resident_bytes, dump_share < dump ? dump_share : dump);
	int64_t sent = time_for(unsent_bytes, share < stream ? share : stream);
	int64_t fixed = f->fixed_ms > 0 ? f->fixed_ms : GUESS_FIXED_MS;
	return (read > sent ? read : sent) + (fixed < TIME_MOST ? fixed : TIME_MOST);
}

int64_t evacuate_move_takes(const struct evacuate_facts *f, int64_t resident_bytes)
{
	int64_t pace = f->move_bytes_per_s > 0 ? f->move_bytes_per_s : GUESS_MOVE;
	return time_for(resident_bytes, pace) + MOVE_FIXED_MS;
}

/* --- what is sent, and what was measured ----------------------------------------------- */

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

/* A small one says little of the link. */
void evacuate_measure_move(struct evacuate_rates *r, int64_t bytes, int64_t took_ms)
{
	if (bytes >= SMALL_RESIDENT)
		mix(&r->move_bytes_per_s, rate(bytes, took_ms > 0 ? took_ms : 1, 1));
}
