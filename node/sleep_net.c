/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "node/sleep_net.h"

#include "base/cleanup.h"
#include "base/log.h"
#include "node/close_soon.h"
#include "node/net.h"
#include "node/nftables.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/if_tun.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
	REPLACE = NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE,
	LOOPBACK = 1,         /* its index, in every namespace */
	PACKETS_AT_ONCE = 64, /* before others on the loop have their turn */
	FIRST_PORT = 1024,
	PORTS = 64000,
	PORT_TRIES = 64,
};

struct sleep_net {
	int fd;
	struct event *readable;
	void (*packet)(const void *data, size_t len, void *arg);
	void *arg;
};

void sleep_net_interface(const struct config *config, char to[NET_INTERFACE_SIZE])
{
	char overlay[NET_INTERFACE_SIZE];
	net_overlay_interface(config, overlay);
	snprintf(to, NET_INTERFACE_SIZE, SLEEP_NET_PREFIX "%s", overlay + strlen("elsavx"));
}

/* --- the device ---------------------------------------------------------------- */

static int attach(const struct config *config, struct error *e)
{
	struct ifreq request = { .ifr_flags = IFF_TUN | IFF_NO_PI };
	cleanup_fd int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
	sleep_net_interface(config, request.ifr_name);
	if (fd < 0 || ioctl(fd, TUNSETIFF, &request) < 0 || ioctl(fd, TUNSETPERSIST, 1UL) < 0)
		return error_remedy(
			e, error_errno(e, "cannot make the network device %s", request.ifr_name),
			"modprobe tun (a kernel with CONFIG_TUN has it); in a container, let it "
			"have /dev/net/tun");
	return steal_fd(&fd);
}

static void put_mtu(struct netlink *n, uint32_t index)
{
	struct ifinfomsg head = { .ifi_family = AF_UNSPEC, .ifi_index = (int)index };
	netlink_begin(n, "set the device's MTU", RTM_SETLINK, NLM_F_ACK, &head, sizeof(head));
	netlink_put_u32(n, IFLA_MTU, NET_MTU);
}

static void put_address(struct netlink *n, int type, int flags)
{
	struct ifaddrmsg head = { .ifa_family = AF_INET,
				  .ifa_prefixlen = 32,
				  .ifa_scope = RT_SCOPE_LINK,
				  .ifa_index = LOOPBACK };
	struct in_addr address;
	inet_pton(AF_INET, SLEEP_NET_ADDRESS, &address);
	netlink_begin(n, "give the node an address to answer at", type, flags, &head, sizeof(head));
	netlink_put(n, IFA_LOCAL, &address, sizeof(address));
	netlink_put(n, IFA_ADDRESS, &address, sizeof(address));
}

static int configure(const struct config *config, struct error *e)
{
	struct netlink n = NETLINK_INIT;
	char name[NET_INTERFACE_SIZE];
	cleanup_fd int fd = netlink_open(-1, NETLINK_ROUTE, e);
	if (fd < 0)
		return fd;
	sleep_net_interface(config, name);
	uint32_t index = netlink_index(fd, name);
	netlink_link_plain(&n, "keep IPv6 off the device", index);
	put_mtu(&n, index);
	netlink_link_up(&n, "bring the device up", index);
	put_address(&n, RTM_NEWADDR, REPLACE);
	return netlink_send(&n, fd, e);
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
	(void)what;
	struct sleep_net *net = arg;
	unsigned char packet[NET_MTU];
	for (int i = 0; i < PACKETS_AT_ONCE; i++) {
		ssize_t n = read(fd, packet, sizeof(packet));
		if (n <= 0)
			return;
		net->packet(packet, (size_t)n, net->arg);
	}
}

int sleep_net_open(const struct config *config, struct event_base *base,
		   void (*packet)(const void *data, size_t len, void *arg), void *arg,
		   struct sleep_net **to, struct error *e)
{
	int fd = attach(config, e);
	if (fd < 0)
		return fd;
	struct sleep_net *net = calloc(1, sizeof(*net));
	if (!net) {
		close(fd);
		return error_set(e, ENOMEM, "out of memory");
	}
	*net = (struct sleep_net) { .fd = fd, .packet = packet, .arg = arg };
	net->readable = event_new(base, fd, EV_READ | EV_PERSIST, on_readable, net);
	int r = configure(config, e);
	if (r == 0 && (!net->readable || event_add(net->readable, NULL) < 0))
		r = error_set(e, ENOMEM, "cannot watch the sleeping sessions' packets");
	if (r < 0)
		sleep_net_close(net);
	else
		*to = net;
	return r;
}

