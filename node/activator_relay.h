/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_NODE_ACTIVATOR_RELAY_H
#define ELSA_NODE_ACTIVATOR_RELAY_H

/*
 * Two connections made one: what comes on either goes out on the other as it
 * came, ends of sending included. Each direction keeps some 64 KiB at most; a
 * reader that stalls stalls its writer. On the loop's thread.
 */

#include <event2/bufferevent.h>
#include <stdbool.h>

struct relay;

struct relay_events {
	void (*answered)(void *arg); /* the second side has sent its first bytes */
	void (*over)(void *arg); /* both have ended, or one has failed; it may free everything */
};

struct relay_side {
	struct relay *relay;
	struct bufferevent *bev;
	bool ended;  /* it sends no more */
	bool shut;   /* ... and was told that the other does not */
	bool failed; /* what it had sent before still goes to the other */
};

struct relay {
	struct relay_side sides[2];
	struct relay_events events;
	void *arg;
	bool answered;
};

/* Both are connected, and remain the caller's to free, after relay_begin() has returned or in
 * over(), which may be called from within. What they have read already goes first.
 * `ended`: the first side has ended before. */
void relay_begin(struct relay *relay, struct bufferevent *first, struct bufferevent *second,
		 bool ended, const struct relay_events *events, void *arg);

#endif
