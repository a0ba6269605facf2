/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_POLICIES_RESCUE_H
#define ELSA_POLICIES_RESCUE_H

/*
 * A session near its memory's limit, before the kernel ends one of its
 * processes: it gets more where its node has room, and else stands still until
 * it is somewhere with room. Pure and thread-safe; sizes in bytes, durations in
 * milliseconds.
 *
 *	used ............. near | limit            ahead_ms of growth count as used
 *	                        |--> raised by `step` at least, or what it grows in
 *	                             `horizon_ms`; no further than `most`, and than
 *	                             the node's room
 *	                    last| no room: it stands still, wanting that much
 *
 * Who meets its limit before any of that was done waits there, and is not ended:
 * for it something can still be done. Whoever may have no more, or could not be
 * helped for long, is left to its limit: that is what limits are for.
 */

#include <stdbool.h>
#include <stdint.h>

struct rescue_rules {
	double near, last;   /* shares of the limit */
	int64_t ahead_ms;    /* how far ahead its growth is looked at */
	int64_t last_ms;     /* likewise, before it must stand still */
	double step;         /* least raise, a share of the limit */
	int64_t horizon_ms;  /* a raise is to last for so long */
	int64_t most_bytes;  /* no limit is raised above this; 0: none is raised */
	int64_t least_bytes; /* a raise by less is none */
};
extern const struct rescue_rules rescue_defaults; /* without most_bytes */

struct rescue_facts {
	int64_t used_bytes, limit_bytes; /* limit 0: it has none */
	int64_t growth;                  /* bytes a second; negative: it shrinks */
	int64_t room_bytes;              /* its node can give it, besides what it uses */
	bool held;                       /* it stands still already, for want of room */
	bool waiting;                    /* it has met its limit, and waits for more */
	bool given_up;                   /* nobody could help it a while ago */
};

enum rescue_act {
	RESCUE_NOTHING = 0,
	RESCUE_RAISE, /* to limit_bytes */
	RESCUE_HOLD,  /* stand still; wanted_bytes would do */
	RESCUE_ACT_COUNT
};

enum rescue_reason {
	RESCUE_NO_LIMIT = 0,
	RESCUE_FAR,     /* from its limit */
	RESCUE_NEAR,    /* and raised */
	RESCUE_NO_ROOM, /* near, and its node has nothing to give */
	RESCUE_MOST,    /* near, and it may have no more */
	RESCUE_REASON_COUNT
};

struct rescue_decision {
	enum rescue_act act;
	enum rescue_reason reason;
	int64_t limit_bytes;  /* raise */
	int64_t wanted_bytes; /* no room: what it is to get elsewhere */
	bool waits;           /* if it meets its limit; else one of its processes ends */
};

struct rescue_decision rescue_decide(const struct rescue_rules *rules,
				     const struct rescue_facts *facts);

const char *rescue_reason_name(enum rescue_reason reason);

#endif
