/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_NODE_PAGES_MAP_H
#define ELSA_NODE_PAGES_MAP_H

/*
 * Where the pages of a checkpoint are wanted in one address space, as it forks,
 * moves and unmaps. Pages are numbered over all memories of the checkpoint. A
 * page has at most one place in a space; what has no page is zeros. Pure; not
 * thread-safe. Failing (-ENOMEM) leaves the map unfit for use.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct pages_range {
	uint64_t start, end; /* addresses; multiples of the page size */
	uint64_t page;       /* the one at `start`; the others follow */
};

struct pages_map {
	struct pages_range *by_address;
	struct pages_range *by_page; /* the same ones */
	size_t count, size;
};
void pages_map_deinit(struct pages_map *m); /* idempotent */

int pages_map_copy(struct pages_map *to, const struct pages_map *from);
/* Nothing else may be there. */
int pages_map_add(struct pages_map *m, uint64_t start, uint64_t end, uint64_t page);
/* The range was unmapped, or emptied: it is zeros from now on. */
int pages_map_drop(struct pages_map *m, uint64_t start, uint64_t end);
/* What the range held is at `to` now. What is there already stays. */
int pages_map_move(struct pages_map *m, uint64_t from, uint64_t to, uint64_t len);

/* The range with this address or page; NULL. */
const struct pages_range *pages_map_at(const struct pages_map *m, uint64_t address);
const struct pages_range *pages_map_of(const struct pages_map *m, uint64_t page);
/* How many bytes from `address` on, at most `most`, have no page. */
uint64_t pages_map_gap(const struct pages_map *m, uint64_t address, uint64_t most);

#endif
