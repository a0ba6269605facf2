/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_POLICIES_ACCOUNT_H
#define ELSA_POLICIES_ACCOUNT_H

/*
 * What a session costs, and what it would have cost if nobody had ever put it to sleep
 * (docs/savings.md). Pure and thread-safe; times are wall-clock milliseconds, money is in the
 * catalogue's currency.
 */

#include "base/clock.h"
#include "policies/lifecycle.h"

#include <stdbool.h>
#include <stdint.h>

/* By what a session is charged from one change to the next. */
struct account_basis {
	bool awake;           /* it has processes */
	int64_t held_bytes;   /* memory that it takes on its machine */
	int64_t whole_bytes;  /* ... that it would take if it was kept awake; 0: it is over */
	int64_t stored_bytes; /* in the store */
	double machine_gib_hour, demand_gib_hour, store_gib_hour;
};

struct account_sums {
	int64_t awake_ms; /* with processes */
	int64_t open_ms;  /* awake, or asleep and to go on */
	double always;    /* all of the latter on demand */
	double machine, store;
};

/* What was seen of a session, for the memory that it counts for. */
struct account_facts {
	enum session_state state;
	int64_t placed_bytes;   /* what it counts for where it is placed */
	int64_t resident_bytes; /* observed; 0: not known */
	int64_t whole_bytes;    /* as charged until now; 0: not yet */
};

/* Fills in what memory it is charged for. Asleep it takes none on any machine; dozing, what of it
 * is still there. */
void account_sizes(const struct account_facts *facts, struct account_basis *to);

/* Whether the size is to be charged anew: it has changed by more than a quarter, and lately not, or
 * by a factor of two. */
bool account_resized(const struct account_basis *charged, const struct account_basis *now,
		     int64_t since_ms);

void account_add(struct account_sums *to, const struct account_basis *basis, int64_t ms);

int64_t account_day(wall_ms t);     /* since 1970, of UTC */
wall_ms account_day_end(wall_ms t); /* the first moment of the next */

#endif
