/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "base/buf.h"
#include "base/cleanup.h"
#include "node/net.h"
#include "node/netlink.h"
#include "node/overlay_plan.h"

#include <errno.h>
#include <linux/rtnetlink.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/rules_kit.h"

#define WORD(text) ((char *)(text))

static struct config example(void)
{
	struct config c = { 0 };
	c.node.cgroup = WORD("elsa");
	c.network.pool = WORD("10.99.0.0/16");
	c.network.host_address = WORD("10.99.0.1");
	c.network.overlay = WORD("10.98.0.0/16");
	c.network.overlay_port = 4789;
	c.network.overlay_id = 4589;
	return c;
}

static struct overlay_peer peers[] = {
	{ WORD("b"), WORD("192.0.2.2"), WORD("10.98.0.2") },
	{ WORD("c"), WORD("192.0.2.3"), WORD("10.98.0.3") },
};
static struct overlay_route routes[] = {
	{ WORD("10.99.0.9"), WORD("10.98.0.3") },
	{ WORD("10.99.0.7"), WORD("10.98.0.2") },
};
static const struct overlay_state whole = { WORD("10.98.0.1"), peers, 2, routes, 2 };

/* --- names and networks ------------------------------------------------------------------ */

static void test_interface(void **state)
{
	(void)state;
	struct config c = example();
	char name[NET_INTERFACE_SIZE];
	char other[NET_INTERFACE_SIZE];
	net_overlay_interface(&c, name);
	assert_int_equal(strlen(name), 14);
	/* What is for sessions' links is not for this. */
	assert_int_not_equal(strncmp(name, NET_INTERFACE_PREFIX, strlen(NET_INTERFACE_PREFIX)), 0);
	c.node.cgroup = WORD("elsa-2");
	net_overlay_interface(&c, other);
	assert_string_not_equal(name, other);
}

static void test_contains(void **state)
{
	(void)state;
	assert_true(net_contains("10.99.0.0/16", "10.99.255.255"));
	assert_false(net_contains("10.99.0.0/16", "10.100.0.0"));
	assert_true(net_contains("10.99.4.0/22", "10.99.7.1"));
	assert_false(net_contains("10.99.4.0/22", "10.99.8.1"));
	assert_true(net_contains("0.0.0.0/0", "8.8.8.8"));
	assert_true(net_contains("10.0.0.1", "10.0.0.1"));
	assert_false(net_contains("10.0.0.0/8", "10.0.0"));
	assert_false(net_contains("10.0.0.0/8", "10.0.0.1 "));
	assert_false(net_contains("x", "10.0.0.1"));
}

static void test_mac(void **state)
{
	(void)state;
	char text[NET_MAC_SIZE];
	assert_int_equal(net_mac("10.98.1.255", text), 0);
	uint64_t mac = overlay_mac(overlay_number("10.98.1.255"));
	char same[NET_MAC_SIZE];
	snprintf(same, sizeof(same), "%02x:%02x:%02x:%02x:%02x:%02x", (unsigned)(mac >> 40 & 255),
		 (unsigned)(mac >> 32 & 255), (unsigned)(mac >> 24 & 255),
		 (unsigned)(mac >> 16 & 255), (unsigned)(mac >> 8 & 255), (unsigned)(mac & 255));
	assert_string_equal(same, text);
	assert_int_equal(overlay_number("10.98.1"), 0);
	assert_int_equal(overlay_number(NULL), 0);
}

/* --- the state ----------------------------------------------------------------------------- */

static void expect_wrong(struct overlay_state s, const char *what)
{
	struct config c = example();
	struct error e = ERROR_INIT;
	assert_int_equal(overlay_check(&c, &s, &e), -EINVAL);
	if (!strstr(e.text, what))
		fail_msg("no \"%s\" in \"%s\"", what, e.text);
}

static void test_check(void **state)
{
	(void)state;
	struct config c = example();
	struct overlay_state none = { 0 };
	struct overlay_peer bad_peers[] = { peers[0], peers[1] };
	struct overlay_route bad_routes[] = { routes[0], routes[1] };
	struct overlay_state bad = { WORD("10.98.0.1"), bad_peers, 2, bad_routes, 2 };
	assert_int_equal(overlay_check(&c, &whole, NULL), 0);
	assert_int_equal(overlay_check(&c, &none, NULL), 0);
	none.route_count = 1;
	none.routes = routes;
	expect_wrong(none, "overlay: missing");
	bad.overlay = WORD("10.98.0.2");
	expect_wrong(bad, "peers[0].overlay");
	bad.overlay = WORD("10.97.0.1");
	expect_wrong(bad, "is not in 10.98.0.0/16");
	bad.overlay = WORD("10.98.0.1");
	bad_peers[1].overlay = bad_peers[0].overlay;
	expect_wrong(bad, "two have one");
	bad_peers[1] = peers[1];
	bad_peers[1].underlay = WORD("192.0.2.3 } accept");
	expect_wrong(bad, "peers[1].underlay");
	bad_peers[1] = peers[1];
	bad_routes[1].address = WORD("0.0.0.0");
	expect_wrong(bad, "routes[1].address");
	bad_routes[1].address = bad_routes[0].address;
	expect_wrong(bad, "routes[1].address: 10.99.0.9 is there twice");
	bad_routes[1] = routes[1];
	bad_routes[0].via = WORD("10.98.0");
	expect_wrong(bad, "routes[0].via");
	bad_routes[0] = routes[0];
	/* The hub's host, wherever it is. */
	bad_routes[0].address = c.network.host_address = WORD("172.20.0.1");
	assert_int_equal(overlay_check(&c, &bad, NULL), 0);
	c.network.overlay = WORD("10.0.0.0/8");
	bad.overlay = WORD("10.99.3.3");
	assert_int_equal(overlay_check(&c, &bad, NULL), -EINVAL);
}

