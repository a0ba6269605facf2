/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_NODE_MOVE_SOURCE_H
#define ELSA_NODE_MOVE_SOURCE_H

/*
 * The memory of a session that came here while it ran, as a source for the page
 * service (node/pages.h): which pages there are is told by CRIU's pagemap images,
 * what is in them by the node it came from. Several fetch at once. Thread-safe.
 */

#include "node/move_lines.h"
#include "node/pages.h"

struct move_ahead;

struct move_source_options {
	const char *images; /* with pagemap-PID.img of every process; read when it is opened */
	/* Taken over, also when opening fails: */
	struct move_lines *lines; /* to where it is */
	struct move_ahead *ahead; /* copies of some of it; NULL */
};

int move_source_open(const struct move_source_options *options, struct page_source *source,
		     struct error *e);

/* How fast pages have come, as they are [0] and compressed on the way [1]: bytes of pages a second,
 * smoothed; 0: not known. */
struct move_rates {
	uint64_t per_s[2];
	unsigned count;
};
void move_rates_note(struct move_rates *rates, bool squeezed, uint64_t bytes, int64_t took_us);
/* Whether to have them compressed: on a link that is slower than a core compresses, if they have
 * come faster so. Now and then the other way, to see. Pure. */
bool move_rates_squeeze(const struct move_rates *rates);

#endif
