/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_NODE_NET_H
#define ELSA_NODE_NET_H

/*
 * The sessions' network. Each session has one address for life, alone in its
 * own namespace at the end of a veth pair:
 *
 *	session   eth0  ADDRESS/32, default via HOST_ADDRESS onlink
 *	node      esID  no address; ADDRESS/32 routed to it
 *	          lo    HOST_ADDRESS/32; not on a node that has joined another host's
 *	                elsad: there the overlay leads to it (node/overlay.h)
 *
 * Both ends know the other's hardware address by heart (it follows from the IP
 * address; the node's end is the same everywhere), so nothing depends on ARP
 * and a session finds its next node as it left the last one.
 *
 * Blocking; different sessions may be worked on at the same time.
 */

#include "base/buf.h"
#include "base/error.h"
#include "config/config.h"

#include <stdbool.h>

#define NET_INTERFACE_PREFIX "es"
#define NET_INTERFACE_SIZE   16 /* IFNAMSIZ */

/* Room for an encapsulation between nodes: a session keeps its MTU when it moves. */
#define NET_MTU 1450

struct net_session {
	const struct config *config;
	const char *id;
	const char *address;
	const char *netns; /* path of the bound namespace */
};

/* Has this node joined an elsad on another host? Then that one has network.host_address, and it is
 * reached through the overlay (node/overlay.h). */
bool net_is_joined(const struct config *config);

/* The device that leads to other hosts: of its own for each elsa-node on a machine. */
void net_overlay_interface(const struct config *config, char to[NET_INTERFACE_SIZE]);

/* Is `address` in `network` ("10.99.0.0/16")? Pure. */
bool net_contains(const char *network, const char *address);

/* Name of the host's side of the link. */
void net_interface(const char *id, char to[NET_INTERFACE_SIZE]);
/* "02:e5:0a:63:00:02" for 10.99.0.2. -EINVAL when it is no IPv4 address. */
#define NET_MAC_SIZE 18
#define NET_NODE_MAC "02:e5:00:00:00:01" /* the node's end of every link, on every node */
int net_mac(const char *address, char to[NET_MAC_SIZE]);

/* Is a network namespace bound at `path`? */
bool net_namespace_bound(const char *path);

/* A new namespace, bound at s->netns, or `from` ("/proc/PID/ns/net") bound there. No-op when there
 * is one already. */
int net_namespace_make(const struct net_session *s, const char *from, struct error *e);

int net_namespace_open(const struct net_session *s, struct error *e);

/* Link, address, routes. `held`: packets are stopped before the link comes up. */
int net_session_setup(const struct net_session *s, bool held, struct error *e);
int net_session_teardown(const struct net_session *s, struct error *e);

/* Stops every packet in the namespace, loopback included, as criu's own network lock does. Under a
 * millisecond, since it is done while the session stands still. */
int net_hold(const struct net_session *s, struct error *e);
int net_release(const struct net_session *s, struct error *e);
/* Loads what these two switch; part of net_session_setup(). */
int net_hold_setup(int netns_fd, bool held, struct error *e);

/* Packet filter, host address, forwarding. */
int net_host_setup(const struct config *config, struct error *e);
int net_host_teardown(const struct config *config, struct error *e);

/* The packet filter as nft's input; pure. -EINVAL with the entry of `network` that is wrong. */
int net_host_rules(const struct config *config, struct buf *to, struct error *e);
/* Lines of nft's, as one transaction. */
int net_load_rules(const char *rules, struct error *e);
/* "elsa_NAME": two nodes' programs on one machine do not share tables. */
#define NET_TABLE_SIZE 48
void net_table(const struct config *config, char to[NET_TABLE_SIZE]);
/* Must sessions' packets be routed to other machines? */
bool net_needs_forwarding(const struct config *config);

/* "10.99.0.1:8082" or "10.0.0.0/8:443", or without the port. Pure. */
struct net_destination {
	char network[20]; /* address with prefix length */
	int port;         /* 0: all */
	bool is_host;     /* a single address */
};
int net_parse_destination(const char *text, struct net_destination *to);

#endif
