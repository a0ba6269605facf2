/* SPDX-License-Identifier: Apache-2.0 */
#include "node/pages_ahead.h"

#include <stddef.h>

#define PAGE     UINT64_C(4096)
#define GAP      (8 * PAGE)    /* who leaves out so little still follows */
#define FIRST    (4 * PAGE)    /* window of who follows, */
#define FAR      (1024 * PAGE) /* ... and around a fault, from afar */
#define MOST     (256 * PAGE)  /* window, */
#define MOST_FAR (1024 * PAGE) /* ... from afar */
#define SCAN     1024          /* pages */

static struct pages_stream *oldest(struct pages_ahead *a)
{
	struct pages_stream *s = &a->streams[0];
	for (size_t i = 1; i < PAGES_AHEAD_STREAMS; i++)
		if (a->streams[i].used < s->used)
			s = &a->streams[i];
	return s;
}

static struct pages_stream *find(struct pages_ahead *a, int32_t number, uint64_t address, bool far)
{
	for (size_t i = 0; i < PAGES_AHEAD_STREAMS; i++) {
		struct pages_stream *s = &a->streams[i];
		uint64_t slack = far ? s->high - s->low : GAP;
		if (s->used && s->number == number && address + slack >= s->low &&
		    address < s->high + slack)
			return s;
	}
	return NULL;
}

static void expect_next(struct pages_stream *s, uint64_t start, uint64_t end)
{
	s->down = start;
	s->up = end;
	s->low = start < s->low ? start : s->low;
	s->high = end > s->high ? end : s->high;
}

/* From afar: what lies around it, unless that has been asked for. More of it the more often it
 * turns out not to be enough. */
static struct pages_window around(struct pages_stream *s, uint64_t address, bool far)
{
	struct pages_window w = { .start = address, .end = address };
	if (far && (address < s->low || address >= s->high)) {
		w.start = address / FAR * FAR;
		w.end = w.start + FAR;
		s->low = w.start < s->low ? w.start : s->low;
		s->high = w.end > s->high ? w.end : s->high;
	}
	s->run = 0;
	s->pages = 0;
	expect_next(s, address, address + PAGE);
	return w;
}

static struct pages_window begin(struct pages_stream *s, int32_t number, uint64_t address, bool far)
{
	*s = (struct pages_stream) {
		.number = number, .low = address, .high = address, .used = s->used
	};
	return around(s, address, far);
}

static struct pages_window follow(struct pages_stream *s, uint64_t address, bool up, bool far)
{
	struct pages_window w = { .start = address, .end = address + PAGE, .follows = true };
	uint64_t most = far ? FAR : MOST, least = far ? FAR : FIRST, len = s->pages * PAGE * 2;
	/* Once may be chance. */
	if (s->run == 0) {
		s->run = 1;
		w.end = w.start;
		w.follows = false;
		expect_next(s, address, address + PAGE);
		return w;
	}
	len = len < least ? least : len > most ? most : len;
	if (up)
		w.end = address + len;
	else
		w.start = w.end > len ? w.end - len : 0;
	w.scans = s->run > SCAN;
	s->pages = len / PAGE;
	s->run += s->pages;
	expect_next(s, w.start, w.end);
	return w;
}

struct pages_window pages_ahead(struct pages_ahead *a, int32_t number, uint64_t address, bool far)
{
	struct pages_stream *s = find(a, number, address, far);
	bool known = s != NULL;
	s = known ? s : oldest(a);
	s->used = ++a->now;
	if (!known)
		return begin(s, number, address, far);
	/* It is on its way. */
	if (s->pages && address >= s->down && address < s->up)
		return (struct pages_window) { .start = address, .end = address };
	bool up = address >= s->up && address - s->up < GAP;
	bool down = address < s->down && s->down - address <= GAP;
	return up || down ? follow(s, address, up, far) : around(s, address, far);
}
