/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/use.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define MINUTE_MS ((int64_t)60 * 1000)
#define HOUR_MS   (60 * MINUTE_MS)

void use_deinit(struct use *u)
{
	free(u->hours);
	free(u->pieces);
	*u = (struct use) { 0 };
}

/* --- hours that are over ------------------------------------------------------------------------
 */

static void forget(struct use *u, int64_t before)
{
	size_t gone = 0;
	while (gone < u->count && u->hours[gone].number < before)
		gone++;
	u->count -= gone;
	if (gone)
		memmove(u->hours, u->hours + gone, u->count * sizeof(*u->hours));
}

static int more_hours(struct use *u, int64_t before)
{
	if (u->count < u->size)
		return 0;
	forget(u, before);
	/* Half of the room at least is free then, or what is forgotten is moved too often. */
	if (2 * u->count < u->size)
		return 0;
	size_t size = u->size ? 2 * u->size : 8;
	struct use_hour *hours = reallocarray(u->hours, size, sizeof(*hours));
	if (!hours)
		return -ENOMEM;
	u->hours = hours;
	u->size = size;
	return 0;
}

/* As db/usage.c does: the percentile is of the minutes. */
static int roll_up(struct use *u, int64_t before)
{
	if (!u->piece_count)
		return 0;
	if (more_hours(u, before) < 0)
		return -ENOMEM;
	const struct size_use sum = size_use_of(u->pieces, u->piece_count);
	u->hours[u->count++] = (struct use_hour) {
		.number = u->hour,
		.sample = { .awake_ms = sum.observed_ms,
			    .p95_bytes = sum.p95_bytes,
			    .peak_bytes = sum.peak_bytes },
	};
	u->piece_count = 0;
	return 0;
}

/* --- the hour that goes on ----------------------------------------------------------------------
 */

static void mix(struct size_sample *to, int64_t ms, int64_t bytes)
{
	int64_t all = to->awake_ms + ms;
	double mean = ((double)to->p95_bytes * (double)to->awake_ms + (double)bytes * (double)ms) /
		      (double)all;
	to->p95_bytes = (int64_t)mean;
	to->peak_bytes = bytes > to->peak_bytes ? bytes : to->peak_bytes;
	to->awake_ms = all;
}

static int add_piece(struct use *u, wall_ms from, int64_t ms, int64_t bytes)
{
	struct size_sample *last = u->piece_count ? &u->pieces[u->piece_count - 1] : NULL;
	if (last && from / MINUTE_MS == u->minute && last->awake_ms + ms <= MINUTE_MS) {
		mix(last, ms, bytes);
		return 0;
	}
	if (u->piece_count == u->piece_size) {
		size_t size = u->piece_size ? 2 * u->piece_size : 2;
		struct size_sample *pieces = reallocarray(u->pieces, size, sizeof(*pieces));
		if (!pieces)
			return -ENOMEM;
		u->pieces = pieces;
		u->piece_size = size;
	}
	u->minute = from / MINUTE_MS;
	u->pieces[u->piece_count++] =
		(struct size_sample) { .awake_ms = ms, .p95_bytes = bytes, .peak_bytes = bytes };
	return 0;
}

int use_add(struct use *u, wall_ms from, wall_ms to, int64_t bytes, int64_t window_ms)
{
	int64_t before = (to - window_ms) / HOUR_MS;
	if (from < before * HOUR_MS)
		from = before * HOUR_MS; /* nobody asks for what was before that any more */
	int r = 0;
	while (r == 0 && from < to) {
		int64_t hour = from / HOUR_MS;
		wall_ms end = (hour + 1) * HOUR_MS;
		end = end < to ? end : to;
		if (hour != u->hour)
			r = roll_up(u, before);
		u->hour = hour;
		if (r == 0)
			r = add_piece(u, from, end - from, bytes);
		from = end;
	}
	return r;
}

size_t use_most(const struct use *u)
{
	return u->count + u->piece_count;
}

size_t use_samples(const struct use *u, wall_ms from, struct size_sample *to)
{
	size_t n = 0;
	for (size_t i = 0; i < u->count; i++)
		if (u->hours[i].number >= from / HOUR_MS)
			to[n++] = u->hours[i].sample;
	if (!u->piece_count || u->hour < from / HOUR_MS)
		return n;
	memcpy(to + n, u->pieces, u->piece_count * sizeof(*to));
	return n + u->piece_count;
}