static bool wants(const struct overlay_table *t, uint64_t key, uint64_t value)
{
	for (size_t i = 0; i < t->count; i++)
		if (t->items[i].key == key && t->items[i].value == value)
			return true;
	return false;
}

static void test_wanted(void **state)
{
	(void)state;
	struct config c = example();
	cleanup_overlay_tables struct overlay_tables t = { 0 };
	uint64_t host = (uint64_t)overlay_number("10.99.0.1") << 32;
	uint32_t b = overlay_number("10.98.0.2");
	assert_int_equal(overlay_wanted(&c, &whole, &t, NULL), 0);
	assert_int_equal(t.of[OVERLAY_FDB].count, 2);
	assert_true(wants(&t.of[OVERLAY_FDB], overlay_mac(b), overlay_number("192.0.2.2")));
	assert_true(wants(&t.of[OVERLAY_NEIGHBOUR], b, overlay_mac(b)));
	assert_int_equal(t.of[OVERLAY_ROUTE].count, 4);
	assert_true(wants(&t.of[OVERLAY_ROUTE], b, 0));
	assert_true(wants(&t.of[OVERLAY_ROUTE], overlay_number("10.99.0.7"), host | b));
	/* By nobody who is known, none. */
	struct overlay_state first = whole;
	overlay_tables_deinit(&t);
	first.peer_count = 1;
	assert_int_equal(overlay_wanted(&c, &first, &t, NULL), 0);
	assert_int_equal(t.of[OVERLAY_ROUTE].count, 2);
	assert_true(wants(&t.of[OVERLAY_ROUTE], overlay_number("10.99.0.7"), host | b));
	/* A joined one has not that address. */
	overlay_tables_deinit(&t);
	c.node.controller = WORD("https://192.0.2.1:8443");
	assert_int_equal(overlay_wanted(&c, &whole, &t, NULL), 0);
	assert_true(wants(&t.of[OVERLAY_ROUTE], overlay_number("10.99.0.7"), b));
}

/* --- differences ------------------------------------------------------------------------------ */

static int note_set(struct overlay_pair p, void *arg)
{
	return buf_printf(arg, "+%d=%d", (int)p.key, (int)p.value);
}

static int note_remove(struct overlay_pair p, void *arg)
{
	return buf_printf(arg, "-%d=%d", (int)p.key, (int)p.value);
}

static void expect_diff(const char *have, const char *want, const char *expected)
{
	struct overlay_table tables[2] = { 0 };
	const char *const texts[] = { have, want };
	cleanup_buf struct buf out = BUF_INIT(4096);
	const struct overlay_changes changes = { note_set, note_remove, &out };
	for (int i = 0; i < 2; i++) {
		int key, value, len;
		for (const char *p = texts[i]; sscanf(p, "%d=%d %n", &key, &value, &len) == 2;
		     p += len)
			assert_int_equal(
				overlay_table_add(&tables[i], (uint64_t)key, (uint64_t)value), 0);
	}
	assert_int_equal(overlay_diff(&tables[0], &tables[1], &changes), 0);
	assert_string_equal(buf_text(&out), expected);
	free(tables[0].items);
	free(tables[1].items);
}

static void test_diff(void **state)
{
	(void)state;
	expect_diff("", "", "");
	expect_diff("", "2=1 1=5 ", "+1=5+2=1");
	expect_diff("2=1 1=5 ", "1=5 2=1 ", "");
	expect_diff("2=1 1=5 ", "", "-1=5-2=1");
	expect_diff("1=5 2=1 3=1 ", "3=1 4=4 1=6 ", "+1=6+4=4-2=1");
}

static int fail_at_once(struct overlay_pair p, void *arg)
{
	(void)p;
	++*(int *)arg;
	return -EIO;
}

static void test_many(void **state)
{
	(void)state;
	enum { MANY = 5000 };
	struct overlay_table have = { 0 };
	struct overlay_table want = { 0 };
	cleanup_buf struct buf out = BUF_INIT(4096);
	int called = 0;
	const struct overlay_changes changes = { note_set, note_remove, &out };
	const struct overlay_changes failing = { .set = fail_at_once, .arg = &called };
	for (uint64_t i = 0; i < MANY; i++) {
		assert_int_equal(overlay_table_add(&have, i * 7919 % MANY, i * 7919 % MANY), 0);
		assert_int_equal(overlay_table_add(&want, i, i == 17 ? 3 : i), 0);
	}
	assert_int_equal(overlay_diff(&have, &want, &changes), 0);
	assert_string_equal(buf_text(&out), "+17=3");
	have.count = 0;
	assert_int_equal(overlay_diff(&have, &want, &failing), -EIO);
	assert_int_equal(called, 1);
	free(have.items);
	free(want.items);
}

