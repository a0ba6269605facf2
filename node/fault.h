/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_NODE_FAULT_H
#define ELSA_NODE_FAULT_H

/*
 * Faults on purpose, for the tests: `--fault hibernate:dump:after` (or the
 * environment's ELSA_FAULT) kills this process, as kill -9 would, right after
 * that step; "before" right after the step was journaled; "fail" makes the step
 * return an error, "once" the first time only; "wait" goes on with it ten seconds later.
 * `--list-steps` prints what there is to choose from.
 */

#include "base/error.h"

#include <stdatomic.h>
#include <stdbool.h>

enum fault_when { FAULT_NEVER = 0, FAULT_BEFORE, FAULT_AFTER, FAULT_FAIL, FAULT_ONCE, FAULT_WAIT };

struct fault_plan {
	char effect[16];
	char step[24];
	enum fault_when when;
	atomic_bool spent; /* once */
};

/* "KIND:STEP:before|after|fail|once|wait"; NULL or "": none. 0 or -EINVAL. */
int fault_parse(const char *text, struct fault_plan *plan, struct error *e);

/* Whether the plan is for this moment; does not return when it is "before" or "after",
 * and late when it is "wait". */
bool fault_hit(struct fault_plan *plan, const char *effect, const char *step, enum fault_when now);

#endif
