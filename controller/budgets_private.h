/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_CONTROLLER_BUDGETS_PRIVATE_H
#define ELSA_CONTROLLER_BUDGETS_PRIVATE_H

/* Private to controller/budgets*.c. */

#include "controller/budgets.h"
#include "policies/budget.h"

/* What was told of one last. */
struct budget_told {
	char *group;
	int64_t per, level;
	int64_t of; /* the beginning of the day, or month */
};

struct budgets_kept {
	struct budget_told *told;
	size_t count;
};

/* All, as last looked at. */
struct budget_view {
	struct budget_rule *rules; /* which own their groups */
	struct budget_facts *facts;
	struct budget_decision *decisions;
	char **texts; /* that it is spent, for people */
	size_t count;
	double near;
	wall_ms next_at;
};

struct budgets {
	struct event *timer;
	struct budget_view *view;
	struct budgets_kept kept;
};

/* budgets_kept.c: the record. */
int budgets_load(struct controller *c, struct error *e);
int budgets_save(struct controller *c, struct error *e);
void budgets_kept_deinit(struct budgets_kept *kept);
const struct budget_told *budgets_told(const struct budgets_kept *kept,
				       const struct budget_rule *rule); /* NULL: nothing was */
int budgets_keep(struct budgets_kept *kept, const struct budget_rule *rule,
		 const struct budget_decision *decision);

/* budgets_json.c; a new reference. */
json_t *budgets_row_json(const struct budget_view *view, size_t i);

#endif
