/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_NODE_MOVE_PAGES_H
#define ELSA_NODE_MOVE_PAGES_H

/*
 * Which pages of a session are still on the node it came from, as frames for the
 * page service: from CRIU's pagemap images. Read-only once made.
 */

#include "base/error.h"
#include "node/move_wire.h"
#include "store/store.h"

struct move_pages {
	struct store_memory *memories; /* lazy extents only */
	int32_t *pids;                 /* of each */
	size_t memory_count;
	struct store_frame *frames; /* pages of one extent that follow each other */
	struct move_range *ranges;  /* where each is */
	uint32_t *likely;           /* frames that are wanted soon, perhaps */
	size_t likely_count;
	size_t frame_count, frame_size;
};

/* `dir` has the pagemap-PID.img. */
int move_pages_init(struct move_pages *p, const char *dir, struct error *e);
void move_pages_deinit(struct move_pages *p); /* idempotent */

#endif
