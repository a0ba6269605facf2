/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_NODE_ACTIVATOR_CREDENTIALS_H
#define ELSA_NODE_ACTIVATOR_CREDENTIALS_H

/*
 * Whose a request to a sleeping session is: the token it shows, as JupyterHub's
 * HubOAuth finds it (jupyterhub/services/auth.py), and whether what the Hub says of
 * that token is enough. Pure.
 *
 * The cookie that a login leaves holds the token, in base64, in a value that
 * the session's server has signed (tornado's format 2) with a key that is in the
 * session's memory only. Nothing is lost without it: who has the token may send it
 * as a header just as well, and the Hub knows which are good.
 */

#include "node/activator_head.h"

#include <jansson.h>

enum {
	CREDENTIAL_SIZE = 512,
	CREDENTIAL_SESSION_SIZE = 128,
};

struct credentials {
	char token[CREDENTIAL_SIZE]; /* printable, no spaces */
	/* The browser's login at the Hub, which ends with a logout; "" when there is none. */
	char session[CREDENTIAL_SESSION_SIZE];
};

struct credential_rules {
	const char *cookie; /* its name: "jupyterhub-user-ada" */
	bool token_in_url;
	int64_t now_s;
};

/* True when there are some: in the Authorization field, the query or the cookie. A cookie counts
 * only if the page that asks is of the same server, as _needs_check_xsrf() of the Hub has it: other
 * users' servers are of the same origin. */
bool credentials_find(const struct request_head *head, const char *data,
		      const struct credential_rules *rules, struct credentials *to);

/* What is in a tornado signed value, whose signature is not looked at: 0 with NUL-terminated
 * printable text, or -EINVAL. */
int signed_value_read(struct text value, const char *name, int64_t now_s, char *to, size_t size);

/* Is one of the scopes in `needed` among what `given` grants? Both are JSON arrays of expanded
 * scopes, as check_scopes() of jupyterhub/services/auth.py compares them. */
bool scopes_grant(const json_t *given, const json_t *needed);

#endif
