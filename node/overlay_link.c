/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "node/overlay_link.h"

#include "base/cleanup.h"
#include "node/netlink.h"
#include "node/overlay.h"

#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

enum {
	CREATE = NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL,
	REPLACE = NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE,
	MAC = 6,
	TRIES = 5,
};

static void mac_bytes(uint64_t mac, unsigned char to[MAC])
{
	for (int i = 0; i < MAC; i++)
		to[i] = (unsigned char)(mac >> 8 * (MAC - 1 - i));
}

static uint64_t mac_number(const struct nlattr *a)
{
	unsigned char bytes[MAC];
	uint64_t mac = 0;
	netlink_get(a, bytes, sizeof(bytes));
	for (int i = 0; i < MAC; i++)
		mac = mac << 8 | bytes[i];
	return mac;
}

static uint32_t address_number(const struct nlattr *a)
{
	uint32_t address;
	netlink_get(a, &address, sizeof(address));
	return ntohl(address);
}

/* --- the device ---------------------------------------------------------------------- */

static void put_device(struct netlink *n, const struct overlay_device *d)
{
	const struct ifinfomsg head = { .ifi_family = AF_UNSPEC };
	const uint8_t no = 0;
	const uint16_t port = htons(d->port);
	unsigned char mac[MAC];
	mac_bytes(overlay_mac(d->address), mac);
	netlink_begin(n, "make the overlay's device", RTM_NEWLINK, CREATE, &head, sizeof(head));
	netlink_put_text(n, IFLA_IFNAME, d->name);
	netlink_put(n, IFLA_ADDRESS, mac, MAC);
	netlink_put_u32(n, IFLA_MTU, d->mtu);
	size_t info = netlink_nest(n, IFLA_LINKINFO, NULL, 0);
	netlink_put_text(n, IFLA_INFO_KIND, "vxlan");
	size_t data = netlink_nest(n, IFLA_INFO_DATA, NULL, 0);
	netlink_put_u32(n, IFLA_VXLAN_ID, d->id);
	netlink_put_be32(n, IFLA_VXLAN_LOCAL, d->underlay);
	netlink_put(n, IFLA_VXLAN_PORT, &port, sizeof(port));
	netlink_put(n, IFLA_VXLAN_LEARNING, &no, sizeof(no));
	netlink_nest_end(n, data);
	netlink_nest_end(n, info);
}

static void put_address(struct netlink *n, uint32_t index, uint32_t address)
{
	struct ifaddrmsg head = { .ifa_family = AF_INET, .ifa_prefixlen = 32, .ifa_index = index };
	netlink_begin(n, "give this host its overlay address", RTM_NEWADDR, REPLACE, &head,
		      sizeof(head));
	netlink_put_be32(n, IFA_LOCAL, address);
	netlink_put_be32(n, IFA_ADDRESS, address);
}

struct found_device {
	bool there;
	bool is_vxlan;
	uint64_t mac;
	uint32_t id, underlay;
	uint16_t port;
	uint8_t learning;
};

static int take_device(const struct nlmsghdr *m, void *arg)
{
	struct found_device *to = arg;
	const struct nlattr *a[IFLA_LINKINFO + 1];
	const struct nlattr *info[IFLA_INFO_DATA + 1];
	const struct nlattr *data[IFLA_VXLAN_PORT + 1];
	char kind[8];
	if (m->nlmsg_type != RTM_NEWLINK)
		return 0;
	netlink_attributes(m, sizeof(struct ifinfomsg), a, ARRAY_SIZE(a));
	to->there = true;
	to->mac = mac_number(a[IFLA_ADDRESS]);
	netlink_parse_nested(a[IFLA_LINKINFO], info, ARRAY_SIZE(info));
	netlink_get(info[IFLA_INFO_KIND], kind, sizeof(kind));
	to->is_vxlan = strncmp(kind, "vxlan", sizeof(kind)) == 0;
	netlink_parse_nested(info[IFLA_INFO_DATA], data, ARRAY_SIZE(data));
	netlink_get(data[IFLA_VXLAN_ID], &to->id, sizeof(to->id));
	to->underlay = address_number(data[IFLA_VXLAN_LOCAL]);
	netlink_get(data[IFLA_VXLAN_PORT], &to->port, sizeof(to->port));
	netlink_get(data[IFLA_VXLAN_LEARNING], &to->learning, sizeof(to->learning));
	return 0;
}

