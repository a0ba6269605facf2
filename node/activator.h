/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_NODE_ACTIVATOR_H
#define ELSA_NODE_ACTIVATOR_H

/*
 * Answers at the address of a session that sleeps, and tells when somebody comes
 * who needs the session itself. One per sleeping session, at a listening socket to
 * which connections to that address are led.
 *
 * Of each connection the head of the next request is read. What is no HTTP is
 * closed. A poll of an open page (wake.polls) is answered from the record that
 * was made before the session fell asleep, to whoever has the session's
 * credentials (node/activator_credentials.h), and touches nothing. Anything else
 * is somebody: touched() is called, and the connection waits. When the session
 * runs again, each that waits is connected to its server and gets its bytes as they
 * came; when it cannot be woken, it gets a 503 page.
 *
 * On the loop's thread, but for activator_record(). Nothing here blocks. An
 * activator without connections takes less than 2 KiB of memory and one descriptor.
 */

#include "config/config.h"
#include "wire/messages.h"

#include <event2/event.h>

/* What all activators of a node share: limits, and what the Hub has said about whom. */
struct activators;
int activators_new(struct event_base *base, const struct config *config, struct activators **all,
		   struct error *e);
void *activators_free(struct activators *all); /* after every activator's end; returns NULL */

struct activator;

struct activator_options {
	const struct session_spec *spec; /* what is needed of it is copied */
	const char *record;              /* directory of activator_record(): copied; it may be
					  * empty or missing, then polls wait as well */
	int listen_fd;                   /* TCP, bound; taken over in any case */
	/* Begins a connection to the session's server, without waiting for it: the non-blocking
	 * socket, or negative. Called from activator_woken() on. */
	int (*connect)(void *arg, struct error *e);
	/* Somebody has come; `what` ("GET /user/ada/lab") is borrowed. Once for each request, and
	 * every 30 s while it waits. All of the functions below may be called from within. */
	void (*touched)(void *arg, const char *what);
	/* After activator_woken(): its last connection is over and it is gone. Not called by
	 * activator_free(). May be NULL. */
	void (*over)(void *arg);
	void *arg;
};

int activator_begin(struct activators *all, const struct activator_options *options,
		    struct activator **a, struct error *e);

/* The session runs: who waits is connected to it, and for a second more who comes still: their
 * connections may have been led here a moment ago. Called again, it stops listening at once. The
 * activator lives on until its last connection has ended, then it frees itself and calls over(),
 * which may be from within this. */
void activator_woken(struct activator *a);

/* It could not be woken: who waits gets a page that says so. `why` is a sentence for people, and is
 * shown to whoever has come: without secrets. It goes on listening. */
void activator_failed(struct activator *a, const char *why, int retry_after_s);

/* Cuts off whoever is connected. NULL is fine. Returns NULL. */
void *activator_free(struct activator *a);

/* Whether bytes of another connection to the session are such a poll, or its beginning. */
bool activator_is_poll(const struct activator *a, const void *bytes, size_t len);

size_t activator_connections(const struct activator *a);

/*
 * Asks the session's own server, which runs, for what its activator is to answer, into `dir`, which
 * is made new. Best effort: what the server does not answer in time is left out, and only what is
 * wrong with the directory is an error. Takes 5 s at most. From any thread; blocks.
 */
int activator_record(const struct config *config, const struct session_spec *spec, const char *dir,
		     struct error *e);

/* The same directory in a checkpoint. */
#define ACTIVATOR_TREE "activator"

#endif
