/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_CONTROLLER_LEDGER_H
#define ELSA_CONTROLLER_LEDGER_H

/*
 * The account of what sessions cost, and would have cost always on (docs/savings.md). It is kept in
 * the record, in the transaction of each change of a session, whose event says by what the session
 * is charged from then on: so it can be counted again from the events alone. One thread.
 */

#include "controller/sessions.h"
#include "prices/prices.h"

#include <jansson.h>

int ledger_new(struct controller *c, struct error *e);
void ledger_free(struct controller *c);
void ledger_reload(struct controller *c); /* the config changed; a bad catalogue is logged, the old
					     one stays */

/* What a step of a session means for its account. Borrowed. */
struct ledger_step {
	const struct db_session *row; /* as it is to be */
	enum session_state next;
	const struct node *home; /* where it is then */
	bool gone;               /* it is deleted: with it its account, but not what it cost */
	wall_ms now;
	int puts, gets; /* requests to the store that what ended has taken */
};

/* In the step's transaction, behind its other rows. *inputs is what its event is to say: a new
 * reference. */
int ledger_write(struct session *s, const struct ledger_step *step, json_t **inputs,
		 struct error *e);

/* Sees whether the wall clock was set, and counts on from there. Outside of transactions. */
void ledger_check_clock(struct controller *c);

/* What has passed until now is in the days. */
int ledger_settle(struct controller *c, struct error *e);

/* The days of the last `since_ms`, today included, as the API shows them; a new reference. */
json_t *ledger_json(struct controller *c, enum db_account_by by, int64_t since_ms, struct error *e);

/* What the users of groups have cost since the beginning of the day of `from`, of UTC: awake and in
 * the store. Nothing is written. Costs are added to what is there. */
struct ledger_group {
	const char *name;
	double cost;
};
int ledger_groups(struct controller *c, wall_ms from, struct ledger_group *groups, size_t count,
		  struct error *e);

/* Of all times. */
int ledger_total(struct controller *c, struct db_account_sums *to, struct error *e);
/* What the node costs an hour, by its machine's type; 0: not known. */
double ledger_node_hour(const struct node *node);
/* What a GiB of a session's memory is charged there an hour; 0: not known. */
double ledger_node_gib_hour(const struct node *node);
const char *ledger_currency(struct controller *c);
const struct prices *ledger_prices(struct controller *c); /* until the next reload */

#endif
