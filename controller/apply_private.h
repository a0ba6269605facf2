/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_CONTROLLER_APPLY_PRIVATE_H
#define ELSA_CONTROLLER_APPLY_PRIVATE_H

/* What controller/apply*.c share: a step of a session on its way from the decision into the record,
 * and from there into memory. */

#include "controller/effects.h"
#include "controller/operations.h"
#include "controller/remains.h"
#include "controller/sessions.h"

/* What one step writes, before it is true. */
struct draft {
	const struct session_change *change;
	struct session_step step;
	int64_t told; /* the newest checkpoint before it; 0: none */
	wall_ms now;
	struct db_session row;
	struct node *home;               /* where the session is to be */
	struct node *node;               /* that does the effect */
	struct db_effect effect;         /* the one that begins; kind NULL: none */
	struct db_checkpoint checkpoint; /* that is the newest one now; generation 0: as before */
	struct remains_step remains;     /* what it means for what is elsewhere of it */
	char *outcome;                   /* of the operation that ends; NULL: none */
	json_t *inputs;                  /* of the event */
	int64_t aside;                   /* generation that was set aside; 0: none */
	bool checkpointed;               /* there is a new checkpoint in the store */
	bool gone;                       /* the session itself is deleted */
};

/* --- controller/apply_draft.c ------------------------------------------------------------------
 */

/* The fields of its row that follow from the step alone. */
void apply_draft_row(struct session *s, struct draft *d);
/* The effect that it begins, if any. */
void apply_draft_effect(struct session *s, struct draft *d);
/* The operation that has waited for such an effect: that somebody is to hibernate it is done by a
 * release, if it sleeps. */
const struct operation *apply_waiting_for(const struct session *s, enum effect_kind kind);

/* --- controller/apply_write.c ------------------------------------------------------------------
 */

/* Drafts and writes all of it, in one transaction. */
int apply_commit(struct session *s, struct draft *d, struct error *e);
/* Who waits for the operation waits on: another effect will end it. */
bool apply_goes_on(const struct draft *d);

#endif
