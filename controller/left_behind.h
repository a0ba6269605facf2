/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_CONTROLLER_LEFT_BEHIND_H
#define ELSA_CONTROLLER_LEFT_BEHIND_H

/*
 * That a session could not be saved when its machine went away stays with it
 * until there is a newer checkpoint, for its user to be told at the next start
 * and for people who ask: {"node", "at", "why", "snapshot_at"}. One thread.
 */

#include "controller/sessions.h"

#include <jansson.h>

/* It is so, or will be at the notice's end; in a transaction of the caller's or none. */
int left_behind_note(struct session *s, const char *node, wall_ms at, const struct evacuee *one,
		     struct error *e);
/* It is so no more: that node stays, or the session was saved there after all. */
int left_behind_take_back(struct session *s, const char *node, struct error *e);

json_t *left_behind_json(const struct session *s); /* or null; new reference */

#endif