static int find_device(int fd, const char *name, struct found_device *to, struct error *e)
{
	struct netlink n = NETLINK_INIT;
	const struct ifinfomsg head = { .ifi_family = AF_UNSPEC };
	netlink_begin(&n, "see the overlay's device", RTM_GETLINK, NLM_F_ACK, &head, sizeof(head));
	netlink_put_text(&n, IFLA_IFNAME, name);
	*to = (struct found_device) { 0 };
	int r = netlink_ask(&n, fd, take_device, to, e);
	return r == -ENODEV ? 0 : r;
}

static bool is_as_wanted(const struct found_device *f, const struct overlay_device *d)
{
	return f->is_vxlan && f->mac == overlay_mac(d->address) && f->id == d->id &&
	       f->underlay == d->underlay && f->port == htons(d->port) && !f->learning;
}

static int delete(int fd, const char *name, struct error *e)
{
	struct netlink n = NETLINK_INIT;
	struct ifinfomsg head = { .ifi_family = AF_UNSPEC,
				  .ifi_index = (int)netlink_index(fd, name) };
	if (!head.ifi_index)
		return 0;
	netlink_begin(&n, "remove the overlay's device", RTM_DELLINK, NLM_F_ACK, &head,
		      sizeof(head));
	return netlink_flush(&n, fd, ENODEV, e);
}

static int create(int fd, const struct overlay_device *d, struct error *e)
{
	struct netlink n = NETLINK_INIT;
	put_device(&n, d);
	int r = netlink_send(&n, fd, e);
	if (r == -EEXIST)
		return error_remedy(e, r,
				    "Another VXLAN device has network.overlay_id %u on port %u: "
				    "choose other ones, the same on all hosts.",
				    d->id, d->port);
	return error_remedy(e, r,
			    "The kernel needs vxlan (CONFIG_VXLAN; on Ubuntu's clouds "
			    "linux-modules-extra has it): see if modprobe vxlan works.");
}

/* Its index, or negative. */
static int ensure_device(int fd, const struct overlay_device *d, struct error *e)
{
	struct netlink n = NETLINK_INIT;
	struct found_device found;
	int r = find_device(fd, d->name, &found, e);
	bool fresh = r == 0 && !is_as_wanted(&found, d);
	if (r == 0 && found.there && fresh)
		r = delete (fd, d->name, e);
	if (r == 0 && fresh)
		r = create(fd, d, e);
	if (r < 0)
		return r;
	uint32_t index = netlink_index(fd, d->name);
	if (!index)
		return error_set(e, ENODEV, "the overlay's device has vanished");
	if (fresh)
		netlink_link_plain(&n, "keep IPv6 off the overlay", index);
	netlink_link_up(&n, "bring the overlay up", index);
	netlink_put_u32(&n, IFLA_MTU, d->mtu);
	put_address(&n, index, d->address);
	r = netlink_flush(&n, fd, 0, e);
	return r < 0 ? r : (int)index;
}

/* --- what is there --------------------------------------------------------------------- */

struct dump {
	uint32_t index;
	struct overlay_table *to;
};

static int take_neighbour(const struct nlmsghdr *m, void *arg)
{
	struct dump *d = arg;
	const struct ndmsg *head = NLMSG_DATA(m);
	const struct nlattr *a[NDA_LLADDR + 1];
	if (m->nlmsg_type != RTM_NEWNEIGH || (uint32_t)head->ndm_ifindex != d->index ||
	    !(head->ndm_state & NUD_PERMANENT))
		return 0;
	netlink_attributes(m, sizeof(*head), a, ARRAY_SIZE(a));
	if (head->ndm_family == AF_BRIDGE && a[NDA_DST])
		return overlay_table_add(d->to, mac_number(a[NDA_LLADDR]),
					 address_number(a[NDA_DST]));
	if (head->ndm_family == AF_INET)
		return overlay_table_add(d->to, address_number(a[NDA_DST]),
					 mac_number(a[NDA_LLADDR]));
	return 0;
}

