/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_CONTROLLER_HUB_H
#define ELSA_CONTROLLER_HUB_H

/*
 * JupyterHub: passes over its users, servers stopped and started through it.
 * Whatever it does or does not answer ends up in its state and last error, and
 * never in a decision about a session that it did not make. One thread.
 */

#include "controller/sessions.h"

#include <jansson.h>

enum hub_state { HUB_UNKNOWN = 0, HUB_UP, HUB_DOWN };

int hub_new(struct controller *c, struct error *e);
void hub_free(struct controller *c);
void hub_reload(struct controller *c); /* reads the token again and starts a pass */

enum hub_state hub_state(const struct controller *c);
const char *hub_state_name(enum hub_state state);
const struct error *hub_last_error(const struct controller *c); /* NULL: none */

/* Hibernates a running session by asking the Hub to stop its server, which asks its spawner, which
 * asks us. The session's operation tells what came of it. One that is asked already is joined. */
void hub_stop_server(struct session *s, const char *who, const char *why);

/* It was put to sleep without the Hub, which is told to stop its server; in vain it finds out
 * itself when it looks at its servers. */
void hub_tell_asleep(struct session *s);

/* Asks the Hub to start a server; `done` gets NULL when it took that up. */
int hub_start_server(struct session *s, void (*done)(const struct error *error, void *arg),
		     void *arg, struct error *e);

/* Hands a report of activity on to the Hub, with the session's own token. done as http_done. */
int hub_send_activity(struct session *s, const char *body, http_done done, void *arg,
		      struct error *e);

/* --- for hub_*.c -------------------------------------------------------------------------------
 */

/* A request to the Hub's API. */
struct hub_request {
	const char *method;
	const char *path;  /* begins with '/' */
	const char *token; /* NULL: elsad's own */
	const char *body;  /* may be NULL */
	bool slow;         /* starts and stops are answered when they are over, or after 10 s */
};
int hub_call(struct controller *c, const struct hub_request *request, http_done done, void *arg,
	     struct http_call **call, struct error *e);

/* The Hub's answer as an error with a remedy; FAULT_NONE for 2xx. */
void hub_error(const struct http_reply *reply, struct error *e);

/* What an answer to elsad's own token says about the Hub; error->fault NONE: it is up. */
void hub_heard(struct controller *c, const struct error *error);

/* "/users/ada%2Flab/server", or ".../servers/NAME"; allocated. */
char *hub_server_path(const struct session *s);

#endif
