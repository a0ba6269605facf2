/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_NODE_PAGES_INDEX_H
#define ELSA_NODE_PAGES_INDEX_H

/*
 * The pages of a checkpoint that are restored lazily, numbered over all its
 * memories, and which of them each frame holds. Pure; read-only once made, and
 * then thread-safe.
 */

#include "base/error.h"
#include "node/pages.h"
#include "node/pages_map.h"

struct pages_index {
	const struct page_source *source; /* borrowed */
	uint64_t *first; /* of each memory: the number of its first page; and of all */
	/* Pages in frame f: pages[start[f]] to pages[start[f + 1]]. */
	uint64_t *start;
	uint32_t *pages;
};

/* -EBADMSG when what the source says does not fit together. */
int pages_index_init(struct pages_index *x, const struct page_source *source, struct error *e);
void pages_index_deinit(struct pages_index *x); /* idempotent */

uint64_t pages_index_total(const struct page_source *source); /* numbers in use, lazy or not */
/* The memory that has this page. */
size_t pages_index_memory(const struct pages_index *x, uint64_t page);
/* Where a page is; STORE_ZERO for zeros. */
uint32_t pages_index_frame(const struct pages_index *x, uint64_t page, unsigned *slot);

/* As a source wants to be asked for them: ascending, each once. How many are left. */
size_t pages_frames_tidy(uint32_t *frames, size_t count);

/* The memory of a process (its pid inside), or -1; and its map as restored: all that is lazy. */
int pages_index_find(const struct pages_index *x, int32_t pid);
int pages_index_map(const struct pages_index *x, size_t memory, struct pages_map *to);

#endif