static int take_route(const struct nlmsghdr *m, void *arg)
{
	struct dump *d = arg;
	const struct rtmsg *head = NLMSG_DATA(m);
	const struct nlattr *a[RTA_PREFSRC + 1];
	uint32_t index, metric;
	if (m->nlmsg_type != RTM_NEWROUTE || head->rtm_family != AF_INET ||
	    head->rtm_table != RT_TABLE_MAIN || head->rtm_dst_len != 32)
		return 0;
	netlink_attributes(m, sizeof(*head), a, ARRAY_SIZE(a));
	netlink_get(a[RTA_OIF], &index, sizeof(index));
	netlink_get(a[RTA_PRIORITY], &metric, sizeof(metric));
	if (index != d->index || metric != OVERLAY_METRIC)
		return 0;
	uint64_t source = address_number(a[RTA_PREFSRC]);
	return overlay_table_add(d->to, address_number(a[RTA_DST]),
				 source << 32 | address_number(a[RTA_GATEWAY]));
}

static int ask_neighbours(int fd, int family, struct dump *d, struct error *e)
{
	struct netlink n = NETLINK_INIT;
	/* Of the kernel only what is of this device, as each asks for it. */
	struct ndmsg head = { .ndm_family = (uint8_t)family,
			      .ndm_ifindex = family == AF_BRIDGE ? (int)d->index : 0 };
	netlink_begin(&n, "list the overlay's neighbours", RTM_GETNEIGH, NLM_F_DUMP, &head,
		      sizeof(head));
	if (family != AF_BRIDGE)
		netlink_put_u32(&n, NDA_IFINDEX, d->index);
	return netlink_ask(&n, fd, take_neighbour, d, e);
}

static int ask_routes(int fd, struct dump *d, struct error *e)
{
	struct netlink n = NETLINK_INIT;
	struct rtmsg head = { .rtm_family = AF_INET, .rtm_table = RT_TABLE_MAIN };
	netlink_begin(&n, "list the overlay's routes", RTM_GETROUTE, NLM_F_DUMP, &head,
		      sizeof(head));
	netlink_put_u32(&n, RTA_OIF, d->index);
	return netlink_ask(&n, fd, take_route, d, e);
}

static int ask(int fd, enum overlay_kind kind, struct dump *d, struct error *e)
{
	if (kind == OVERLAY_ROUTE)
		return ask_routes(fd, d, e);
	return ask_neighbours(fd, kind == OVERLAY_FDB ? AF_BRIDGE : AF_INET, d, e);
}

/* On a socket of its own: what a broken-off answer leaves in it is not for the next question. */
static int read_table(enum overlay_kind kind, uint32_t index, struct overlay_table *to,
		      struct error *e)
{
	const int on = 1;
	int r = -EAGAIN;
	for (int i = 0; r == -EAGAIN && i < TRIES; i++) {
		cleanup_fd int fd = netlink_open(-1, NETLINK_ROUTE, e);
		if (fd < 0)
			return fd;
		setsockopt(fd, SOL_NETLINK, NETLINK_GET_STRICT_CHK, &on, sizeof(on));
		to->count = 0;
		free(to->items);
		to->items = NULL;
		r = ask(fd, kind, &(struct dump) { index, to }, e);
	}
	return r;
}

/* --- changes -------------------------------------------------------------------------- */

struct batch {
	struct netlink n;
	int fd;
	uint32_t index;
	int fine; /* what a removal may fail with */
	struct error *e;
};

static int flush(struct batch *b)
{
	return b->n.count ? netlink_flush(&b->n, b->fd, b->fine, b->e) : 0;
}