void *sleep_net_close(struct sleep_net *net)
{
	if (net) {
		if (net->readable)
			event_free(net->readable);
		close(net->fd);
		free(net);
	}
	return NULL;
}

int sleep_net_teardown(const struct config *config, struct error *e)
{
	struct netlink n = NETLINK_INIT;
	char name[NET_INTERFACE_SIZE];
	cleanup_fd int fd = netlink_open(-1, NETLINK_ROUTE, e);
	if (fd < 0)
		return fd;
	sleep_net_interface(config, name);
	put_address(&n, RTM_DELADDR, NLM_F_ACK);
	int r = netlink_flush(&n, fd, EADDRNOTAVAIL, e);
	struct ifinfomsg head = { .ifi_family = AF_UNSPEC,
				  .ifi_index = (int)netlink_index(fd, name) };
	if (r < 0 || !head.ifi_index)
		return r;
	netlink_begin(&n, "remove the device", RTM_DELLINK, NLM_F_ACK, &head, sizeof(head));
	return netlink_flush(&n, fd, ENODEV, e);
}

void sleep_net_send(struct sleep_net *net, const void *packet, size_t len)
{
	if (write(net->fd, packet, len) < 0)
		log_debug("a packet in the name of a sleeping session is lost: %s",
			  strerror(errno));
}

/* --- the listener -------------------------------------------------------------- */

/* FNV-1a. A caller whose first packet was redirected and not answered, since this program was being
 * started anew, comes to the same port with its second. */
static uint32_t first_port(const char *id)
{
	uint32_t hash = 2166136261U;
	for (const char *p = id; *p; p++)
		hash = (hash ^ (unsigned char)*p) * 16777619U;
	return hash % PORTS;
}

int sleep_net_bind(const char *id, struct sockaddr_in *listener, struct error *e)
{
	const int on = 1;
	uint32_t first = first_port(id);
	cleanup_fd int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return error_errno(e, "cannot make a socket");
	*listener = (struct sockaddr_in) { .sin_family = AF_INET };
	inet_pton(AF_INET, SLEEP_NET_ADDRESS, &listener->sin_addr);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	for (uint32_t i = 0; i < PORT_TRIES; i++) {
		listener->sin_port = htons((uint16_t)(FIRST_PORT + (first + i) % PORTS));
		if (bind(fd, (struct sockaddr *)listener, sizeof(*listener)) == 0)
			return steal_fd(&fd);
		if (errno != EADDRINUSE)
			break;
	}
	return error_errno(e, "cannot listen in the place of session %s", id);
}

/* --- the map ------------------------------------------------------------------- */

/* Parts of a key lie on 32 bits each. */
struct end {
	struct in_addr address;
	uint16_t port, none;
};

static int find_end(const char *address, int64_t port, struct end *to, struct error *e)
{
	*to = (struct end) { .port = htons((uint16_t)port) };
	if (inet_pton(AF_INET, address, &to->address) != 1)
		return error_set(e, EINVAL, "\"%s\" is not an IPv4 address", address);
	return 0;
}

static void put_end(struct netlink *n, int type, const struct end *end)
{
	size_t nest = netlink_nest(n, type, NULL, 0);
	netlink_put(n, NFTA_DATA_VALUE, end, sizeof(*end));
	netlink_nest_end(n, nest);
}

