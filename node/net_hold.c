/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "node/net.h"

#include "base/cleanup.h"
#include "node/net_link.h"
#include "node/nftables.h"

#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter_ipv4.h>

/*
 * A table that drops everything lies ready in each session's namespace and is
 * switched by its "dormant" flag. By netlink rather than by nft, which takes
 * 15 ms to start and refuses a real uid other than 0. As nft would say it:
 *
 *	table inet elsa_hold {
 *		flags dormant;
 *		chain in {
 *			type filter hook prerouting priority raw; policy drop;
 *			meta mark 0xc114 accept
 *		}
 *		chain out { the same, with hook output }
 *	}
 *
 * That is before connection tracking and before a socket is looked up. The mark
 * is CRIU's own (SOCCR_MARK): a connection whose peer had closed it gets that
 * peer's FIN once more when it is restored. Sessions cannot set it.
 */

#define TABLE     "elsa_hold"
#define CRIU_MARK UINT32_C(0xc114)

/* --- messages ---------------------------------------------------------------- */

static void put_table(struct netlink *n, int flags, bool held)
{
	nftables_begin(
		n, held ? "switch the session's packets off" : "switch the session's packets on",
		NFT_MSG_NEWTABLE, flags);
	netlink_put_text(n, NFTA_TABLE_NAME, TABLE);
	netlink_put_be32(n, NFTA_TABLE_FLAGS, held ? 0 : NFT_TABLE_F_DORMANT);
}

static void put_chain(struct netlink *n, int flags, const char *name, uint32_t hook)
{
	nftables_begin(n, "make the switch for the session's packets", NFT_MSG_NEWCHAIN, flags);
	netlink_put_text(n, NFTA_CHAIN_TABLE, TABLE);
	netlink_put_text(n, NFTA_CHAIN_NAME, name);
	size_t nest = netlink_nest(n, NFTA_CHAIN_HOOK, NULL, 0);
	netlink_put_be32(n, NFTA_HOOK_HOOKNUM, hook);
	netlink_put_be32(n, NFTA_HOOK_PRIORITY, (uint32_t)NF_IP_PRI_RAW);
	netlink_nest_end(n, nest);
	netlink_put_be32(n, NFTA_CHAIN_POLICY, NF_DROP);
	netlink_put_text(n, NFTA_CHAIN_TYPE, "filter");
}

static size_t begin_expression(struct netlink *n, const char *name, size_t *element)
{
	*element = netlink_nest(n, NFTA_LIST_ELEM, NULL, 0);
	netlink_put_text(n, NFTA_EXPR_NAME, name);
	return netlink_nest(n, NFTA_EXPR_DATA, NULL, 0);
}

static void end_expression(struct netlink *n, size_t element, size_t data)
{
	netlink_nest_end(n, data);
	netlink_nest_end(n, element);
}

static void put_match(struct netlink *n)
{
	const uint32_t mark = CRIU_MARK; /* in the machine's order, as the kernel has it */
	size_t element;
	size_t data = begin_expression(n, "meta", &element);
	netlink_put_be32(n, NFTA_META_DREG, NFT_REG_1);
	netlink_put_be32(n, NFTA_META_KEY, NFT_META_MARK);
	end_expression(n, element, data);
	data = begin_expression(n, "cmp", &element);
	netlink_put_be32(n, NFTA_CMP_SREG, NFT_REG_1);
	netlink_put_be32(n, NFTA_CMP_OP, NFT_CMP_EQ);
	size_t value = netlink_nest(n, NFTA_CMP_DATA, NULL, 0);
	netlink_put(n, NFTA_DATA_VALUE, &mark, sizeof(mark));
	netlink_nest_end(n, value);
	end_expression(n, element, data);
}

static void put_accept(struct netlink *n)
{
	size_t element;
	size_t data = begin_expression(n, "immediate", &element);
	netlink_put_be32(n, NFTA_IMMEDIATE_DREG, NFT_REG_VERDICT);
	size_t value = netlink_nest(n, NFTA_IMMEDIATE_DATA, NULL, 0);
	size_t verdict = netlink_nest(n, NFTA_DATA_VERDICT, NULL, 0);
	netlink_put_be32(n, NFTA_VERDICT_CODE, NF_ACCEPT);
	netlink_nest_end(n, verdict);
	netlink_nest_end(n, value);
	end_expression(n, element, data);
}

static void put_rule(struct netlink *n, int flags, const char *chain)
{
	nftables_begin(n, "let CRIU's packets through", NFT_MSG_NEWRULE,
		       flags | NLM_F_CREATE | NLM_F_APPEND);
	netlink_put_text(n, NFTA_RULE_TABLE, TABLE);
	netlink_put_text(n, NFTA_RULE_CHAIN, chain);
	size_t list = netlink_nest(n, NFTA_RULE_EXPRESSIONS, NULL, 0);
	put_match(n);
	put_accept(n);
	netlink_nest_end(n, list);
}

/* One transaction, of which the last change is to be acknowledged: what comes first is that, or the
 * first failure. */
static int switch_table(int netns_fd, bool create, bool held, struct error *e)
{
	struct netlink n = NETLINK_INIT;
	nftables_mark(&n, NFNL_MSG_BATCH_BEGIN);
	put_table(&n, create ? NLM_F_CREATE : NLM_F_ACK, held);
	if (create) {
		put_chain(&n, NLM_F_CREATE, "in", NF_INET_PRE_ROUTING);
		put_chain(&n, NLM_F_CREATE, "out", NF_INET_LOCAL_OUT);
		put_rule(&n, 0, "in");
		put_rule(&n, NLM_F_ACK, "out");
	}
	nftables_mark(&n, NFNL_MSG_BATCH_END);
	cleanup_fd int fd = netlink_open(netns_fd, NETLINK_NETFILTER, e);
	return fd < 0 ? fd : netlink_send(&n, fd, e);
}

int net_hold_setup(int netns_fd, bool held, struct error *e)
{
	return switch_table(netns_fd, true, held, e);
}

static int set_held(int netns_fd, bool held, struct error *e)
{
	int r = switch_table(netns_fd, false, held, e);
	/* A namespace whose setup was broken off. */
	return r == -ENOENT ? net_hold_setup(netns_fd, held, e) : r;
}

int net_hold(const struct net_session *s, struct error *e)
{
	cleanup_fd int fd = net_namespace_open(s, e);
	return fd < 0 ? fd : set_held(fd, true, e);
}

int net_release(const struct net_session *s, struct error *e)
{
	cleanup_fd int fd = net_namespace_open(s, e);
	if (fd < 0)
		return fd;
	net_link_widen(fd, NULL); /* it works without, too */
	return set_held(fd, false, e);
}
