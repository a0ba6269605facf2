/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_NODE_NFTABLES_H
#define ELSA_NODE_NFTABLES_H

/*
 * Changes to packet filters as netlink messages, where nft(8) would take 15 ms
 * to start. They come as one transaction between NFNL_MSG_BATCH_BEGIN and _END
 * (linux/netfilter/nfnetlink.h).
 */

#include "node/netlink.h"

void nftables_mark(struct netlink *n, int type);

/* `what` as in netlink_begin(), NFT_MSG_... of a table of family inet. */
void nftables_begin(struct netlink *n, const char *what, int type, int flags);

#endif
