/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_NODE_NET_KEEP_H
#define ELSA_NODE_NET_KEEP_H

/*
 * Packets for a session that stands still: what comes while they are held
 * (net_hold()) is kept and given to it when it goes on. Dropped, a new caller
 * would try again after a second, and a connection after its own time-out, twice
 * that each time.
 *
 * Best effort, which packets are: 4 MiB of them at most, and none survive this
 * program.
 */

#include "node/net.h"

struct net_keep;

/* From here on; NULL when there is no such link, or no room. */
struct net_keep *net_keep_begin(const struct net_session *s);
/* What came before it was begun, as an IP packet with its checksums; given first. NULL is fine. */
void net_keep_put(struct net_keep *keep, const void *packet, size_t len);
/* Gives what was kept to the session, in order, and ends. NULL is fine. Returns NULL. */
void *net_keep_give(struct net_keep *keep);
/* Takes out what was kept, as IP packets, in order: it is not for the session. Checksums and
 * segments may be as yet undone in them. NULL is fine. */
void net_keep_each(struct net_keep *keep, void (*each)(const void *packet, size_t len, void *arg),
		   void *arg);
void *net_keep_free(struct net_keep *keep); /* drops it all; returns NULL */

#endif
