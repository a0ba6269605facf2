/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_POLICIES_PLACE_H
#define ELSA_POLICIES_PLACE_H

/*
 * On which node a session is started or restored: best fit, one at a time.
 * Pure and thread-safe; sizes in bytes.
 *
 * A node is refused when it may get nothing (down, draining, doomed, the hub's
 * own where that is not allowed), when the session's start or restore has failed
 * there already, when it cannot run the session (CPU features, image), and when the session's
 * memory has no room. CPU is a soft request: a node whose CPU would be promised more than
 * `cpu_overcommit` times comes behind those where it would not, and is not refused.
 *
 * Of the others the first one is taken, in this order:
 *   1. those not to be avoided,
 *   2. those with CPU to give,
 *   3. those in the request's zone, where it names one (its last node's),
 *   4. those of the price it prefers, where it names one,
 *   5. the least memory left over,
 *   6. the session's last node, then the hub's own, then by name.
 * So the choice does not depend on the order of the nodes.
 */

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct place_node {
	const char *name; /* no other has it */
	bool up;          /* answers, and its lease is held */
	bool local;       /* the hub's own host */
	bool draining;
	bool doomed; /* a notice says that it ends */
	bool avoid;  /* it is more likely than usual to */

	int64_t memory_bytes;    /* in all */
	int64_t reserve_bytes;   /* left to the system */
	int64_t committed_bytes; /* what was promised to its sessions, with those on their way */
	int64_t available_bytes; /* as the node measured it; negative: not known */
	int64_t arriving_bytes;  /* promised to those on their way, so not in what was measured */
	double cpus, cpus_committed; /* cpus 0: not known */

	const char *features; /* node/cpu.h; NULL: not known, then any is lacking */
	bool has_image;       /* the session's root file system is there */
	const char *price;    /* "spot", "on-demand"; NULL: not known */
	const char *zone;     /* NULL: not known */
	bool last;            /* the session ran here last */
	const char *failed;   /* why it did not begin here before; NULL: not tried */
	const char *unfit;    /* why it cannot for a reason of the caller's, for people; NULL */
};

struct place_request {
	int64_t memory_bytes;
	double cpus;          /* 0: says nothing */
	const char *features; /* NULL or "": it needs none (a fresh start) */
	const char *price;    /* preferred; NULL: any */
	const char *zone;     /* preferred: where it ran last; NULL: any */
	bool local_allowed;
	double cpu_overcommit; /* 0: CPU is no matter */
};

enum place_reason {
	PLACE_FITS = 0,
	PLACE_DOWN,
	PLACE_LOCAL,
	PLACE_DRAINING,
	PLACE_DOOMED,
	PLACE_FAILED, /* it was tried there */
	PLACE_FEATURES,
	PLACE_IMAGE,
	PLACE_UNFIT,
	PLACE_MEMORY, /* there will be room when others have gone */
	PLACE_SMALL,  /* it would not fit if the node were empty */
	PLACE_REASON_COUNT
};

struct place_verdict {
	enum place_reason reason;
	int64_t left_bytes;  /* over, with the session on it; negative: so much is short */
	bool cpu_overcommit; /* its CPU would be promised more often than wanted */
};

/* Whether what a start or restore failed of is perhaps of the node that tried it, and not of what
 * was asked or of the checkpoint. `step`: of the node's plan; NULL: not known. */
bool place_elsewhere(enum fault fault, const char *step);

/* Index of the node taken, or -1. verdicts[i] is about nodes[i]; NULL: not wanted. */
int place(const struct place_request *request, const struct place_node *nodes, size_t count,
	  struct place_verdict *verdicts);

const char *place_reason_name(enum place_reason reason); /* "draining" */

/* Why not, for people: "n1: lacks avx512f; n2: 1.2 GiB short; n3: draining"; nodes that fit are
 * left out. Cut at `size`, which is at least 1. */
void place_explain(const struct place_request *request, const struct place_node *nodes,
		   const struct place_verdict *verdicts, size_t count, char *to, size_t size);

#endif
