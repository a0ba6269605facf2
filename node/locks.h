/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_NODE_LOCKS_H
#define ELSA_NODE_LOCKS_H

/*
 * Locks on files that a session shares with others, which are those of its home.
 * Blocking; thread-safe.
 */

#include "node/cgroup.h"

/* Whether a process of the group (borrowed) has a lock on a file below `home`, a path inside the
 * session: FAULT_REFUSED, and *e says which. While it stands still elsewhere, too, for its memory,
 * nobody else gets that lock, not even itself. Without any: 0. */
int locks_check(const struct cgroup *cg, const char *home, struct error *e);

/* Does a file in /proc/PID/fdinfo tell of a lock? Pure. */
bool locks_told(const char *fdinfo);

#endif
