/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_CONTROLLER_WAKE_H
#define ELSA_CONTROLLER_WAKE_H

/*
 * Sessions that are to run by themselves: those that were in use when their
 * node put them away or was lost (their wish, which is on record), and starts
 * that wait for a machine (whose callers ask again when elsad restarts). Tried
 * whenever something has changed, and now and then. One thread.
 */

#include "controller/placing.h"
#include "controller/sessions.h"

#include <jansson.h>

int wake_new(struct controller *c, struct error *e);
void wake_free(struct controller *c);

/* There may be room now, or somebody who wants it. */
void wake_soon(struct controller *c);

/* It has just been put away other than by its user's will: it is woken, or the Hub told. */
void wake_put_away(struct session *s);

/* A start for which no node has room now, by POST /v1/session/start's body: goes on when one has,
 * and fails after capacity.start_timeout. The session's operation, which is begun, tells. False: it
 * is not to be waited for. */
struct wake_start {
	enum session_event event;
	enum effect_kind kind;
	const char *who, *why;
	const json_t *body;
	bool asking; /* not for a machine: the nodes are being asked for its image */
};
bool wake_start_later(struct session *s, const struct wake_start *start,
		      const struct error *because);
bool wake_is_waiting(const struct session *s);
/* What is to be placed of one that waits for room; borrows from it and the config. False: it does
 * not wait. */
bool wake_placing(struct session *s, struct placing *what);
/* Somebody wants something else of it. */
void wake_forget_start(struct session *s);

#endif
