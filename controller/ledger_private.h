/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_CONTROLLER_LEDGER_PRIVATE_H
#define ELSA_CONTROLLER_LEDGER_PRIVATE_H

/* Private to controller/ledger*.c. */

#include "controller/ledger.h"
#include "policies/account.h"
#include "prices/prices.h"

struct ledger {
	struct event *timer;
	struct prices prices;
	unsigned passes;
	int64_t offset_ms; /* of the wall clock, from the time since the boot */
	wall_ms settled_until;
};

struct account_basis ledger_basis(const struct db_account *a);

/* Puts what has passed since `since` into the days, and `since` to now. */
int ledger_charge(struct db *db, struct db_account *a, wall_ms now, struct error *e);

/* The clock as it was when elsad ended, against what it is now. */
int ledger_clock_begin(struct controller *c, struct error *e);

#endif
