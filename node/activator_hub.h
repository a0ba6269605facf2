/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_NODE_ACTIVATOR_HUB_H
#define ELSA_NODE_ACTIVATOR_HUB_H

/*
 * What the Hub says of a token: asked once, and remembered for some minutes, as
 * the session's own server does. Of tokens only digests are remembered. On the
 * loop's thread.
 */

#include "base/error.h"
#include "node/activator_credentials.h"

#include <event2/event.h>

enum hub_verdict {
	HUB_UNKNOWN, /* it was not asked lately */
	HUB_AWAY,    /* it does not answer */
	HUB_NOBODY,  /* the token is not good for this session */
	HUB_GUEST,   /* it is */
	HUB_OWNER,   /* ... and is its user's */
};

/* Of a session: what is compared. Borrowed while a function runs. */
struct hub_session {
	const char *api_url; /* "http://10.99.0.1:8081/hub/api" */
	const char *user;
	const char *scopes; /* JSON array: one of these will do; "": none would */
};

struct hub_asker;
struct hub_question;

int hub_asker_new(struct event_base *base, struct hub_asker **asker, struct error *e);
void *hub_asker_free(struct hub_asker *asker); /* no question may be open; returns NULL */

/* Without asking: HUB_UNKNOWN when it must be. *name: of a guest, what the Hub calls it, borrowed
 * until the loop's next turn; else NULL. */
enum hub_verdict hub_remembers(const struct hub_asker *asker, const struct hub_session *session,
			       const struct credentials *who, const char **name);

/* Asks, and calls `answered` once, never from within. NULL: too many are being asked. */
struct hub_question *hub_ask(struct hub_asker *asker, const struct hub_session *session,
			     const struct credentials *who,
			     void (*answered)(enum hub_verdict verdict, void *arg), void *arg);
void hub_forget(struct hub_question *question); /* not answered any more; NULL is fine */

/* From the body of the Hub's answer; *name is of a guest, allocated, or NULL. Pure. */
enum hub_verdict hub_judge(const char *body, size_t len, const struct hub_session *session,
			   char **name);

#endif
