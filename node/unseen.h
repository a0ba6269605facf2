/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_NODE_UNSEEN_H
#define ELSA_NODE_UNSEEN_H

/*
 * Memory that CRIU does not get to see when it dumps a session that is about to
 * move (docs/criu.md). It stays where it is, and is read from there by whoever
 * wants it (node/depart_memory.h). CRIU would put all of it into pipes all the
 * same, page by page, which takes the longer the more there is; and all that its
 * images say of it is where it is, which we say here.
 *
 * It is private and anonymous, neither locked nor of huge pages, in pieces of
 * 64 KiB and more, but for the pages on which a thread's stack ends: what CRIU
 * calls lazy, and no more than that. What is left is CRIU's.
 *
 * One thread at a time. The session stands still from unseen_find() on.
 */

#include "node/cgroup.h"
#include "preload/criu.h"
#include "store/store.h"

struct unseen_process {
	pid_t inside, outside;
	size_t first, count;          /* its ranges */
	struct store_extent *extents; /* what is there of them; owned */
	size_t extent_count;
};

struct unseen {
	struct unseen_process *processes;
	size_t process_count;
	struct unseen_range *ranges; /* by process, ascending */
	size_t range_count;
	bool partly; /* of some process CRIU sees all */
	bool whole;  /* with the pages on which stacks end */
};

/* Of the processes in the group. Both are to be released, also after a failure. */
int unseen_find(const struct cgroup *cg, struct unseen *to, struct error *e);
void unseen_deinit(struct unseen *u); /* idempotent */
/* As unseen_find(), while they run: where their stacks end is not known then, so those pages are in
 * it, too. */
int unseen_find_running(const struct cgroup *cg, struct unseen *to, struct error *e);
/* In the place of unseen_scan(): all of each range may be there, unless it has more bytes than
 * that. */
int unseen_take_whole(struct unseen *u, uint64_t most, struct error *e);

/* For the CRIU that dumps (struct criu_options). */
int unseen_write(const struct unseen *u, const char *path, struct error *e);
/* Which of these pages there are. While CRIU is at work, too. */
int unseen_scan(struct unseen *u, struct error *e);
/* They are said to be lazy in its images, which it has written without them. */
int unseen_add(const struct unseen *u, const char *images, struct error *e);

/* --- pure ------------------------------------------------------------------------------ */

/* One line of /proc/PID/maps. False: CRIU is to see that. */
bool unseen_line(const char *line, struct unseen_range *to);
/* /proc/PID/task/TID/syscall: where that thread's stack ends; 0: it is not told. */
uint64_t unseen_stack(const char *syscall);
/* /proc/PID/status: nothing that is locked is in its memory, or otherwise of a kind of its own. */
bool unseen_is_plain(const char *status);

#endif
