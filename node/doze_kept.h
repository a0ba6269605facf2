/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_NODE_DOZE_KEPT_H
#define ELSA_NODE_DOZE_KEPT_H

/*
 * What a session touches to answer the first who comes. When it is roused with all
 * of its memory out, whatever is in memory a moment later is what it wanted; so it
 * is looked up then, and left where it is the next time: a few megabytes that make
 * the difference between reading some thousand pages and none.
 *
 * It is a guess about memory and nothing depends on it: a process that has ended,
 * or another with its number, only makes a worse guess.
 */

#include "node/cgroup.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* What wanted more has begun to work: nothing is learned of that. */
enum { DOZE_KEPT_MOST = 24 << 20 };

struct doze_kept;

/* What private memory of the group's processes is in memory; NULL: more than DOZE_KEPT_MOST, or
 * this kernel does not tell (before Linux 6.7). For worker threads: it walks page tables. */
struct doze_kept *doze_kept_learn(const struct cgroup *cg);
void *doze_kept_free(struct doze_kept *kept); /* returns NULL; NULL is fine */

int64_t doze_kept_bytes(const struct doze_kept *kept); /* NULL: 0 */

/* The first part of [start, end) of this process that is to stay, as [*from, *to); false: none.
 * Pure. */
bool doze_kept_next(const struct doze_kept *kept, pid_t pid, uint64_t start, uint64_t end,
		    uint64_t *from, uint64_t *to);

/* For doze_kept_learn() and tests: ranges of a process in order. 0 or -ENOMEM. */
int doze_kept_add(struct doze_kept **kept, pid_t pid, uint64_t start, uint64_t end);

#endif
