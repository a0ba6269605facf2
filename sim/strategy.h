/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_SIM_STRATEGY_H
#define ELSA_SIM_STRATEGY_H

/*
 * What is compared: ways to run a hub, each with what it does to the idle and
 * how long its steps take. Thread-safe.
 */

#include "policies/capacity.h"
#include "policies/consolidate.h"
#include "policies/idle.h"
#include "policies/protect.h"
#include "policies/rescue.h"
#include "policies/size.h"
#include "policies/size_move.h"
#include "prices/prices.h"

enum strategy_id {
	STRATEGY_ALWAYS_ON = 0, /* on demand; who has come stays */
	STRATEGY_CULL,          /* on demand; the idle are killed */
	STRATEGY_CULL_SPOT,     /* the same on the machines that ours runs on */
	STRATEGY_PROTOTYPE,     /* whole images, one after the other, 10 s a step */
	STRATEGY_ELSA,
	STRATEGY_COUNT,
	STRATEGY_ONE_SIZE = STRATEGY_COUNT, /* as ours; beside it where there are size classes */
	STRATEGY_MOST
};

enum idle_action { IDLE_ACTION_NONE, IDLE_ACTION_KILL, IDLE_ACTION_HIBERNATE };

/* Milliseconds; `*_gib_ms` besides, for each GiB of memory. */
struct step_times {
	int64_t start_ms; /* a new server, until it answers */
	int64_t wake_ms, wake_gib_ms;
	int64_t first_ms, first_gib_ms; /* a session's first checkpoint, to durable */
	int64_t again_ms, again_gib_ms; /* another one */
	double stored_share;            /* of memory, in the store, for a first one */
	double changed_share;           /* of that, for another one */
	int at_once;                    /* checkpoints on one machine */
	int64_t move_gib_ms;            /* until memory is on another machine */
};

struct strategy {
	const char *name;
	const char *text; /* for people */
	bool spot;
	enum idle_action idle;
	bool unseen;    /* who comes wakes what sleeps, and need not start it */
	bool evacuates; /* a notice is used */
	bool moves;     /* ... for sessions in use to leave while they run */
	bool protects;  /* snapshots */
	bool limits;    /* where there are size classes its sessions have limits */
	bool one_size;  /* ... and keep those that they began with */
	struct step_times times;
};

enum sim_running { SIM_RUNNING_KEEP, SIM_RUNNING_LOWER, SIM_RUNNING_MOVE };

/* Right size (policies/size.h), where there are classes; all zero: sessions have no limits. */
struct sim_sizes {
	const struct size_class *classes; /* borrowed */
	size_t count;
	struct size_rules rules;
	int64_t window_ms;        /* what a session used counts for so long */
	enum sim_running running; /* what becomes of one that runs, and is too large */
	struct size_move_rules move;
	int64_t memory_bytes; /* a session's limit at first; 0: none */
	double cpus;          /* likewise */
	struct rescue_rules rescue;
};

/* What holds for all of them. */
struct sim_setup {
	uint64_t seed;
	struct prices prices;
	struct strategy strategies[STRATEGY_MOST];
	struct idle_rule idle; /* of everybody */
	int idle_concurrency;
	struct protect_rules protect;
	struct capacity_rules capacity;
	int64_t spare_session_bytes; /* capacity.spare_bytes more for each session known: who comes
				      * while a machine is made are the more, the more there are */
	/* Machines that could be empty are emptied, where sessions in use can be moved. `min` and
	 * `spare_bytes` are capacity's. */
	bool consolidates;
	struct consolidate_rules consolidate;
	struct sim_sizes sizes;
	int64_t reserve_bytes; /* of each machine, left to the system */
	int64_t lease_ms;      /* until a machine that went without a word is given up */
	int64_t margin_ms;     /* left free before a machine's deadline */
	size_t workers;        /* effects of a node at once */
};

/* Everything but the prices: as the configuration's defaults and docs/performance.md have it. */
void sim_setup_init(struct sim_setup *setup);

/* The ways that there are: with size classes one more than without. */
size_t sim_setup_ways(const struct sim_setup *setup);

/* After all else: the last way is as ours, but for its sizes. */
void sim_setup_one_size(struct sim_setup *setup);

/* A figure of build/bench.json, by its name; false: it is none that is used. Seconds or shares. */
bool sim_setup_bench(struct sim_setup *setup, const char *name, double value);

#endif