static int flush_full(struct batch *b)
{
	return netlink_full(&b->n) ? flush(b) : 0;
}

static int put_fdb(struct batch *b, int type, int flags, struct overlay_pair p)
{
	struct ndmsg head = { .ndm_family = AF_BRIDGE,
			      .ndm_ifindex = (int)b->index,
			      .ndm_state = NUD_PERMANENT | NUD_NOARP,
			      .ndm_flags = NTF_SELF };
	unsigned char mac[MAC];
	mac_bytes(p.key, mac);
	netlink_begin(&b->n, "say where another host is", type, flags, &head, sizeof(head));
	netlink_put(&b->n, NDA_LLADDR, mac, MAC);
	netlink_put_be32(&b->n, NDA_DST, (uint32_t)p.value);
	return flush_full(b);
}

static int put_neighbour(struct batch *b, int type, int flags, struct overlay_pair p)
{
	struct ndmsg head = { .ndm_family = AF_INET,
			      .ndm_ifindex = (int)b->index,
			      .ndm_state = NUD_PERMANENT };
	unsigned char mac[MAC];
	mac_bytes(p.value, mac);
	netlink_begin(&b->n, "name another host", type, flags, &head, sizeof(head));
	netlink_put_be32(&b->n, NDA_DST, (uint32_t)p.key);
	netlink_put(&b->n, NDA_LLADDR, mac, MAC);
	return flush_full(b);
}

static int put_route(struct batch *b, int type, int flags, struct overlay_pair p)
{
	uint32_t gateway = (uint32_t)p.value;
	uint32_t source = (uint32_t)(p.value >> 32);
	struct rtmsg head = { .rtm_family = AF_INET,
			      .rtm_dst_len = 32,
			      .rtm_table = RT_TABLE_MAIN,
			      .rtm_protocol = RTPROT_STATIC,
			      .rtm_scope = gateway ? RT_SCOPE_UNIVERSE : RT_SCOPE_LINK,
			      .rtm_type = RTN_UNICAST,
			      .rtm_flags = gateway ? RTNH_F_ONLINK : 0 };
	netlink_begin(&b->n, "make a route to another host", type, flags, &head, sizeof(head));
	netlink_put_be32(&b->n, RTA_DST, (uint32_t)p.key);
	netlink_put_u32(&b->n, RTA_OIF, b->index);
	netlink_put_u32(&b->n, RTA_PRIORITY, OVERLAY_METRIC);
	if (gateway)
		netlink_put_be32(&b->n, RTA_GATEWAY, gateway);
	if (source)
		netlink_put_be32(&b->n, RTA_PREFSRC, source);
	return flush_full(b);
}

static int set_fdb(struct overlay_pair p, void *arg)
{
	return put_fdb(arg, RTM_NEWNEIGH, REPLACE, p);
}

static int remove_fdb(struct overlay_pair p, void *arg)
{
	return put_fdb(arg, RTM_DELNEIGH, NLM_F_ACK, p);
}

static int set_neighbour(struct overlay_pair p, void *arg)
{
	return put_neighbour(arg, RTM_NEWNEIGH, REPLACE, p);
}

static int remove_neighbour(struct overlay_pair p, void *arg)
{
	return put_neighbour(arg, RTM_DELNEIGH, NLM_F_ACK, p);
}

static int set_route(struct overlay_pair p, void *arg)
{
	return put_route(arg, RTM_NEWROUTE, REPLACE, p);
}

static int remove_route(struct overlay_pair p, void *arg)
{
	return put_route(arg, RTM_DELROUTE, NLM_F_ACK, p);
}

static const struct {
	int (*set)(struct overlay_pair p, void *arg);
	int (*remove)(struct overlay_pair p, void *arg);
	int gone; /* what the kernel says when there is nothing to remove */
} kinds[OVERLAY_KINDS] = {
	[OVERLAY_FDB] = { set_fdb, remove_fdb, ENOENT },
	[OVERLAY_NEIGHBOUR] = { set_neighbour, remove_neighbour, ENOENT },
	[OVERLAY_ROUTE] = { set_route, remove_route, ESRCH },
};

