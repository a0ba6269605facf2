/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_POLICIES_CONSOLIDATE_H
#define ELSA_POLICIES_CONSOLIDATE_H

/*
 * Which node could be emptied, and what leaves it next, so that policies/capacity.h
 * finds it empty and gives its machine back. Pure and thread-safe; times are
 * wall-clock milliseconds, durations milliseconds, sizes bytes.
 *
 * - A node could be emptied when the others have room for those of its sessions that
 *   are in use: packed largest first, best fit, into nodes of which `fill` of the
 *   memory at most is promised then, and `spare_bytes` stay free on all together. An
 *   empty machine is no help: it would be given back itself.
 * - It is emptied when that has been so for `steady_ms`, outside of quiet hours, when
 *   nobody wants a machine and none was asked for within `calm_ms`; one node at a time, and none
 * within `calm_ms` after the last one. Of several the one with the fewest bytes to move for what
 * its machine costs.
 * - Who sleeps leaves first, who is idle is put away next. Only when both have gone
 *   those in use are moved as they run, `at_once` at a time.
 * - No flapping: of all sessions together at most `moves_per_hour` are moved within any
 *   hour, and one that was moved is left alone for `session_rest_ms`. A node of which
 *   that would not let all go is not begun with.
 * - An emptying ends when the machine is given back, and is given up as soon as it
 *   cannot be finished, or somebody wants room (enum consolidate_reason).
 */

#include "base/clock.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct consolidate_rules {
	int64_t steady_ms, calm_ms;
	int64_t patience_ms; /* an emptying that takes longer is given up */
	int64_t moves_per_hour, session_rest_ms, at_once;
	int64_t min; /* machines that stay: capacity's */
	int64_t spare_bytes;
	double fill; /* (0, 1] */
};

enum consolidate_reason {
	CONSOLIDATE_READY = 0, /* it could be emptied, when it is its turn */
	CONSOLIDATE_EMPTYING,
	/* Why a node is not emptied: */
	CONSOLIDATE_NO_MACHINE, /* that could be given back */
	CONSOLIDATE_HELD,       /* drained by the operator */
	CONSOLIDATE_ENDS,       /* its machine goes away */
	CONSOLIDATE_DOWN,
	CONSOLIDATE_EMPTY, /* nothing is to be done */
	CONSOLIDATE_KEPT,  /* its pool is being asked, or gives no machine back now */
	CONSOLIDATE_MIN,
	CONSOLIDATE_CANNOT_MOVE, /* sessions in use could only be hibernated */
	CONSOLIDATE_NO_ROOM,
	CONSOLIDATE_SPARE,
	CONSOLIDATE_STUCK,   /* a session cannot leave it */
	CONSOLIDATE_RESTING, /* a session has been moved not long ago */
	CONSOLIDATE_BUDGET,  /* more moves than this hour's */
	CONSOLIDATE_STEADY,  /* it could be emptied, but not for long enough yet */
	CONSOLIDATE_WANTED,  /* sessions want machines */
	CONSOLIDATE_GROWN,   /* ... and wanted them not long ago */
	CONSOLIDATE_CALM,    /* another one was emptied not long ago */
	CONSOLIDATE_QUIET,   /* hours in which nothing is to be disturbed */
	/* Why an emptying has ended, besides some of the above: */
	CONSOLIDATE_DONE, /* its machine is being given back, or gone */
	CONSOLIDATE_LATE,
	CONSOLIDATE_OFF, /* not wanted any more: for the caller */
	CONSOLIDATE_REASON_COUNT
};

enum consolidate_use {
	CONSOLIDATE_ASLEEP = 0, /* nothing of it runs; its node answers for it */
	CONSOLIDATE_IDLE,       /* the idle policy would put it away */
	CONSOLIDATE_IN_USE,
};

struct consolidate_session {
	const char *id;
	size_t node; /* index */
	int64_t memory_bytes;
	enum consolidate_use use;
	bool leaving;        /* it does so already */
	bool busy;           /* something else is done to it: not now */
	wall_ms stuck_until; /* it cannot leave before: refused, or failed, lately */
	wall_ms moved_at;    /* by this policy; 0: never */
	size_t to;           /* out: node it would move to; CONSOLIDATE_NONE */
};
#define CONSOLIDATE_NONE SIZE_MAX

struct consolidate_node {
	const char *name; /* no other has it */
	int64_t memory_bytes;
	int64_t left_bytes;   /* promised to nobody; 0 where nothing is placed */
	const char *features; /* policies/features.h; NULL: not known */
	const char *kind;     /* sessions run on between nodes of one kind only; NULL: not known */
	int64_t speech;       /* ... and of one speech; 0: not known */
	bool pooled;          /* its machine is one that can be given back */
	bool kept;            /* ... but not now */
	bool serving;         /* it is up, and capacity counts it */
	bool held, doomed, going;
	bool gives, takes;  /* sessions as they run */
	bool empty;         /* and nothing else is there */
	size_t pool;        /* in capacity's order */
	double price;       /* of an hour; 0: not known */
	wall_ms fits_since; /* in and out: since when it could be emptied; 0: it could not */

	/* Out: */
	enum consolidate_reason reason;
	wall_ms until;               /* then it may be another one; 0: not known */
	size_t sessions, in_use;     /* that are there; of these in use */
	int64_t in_use_bytes;        /* to be moved */
	int64_t short_bytes;         /* of NO_ROOM and SPARE */
	int64_t plan_left, plan_cap; /* private */
	size_t first;                /* private: of its sessions, as sorted */
};

struct consolidate_facts {
	struct consolidate_node *nodes;
	size_t node_count;
	struct consolidate_session *sessions; /* sorted by consolidate_decide() */
	size_t session_count;
	const wall_ms *moves; /* by this policy, of the last hour at least; oldest first */
	size_t move_count;
	size_t emptying;     /* the node that is; CONSOLIDATE_NONE */
	bool emptying_gone;  /* there was one, and it is no node any more */
	wall_ms began_at;    /* of that */
	wall_ms ended_at;    /* of the last one; 0: never */
	wall_ms grown_at;    /* machines were asked for last; 0: never */
	bool wanted;         /* sessions in use want a machine */
	wall_ms quiet_until; /* nothing is emptied before */
};

enum consolidate_kind {
	CONSOLIDATE_BEGIN = 0, /* with a node: what is new goes elsewhere if it can */
	CONSOLIDATE_END,
	CONSOLIDATE_LEAVE,    /* a session that sleeps is answered for elsewhere */
	CONSOLIDATE_PUT_AWAY, /* one that is idle goes to sleep */
	CONSOLIDATE_MOVE,     /* one in use moves to `to`; counts as a move from now on */
};

struct consolidate_decision {
	enum consolidate_kind kind;
	enum consolidate_reason why; /* of BEGIN and END */
	size_t node;                 /* NONE: the one that is gone */
	size_t session, to;
};

/* Fills in at most `most` decisions, an END before everything else; returns how many. *next_at:
 * look again, if nothing happens before; 0: never. */
size_t consolidate_decide(const struct consolidate_rules *rules, struct consolidate_facts *facts,
			  wall_ms now, struct consolidate_decision *decisions, size_t most,
			  wall_ms *next_at);

const char *consolidate_reason_name(enum consolidate_reason reason); /* "no-room" */
const char *consolidate_reason_text(enum consolidate_reason reason); /* for people */

#endif
