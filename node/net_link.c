/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "node/net_link.h"

#include "base/cleanup.h"
#include "node/netlink.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <stdio.h>
#include <string.h>

enum {
	CREATE = NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL,
	REPLACE = NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE,
	LOOPBACK = 1, /* its index, in every namespace */
	MAC = 6,
};

#define INSIDE     "eth0"
#define LINK_PLAIN "keep IPv6 off the link"
#define LINK_UP    "bring the link up"

/* NET_NODE_MAC */
static const unsigned char node_mac[MAC] = { 0x02, 0xe5, 0, 0, 0, 0x01 };

/* What both ends need to know. */
struct ends {
	char name[NET_INTERFACE_SIZE];
	unsigned char mac[MAC]; /* of the session's end */
	struct in_addr address, host;
	bool host_is_here; /* no other host has its address */
};

static int find_ends(const struct net_session *s, struct ends *to, struct error *e)
{
	const char *host = s->config->network.host_address;
	char mac[NET_MAC_SIZE];
	net_interface(s->id, to->name);
	if (net_mac(s->address, mac) < 0 || inet_pton(AF_INET, s->address, &to->address) != 1)
		return error_set(e, EINVAL, "\"%s\" is not an IPv4 address", s->address);
	if (!host || inet_pton(AF_INET, host, &to->host) != 1)
		return error_set(e, EINVAL, "network.host_address is not an IPv4 address");
	sscanf(mac, "%hhx:%hhx:%hhx:%hhx:%hhx:%hhx", &to->mac[0], &to->mac[1], &to->mac[2],
	       &to->mac[3], &to->mac[4], &to->mac[5]);
	to->host_is_here = !net_is_joined(s->config);
	return 0;
}

/* --- messages (rtnetlink(7)) ------------------------------------------------------- */

static void put_end(struct netlink *n, const char *name, const unsigned char mac[MAC])
{
	netlink_put_text(n, IFLA_IFNAME, name);
	netlink_put(n, IFLA_ADDRESS, mac, MAC);
	netlink_put_u32(n, IFLA_MTU, NET_MTU);
}

static void put_pair(struct netlink *n, const struct ends *ends, int netns_fd)
{
	struct ifinfomsg head = { .ifi_family = AF_UNSPEC };
	netlink_begin(n, "make the link", RTM_NEWLINK, CREATE, &head, sizeof(head));
	put_end(n, ends->name, node_mac);
	size_t info = netlink_nest(n, IFLA_LINKINFO, NULL, 0);
	netlink_put_text(n, IFLA_INFO_KIND, "veth");
	size_t data = netlink_nest(n, IFLA_INFO_DATA, NULL, 0);
	size_t peer = netlink_nest(n, VETH_INFO_PEER, &head, sizeof(head));
	put_end(n, INSIDE, ends->mac);
	netlink_put_u32(n, IFLA_NET_NS_FD, (uint32_t)netns_fd);
	netlink_nest_end(n, peer);
	netlink_nest_end(n, data);
	netlink_nest_end(n, info);
}

static void put_address(struct netlink *n, uint32_t index, struct in_addr address)
{
	struct ifaddrmsg head = { .ifa_family = AF_INET, .ifa_prefixlen = 32, .ifa_index = index };
	netlink_begin(n, "give it its address", RTM_NEWADDR, REPLACE, &head, sizeof(head));
	netlink_put(n, IFA_LOCAL, &address, sizeof(address));
	netlink_put(n, IFA_ADDRESS, &address, sizeof(address));
}

static void put_neighbour(struct netlink *n, uint32_t index, struct in_addr address,
			  const unsigned char mac[MAC])
{
	struct ndmsg head = { .ndm_family = AF_INET,
			      .ndm_ifindex = (int)index,
			      .ndm_state = NUD_PERMANENT };
	netlink_begin(n, "name its neighbour", RTM_NEWNEIGH, REPLACE, &head, sizeof(head));
	netlink_put(n, NDA_DST, &address, sizeof(address));
	netlink_put(n, NDA_LLADDR, mac, MAC);
}

static void begin_route(struct netlink *n, uint32_t index, struct rtmsg head)
{
	head.rtm_family = AF_INET;
	head.rtm_table = RT_TABLE_MAIN;
	head.rtm_protocol = RTPROT_BOOT;
	head.rtm_type = RTN_UNICAST;
	netlink_begin(n, "make its route", RTM_NEWROUTE, REPLACE, &head, sizeof(head));
	netlink_put_u32(n, RTA_OIF, index);
}

/* --- the two ends ------------------------------------------------------------------ */

