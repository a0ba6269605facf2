/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_CONTROLLER_SPEC_H
#define ELSA_CONTROLLER_SPEC_H

/*
 * What a session is started as: from the spawner's request and the config.
 * Id, address and uid are for life; the rest is taken anew at each fresh
 * start. Pure but for the system's accounts and the database.
 */

#include "config/config.h"
#include "controller/placing.h"
#include "controller/sessions.h"

#include <jansson.h>

/* The body of POST /v1/session/start, checked. Strings and JSON are borrowed from the body. */
struct start_request {
	const char *user, *server, *api_token, *home, *image;
	bool fresh;
	const char *size; /* the class that its user has chosen; "": none; NULL: as before */
	const json_t *cmd, *env, *spawner; /* NULL: not given */
	const json_t *groups;              /* its user's; NULL: as the Hub said last */
	int64_t port;
	struct session_limits limits;
};
int start_request_parse(const json_t *body, struct start_request *to, struct error *e);

/* A user's or a server's name as the Hub may have it: up to SESSION_NAME_MOST characters of UTF-8.
 * 0 or negative; `what` is what the error calls it. */
int check_name(const char *name, bool may_be_empty, const char *what, struct error *e);

/* Makes the draft's spec, address, token and spawner from `arg`, a struct start_request. In a
 * transaction: see struct session_change. */
int spec_prepare(struct session *s, struct db_session *draft, void *arg, struct error *e);

/* What a start by `request` needs of a node. Borrows from the request and the config. */
struct placing spec_placing(const struct session *s, const struct start_request *request);

/* Whether a session that was made elsewhere can be this user's here: uid, address and names must be
 * as they would be, or nobody's. */
int spec_check_foreign(struct controller *c, const struct session_spec *spec, struct error *e);

/* --- pure parts --------------------------------------------------------------------------------
 */

/* A user's name as one part of a path: nothing but [A-Za-z0-9_-.] and %XX, no leading dot, at most
 * 128 bytes; two names never give one. Allocated, or NULL. */
char *safe_path_name(const char *name);

/* Replaces {home}, {user}, {id} and {uid}; allocated, or NULL. */
struct path_names {
	const char *home, *user, *id;
	int64_t uid;
};
char *expand_path(const char *pattern, const struct path_names *names);

/* `env`, a JSON object, and the config's "NAME=value" list as one such list; where both have a name
 * the config's value holds. NULL-terminated, allocated, or NULL. */
char **merge_env(const json_t *env, char *const *configured);
char **copy_strings(const json_t *list); /* likewise, of a JSON list of strings */
void free_strings(char **strings);

#endif
