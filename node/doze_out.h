/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_NODE_DOZE_OUT_H
#define ELSA_NODE_DOZE_OUT_H

/*
 * The memory of one session that stands still, paged out: what is private of each
 * process by process_madvise(2), piece by piece, so that page cache stays where it
 * is and somebody who comes meanwhile need not wait; then what that leaves (pages
 * that processes share, memory files) by its control group. The kernel pages out
 * nothing of a session but in here.
 *
 * For worker threads.
 */

#include "node/doze_kept.h"
#include "node/sandbox.h"

enum { DOZE_OUT_PIECE = 16 << 20 }; /* some milliseconds */

/* Goes on until all but `kept` (may be NULL) is out, there is no room, or `stop` says so, which is
 * asked before every piece. 0 whatever has come of it: sandbox_usage() tells. */
int doze_out(struct sandbox *sb, const struct doze_kept *kept, bool (*stop)(void *arg), void *arg,
	     struct error *e);

/* Whether the kernel may page out what it likes of a session that does not doze. */
enum cgroup_swap doze_out_else(const struct config *config);

/* From a line of /proc/PID/maps: whether it is private memory of no file. Pure. */
bool doze_out_parse(const char *line, uint64_t *start, uint64_t *end);

#endif
