/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_NODE_DIRTY_H
#define ELSA_NODE_DIRTY_H

/*
 * Which memory of processes that run may have changed since it was last looked
 * at, in rounds. By its content: what was seen is known by a keyed digest, and has
 * to be read to be compared. Where the kernel notes which pages were written to
 * (soft-dirty: Documentation/admin-guide/mm/soft-dirty.rst), what it has not noted
 * is not even read.
 *
 * What is said is good for deciding what to copy next, and for nothing else: while
 * a process runs, something is always written between two looks. Whether a copy is
 * true is seen when it stands still.
 *
 * Memory is named in runs: pages that are there, follow each other and lie in one
 * frame (64 KiB). One thread at a time.
 */

#include "base/error.h"
#include "store/store.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum dirty_means { DIRTY_BY_CONTENT, DIRTY_BY_BITS };

struct dirty;

/* `proc`: "/proc", or a test's own; borrowed. */
int dirty_new(const char *proc, enum dirty_means means, struct dirty **dirty, struct error *e);
void *dirty_free(struct dirty *d); /* returns NULL */

struct dirty_run {
	uint64_t address;
	uint32_t pages;
	bool written; /* noted so by the kernel; means nothing where it notes none */
};
enum { DIRTY_RUNS_MOST = 512 };

/* A process is about to be gone over, in the next round of it: what the kernel has noted of it so
 * far is taken, and noted anew from here on. `extents`: where it has memory, perhaps. -ENOENT: it
 * has ended. */
int dirty_begin(struct dirty *d, pid_t inside, pid_t outside, const struct store_extent *extents,
		size_t count, struct error *e);

/* Runs of its memory from `address` on, up to `end`, that are in memory, not swapped out; *next:
 * where they end. How many, -ENOENT: it has ended. */
int dirty_runs(struct dirty *d, pid_t outside, uint64_t address, uint64_t end,
	       struct dirty_run to[DIRTY_RUNS_MOST], uint64_t *next, struct error *e);
/* Not, by what dirty_begin() has taken: its content need not be looked at. */
bool dirty_may_have_changed(const struct dirty *d, pid_t inside, const struct dirty_run *run);
/* 1: it has, or was not seen before, and is seen now; 0: it is as it was. */
int dirty_see(struct dirty *d, pid_t inside, const struct dirty_run *run, const void *content,
	      struct error *e);

/* --- pure -------------------------------------------------------------------------------- */

/* Of /proc/PID/pagemap, a word for each page from `address` on. Room for as many as pages. */
size_t dirty_runs_of(const uint64_t *words, size_t count, uint64_t address, struct dirty_run *to);

#endif