/* Hosts before what is routed by them, and the other way round what goes. */
static int change(struct batch *b, struct overlay_tables *have, struct overlay_tables *want)
{
	int r = 0;
	for (int kind = 0; r == 0 && kind < OVERLAY_KINDS; kind++) {
		struct overlay_changes changes = { .set = kinds[kind].set, .arg = b };
		r = overlay_diff(&have->of[kind], &want->of[kind], &changes);
		r = r == 0 ? flush(b) : r;
	}
	for (int kind = OVERLAY_KINDS - 1; r == 0 && kind >= 0; kind--) {
		struct overlay_changes changes = { .remove = kinds[kind].remove, .arg = b };
		b->fine = kinds[kind].gone;
		r = overlay_diff(&have->of[kind], &want->of[kind], &changes);
		r = r == 0 ? flush(b) : r;
	}
	return r;
}

int overlay_link_set(const struct overlay_device *d, struct overlay_tables *want, struct error *e)
{
	cleanup_overlay_tables struct overlay_tables have = { 0 };
	struct batch b = { .n = NETLINK_INIT, .e = e };
	cleanup_fd int fd = netlink_open(-1, NETLINK_ROUTE, e);
	int r = fd < 0 ? fd : ensure_device(fd, d, e);
	if (r < 0)
		return r;
	b.fd = fd;
	b.index = (uint32_t)r;
	r = 0;
	for (int kind = 0; r == 0 && kind < OVERLAY_KINDS; kind++)
		r = read_table((enum overlay_kind)kind, b.index, &have.of[kind], e);
	return r == 0 ? change(&b, &have, want) : r;
}

int overlay_link_delete(const char *name, struct error *e)
{
	cleanup_fd int fd = netlink_open(-1, NETLINK_ROUTE, e);
	return fd < 0 ? fd : delete (fd, name, e);
}

/* --- the underlay ----------------------------------------------------------------------- */

int overlay_link_source(uint32_t peer, uint32_t *address, struct error *e)
{
	struct sockaddr_in to = { .sin_family = AF_INET,
				  .sin_port = htons(1),
				  .sin_addr.s_addr = htonl(peer) };
	struct sockaddr_in own = { 0 };
	socklen_t len = sizeof(own);
	/* Nothing is sent. */
	cleanup_fd int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof(to)) < 0 ||
	    getsockname(fd, (struct sockaddr *)&own, &len) < 0)
		return error_errno(e, "there is no way to the other hosts");
	*address = ntohl(own.sin_addr.s_addr);
	return 0;
}

static bool has_address(const struct ifaddrs *i, uint32_t address)
{
	const struct sockaddr_in *in = (const void *)i->ifa_addr;
	return in && in->sin_family == AF_INET && ntohl(in->sin_addr.s_addr) == address;
}

int overlay_link_mtu(uint32_t address, uint32_t *mtu, struct error *e)
{
	struct ifaddrs *all = NULL;
	struct ifreq request = { 0 };
	struct in_addr in = { htonl(address) };
	char text[INET_ADDRSTRLEN];
	if (getifaddrs(&all) < 0)
		return error_errno(e, "cannot list this host's addresses");
	for (const struct ifaddrs *i = all; i && !request.ifr_name[0]; i = i->ifa_next)
		if (has_address(i, address))
			snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", i->ifa_name);
	freeifaddrs(all);
	if (!request.ifr_name[0])
		return error_set(e, EADDRNOTAVAIL, "%s is no address of this host",
				 inet_ntop(AF_INET, &in, text, sizeof(text)));
	cleanup_fd int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || ioctl(fd, SIOCGIFMTU, &request) < 0)
		return error_errno(e, "cannot see the MTU of %s", request.ifr_name);
	*mtu = (uint32_t)request.ifr_mtu;
	return 0;
}
