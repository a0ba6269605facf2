/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_NODE_PAGES_AHEAD_H
#define ELSA_NODE_PAGES_AHEAD_H

/*
 * What a session that faults here will want next: the windows of read-ahead.
 * Where faults follow each other up or down the addresses, each of them asks
 * for twice as much as the last one. Where a page comes from afar, what lies
 * around it is asked for as well: it costs next to nothing more.
 *
 * Pure; not thread-safe.
 */

#include <stdbool.h>
#include <stdint.h>

enum { PAGES_AHEAD_STREAMS = 16 };

struct pages_stream {
	int32_t number;     /* of the space */
	uint64_t low, high; /* addresses: what has been asked for around here */
	uint64_t up, down;  /* where the next fault is if it follows the last one */
	uint64_t pages;     /* in its last window */
	uint64_t run;       /* pages that followed each other so far */
	uint32_t used;      /* when; 0: never */
};

struct pages_ahead {
	struct pages_stream streams[PAGES_AHEAD_STREAMS];
	uint32_t now;
};

struct pages_window {
	uint64_t start, end; /* addresses; the same: nothing but the page itself */
	bool follows;        /* it will be wanted, and not only perhaps */
	bool scans;          /* that has gone on for long: wanted in passing */
};

/* A fault at a page's address. `far`: where it comes from each request takes its time. */
struct pages_window pages_ahead(struct pages_ahead *a, int32_t number, uint64_t address, bool far);

#endif