/* --- rules ---------------------------------------------------------------------------------- */

static void test_guard(void **state)
{
	(void)state;
	struct config c = example();
	cleanup_buf struct buf rules = BUF_INIT(4096);
	static const struct overlay_state none = { 0 };
	assert_int_equal(overlay_guard_rules(&c, &whole, &rules, NULL), 0);
	assert_non_null(strstr(buf_text(&rules),
			       "udp dport 4789 @th,96,24 4589 ip saddr != { 192.0.2.2, "
			       "192.0.2.3 } drop"));
	buf_reset(&rules);
	assert_int_equal(overlay_guard_rules(&c, &none, &rules, NULL), 0);
	assert_null(strstr(buf_text(&rules), "chain"));
	assert_non_null(strstr(buf_text(&rules), "delete table inet elsa_elsa_overlay"));
}

static void test_rules(void **state)
{
	(void)state;
	struct config c = example();
	static char *const allowed[] = { WORD("10.99.0.1:8081"), WORD("10.0.0.0/8:443"), NULL };
	char name[NET_INTERFACE_SIZE];
	c.network.allow = (char **)allowed;
	net_overlay_interface(&c, name);
	cleanup_free char *from = NULL;
	assert_true(asprintf(&from, "iifname != \"%s\" accept\n", name) > 0);
	cleanup_buf struct buf rules = BUF_INIT(65536);
	assert_int_equal(net_host_rules(&c, &rules, NULL), 0);
	/* No session speaks VXLAN, whatever is allowed or goes on already. */
	assert_true(at(&rules, "udp dport 4789 drop") < at(&rules, "ct state established"));
	/* A network that is allowed does not open the way to hosts. */
	assert_true(at(&rules, "ip daddr 10.98.0.0/16 drop") < at(&rules, "dport 443 accept"));
	/* Other hosts' sessions are as the own. */
	assert_true(at(&rules, from) < at(&rules, "ip saddr != 10.99.0.0/16 drop\n\t\tjump"));
	assert_null(strstr(buf_text(&rules), "tcp flags & syn == 0"));
	assert_false(net_is_joined(&c));
	c.node.controller = WORD("https://192.0.2.1:8443");
	c.network.allow = NULL;
	assert_true(net_is_joined(&c) && net_needs_forwarding(&c));
	buf_reset(&rules);
	assert_int_equal(net_host_rules(&c, &rules, NULL), 0);
	at(&rules, "ip daddr 10.99.0.1 tcp flags & syn == 0 accept");
	assert_null(strstr(buf_text(&rules), "ip saddr != 10.99.0.0/16 drop"));
}

/* --- attributes ------------------------------------------------------------------------------ */

static void test_attributes(void **state)
{
	(void)state;
	struct netlink n = NETLINK_INIT;
	const struct rtmsg head = { 0 };
	const struct nlattr *a[RTA_METRICS + 1];
	const struct nlattr *inner[4];
	char text[4];
	uint32_t value;
	netlink_begin(&n, "test", RTM_NEWROUTE, 0, &head, sizeof(head));
	netlink_put_u32(&n, RTA_OIF, 7);
	size_t nest = netlink_nest(&n, RTA_METRICS, NULL, 0);
	netlink_put_text(&n, 2, "x");
	netlink_put_u32(&n, 200, 1);
	netlink_nest_end(&n, nest);
	netlink_attributes((const void *)n.data, sizeof(head), a, ARRAY_SIZE(a));
	assert_true(netlink_get(a[RTA_OIF], &value, sizeof(value)) && value == 7);
	assert_false(netlink_get(a[RTA_PREFSRC], &value, sizeof(value)));
	assert_int_equal(value, 0);
	netlink_parse_nested(a[RTA_METRICS], inner, ARRAY_SIZE(inner));
	assert_true(netlink_get(inner[2], text, sizeof(text)));
	assert_string_equal(text, "x");
	/* Cut anywhere, it is read to the last whole one. */
	const struct nlmsghdr *m = (const void *)n.data;
	for (size_t len = 0; len <= m->nlmsg_len - NLMSG_SPACE(sizeof(head)); len++)
		netlink_parse(n.data + NLMSG_SPACE(sizeof(head)), len, a, ARRAY_SIZE(a));
	netlink_parse_nested(NULL, inner, ARRAY_SIZE(inner));
	assert_null(inner[2]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_interface), cmocka_unit_test(test_contains),
		cmocka_unit_test(test_mac),       cmocka_unit_test(test_check),
		cmocka_unit_test(test_wanted),    cmocka_unit_test(test_diff),
		cmocka_unit_test(test_many),      cmocka_unit_test(test_guard),
		cmocka_unit_test(test_rules),     cmocka_unit_test(test_attributes),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
