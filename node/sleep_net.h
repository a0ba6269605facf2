/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_NODE_SLEEP_NET_H
#define ELSA_NODE_SLEEP_NET_H

/*
 * How the address of a session that sleeps is kept and answered at. Nothing of
 * its own network is left; instead there is on the node, for all of them
 * together,
 *
 *	esslHHHHHHHH  a TUN device that the sleeping sessions' addresses are routed to: what
 *	              comes out of it are packets of connections that were open when they fell
 *	              asleep, and what is written to it comes from a session
 *	asleep        a map in our packet filter (node/net.h), "ADDRESS . PORT : LISTENER": the
 *	              beginning of a connection goes to that listener instead, whether or not the
 *	              session's own network is there
 *
 * A connection once begun keeps its way, wherever the map and the route lead later. The beginning
 * of one that the map does not know goes nowhere, and is not remembered as begun: its caller tries
 * again in a second. The device outlives this program, silent; the map is made anew at its start.
 */

#include "base/error.h"
#include "config/config.h"

#include <event2/event.h>
#include <netinet/in.h>
#include <stddef.h>

/* Where listeners are: an address that nobody can reach but by the map. */
#define SLEEP_NET_ADDRESS "169.254.83.76"

/* The device, of its own for each elsa-node on a machine. It begins as the sessions' links do, so
 * that what is filtered there is here, and goes on so that it is nobody's. */
#define SLEEP_NET_PREFIX "essl"
void sleep_net_interface(const struct config *config, char to[16]);

struct sleep_net;

/* Device and address. `packet` is called on the loop with each IP packet for a session that sleeps.
 */
int sleep_net_open(const struct config *config, struct event_base *base,
		   void (*packet)(const void *data, size_t len, void *arg), void *arg,
		   struct sleep_net **to, struct error *e);
void *sleep_net_close(struct sleep_net *net); /* the device stays; returns NULL */
/* Takes device and address away. */
int sleep_net_teardown(const struct config *config, struct error *e);

/* An IP packet of a sleeping session's. Best effort. On the loop. */
void sleep_net_send(struct sleep_net *net, const void *packet, size_t len);

/* From here on any thread, each a fraction of a millisecond. */

/* A socket that listens nowhere as yet, and where it is; the same port for a session again and
 * again, where that is free. Non-blocking; or negative. */
int sleep_net_bind(const char *id, struct sockaddr_in *listener, struct error *e);

/* The map: in the place of what it said before; what it does not know is fine. */
int sleep_net_redirect(const struct config *config, const char *address, int64_t port,
		       const struct sockaddr_in *listener, struct error *e);
int sleep_net_undirect(const struct config *config, const char *address, int64_t port,
		       struct error *e);

/* The session's address leads to the device, at once and in the place of its own link if there is
 * one; or leads there no more, and nowhere if it still did. */
int sleep_net_route(const struct config *config, const char *address, struct error *e);
int sleep_net_unroute(const struct config *config, const char *address, struct error *e);

#endif
