/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_CONTROLLER_ACTIVITY_H
#define ELSA_CONTROLLER_ACTIVITY_H

/*
 * The sessions' reports of activity, taken in the Hub's place: recorded,
 * answered, and handed on to the Hub when that is there. One thread.
 */

#include "controller/sessions.h"

int activity_new(struct controller *c, struct error *e);
void activity_free(struct controller *c);

/* What sessions get as the base of JUPYTERHUB_ACTIVITY_URL, with a slash at its end; allocated;
 * NULL when they are to report to the Hub. */
char *activity_base_url(const struct config *config);

/* The session whose own token the request has, by a {name} in its path; NULL:
 * none, and the exchange is answered. */
struct session *activity_session(struct http_exchange *x, struct controller *c);

/* --- pure part ---------------------------------------------------------------------------------
 */

/* A report's newest time for the given server, or that of the user when it names no servers; later
 * times than `now` count as `now`. 0 or -EINVAL. */
int activity_parse(const char *body, size_t len, const char *server, wall_ms now, wall_ms *at);

#endif