static void put_element(struct netlink *n, const char *table, int type, const struct end *key,
			const struct end *value)
{
	bool add = type == NFT_MSG_NEWSETELEM;
	nftables_begin(n,
		       add ? "answer for the session at its address"
			   : "let the session answer at its address",
		       type, NLM_F_ACK | (add ? NLM_F_CREATE : 0));
	netlink_put_text(n, NFTA_SET_ELEM_LIST_TABLE, table);
	netlink_put_text(n, NFTA_SET_ELEM_LIST_SET, "asleep");
	size_t list = netlink_nest(n, NFTA_SET_ELEM_LIST_ELEMENTS, NULL, 0);
	size_t element = netlink_nest(n, NFTA_LIST_ELEM, NULL, 0);
	put_end(n, NFTA_SET_ELEM_KEY, key);
	if (value)
		put_end(n, NFTA_SET_ELEM_DATA, value);
	netlink_nest_end(n, element);
	netlink_nest_end(n, list);
}

static int change_map(const struct config *config, int type, const struct end *key,
		      const struct end *value, struct error *e)
{
	struct netlink n = NETLINK_INIT;
	char table[NET_TABLE_SIZE];
	net_table(config, table);
	nftables_mark(&n, NFNL_MSG_BATCH_BEGIN);
	put_element(&n, table, type, key, value);
	nftables_mark(&n, NFNL_MSG_BATCH_END);
	int fd = netlink_open(-1, NETLINK_NETFILTER, e);
	if (fd < 0)
		return fd;
	int r = netlink_send(&n, fd, e);
	close_soon(fd);
	return r;
}

int sleep_net_redirect(const struct config *config, const char *address, int64_t port,
		       const struct sockaddr_in *listener, struct error *e)
{
	struct end key;
	const struct end value = { .address = listener->sin_addr, .port = listener->sin_port };
	int r = find_end(address, port, &key, e);
	if (r == 0)
		r = change_map(config, NFT_MSG_NEWSETELEM, &key, &value, e);
	if (r != -EEXIST && r != -EBUSY)
		return r;
	/* It leads to another listener. */
	r = change_map(config, NFT_MSG_DELSETELEM, &key, NULL, e);
	return r < 0 && r != -ENOENT ? r : change_map(config, NFT_MSG_NEWSETELEM, &key, &value, e);
}

int sleep_net_undirect(const struct config *config, const char *address, int64_t port,
		       struct error *e)
{
	struct end key;
	int r = find_end(address, port, &key, e);
	if (r == 0)
		r = change_map(config, NFT_MSG_DELSETELEM, &key, NULL, e);
	return r == -ENOENT ? 0 : r;
}

/* --- routes -------------------------------------------------------------------- */

static int change_route(const struct config *config, const char *address, int type, int flags,
			int fine, struct error *e)
{
	struct netlink n = NETLINK_INIT;
	char name[NET_INTERFACE_SIZE];
	struct rtmsg head = { .rtm_family = AF_INET,
			      .rtm_dst_len = 32,
			      .rtm_table = RT_TABLE_MAIN,
			      .rtm_protocol = RTPROT_BOOT,
			      .rtm_scope = RT_SCOPE_LINK,
			      .rtm_type = RTN_UNICAST };
	struct in_addr to, host;
	if (inet_pton(AF_INET, address, &to) != 1)
		return error_set(e, EINVAL, "\"%s\" is not an IPv4 address", address);
	cleanup_fd int fd = netlink_open(-1, NETLINK_ROUTE, e);
	if (fd < 0)
		return fd;
	sleep_net_interface(config, name);
	uint32_t index = netlink_index(fd, name);
	if (!index && type == RTM_DELROUTE)
		return 0;
	netlink_begin(&n, "lead a sleeping session's address to us", type, flags, &head,
		      sizeof(head));
	netlink_put(&n, RTA_DST, &to, sizeof(to));
	netlink_put_u32(&n, RTA_OIF, index);
	if (type == RTM_NEWROUTE && !net_is_joined(config) &&
	    inet_pton(AF_INET, config->network.host_address, &host) == 1)
		netlink_put(&n, RTA_PREFSRC, &host, sizeof(host));
	return netlink_flush(&n, fd, fine, e);
}

int sleep_net_route(const struct config *config, const char *address, struct error *e)
{
	return change_route(config, address, RTM_NEWROUTE, REPLACE, 0, e);
}

int sleep_net_unroute(const struct config *config, const char *address, struct error *e)
{
	return change_route(config, address, RTM_DELROUTE, NLM_F_ACK, ESRCH, e);
}
