/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_SIM_GENERATE_H
#define ELSA_SIM_GENERATE_H

/*
 * Traces of hubs that never were, after published shapes; docs/simulator.md has
 * the source of each number, and says which are assumptions. The same seed gives
 * the same trace; a user's course does not depend on how many others there are.
 */

#include "sim/trace.h"

struct generate_shape {
	uint64_t seed;
	uint32_t users;
	int64_t days;
	/* Work: */
	double task_median_s, task_sigma;   /* how long a cell runs */
	double busy_median, busy_sigma;     /* share of all time that a session works */
	double think_median_s, think_sigma; /* between the end of one and the next */
	double memory_median_mib, memory_sigma;
	/* Clouds: */
	uint32_t pools;            /* spot-a, spot-b, ... */
	double taken_per_day;      /* share of machines, one by one */
	double storm_days;         /* between two of a pool, in the mean; 0: none */
	int64_t notice_ms, dry_ms; /* of a storm: the pool has none to give for so long */
	double silent_share;       /* of what is taken, without notice */
};

void generate_shape_init(struct generate_shape *shape); /* the reference trace */

/* The name of a record's session or pool, as in the trace. */
typedef int (*generate_sink)(const struct trace_record *record, const char *name, void *arg);

/* Users, then pools, then all that happens in order. Ends with what `sink` returns when that is
 * negative, or with -ENOMEM. */
int generate(const struct generate_shape *shape, wall_ms begin,
	     int (*user)(const char *name, void *arg), generate_sink sink, void *arg);

#endif
