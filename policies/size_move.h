/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_POLICIES_SIZE_MOVE_H
#define ELSA_POLICIES_SIZE_MOVE_H

/*
 * Whether a session that runs is moved to a machine that costs less (docs/size.md). Pure and
 * thread-safe; sizes in bytes, durations in milliseconds, money in any one unit.
 *
 *	saved = its memory * (what it costs here - there) * the time that it is expected to go on:
 *	        as long as it has been awake, and `expected_ms` at most
 *	cost  = its memory there, as long as it is on both machines
 *	        + the time that it stands still, at `stall_hour`
 *
 * It moves where it saves `worth` times what it costs, to the cheapest that has room for it. No
 * flapping: a machine of the same price is no help, one session rests for `rest_ms`, and of all
 * together `moves_per_hour` move within any hour.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct size_move_rules {
	double stall_hour;
	double worth;
	int64_t expected_ms;
	int64_t moves_per_hour, rest_ms;
};
#define SIZE_MOVE_WORTH 2.0
/* Until some were seen: docs/performance.md, and half as much again. */
#define SIZE_MOVE_STALL_MS 300

struct size_move_node {
	const char *name; /* no other has it */
	double gib_hour;  /* that memory costs; 0: not known */
	bool room;        /* for it, and as it runs */
};

struct size_move_facts {
	int64_t memory_bytes; /* that it is charged for */
	int64_t awake_ms;     /* since it was woken, or started */
	int64_t stall_ms;     /* that moves were seen to take: it stands still */
	int64_t both_ms;      /* ... until its memory is there, and here no more */
	double gib_hour;      /* here; 0: not known */
	int64_t since_ms;     /* it was moved last for no need of its own; negative: never */
	int64_t moves;        /* of all, within the last hour */
	int64_t budget_ms;    /* until the oldest of these counts no more */
	const struct size_move_node *nodes; /* the others */
	size_t node_count;
};

enum size_move_reason {
	SIZE_MOVE_CHEAPEST = 0, /* no other costs less */
	SIZE_MOVE_UNKNOWN,      /* what its own costs is not known */
	SIZE_MOVE_NO_ROOM,      /* there are some that do, without room */
	SIZE_MOVE_NOT_WORTH,    /* what it would save is too little */
	SIZE_MOVE_RESTING,
	SIZE_MOVE_BUDGET,
	SIZE_MOVE_SAVES, /* it moves */
	SIZE_MOVE_REASON_COUNT
};

struct size_move_decision {
	int to; /* index; -1: it stays */
	enum size_move_reason reason;
	int where;          /* the cheapest with room, whether or not it moves there; -1: none */
	double saved, cost; /* there */
	int64_t wait_ms; /* until it is decided otherwise though nothing else changes; -1: never */
};

struct size_move_decision size_move_decide(const struct size_move_rules *rules,
					   const struct size_move_facts *facts);

const char *size_move_reason_name(enum size_move_reason reason); /* "no-room" */
const char *size_move_reason_text(enum size_move_reason reason); /* for people */

#endif
