/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_CONTROLLER_PROTECT_H
#define ELSA_CONTROLLER_PROTECT_H

/*
 * Standing protection: passes of policies/protect.h over the running sessions,
 * and the snapshots it decides. One thread.
 */

#include "controller/sessions.h"

#include <jansson.h>

int protect_new(struct controller *c, struct error *e);
void protect_free(struct controller *c);

/* How a session is protected, for the API: {"reason", "interval_ms", "due_at", "stretched",
 * "saved_at"}, or null when it is not. New reference. */
json_t *protect_json(const struct session *s);

/* For controller/try.h: of each session that runs. */
json_t *protect_decide_json(struct controller *c);

#endif
