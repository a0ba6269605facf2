/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_CONTROLLER_BUDGETS_H
#define ELSA_CONTROLLER_BUDGETS_H

/*
 * Budgets of groups (policies/budget.h, docs/savings.md): what the account says that they have
 * spent, looked at now and then, told when a budget comes to its end, and what follows from that
 * for whom. What was told last is on record. One thread.
 */

#include "controller/sessions.h"

#include <jansson.h>

struct buf;
struct budget_view;

int budgets_new(struct controller *c, struct error *e); /* after the ledger */
void budgets_free(struct controller *c);
void budgets_reload(struct controller *c); /* the config changed */

/* After so long without anybody its session is to sleep, for a budget of its user's that is spent;
 * 0: that says nothing. */
int64_t budgets_timeout(const struct session *s);

/* Whether its user may start it afresh. `groups`: a list of texts, or NULL: as the Hub said last.
 * 0; then *spot says why on spot machines only, or is NULL, until the next look. Refused: it may
 * not. */
int budgets_check_start(const struct session *s, const json_t *groups, const char **spot,
			struct error *e);

/* Why a start of it that was let in is tried again on spot machines only; NULL: on any. */
const char *budgets_spot_again(const struct session *s);

/* Of all, and of those of the session's user, or NULL of all, for /v1/explain and /v1/budgets. */
json_t *budgets_json(const struct controller *c, const struct session *s);
/* For /metrics. */
void budgets_add_metrics(struct controller *c, struct buf *to);

/* For controller/try.h: as another config would have it. NULL: no memory, or the account cannot be
 * read. */
struct budget_view *budgets_make(struct controller *c, const struct config *config,
				 struct error *e);
void budgets_view_free(struct budget_view *view);
void budgets_swap(struct controller *c, struct budget_view **view);
json_t *budgets_decide_json(struct controller *c);

#endif
