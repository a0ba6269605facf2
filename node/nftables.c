/* SPDX-License-Identifier: Apache-2.0 */
#include "node/nftables.h"

#include <arpa/inet.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>

static void begin(struct netlink *n, const char *what, int type, int flags, int family,
		  int resource)
{
	struct nfgenmsg head = { .nfgen_family = (uint8_t)family,
				 .version = NFNETLINK_V0,
				 .res_id = htons((uint16_t)resource) };
	netlink_begin(n, what, type, flags, &head, sizeof(head));
}

void nftables_mark(struct netlink *n, int type)
{
	begin(n, "change the packet filter", type, 0, AF_UNSPEC, NFNL_SUBSYS_NFTABLES);
}

void nftables_begin(struct netlink *n, const char *what, int type, int flags)
{
	begin(n, what, NFNL_SUBSYS_NFTABLES << 8 | type, flags, NFPROTO_INET, 0);
}
