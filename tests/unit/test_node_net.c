/* SPDX-License-Identifier: Apache-2.0 */
#include "base/buf.h"
#include "base/cleanup.h"
#include "node/net.h"
#include "node/rootfs.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/rules_kit.h"

static void test_names(void **state)
{
	(void)state;
	char name[NET_INTERFACE_SIZE];
	char mac[NET_MAC_SIZE];
	net_interface("0123456789abcdef", name);
	assert_string_equal(name, "es0123456789ab");
	assert_int_equal(net_mac("10.99.1.255", mac), 0);
	assert_string_equal(mac, "02:e5:0a:63:01:ff");
	assert_int_equal(net_mac("10.99.1", mac), -EINVAL);
	assert_int_equal(net_mac("10.99.1.2 ; x", mac), -EINVAL);
}

static void test_destinations(void **state)
{
	(void)state;
	struct net_destination d;
	assert_int_equal(net_parse_destination("10.99.0.1:8081", &d), 0);
	assert_string_equal(d.network, "10.99.0.1/32");
	assert_int_equal(d.port, 8081);
	assert_int_equal(net_parse_destination("192.168.0.0/16", &d), 0);
	assert_string_equal(d.network, "192.168.0.0/16");
	assert_int_equal(d.port, 0);
	assert_int_equal(net_parse_destination("10.0.0.0/8:443", &d), 0);
	assert_int_equal(d.port, 443);
	static const char *const wrong[] = { "",
					     "x",
					     "10.0.0.1:",
					     "10.0.0.1:0",
					     "10.0.0.1:65536",
					     "10.0.0.1/33",
					     "10.0.0.1/",
					     "10.0.0.1:80 accept",
					     "::1:80",
					     "10.0.0.1.2",
					     "100.100.100.100.100:1",
					     "10.0.0.1}" };
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++)
		assert_int_equal(net_parse_destination(wrong[i], &d), -EINVAL);
}

static char *const allowed[] = { (char *)"10.99.0.1:8081", (char *)"10.0.0.0/8:443", NULL };
static char *const servers[] = { (char *)"9.9.9.9", NULL };

static struct config example(void)
{
	struct config c = { 0 };
	c.node.cgroup = (char *)"elsa-2";
	c.network.pool = (char *)"10.99.0.0/16";
	c.network.host_address = (char *)"10.99.0.1";
	c.network.allow = (char **)allowed;
	c.controller.activity_listen = (char *)"10.99.0.1:8082";
	return c;
}

static void test_rules(void **state)
{
	(void)state;
	struct config c = example();
	cleanup_buf struct buf rules = BUF_INIT(65536);
	assert_int_equal(net_host_rules(&c, &rules, NULL), 0);
	at(&rules, "table inet elsa_elsa_2 {");
	/* Nothing that is allowed comes before what is forbidden to everybody. */
	assert_true(at(&rules, "ip daddr 169.254.0.0/16 drop") < at(&rules, "dport 8081 accept"));
	assert_true(at(&rules, "oifname \"es*\" drop") < at(&rules, "dport 8081 accept"));
	at(&rules, "ip daddr 10.99.0.1/32 th dport 8082 accept");
	/* A network that is allowed does not open the way to other sessions. */
	assert_true(at(&rules, "dport 8081 accept") < at(&rules, "ip daddr 10.99.0.0/16 drop"));
	assert_true(at(&rules, "ip daddr 10.99.0.0/16 drop") < at(&rules, "dport 443 accept"));
	at(&rules, "ip saddr 10.99.0.0/16 ip daddr != 10.99.0.0/16 masquerade");
	assert_null(strstr(buf_text(&rules), "dport 53"));
	assert_true(at(&rules, "} drop\n\t\tdrop\n") > at(&rules, "chain to_world"));
	assert_true(net_needs_forwarding(&c));
	c.network.allow = NULL;
	assert_false(net_needs_forwarding(&c));
}

static void test_rules_internet(void **state)
{
	(void)state;
	struct config c = example();
	c.network.internet = true;
	c.network.dns = (char **)servers;
	cleanup_buf struct buf rules = BUF_INIT(65536);
	assert_int_equal(net_host_rules(&c, &rules, NULL), 0);
	at(&rules, "ip daddr 9.9.9.9 th dport 53 accept");
	assert_true(at(&rules, "192.168.0.0/16") < at(&rules, "} drop\n\t\taccept\n"));
	assert_true(net_needs_forwarding(&c));
}

static void test_rules_bad(void **state)
{
	(void)state;
	static char *const injected[] = { (char *)"10.0.0.1:80 accept; drop", NULL };
	struct config c = example();
	struct error e = ERROR_INIT;
	cleanup_buf struct buf rules = BUF_INIT(65536);
	c.network.allow = (char **)injected;
	assert_int_equal(net_host_rules(&c, &rules, &e), -EINVAL);
	assert_non_null(strstr(e.text, "network.allow"));
	c = example();
	c.network.pool = (char *)"everything";
	assert_int_equal(net_host_rules(&c, &rules, &e), -EINVAL);
	assert_non_null(strstr(e.text, "network.pool"));
}

static void expect_name(const char *from, const char *to)
{
	char name[ROOTFS_NAME_SIZE];
	rootfs_plain_name(from, name);
	assert_string_equal(name, to);
}

static void test_plain_names(void **state)
{
	(void)state;
	expect_name("alice", "alice");
	expect_name("Alice.B@example.org", "alicebexampleorg");
	expect_name("../../etc", "etc");
	expect_name("-007-x-", "x");
	expect_name("äöü", "user");
	expect_name("", "user");
	expect_name("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
		    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa");
}

static void expect_account(const char *passwd, const char *expected)
{
	struct session_spec spec = { .uid = 1500, .gid = 1600, .home_inside = (char *)"/home/a" };
	cleanup_free char *text = NULL;
	assert_int_equal(rootfs_add_account(passwd, "a", &spec, &text), 0);
	if (expected)
		assert_string_equal(text, expected);
	else
		assert_null(text);
}

static void test_accounts(void **state)
{
	(void)state;
	expect_account("", "a:x:1500:1600::/home/a:/bin/bash\n");
	expect_account("root:x:0:0::/root:/bin/sh\n",
		       "root:x:0:0::/root:/bin/sh\na:x:1500:1600::/home/a:/bin/bash\n");
	expect_account("b:x:1500:1:::", NULL);
	/* The number in another field, or as the beginning of another, is not the account's. */
	expect_account("b:x:15001:1500::/:\n",
		       "b:x:15001:1500::/:\na:x:1500:1600::/home/a:/bin/bash\n");
	expect_account("a:x:7:7::/:", "a:x:7:7::/:\nu1500:x:1500:1600::/home/a:/bin/bash\n");
	expect_account("a\n:\n::\nx:y\n", "a\n:\n::\nx:y\na:x:1500:1600::/home/a:/bin/bash\n");
	cleanup_free char *group = NULL;
	assert_int_equal(rootfs_add_group("a:x:5:\n", "a", 1600, &group), 0);
	assert_string_equal(group, "a:x:5:\ng1600:x:1600:\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names),     cmocka_unit_test(test_destinations),
		cmocka_unit_test(test_rules),     cmocka_unit_test(test_rules_internet),
		cmocka_unit_test(test_rules_bad), cmocka_unit_test(test_plain_names),
		cmocka_unit_test(test_accounts),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
