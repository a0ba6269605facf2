/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_POLICIES_BUDGET_H
#define ELSA_POLICIES_BUDGET_H

/*
 * What groups of users may cost in a day or a month, and what follows when that is spent
 * (docs/savings.md). Pure and thread-safe; times are wall-clock milliseconds, durations
 * milliseconds, money in any one unit, days and months those of UTC.
 *
 * What is spent changes when sessions are put to sleep, and whether new ones are started: never
 * what runs, and never what sleeps. Within a day, or month, an account only grows: so it is told
 * once that a budget comes to its end, once that it has, and once that there is a new one.
 */

#include "base/clock.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum budget_per { BUDGET_DAY = 0, BUDGET_MONTH, BUDGET_PER_COUNT };

/* From the mildest on. */
enum budget_starts { BUDGET_ALLOW = 0, BUDGET_SPOT, BUDGET_REFUSE, BUDGET_STARTS_COUNT };

struct budget_rule {
	const char *group; /* no other of the same `per` has it */
	enum budget_per per;
	double amount;
	int64_t timeout_ms; /* when it is spent; 0: as before */
	enum budget_starts starts;
};

enum budget_level { BUDGET_WITHIN = 0, BUDGET_NEAR, BUDGET_SPENT, BUDGET_LEVEL_COUNT };

struct budget_facts {
	double spent;           /* since budget_from() */
	enum budget_level told; /* what was told of it last */
	wall_ms told_of;        /* ... of which day or month: its beginning; 0: never */
};

struct budget_decision {
	enum budget_level level;
	bool tell;           /* it is another one than was told last */
	wall_ms from, until; /* the day, or month */
	double share;        /* spent of it */
};

/* The first moments of the day or month around `now`, and of the next. */
wall_ms budget_from(enum budget_per per, wall_ms now);
wall_ms budget_until(enum budget_per per, wall_ms now);

/* `near`: a share. decisions[i] answers rules[i]. Returns when it may be otherwise though nobody
 * spends anything; 0: never. */
wall_ms budget_decide(const struct budget_rule *rules, const struct budget_facts *facts,
		      size_t count, double near, wall_ms now, struct budget_decision *decisions);

/* What follows for somebody, of all that is spent of his groups: the shortest time, the strictest
 * for starts, which is BUDGET_ALLOW with -1 for none. */
struct budget_terms {
	int64_t timeout_ms;
	int timeout_of; /* index of the rule */
	enum budget_starts starts;
	int starts_of;
};
struct budget_terms budget_terms_of(const struct budget_rule *rules,
				    const struct budget_decision *decisions, size_t count,
				    const char *const *groups); /* NULL-terminated; may be NULL */

const char *budget_level_name(enum budget_level level);    /* "near" */
const char *budget_per_name(enum budget_per per);          /* "day" */
const char *budget_starts_name(enum budget_starts starts); /* "spot" */
/* -1: there is none of that name. */
int budget_per_of(const char *name);
int budget_starts_of(const char *name);

#endif
