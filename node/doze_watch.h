/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_NODE_DOZE_WATCH_H
#define ELSA_NODE_DOZE_WATCH_H

/*
 * The connections that a dozing session has open. Its own kernel goes on having
 * them: it acknowledges what comes and keeps it for the session, and answers
 * keepalives. All there is to do is to see that something has come, on the node's
 * end of the session's link.
 *
 * Loop only.
 */

#include "base/error.h"

#include <event2/event.h>
#include <stdint.h>

struct doze_watch;

/* Calls `touched` for every packet to that TCP port which has data in it that is not idle talk
 * (packet_is_idle()); the watch may be freed from within. */
int doze_watch_new(struct event_base *base, const char *interface, int64_t port,
		   void (*touched)(void *arg, const char *what), void *arg, struct doze_watch **to,
		   struct error *e);
void *doze_watch_free(struct doze_watch *watch); /* returns NULL; NULL is fine */

#endif
