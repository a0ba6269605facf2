/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_NODE_MOVE_AHEAD_H
#define ELSA_NODE_MOVE_AHEAD_H

/*
 * Memory of a session that came ahead of it, while it ran elsewhere: copies that
 * may be true or not, until the node where it stands still says so of each by its
 * digest (MOVE_SAME). In a file without a name, enciphered, so that nothing of it
 * outlives this program.
 *
 * Filled by one thread; then read by any.
 */

#include "node/move_source.h"
#include "node/move_wire.h"

struct move_ahead {
	int fd;
	struct page_cipher *cipher;  /* of what is in it */
	unsigned char *sealed;       /* room for a frame */
	unsigned char key[MOVE_KEY]; /* of its digests: random, this copy's own */
	uint64_t bytes, most;        /* of the file */
	struct move_rates rates;     /* how they came */
	struct move_copy *table;
	size_t size, count;
};

/* `dir`: where files are. `most`: bytes. */
int move_ahead_new(const char *dir, uint64_t most, struct move_ahead **ahead, struct error *e);
void *move_ahead_free(struct move_ahead *a); /* returns NULL */

/* Takes the place of what there was of these pages. -ENOSPC. */
int move_ahead_put(struct move_ahead *a, const struct move_range *range, const void *pages,
		   struct error *e);
/* A copy of all of these pages, which lie in one frame (64 KiB); false: there is none. */
bool move_ahead_get(const struct move_ahead *a, const struct move_range *range, void *to);

#endif