/* The loopback device's counts up to 65535 only, for TCP. */
static void put_widths(struct netlink *n, uint32_t index, bool narrow)
{
	enum { LOOPBACK_MTU = 65536, LOOPBACK_NARROW = 65000, NARROW = NET_MTU - 4 };
	netlink_link_up(n, LINK_UP, LOOPBACK);
	netlink_put_u32(n, IFLA_MTU, narrow ? LOOPBACK_NARROW : LOOPBACK_MTU);
	netlink_link_up(n, LINK_UP, index);
	netlink_put_u32(n, IFLA_MTU, narrow ? NARROW : NET_MTU);
}

static int open_inside(int netns_fd, uint32_t *index, struct error *e)
{
	cleanup_fd int fd = netlink_open(netns_fd, NETLINK_ROUTE, e);
	if (fd < 0)
		return fd;
	*index = netlink_index(fd, INSIDE);
	if (!*index)
		return error_set(e, ENODEV, "the link does not end in the session's namespace");
	return steal_fd(&fd);
}

static int configure_inside(const struct ends *ends, bool held, int netns_fd, struct error *e)
{
	struct netlink n = NETLINK_INIT;
	uint32_t index;
	cleanup_fd int fd = open_inside(netns_fd, &index, e);
	if (fd < 0)
		return fd;
	netlink_link_plain(&n, LINK_PLAIN, index);
	put_address(&n, index, ends->address);
	put_widths(&n, index, held);
	put_neighbour(&n, index, ends->host, node_mac);
	begin_route(&n, index,
		    (struct rtmsg) { .rtm_scope = RT_SCOPE_UNIVERSE, .rtm_flags = RTNH_F_ONLINK });
	netlink_put(&n, RTA_GATEWAY, &ends->host, sizeof(ends->host));
	return netlink_send(&n, fd, e);
}

static int configure_outside(const struct ends *ends, int fd, struct error *e)
{
	struct netlink n = NETLINK_INIT;
	uint32_t index = netlink_index(fd, ends->name);
	netlink_link_plain(&n, LINK_PLAIN, index);
	netlink_link_up(&n, LINK_UP, index);
	put_neighbour(&n, index, ends->address, ends->mac);
	begin_route(&n, index, (struct rtmsg) { .rtm_scope = RT_SCOPE_LINK, .rtm_dst_len = 32 });
	netlink_put(&n, RTA_DST, &ends->address, sizeof(ends->address));
	if (ends->host_is_here)
		netlink_put(&n, RTA_PREFSRC, &ends->host, sizeof(ends->host));
	return netlink_send(&n, fd, e);
}

static int make_pair(const struct ends *ends, int fd, int netns_fd, struct error *e)
{
	struct netlink n = NETLINK_INIT;
	if (netlink_index(fd, ends->name))
		return 0;
	put_pair(&n, ends, netns_fd);
	return netlink_send(&n, fd, e);
}

static int delete(const char *name, int fd, struct error *e)
{
	struct netlink n = NETLINK_INIT;
	struct ifinfomsg head = { .ifi_family = AF_UNSPEC,
				  .ifi_index = (int)netlink_index(fd, name) };
	if (!head.ifi_index)
		return 0;
	netlink_begin(&n, "remove the link", RTM_DELLINK, NLM_F_ACK, &head, sizeof(head));
	int r = netlink_send(&n, fd, e);
	return r == -ENODEV ? 0 : r;
}

static int set_up(const struct ends *ends, bool held, int fd, int netns_fd, struct error *e)
{
	int r = make_pair(ends, fd, netns_fd, e);
	if (r == 0)
		r = configure_outside(ends, fd, e);
	return r == 0 ? configure_inside(ends, held, netns_fd, e) : r;
}

int net_link_setup(const struct net_session *s, bool held, int netns_fd, struct error *e)
{
	struct ends ends;
	int r = find_ends(s, &ends, e);
	if (r < 0)
		return r;
	cleanup_fd int fd = netlink_open(-1, NETLINK_ROUTE, e);
	if (fd < 0)
		return fd;
	bool old = netlink_index(fd, ends.name);
	r = set_up(&ends, held, fd, netns_fd, e);
	/* A link of the same name that leads to a namespace of before. */
	if (r < 0 && old && delete (ends.name, fd, e) == 0)
		r = set_up(&ends, held, fd, netns_fd, e);
	return r;
}

int net_link_widen(int netns_fd, struct error *e)
{
	struct netlink n = NETLINK_INIT;
	uint32_t index;
	cleanup_fd int fd = open_inside(netns_fd, &index, e);
	if (fd < 0)
		return fd;
	put_widths(&n, index, false);
	return netlink_send(&n, fd, e);
}

int net_link_delete(const char *id, struct error *e)
{
	char name[NET_INTERFACE_SIZE];
	net_interface(id, name);
	cleanup_fd int fd = netlink_open(-1, NETLINK_ROUTE, e);
	return fd < 0 ? fd : delete (name, fd, e);
}
