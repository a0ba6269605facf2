/* SPDX-License-Identifier: Apache-2.0 */
#include "node/doctor.h"
#include "node/net.h"
#include "node/sleep_net.h"

#include <errno.h>
#include <event2/event.h>

/* What node/net_host.c has for sessions that sleep, by itself. */
static const char rules[] = "table inet elsa_try {\n"
			    "	map asleep {\n"
			    "		type ipv4_addr . inet_service : ipv4_addr . inet_service\n"
			    "	}\n"
			    "	chain asleep_from_here {\n"
			    "		type nat hook output priority -100;\n"
			    "		tcp flags syn dnat ip to ip daddr . tcp dport map @asleep\n"
			    "	}\n"
			    "}\n"
			    "delete table inet elsa_try\n";

static int try_nat(struct error *e)
{
	int r = net_load_rules(rules, e);
	return error_remedy(e, r,
			    "use a kernel with CONFIG_NF_TABLES_INET and CONFIG_NFT_NAT (modules "
			    "nft_chain_nat, nft_nat; see if modprobe works), and nft 1.0 or newer");
}

static void drop(const void *data, size_t len, void *arg)
{
	(void)data;
	(void)len;
	(void)arg;
}

static int try_tun(const struct config *config, struct error *e)
{
	struct event_base *base = event_base_new();
	struct sleep_net *net = NULL;
	if (!base)
		return error_set(e, ENOMEM, "out of memory");
	int r = sleep_net_open(config, base, drop, NULL, &net, e);
	if (r == 0) {
		sleep_net_close(net);
		r = sleep_net_teardown(config, e);
	}
	event_base_free(base);
	return r;
}

void doctor_check_asleep(struct doctor *d)
{
	struct error e = ERROR_INIT;
	int r = try_nat(&e);
	doctor_add_result(d, "nat", DOCTOR_ADVISED, r, &e,
			  "who comes to a session that sleeps can be answered by elsa-node");
	error_clear(&e);
	r = try_tun(d->config, &e);
	doctor_add_result(d, "tun", DOCTOR_ADVISED, r, &e,
			  "connections stay open while their session sleeps");
}
