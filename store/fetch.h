/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_STORE_FETCH_H
#define ELSA_STORE_FETCH_H

/*
 * Pieces of packs, read in as few requests as is sensible, opened and
 * unsqueezed. What does not open is read once more, past the cache, before it is
 * called damage. Thread-safe.
 */

#include "store/internal.h"

struct fetch;

struct piece {
	uint32_t pack; /* in the manifest's list */
	uint32_t offset, stored;
	uint32_t len; /* what comes out of it */
};

/* `m` is borrowed until free. */
int fetch_new(struct store *store, const struct store_keys *keys, const struct manifest *m,
	      struct fetch **fetch, struct error *e);
void *fetch_free(struct fetch *f); /* returns NULL */

/* `pieces` by pack and offset. Calls `each` on this thread, in order; nonzero ends it and is
 * returned. `fresh`: not from the cache. */
int fetch_pieces(struct fetch *f, const struct piece *pieces, size_t count, bool fresh,
		 int (*each)(size_t i, const void *data, size_t len, void *arg), void *arg,
		 struct error *e);

/* How many of the pieces, from the first, one request would bring. */
size_t fetch_group(const struct piece *pieces, size_t count);

DEFINE_CLEANUP(struct fetch *, fetch_free)

#endif
