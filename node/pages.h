/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_NODE_PAGES_H
#define ELSA_NODE_PAGES_H

/*
 * The page service: a restored session runs before its memory is there, and
 * gets it by userfaultfd. Faults go before the background transfer, the frame
 * around a fault comes with it, and what was wanted first at the last wake comes
 * first.
 *
 * If the store fails while pages are missing, the session stalls and the service
 * goes on trying. If this program is killed, it stalls until the next one takes
 * over: the descriptors are also kept in the session's own init (node/vault.h),
 * with a record of what the kernel has told about the address spaces (forks,
 * unmapped and moved ranges).
 *
 * One service for each session, with threads of its own; functions are
 * thread-safe, `arrived` is called on one of its threads.
 */

#include "base/error.h"
#include "store/store.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* In the flags of a store_extent: it was left out of what CRIU restores (PE_LAZY of its pagemap.h).
 */
enum { PAGES_LAZY = 2 };

/* Where pages come from: a store_read, or a test's own. */
struct page_source {
	const struct store_memory *memories;
	size_t memory_count;
	const struct store_frame *frames;
	size_t frame_count;
	const uint32_t *likely; /* frames that are read behind the working set while CRIU restores,
				   and kept for whoever wants them, the first ones first */
	size_t likely_count;
	bool near; /* a read takes a moment: nothing waits for all of the working set */
	int (*read)(void *from, const uint32_t *frames, size_t count,
		    int (*each)(uint32_t frame, const void *pages, size_t len, void *arg),
		    void *arg, struct error *e);
	void *from;
	void *(*free)(void *from);
};
/* Takes the read over. */
void page_source_of(struct store_read *read, struct page_source *source);

struct pages_options {
	const char *session;
	const char *dir; /* STATE_DIR/pages/ID: its working set (node/working_set.h), read and
			    written */
	/* While it is recorded what the session wants, the rest of it stands back if there is more
	 * than that: bytes. Until all is there a session hangs on the store. */
	uint64_t hold_back;
	bool set_follows; /* at a restore: the working set is not there before pages_early_set() */
	/* All pages are in and the descriptors let go; or (e set) the session has died. */
	void (*arrived)(void *arg);
	void *arg;
};

struct pages;

/* A restore: listens as CRIU's lazy-pages daemon would, in CRIU's work directory. Takes the source
 * over. */
int pages_listen(const struct pages_options *options, const char *work,
		 const struct page_source *source, struct pages **pages, struct error *e);
void pages_early_set(struct pages *pages);
/* CRIU has restored, nothing runs yet: every descriptor is here, they are put into the vault of
 * `init`, and the working set is put into place. From now on a kill of this program is harmless. */
int pages_settle(struct pages *pages, pid_t init, struct error *e);
/* Behind that: what a fork is to find empty, by CRIU's images in `images`, is put into place.
 * Blocking. */
int pages_bring_wiped(struct pages *pages, const char *images, struct error *e);
/* The session is about to be let run: background transfer begins, faults are recorded for some
 * time as the next working set. */
void pages_go(struct pages *pages);

/* After a kill of this program: takes up where the last one was. -ENOENT when no pages are missing
 * (the vault is empty). */
int pages_resume(const struct pages_options *options, pid_t init, const struct page_source *source,
		 struct pages **pages, struct error *e);

struct pages_status {
	uint64_t missing; /* bytes */
	uint64_t total;
	bool arrived;
	int64_t stalled_since; /* wall clock; 0: not */
	struct error stalled;  /* why */
};
void pages_status(struct pages *pages, struct pages_status *to);

/* Waits until all pages are in. -ETIMEDOUT, or why they do not come; the service goes on. */
int pages_wait(struct pages *pages, int timeout_ms, struct error *e);

/* Lets go of everything without bringing the rest: the session is dead, or about to be killed.
 * Returns NULL; does not wait for the store. */
void *pages_free(struct pages *pages);

/* Services, freed ones included, that have not yet let go of their source. */
size_t pages_left(void);

/* For the start and the end of this program: node/pages_keeper.h. */
int pages_init(struct error *e);
void pages_deinit(void);

/* The working set of the last wake, as addresses for store_write_hot(); -ENOENT. The list is
 * allocated. */
struct working_set {
	char *memory; /* name of the memory */
	uint64_t *pages;
	size_t count;
};
int working_set_load(const char *dir, struct working_set **list, size_t *count, struct error *e);
void working_set_free(struct working_set *list, size_t count);

#endif
