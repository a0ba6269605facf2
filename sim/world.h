/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_SIM_WORLD_H
#define ELSA_SIM_WORLD_H

/*
 * A hub on a virtual clock, run in one way: records of a trace go in, what it
 * cost and what was lost comes out. Decisions are those of policies/, the very
 * same code that elsad and elsa-node run; what is simulated here is only how
 * long things take. The same seed and records give the same result to the bit.
 * Not thread-safe.
 *
 * Of each millisecond of work that a trace asks for becomes one of these:
 *	asked == kept + lost + cut + pending
 */

#include "base/error.h"
#include "sim/strategy.h"
#include "sim/tally.h"
#include "sim/trace.h"

struct work_account {
	int64_t asked_ms;
	int64_t kept_ms;    /* done, and what came of it is there */
	int64_t lost_ms;    /* done, and gone; or broken off and gone */
	int64_t cut_ms;     /* not done when its user ended the session */
	int64_t pending_ms; /* not done when the trace ended */
};

/* What became of sizes, where there are classes. */
struct size_counts {
	uint64_t smaller, larger; /* by what they used: at a start, a sleep, or as they ran */
	uint64_t lowered;         /* of the smaller ones: as they ran */
	uint64_t moved;           /* to where their memory costs less */
	/* Of those that came near to their limit: */
	uint64_t raised; /* where they were */
	uint64_t rescue_moved,
		rescue_slept;   /* larger elsewhere: as they ran; by their checkpoint */
	uint64_t out_of_memory; /* they could have no more */
	double promised_gib_hours, gib_hours; /* while they were awake; that they held */
};

struct sim_result {
	const struct strategy *strategy;
	double compute, storage; /* money */
	double machine_hours, spot_hours, awake_hours;
	double stored_gib_months;
	struct tally wakes;    /* of who had been put away or killed, from asking to an answer */
	uint64_t wakes_unseen; /* ... of them: of who did not have to start anything for it */
	struct tally pauses;   /* in use when the machine went: from standing still to going on */
	struct work_account work;
	uint64_t starts; /* first ones, and those that their users had ended */
	uint64_t hibernations, snapshots, culled;
	uint64_t sessions_lost;  /* state gone that nobody meant to end: of those culled, too */
	uint64_t machines_taken; /* by the cloud */
	uint64_t evicted, evicted_saved, evicted_older, evicted_lost; /* sessions on them */
	uint64_t moved;                      /* of those saved: while they ran */
	uint64_t emptied, emptying_ended;    /* machines, to be given back; given up */
	uint64_t emptied_moved, emptied_put; /* sessions: moved while they ran; put to sleep */
	size_t machines_peak, sessions;
	size_t waiting; /* sessions that were wanted at the trace's end, and not there */
	struct course awake, machines;
	struct size_counts sizes;
};

struct world;
/* `setup` is borrowed for the world's life. `strategy`: of sim_setup_ways(). */
struct world *world_new(const struct sim_setup *setup, enum strategy_id strategy, struct error *e);
struct world *world_free(struct world *w); /* NULL */
int world_take(struct world *w, const struct trace_record *record, struct error *e);
/* After TRACE_END. Borrowed. */
const struct sim_result *world_result(const struct world *w);

#endif
