/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_CONTROLLER_RECORD_H
#define ELSA_CONTROLLER_RECORD_H

/*
 * The event log: written in the database, then told to who waits for events.
 * One thread.
 */

#include "controller/sessions.h"

#include <jansson.h>

struct record {
	const struct session *session; /* NULL: of no session */
	wall_ms at;                    /* 0: now */
	const char *who, *what, *why;
	const char *detail; /* for people; may be NULL */
	int64_t duration_us;
	int64_t bytes;
	const json_t *inputs; /* what was known when it was decided; may be NULL */
};

/* May be called in a transaction: nobody is told before the loop runs again. */
int record_event(struct controller *c, const struct record *record, struct error *e);

/* The same where there is nobody to hear of a failure: that is logged. */
void record_note(struct controller *c, const struct record *record);

#endif
