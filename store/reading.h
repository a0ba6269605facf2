/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_STORE_READING_H
#define ELSA_STORE_READING_H

/* A checkpoint being read. */

#include "store/fetch.h"
#include "store/internal.h"

#include <stdatomic.h>

struct store_read {
	atomic_int references;
	struct store *store;
	struct manifest m;
	struct index index;
	struct fetch *fetch;
	struct store_memory *memories; /* their pointers belong to the index */
	struct store_frame *frames;
};

/* `bare`: without the digests, which only the next writer wants. from: takes the manifest over,
 * also when it fails. */
int store_read_from(struct store *store, const struct store_keys *keys, struct manifest *m,
		    bool bare, struct store_read **read, struct error *e);
int store_read_load(struct store *store, const struct store_keys *keys, const char *session,
		    int64_t generation, bool bare, struct store_read **read, struct error *e);
/* The pieces of the index that `read->m` names, as fetch_pieces(). */
int store_read_index(struct store_read *read, bool bare, bool fresh,
		     int (*each)(size_t i, const void *data, size_t len, void *arg), void *arg,
		     struct error *e);

static inline struct piece store_piece(const struct index_frame *f)
{
	return (struct piece) { f->at.pack, f->at.offset, f->at.stored, f->len };
}

/* `sample` of its own frames, any of them; 0: all frames. */
int store_verify_frames(struct store_read *read, size_t sample,
			void (*progress)(uint64_t done, uint64_t total, void *arg), void *arg,
			struct error *e);

#endif
