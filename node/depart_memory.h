/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_NODE_DEPART_MEMORY_H
#define ELSA_NODE_DEPART_MEMORY_H

/*
 * The memory of a session that stands still, read from its processes by their
 * pids inside the session, as CRIU's images name them. Who reads sees to it that
 * they do stand still. One thread at a time.
 */

#include "node/cgroup.h"
#include "node/move_wire.h"

struct depart_memory;

/* Of the processes in the group (borrowed), as they are now. */
int depart_memory_open(const struct cgroup *cg, struct depart_memory **memory, struct error *e);
void *depart_memory_free(struct depart_memory *memory); /* returns NULL */

/* `to` has room for the range's pages. -ENOENT: no such process, or not all of that memory is
 * there; then what is in `to` means nothing. */
int depart_memory_read(struct depart_memory *memory, const struct move_range *range, void *to,
		       struct error *e);

/* "NSpid:\t1234\t1\n" in /proc/PID/status: its pid in the first namespace below ours; 0: it is in
 * none. Pure. */
long depart_memory_inside(const char *status);

#endif
