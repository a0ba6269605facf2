/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_CONTROLLER_USAGE_H
#define ELSA_CONTROLLER_USAGE_H

/*
 * What sessions are seen to use: a row for each minute that a session is awake, rolled up into
 * hours and days (db/db.h), of which each is kept as long as the config says. A minute that a crash
 * cuts off is not on record. One thread.
 */

#include "controller/sessions.h"

#include <jansson.h>

int usage_new(struct controller *c, struct error *e);
void usage_free(struct controller *c);

/* A look at it, just now; and a checkpoint that found so much new since the one before. */
void usage_sample(struct session *s, const struct session_status *status);
void usage_changed(struct session *s, int64_t bytes);

/* Rows of a session as the API shows them, the oldest first, and all of them together; also of one
 * that is no more. A new reference. */
json_t *usage_json(struct controller *c, const char *user, const char *server,
		   enum db_usage_span span, int64_t since_ms, struct error *e);

#endif
