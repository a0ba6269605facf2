/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_GUARD_GUARD_H
#define ELSA_GUARD_GUARD_H

/*
 * What elsa-node and its guard share: a page in RUN_DIR/lease, mapped by both.
 * elsa-node writes a new end there before it counts the lease as renewed; the
 * guard freezes all sessions when the end has come and nobody has seen to it. It
 * never thaws anything. The page outlives both, not the boot.
 *
 * The guard has the whole file locked (fcntl) for as long as it lives: by that
 * there is one, and elsa-node sees whether there is.
 */

#include "guard/lease_time.h"

#include <stdatomic.h>
#include <stdint.h>

#define GUARD_FILE    "lease"
#define GUARD_PROGRAM "elsa-guard"
#define GUARD_MAGIC   UINT64_C(0x31647261756761)

struct guard_page {
	uint64_t magic;
	char boot_id[40];
	/* The lease, written by elsa-node; `change` is odd meanwhile. lease_us 0: nothing is to be
	 * guarded any more, and the guard ends. */
	_Atomic uint32_t change;
	_Atomic int64_t sent_us, lease_us, skew_us;
	/* elsa-node: sessions stand still, or are in an effect's hands, since the lease that began
	 * then has lapsed. The guard need do nothing about that one any more. */
	_Atomic int64_t settled_us;
	/* The guard, before and after it writes to the freezer: odd meanwhile. Whoever sees it
	 * changed finds the group of all sessions frozen, and has to see to it. */
	_Atomic uint32_t freezes;
};

static inline void guard_page_put(struct guard_page *p, const struct lease_time *t)
{
	atomic_fetch_add(&p->change, 1);
	atomic_store(&p->sent_us, t->sent_us);
	atomic_store(&p->lease_us, t->lease_us);
	atomic_store(&p->skew_us, t->skew_us);
	atomic_fetch_add(&p->change, 1);
}

/* False while it is being written; a writer that was killed there leaves it so until the next. */
static inline bool guard_page_get(const struct guard_page *p, struct lease_time *t)
{
	uint32_t before = atomic_load(&p->change);
	t->sent_us = atomic_load(&p->sent_us);
	t->lease_us = atomic_load(&p->lease_us);
	t->skew_us = atomic_load(&p->skew_us);
	return before % 2 == 0 && atomic_load(&p->change) == before;
}

#endif
