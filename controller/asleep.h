/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_CONTROLLER_ASLEEP_H
#define ELSA_CONTROLLER_ASLEEP_H

/*
 * Sessions that sleep unseen. Each is its node's, which answers at its address
 * and wakes it when somebody comes; where that node cannot, another one
 * answers, or has it. One thread.
 */

#include "controller/sessions.h"

/* At a look at its node, under whose hand nothing of it runs. */
void asleep_looked(struct session *s, const struct session_status *status);

/* Something is to be done about it by itself. */
bool asleep_wants(const struct session *s);
/* Does that, unless it failed a moment ago. Not for one that is to be woken: wake.h. */
void asleep_see_to(struct session *s);
/* What it waits for since it failed last is over. */
bool asleep_may_try(const struct session *s);

/* It became what it is from `before`. */
void asleep_settled(struct session *s, enum session_state before);

/* Its node is to leave it to another one. */
void asleep_move_on(struct session *s, const char *who, const char *why);
/* Somebody wants it awake. 0, or negative with *e. */
int asleep_rouse(struct session *s, const char *who, const char *why, struct error *e);

#endif
