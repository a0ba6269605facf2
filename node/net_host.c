/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "node/net.h"

#include "base/cleanup.h"
#include "base/fs.h"
#include "io/job.h"
#include "node/sleep_net.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COMMAND_TIMEOUT_MS 20000

int net_parse_destination(const char *text, struct net_destination *to)
{
	char address[16];
	unsigned prefix = 32;
	size_t len = strcspn(text, "/:");
	char *end = NULL;
	struct in_addr in;
	*to = (struct net_destination) { 0 };
	if (len >= sizeof(address))
		return -EINVAL;
	memcpy(address, text, len);
	address[len] = '\0';
	const char *rest = text + len;
	if (inet_pton(AF_INET, address, &in) != 1)
		return -EINVAL;
	if (*rest == '/') {
		prefix = (unsigned)strtoul(rest + 1, &end, 10);
		if (end == rest + 1 || prefix > 32)
			return -EINVAL;
		rest = end;
	}
	if (*rest == ':') {
		unsigned long port = strtoul(rest + 1, &end, 10);
		if (end == rest + 1 || port < 1 || port > 65535)
			return -EINVAL;
		to->port = (int)port;
		rest = end;
	}
	snprintf(to->network, sizeof(to->network), "%s/%u", address, prefix);
	to->is_host = prefix == 32;
	return *rest ? -EINVAL : 0;
}

