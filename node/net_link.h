/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_NODE_NET_LINK_H
#define ELSA_NODE_NET_LINK_H

/* A session's link, see node/net.h. Private to node/net*.c. */

#include "node/net.h"

/* Makes it, with addresses, neighbours and routes at both ends; what is there already stays. held:
 * its devices are narrow until they are widened. */
int net_link_setup(const struct net_session *s, bool held, int netns_fd, struct error *e);

/* Of a connection that CRIU restores the kernel has reckoned how large its packets may be before it
 * was told what the other end takes: 524 bytes at most. It reckons anew when what fits through the
 * device is not what it was then. */
int net_link_widen(int netns_fd, struct error *e);

/* With it go its routes and neighbours, and the other end. A missing one is fine. */
int net_link_delete(const char *id, struct error *e);

#endif
