/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_CONTROLLER_STEPS_H
#define ELSA_CONTROLLER_STEPS_H

/*
 * Every moment at which being killed could matter, as a list: elsad is started
 * with --fault KIND.STEP to kill itself there, and the tests walk the list
 * that --list-steps prints. One thread.
 */

#include "wire/messages.h"

#include <event2/event.h>
#include <stdbool.h>
#include <stdio.h>

enum controller_step {
	STEP_DECIDED = 0,  /* the event is in, nothing is written */
	STEP_IN_RECORD,    /* in the transaction, before its commit */
	STEP_RECORDED,     /* committed, the node was not asked */
	STEP_GRANTED,      /* migrate: its source knows, the target was not asked */
	STEP_ASKED,        /* the node is at work */
	STEP_ANSWERED,     /* its result is in, nothing is written */
	STEP_IN_RESULT,    /* in the transaction, before its commit */
	STEP_DONE,         /* committed, the node does not know that we know */
	STEP_ACKNOWLEDGED, /* the node was told */
	CONTROLLER_STEP_COUNT
};

/* "hibernate.recorded"; 0 or -EINVAL. */
int steps_set_fault(const char *name);
void steps_print(FILE *to);

/* Called at each of them. Dies there by SIGKILL when it is the one asked for. */
void step_reached(struct event_base *base, enum effect_kind kind, enum controller_step step);

#endif