void net_table(const struct config *config, char to[NET_TABLE_SIZE])
{
	snprintf(to, NET_TABLE_SIZE, "elsa_%.40s", config->node.cgroup);
	for (char *p = to; *p; p++)
		if (!strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", *p))
			*p = '_';
}

static int allow(struct buf *to, const char *key, const char *text, bool hosts, struct error *e)
{
	struct net_destination d;
	if (net_parse_destination(text, &d) < 0)
		return error_set(e, EINVAL, "%s: \"%s\" is not ADDRESS[/PREFIX][:PORT]", key, text);
	if (d.is_host != hosts)
		return 0;
	if (d.port == 0)
		return buf_printf(to, "\t\tip daddr %s accept\n", d.network);
	return buf_printf(to, "\t\tmeta l4proto { tcp, udp } ip daddr %s th dport %d accept\n",
			  d.network, d.port);
}

static int allow_dns(struct buf *to, const char *server, struct error *e)
{
	struct in_addr in;
	if (inet_pton(AF_INET, server, &in) != 1)
		return error_set(e, EINVAL, "network.dns: \"%s\" is not an IPv4 address", server);
	return buf_printf(to, "\t\tmeta l4proto { tcp, udp } ip daddr %s th dport 53 accept\n",
			  server);
}

/* Where the sessions report activity: a name or "all addresses" is this node, as they see it. */
static int allow_activity(const struct config *config, struct buf *to, struct error *e)
{
	struct net_destination d;
	const char *listen = config->controller.activity_listen;
	if (!listen || !*listen)
		return 0;
	if (net_parse_destination(listen, &d) == 0 && strncmp(listen, "0.0.0.0:", 8) != 0)
		return allow(to, "controller.activity_listen", listen, true, e);
	const char *port = strrchr(listen, ':');
	cleanup_free char *text =
		str_printf("%s%s", config->network.host_address, port ? port : "");
	if (!text)
		return error_set(e, ENOMEM, "out of memory");
	return allow(to, "controller.activity_listen", text, true, e);
}

/* Single addresses before the pool is shut, so that a node's own can be named, networks after it,
 * so that none lets in on other sessions. */
static int allow_all(const struct config *config, const char *pool, struct buf *to, struct error *e)
{
	int r = allow_activity(config, to, e);
	for (char **d = config->network.dns; d && *d && r == 0; d++)
		r = allow_dns(to, *d, e);
	for (char **a = config->network.allow; a && *a && r == 0; a++)
		r = allow(to, "network.allow", *a, true, e);
	if (r == 0)
		r = buf_printf(to, "\t\tip daddr %s drop\n", pool);
	if (r == 0 && config->network.overlay)
		r = buf_printf(to, "\t\tip daddr %s drop\n", config->network.overlay);
	for (char **a = config->network.allow; a && *a && r == 0; a++)
		r = allow(to, "network.allow", *a, false, e);
	return r;
}

/* Order matters: the metadata services' addresses and other sessions are out of reach whatever is
 * allowed afterwards. A packet that would not be answered through the interface it came from has
 * somebody else's source address. VXLAN from a session would reach other hosts with this one's
 * source address, and be believed there. */
static int put_head(const struct config *config, struct buf *to)
{
	char overlay[NET_INTERFACE_SIZE];
	net_overlay_interface(config, overlay);
	int r = buf_printf(to,
			   "	chain from_session {\n"
			   "		fib saddr . iif oif missing drop\n"
			   "		udp dport %d drop\n",
			   (int)config->network.overlay_port);
	/* A session that came from another host has connections that this one has not seen begin,
	 * and goes on sending. The hub's host has, and knows which they are. */
	if (r == 0 && net_is_joined(config))
		r = buf_printf(
			to,
			"		oifname \"%s\" ip daddr %s tcp flags & syn == 0 accept\n",
			overlay, config->network.host_address);
	return r < 0 ? r
		     : buf_printf(to, "		ct state established,related accept\n"
				      "		ip daddr 169.254.0.0/16 drop\n"
				      "		oifname \"" NET_INTERFACE_PREFIX "*\" drop\n");
}

static const char rules_private[] =
	"		ip daddr { 0.0.0.0/8, 10.0.0.0/8, 100.64.0.0/10, 127.0.0.0/8, "
	"172.16.0.0/12,"
	" 192.0.0.0/24, 192.168.0.0/16, 198.18.0.0/15, 224.0.0.0/3 } drop\n";

static int put_input(const struct config *config, const char *pool, const char *overlay,
		     struct buf *to)
{
	int r = buf_printf(to,
			   "	chain input {\n"
			   "		type filter hook input priority filter - 10;\n"
			   "		ip daddr " SLEEP_NET_ADDRESS " ct status dnat accept\n"
			   "		ip daddr " SLEEP_NET_ADDRESS " drop\n"
			   "		iifname \"" NET_INTERFACE_PREFIX "*\" jump from_session\n"
			   "		iifname \"" NET_INTERFACE_PREFIX "*\" drop\n"
			   "		iifname != \"%s\" accept\n"
			   "		fib saddr . iif oif missing drop\n"
			   "		ct state established,related accept\n",
			   overlay);
	/* Other hosts' sessions are to the hub's host what its own are. */
	if (r == 0 && !net_is_joined(config))
		r = buf_printf(to,
			       "		ip saddr != %s drop\n"
			       "		jump from_session\n",
			       pool);
	return r < 0 ? r : buf_printf(to, "		drop\n	}\n");
}

/* From another host, only the hub's has anything to say to sessions. Nothing from elsewhere goes on
 * to other hosts, who would take it for ours. */
static int put_forward(const struct config *config, const char *overlay, struct buf *to)
{
	return buf_printf(to,
			  "	chain forward {\n"
			  "		type filter hook forward priority filter - 10;\n"
			  "		iifname \"" NET_INTERFACE_PREFIX "*\" jump from_session\n"
			  "		iifname \"" NET_INTERFACE_PREFIX "*\" goto to_world\n"
			  "		iifname \"%s\" fib saddr . iif oif missing drop\n"
			  "		iifname \"%s\" oifname \"" NET_INTERFACE_PREFIX
			  "*\" ip saddr %s accept\n"
			  "		oifname \"" NET_INTERFACE_PREFIX
			  "*\" ct state established,related accept\n"
			  "		oifname \"" NET_INTERFACE_PREFIX "*\" drop\n"
			  "		iifname \"%s\" drop\n"
			  "		oifname \"%s\" drop\n"
			  "	}\n",
			  overlay, overlay, config->network.host_address, overlay, overlay);
}

#define BEGINS "tcp flags & (fin | syn | rst | ack) == syn"

/* Who begins a connection to a session that sleeps is answered by another (node/sleep_net.h): from
 * this host, and from the hub's. What comes for one and is not led there is not to be remembered as
 * a connection, or it would keep its way when it is tried again. */
static int put_asleep(const struct config *config, const char *overlay, struct buf *to)
{
	char device[NET_INTERFACE_SIZE];
	sleep_net_interface(config, device);
	int r = buf_printf(to,
			   "	map asleep {\n"
			   "		type ipv4_addr . inet_service : ipv4_addr . inet_service\n"
			   "	}\n"
			   "	chain asleep_from_here {\n"
			   "		type nat hook output priority -100;\n"
			   "		" BEGINS " dnat ip to ip daddr . tcp dport map @asleep\n"
			   "	}\n"
			   "	chain asleep_undirected {\n"
			   "		type filter hook postrouting priority filter;\n"
			   "		oifname \"%s\" " BEGINS " drop\n"
			   "	}\n",
			   device);
	if (r < 0 || !net_is_joined(config))
		return r;
	return buf_printf(to,
			  "	chain asleep_from_hub {\n"
			  "		type nat hook prerouting priority dstnat;\n"
			  "		iifname \"%s\" ip saddr %s " BEGINS
			  " dnat ip to ip daddr . tcp dport map @asleep\n"
			  "	}\n",
			  overlay, config->network.host_address);
}

static int put_hooks(const struct config *config, const char *pool, struct buf *to)
{
	char overlay[NET_INTERFACE_SIZE];
	net_overlay_interface(config, overlay);
	int r = put_input(config, pool, overlay, to);
	if (r == 0)
		r = put_forward(config, overlay, to);
	return r < 0 ? r : put_asleep(config, overlay, to);
}

int net_host_rules(const struct config *config, struct buf *to, struct error *e)
{
	char table[NET_TABLE_SIZE];
	struct net_destination pool;
	net_table(config, table);
	const char *pool_text = config->network.pool;
	if (net_parse_destination(pool_text, &pool) < 0 || pool.port)
		return error_set(e, EINVAL, "network.pool: \"%s\" is not ADDRESS/PREFIX",
				 pool_text);
	int r = buf_printf(to, "add table inet %s\ndelete table inet %s\ntable inet %s {\n", table,
			   table, table);
	if (r == 0)
		r = put_head(config, to);
	if (r == 0)
		r = allow_all(config, pool.network, to, e);
	if (r < 0)
		return r;
	r = buf_printf(to, "\t}\n\tchain to_world {\n%s\t\t%s\n\t}\n", rules_private,
		       config->network.internet ? "accept" : "drop");
	if (r == 0)
		r = put_hooks(config, pool.network, to);
	if (r == 0)
		r = buf_printf(
			to,
			"\tchain postrouting {\n\t\ttype nat hook postrouting priority srcnat;\n"
			"\t\tip saddr %s ip daddr != %s masquerade\n\t}\n}\n",
			pool.network, pool.network);
	return r < 0 ? error_set(e, -r, "the packet filter's rules are too long") : 0;
}

bool net_needs_forwarding(const struct config *config)
{
	size_t len = strlen(config->network.host_address);
	bool needed = config->network.internet || (config->network.dns && config->network.dns[0]) ||
		      net_is_joined(config);
	for (char **a = config->network.allow; a && *a; a++)
		needed |= strncmp(*a, config->network.host_address, len) != 0 || (*a)[len] != ':';
	return needed;
}

static int enable_forwarding(struct error *e)
{
	static const char path[] = "/proc/sys/net/ipv4/ip_forward";
	cleanup_buf struct buf now = BUF_INIT(64);
	int r = fs_read(path, &now, e);
	if (r < 0 || buf_text(&now)[0] == '1')
		return r;
	return fs_write(path, "1", e);
}

/* `force` goes on over what is gone already, and says so by the status. */
static int run_ip(const char *input, bool force, struct error *e)
{
	const char *const argv[] = { "ip", "-batch", "-", force ? "-force" : NULL, NULL };
	struct job_options options =
		JOB_OPTIONS(.argv = argv, .input = input, .timeout_ms = COMMAND_TIMEOUT_MS);
	struct job_result result;
	if (!force)
		return job_check(&options, e);
	int r = job_run(&options, &result, e);
	job_result_deinit(&result);
	return r;
}

/* Without the route, packets for a session that is not here would leave by the default route. */
static int setup_addresses(const struct config *config, struct error *e)
{
	bool joined = net_is_joined(config);
	cleanup_free char *address =
		str_printf("address %s %s/32 dev lo\n", joined ? "delete" : "replace",
			   config->network.host_address);
	cleanup_free char *route = str_printf("route replace unreachable %s metric 4278198272\n",
					      config->network.pool);
	if (!address || !route)
		return error_set(e, ENOMEM, "out of memory");
	int r = run_ip(address, joined, e);
	return r == 0 ? run_ip(route, false, e) : r;
}

int net_load_rules(const char *rules, struct error *e)
{
	const char *const argv[] = { "nft", "-f", "-", NULL };
	struct job_options options =
		JOB_OPTIONS(.argv = argv, .input = rules, .timeout_ms = COMMAND_TIMEOUT_MS);
	return job_check(&options, e);
}

int net_host_setup(const struct config *config, struct error *e)
{
	cleanup_buf struct buf rules = BUF_INIT((size_t)1 << 20);
	int r = net_host_rules(config, &rules, e);
	/* The filter first: no session's packet may come before it. */
	if (r == 0)
		r = net_load_rules(buf_text(&rules), e);
	if (r == 0)
		r = setup_addresses(config, e);
	if (r == 0 && net_needs_forwarding(config))
		r = enable_forwarding(e);
	return r < 0 ? error_wrap(e, r, "network of the node") : 0;
}

int net_host_teardown(const struct config *config, struct error *e)
{
	char table[NET_TABLE_SIZE];
	net_table(config, table);
	cleanup_free char *rules =
		str_printf("add table inet %s\ndelete table inet %s\n", table, table);
	cleanup_free char *input = str_printf("route delete unreachable %s metric 4278198272\n"
					      "address delete %s/32 dev lo\n",
					      config->network.pool, config->network.host_address);
	if (!rules || !input)
		return error_set(e, ENOMEM, "out of memory");
	int r = run_ip(input, true, e);
	return r < 0 ? r : net_load_rules(rules, e);
}
