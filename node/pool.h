/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_NODE_POOL_H
#define ELSA_NODE_POOL_H

/*
 * Worker threads for what blocks. Work is done in the order it came, by as many
 * threads as there are; when it is done, `done` is called on the loop's thread.
 */

#include "base/error.h"

#include <event2/event.h>
#include <stdbool.h>
#include <stddef.h>

struct pool;

int pool_new(struct event_base *base, size_t threads, struct pool **pool, struct error *e);

/* From any thread. `work` runs on a worker, then `done` (may be NULL) on the loop. 0 or -ENOMEM. */
int pool_submit(struct pool *pool, void (*work)(void *arg), void (*done)(void *arg), void *arg,
		struct error *e);

/* From any thread, often a worker in the midst of its work: calls `done` on the loop's thread,
 * before that of work which is not yet over. 0 or -ENOMEM. */
int pool_post(struct pool *pool, void (*done)(void *arg), void *arg, struct error *e);

/* Work that waits or runs; on the loop's thread. */
size_t pool_load(const struct pool *pool);

/* The workers must be idle; returns NULL. */
void *pool_free(struct pool *pool);

#endif
