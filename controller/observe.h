/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_CONTROLLER_OBSERVE_H
#define ELSA_CONTROLLER_OBSERVE_H

/*
 * What the sessions do: their use of memory and processor as the node tells
 * it, and what their servers say when they are asked directly, without that
 * counting as activity. One thread.
 */

#include "controller/sessions.h"

int observe_new(struct controller *c, struct error *e);
void observe_free(struct controller *c);

/* What the node saw of it just now. */
void observe_usage(struct session *s, const struct session_status *status);

/* How far it is with waking up, and whether the store keeps it waiting; records when that begins
 * and ends. */
void observe_waking(struct session *s, const struct session_status *status);

/* Asks the servers of all running sessions, some at a time. Nothing if that is still under way. */
void observe_servers(struct controller *c);

/* --- pure parts --------------------------------------------------------------------------------
 */

struct server_facts {
	bool kernel_busy;
	wall_ms kernel_activity_at, terminal_activity_at, request_at;
};

/* The bodies of /api/kernels, /api/terminals and /api/elsa/activity: what they say is added to *to.
 * Future times count as `now`: a clock that runs ahead must not keep a session awake for ever. */
int observe_parse_kernels(const char *body, size_t len, wall_ms now, struct server_facts *to);
int observe_parse_terminals(const char *body, size_t len, wall_ms now, struct server_facts *to);
int observe_parse_activity(const char *body, size_t len, wall_ms now, struct server_facts *to);

/* "http://10.99.0.17:8888/user/ada/" of a session's address, port and environment; allocated. */
char *observe_base_url(const struct session_spec *spec);

#endif
