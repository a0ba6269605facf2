/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_NODE_ACTIVATOR_PRIVATE_H
#define ELSA_NODE_ACTIVATOR_PRIVATE_H

/* Private to node/activator*.c. All of it is the loop's. */

#include "base/clock.h"
#include "node/activator.h"
#include "node/activator_head.h"
#include "node/activator_hub.h"
#include "node/activator_relay.h"

#include <event2/buffer.h>
#include <sys/queue.h>

/* What keeps one caller, or one session's, from taking the room of others. */
struct activator_limits {
	size_t connections;     /* of one session; each may take HEAD_MOST and little more */
	size_t all_connections; /* of a node's sessions */
	size_t all_relayed;     /* to sessions that were woken, for as long as they last */
	int head_ms; /* for a whole head, from the connection's begin or the last answer */
	int late_ms; /* connections that were led here may still be shaking hands */
};

struct activators {
	struct event_base *base;
	struct activator_limits limits;
	struct hub_asker *hub;
	struct config_poll *polls;
	size_t poll_count;
	size_t connections; /* of all of them */
	size_t relayed;     /* ... that have found their session, and are no load on who waits */
	LIST_HEAD(, activator) list;
};

struct activator {
	struct activators *all;
	struct activator_options options; /* spec and record are not valid here */
	char *record;
	/* From the spec: */
	char *base_url;
	char *cookie; /* that has the session's token; "": none */
	bool token_in_url;
	char *api_url, *user, *scopes; /* hub_session()'s */
	struct event *listener;        /* NULL: nobody is listened to any more */
	struct event *timer; /* ... again after there was no room; no longer when it is woken */
	bool paused;
	bool woken;
	bool busy; /* its connections are being gone through: none may end it */
	size_t connections, relayed;
	size_t arriving;               /* ... that the session may not have accepted yet */
	TAILQ_HEAD(conns, conn) conns; /* oldest first */
	LIST_ENTRY(activator) link;
};

enum conn_state {
	CONN_READING,    /* a request's head, or nothing yet */
	CONN_ASKING,     /* a poll; the Hub is asked who it is */
	CONN_HOLDING,    /* a poll that cannot be answered now, and for which nobody is woken */
	CONN_WAITING,    /* for the session, or, when that runs, for its turn */
	CONN_CONNECTING, /* to it, which runs */
	CONN_RELAYING,
	CONN_PARTING, /* has its last answer; what it still sends is thrown away */
};

/* One connection. */
struct conn {
	struct activator *a;
	enum conn_state state;
	mono_us begun;
	struct bufferevent *bev;
	struct bufferevent *server;    /* CONNECTING and RELAYING */
	struct event *timer;           /* means what the state says */
	struct request_head *head;     /* READING, from its first byte on; ASKING and HOLDING */
	struct hub_question *question; /* ASKING */
	struct relay relay;
	char *what;    /* WAITING: told to touched() */
	bool ended;    /* it sends no more */
	bool html;     /* it wants pages for people */
	bool bare;     /* it asked by HEAD */
	int refused;   /* how often the session did not take it */
	int held;      /* how often the Hub was asked in vain */
	bool relayed;  /* counted so; so is */
	bool arriving; /* counted in its activator's */
	TAILQ_ENTRY(conn) link;
};

enum request_outcome {
	REQUEST_ANSWERED, /* the next may come */
	REQUEST_LAST,     /* ... none may */
	REQUEST_UNKNOWN,  /* a poll: the Hub has to be asked about `who` */
	REQUEST_HELD,     /* a poll that is not recorded */
	REQUEST_TOUCHES,
};

/* What is to become of the request whose head is complete; a poll's answer is written to `to`. */
enum request_outcome request_handle(struct activator *a, const struct request_head *head,
				    const char *data, struct credentials *who, struct evbuffer *to);
struct hub_session request_hub_session(const struct activator *a);

/* Takes the descriptor over. */
void conn_begin(struct activator *a, int fd);
/* May end the activator: nothing of it is to be touched after. */
void conn_free(struct conn *c);
void conn_woken(struct conn *c);
void conn_connect(struct conn *c); /* WAITING, and the session runs */
void conn_failed(struct conn *c, const char *why, int retry_after_s);

/* There is room for one more, or it has ended. */
void activator_settle(struct activator *a);

#endif
