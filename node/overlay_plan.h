/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_NODE_OVERLAY_PLAN_H
#define ELSA_NODE_OVERLAY_PLAN_H

/*
 * What the kernel is to be told of an overlay's state (node/overlay.h), and
 * what of it is new. Pure. Private to node/overlay*.c.
 */

#include "base/buf.h"
#include "base/error.h"
#include "config/config.h"
#include "wire/messages.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* IPv4 addresses as numbers of this machine, hardware addresses in the low 48 bits. */
enum overlay_kind {
	OVERLAY_FDB,       /* hardware address -> underlay address */
	OVERLAY_NEIGHBOUR, /* overlay address -> hardware address */
	OVERLAY_ROUTE,     /* address -> overlay address, 0: the device leads right to it; and in
			    * the upper 32 bits the source address for it, 0: the device's */
	OVERLAY_KINDS
};

struct overlay_pair {
	uint64_t key, value;
};

struct overlay_table { /* released with free() of the items */
	struct overlay_pair *items;
	size_t count;
};

struct overlay_tables {
	struct overlay_table of[OVERLAY_KINDS];
};

#define cleanup_overlay_tables cleanup(overlay_tables_deinit)
void overlay_tables_deinit(struct overlay_tables *t);                         /* idempotent */
int overlay_table_add(struct overlay_table *t, uint64_t key, uint64_t value); /* or -ENOMEM */

/* An IPv4 address as such a number; 0 when it is none. */
uint32_t overlay_number(const char *address);
uint64_t overlay_mac(uint32_t address); /* as net_mac() */

/* -EINVAL with what is wrong in the state, by configuration or in itself. */
int overlay_check(const struct config *config, const struct overlay_state *state, struct error *e);

/* Of a state that was checked. A route by somebody who is no peer (yet) is left out: its session is
 * not reached, and all others are. */
int overlay_wanted(const struct config *config, const struct overlay_state *state,
		   struct overlay_tables *to, struct error *e);

/* Calls `set` for what is not in `have` as it is wanted and `remove` for what is not wanted, as
 * either is given. Sorts both. A negative return ends it and is returned. */
struct overlay_changes {
	int (*set)(struct overlay_pair p, void *arg);
	int (*remove)(struct overlay_pair p, void *arg);
	void *arg;
};
int overlay_diff(struct overlay_table *have, struct overlay_table *want,
		 const struct overlay_changes *changes);

/* nft's input: whose packets the device takes. */
int overlay_guard_rules(const struct config *config, const struct overlay_state *state,
			struct buf *to, struct error *e);

#endif
