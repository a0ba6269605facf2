/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_POLICIES_PROTECT_H
#define ELSA_POLICIES_PROTECT_H

/*
 * Standing protection: which running session is snapshotted next, so that a
 * node that goes away without a word costs no more work than the RPO says.
 * Pure and thread-safe; times are wall-clock milliseconds, durations
 * milliseconds unless a name says otherwise.
 *
 * What a snapshot saves is what was so when the session stood still for it, and
 * it counts only when it is durable. So between two such moments there may pass
 * the RPO less the time that the later one will take:
 *
 *	|-- RPO --------------------------------|
 *	frozen ............ frozen ... durable (the first may be forgotten now)
 *	|-- interval ------|-- cost --|
 *
 * A node gives snapshots a share of its time and of its measured throughput. If
 * its sessions' snapshots need more, all its intervals are stretched by the same
 * factor, and the decision says so: an RPO that cannot be held must be seen.
 *
 * That a session looks idle makes no difference: a thread of it may count, or
 * write, without being seen. Who is away for long is hibernated anyway.
 */

#include "base/clock.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct protect_rules {
	int64_t rpo_ms;
	double share;         /* of a node's time and throughput, for snapshots: (0, 1] */
	int64_t retry_ms;     /* after one that failed; 0: the RPO */
	int64_t most_at_once; /* of one node; 0: 1 */
};

/* What is known of one running session. */
struct protect_facts {
	size_t node;        /* index of its node */
	bool wanted;        /* it runs where sessions are protected */
	bool under_way;     /* a snapshot of it is being taken */
	bool busy;          /* something else is done to it: not now */
	wall_ms started_at; /* this run: started, or restored to what its checkpoint says */
	wall_ms frozen_at;  /* when its newest checkpoint was taken; 0: none */
	wall_ms failed_at;  /* of the last snapshot that failed after frozen_at; 0: none */
	int64_t memory_bytes;
	/* What the last snapshot of it was: from freezing to durable, and sent. 0: not known. */
	int64_t cost_ms, cost_bytes;
};

struct protect_node {
	int64_t upload_bytes_per_s; /* measured; 0: not known */
};

enum protect_reason {
	PROTECT_NOT_WANTED = 0, /* it does not run on such a node */
	PROTECT_WAITS,          /* the last one is young enough */
	PROTECT_BUSY,           /* something else is done to it */
	PROTECT_UNDER_WAY,
	PROTECT_TURN,   /* due, but its node has others to take first */
	PROTECT_FAILED, /* the last one failed: not again yet */
	PROTECT_DUE,    /* take one now */
	PROTECT_REASON_COUNT
};

struct protect_decision {
	enum protect_reason reason;
	bool take;
	wall_ms due_at;      /* of the next one */
	int64_t interval_ms; /* between two; 0: none are taken */
	bool stretched;      /* ... longer than the RPO allows */
};

/* Decides for each session. Returns when to look again; 0: only when something changes. */
wall_ms protect_decide(const struct protect_rules *rules, const struct protect_node *nodes,
		       size_t node_count, const struct protect_facts *facts, size_t count,
		       wall_ms now, struct protect_decision *decisions);

const char *protect_reason_name(enum protect_reason reason);

#endif
