/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_POLICIES_CAPACITY_H
#define ELSA_POLICIES_CAPACITY_H

/*
 * When machines are asked for and given back: from the sessions that no node
 * has room for, the pools and their machines to what is to be asked of the
 * cloud, and the time to look again. Pure and thread-safe; times are wall-clock
 * milliseconds, sizes bytes.
 *
 * - A pool is grown to an absolute number, so that asking twice is asking once.
 *   As many machines are asked for as the wanted sessions in use need, packed by
 *   memory; of a pool whose machines nobody has seen yet, one for them all.
 * - Pools are tried in their order. One that had nothing to give is left alone
 *   for the cooldown, and what it was asked for is given up, if that can be done
 *   without harm to its machines (`can_lower`).
 * - A pool is not asked for a session that its machines cannot take: by their
 *   size, CPU or price, or since an empty one stands there and does not take it.
 * - A machine that does not join in time, or that the cloud cannot make, is given
 *   back, and its pool counts as having had nothing to give (the caller says so
 *   in `refused_at`).
 * - A machine that has been empty for `empty_for_ms` is given back, one at a
 *   time, those of the last pool first; never below `min`. One that is doomed is
 *   given back as soon as it is empty: it is paid for until then.
 * - `spare_bytes` are kept free, so that who comes need not wait for a machine:
 *   more is asked for when less is free or coming, and nothing is given back that
 *   would leave less.
 * - Doomed machines count neither for min nor for max: their replacements are
 *   asked for while they still stand.
 * - Grows are at least `grow_interval_ms` apart, and so are shrinks of healthy
 *   machines by theirs. Each machine lives at least `empty_for_ms`.
 */

#include "base/clock.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct capacity_rules {
	int64_t min, max;
	int64_t cooldown_ms;
	int64_t start_timeout_ms;
	int64_t empty_for_ms;
	int64_t settle_ms; /* a machine that has joined gets its first session within so long */
	int64_t grow_interval_ms, shrink_interval_ms;
	int64_t spare_bytes; /* 0: none */
};

/* A session that no node has room for now. */
struct capacity_wanted {
	const char *session; /* for the caller */
	int64_t memory_bytes;
	const char *features; /* needed; NULL: none */
	wall_ms since;
	bool in_use;  /* somebody waits for it: the others get a machine when there is one */
	bool spot;    /* it may be on a spot machine only */
	int coming;   /* out: of this pool comes a machine for it; -1: of none */
	bool useless; /* out: no pool has machines that could take it */
};

struct capacity_pool {
	int64_t desired;    /* machines it is to have, as asked for last; negative: not known yet */
	wall_ms asked_at;   /* when it was made to grow last; 0: never */
	wall_ms refused_at; /* when it had nothing to give; 0: never */
	int64_t most;       /* it cannot have more; 0: not said */
	bool busy;          /* it is being asked: decide nothing about it */
	bool keeps;         /* it would not give a machine back, lately: none is given back */
	bool can_lower;     /* what has not come yet can be taken back alone */
	/* One of its machines, as far as any was seen: */
	int64_t memory_bytes; /* for sessions; 0: not known */
	const char *features; /* NULL: not known */
	bool not_spot;        /* they are none; false: not known, or they are */
};

struct capacity_machine {
	size_t pool;
	wall_ms since;       /* seen first, and when not joined, elsad has been there since */
	bool joined;         /* it is a node */
	bool up;             /* ... with a lease */
	bool refused;        /* not joined, and the cloud says that it cannot be made */
	bool doomed;         /* it ends */
	bool held;           /* drained by the operator: neither used nor given back */
	bool going;          /* being given back */
	size_t sessions;     /* that are its own */
	wall_ms empty_since; /* a node without sessions, since its joining at the longest; 0: not */
};

struct capacity_facts {
	struct capacity_wanted *wanted; /* sorted by capacity_decide() */
	size_t wanted_count;
	const struct capacity_pool *pools; /* in order of preference */
	size_t pool_count;
	const struct capacity_machine *machines;
	size_t machine_count;
	wall_ms grown_at, shrunk_at; /* the last ones of any pool; 0: never */
	int64_t free_bytes; /* by capacity_usable(), on nodes that sessions may be placed on, with
			     * empty ones; needed for spare_bytes only */
	bool strangers; /* there are nodes of which nobody knows what machine they are: then none
			 * is taken for not having joined */
};

enum capacity_kind {
	CAPACITY_GROW = 0, /* pool to `desired` */
	CAPACITY_GIVE_UP,  /* lower pool to `desired`: what it was asked for and has not come */
	CAPACITY_SHRINK,   /* give back `machine` */
};

enum capacity_why {
	CAPACITY_WANTED = 0,   /* sessions need room */
	CAPACITY_MIN,          /* there are fewer than the minimum */
	CAPACITY_REFUSED,      /* the pool has nothing to give, or cannot make it */
	CAPACITY_LATE,         /* it did not come in time */
	CAPACITY_NEVER_JOINED, /* it came, and did not join in time */
	CAPACITY_EMPTY,
	CAPACITY_DOOMED,
	CAPACITY_SPARE, /* too little is free for who may come */
	CAPACITY_WHY_COUNT
};

struct capacity_decision {
	enum capacity_kind kind;
	enum capacity_why why;
	size_t pool;
	int64_t desired;
	size_t machine; /* of SHRINK */
};

/* Why nothing more is asked for although sessions are without a machine. */
enum capacity_block {
	CAPACITY_CLEAR = 0,
	CAPACITY_AT_MAX,
	CAPACITY_COOLING,   /* all pools that could help had nothing to give, lately */
	CAPACITY_USELESS,   /* no pool's machines could take them */
	CAPACITY_NOT_KNOWN, /* the pools could not be looked at yet */
	CAPACITY_PACED,     /* not so soon after the last time */
	CAPACITY_BLOCK_COUNT
};

struct capacity_outlook {
	wall_ms next_at; /* look again, if nothing happens before; 0: never */
	enum capacity_block block;
	int64_t total; /* machines there and on their way, without doomed ones */
};

/* Fills in at most `most` decisions, at most one about each pool's number and one about each
 * machine; returns how many. */
size_t capacity_decide(const struct capacity_rules *rules, struct capacity_facts *facts,
		       wall_ms now, struct capacity_decision *decisions, size_t most,
		       struct capacity_outlook *outlook);

/* What of a node's memory counts as free: nothing when it is too little for most sessions. */
int64_t capacity_usable(int64_t left_bytes, int64_t memory_bytes);

const char *capacity_why_name(enum capacity_why why);       /* "never-joined" */
const char *capacity_block_text(enum capacity_block block); /* for people */

#endif
