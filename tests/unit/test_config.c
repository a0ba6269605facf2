/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/config_kit.h"

#include "base/cleanup.h"
#include "base/fs.h"
#include "config/config.h"
#include "config/options.h"

#include <errno.h>
#include <string.h>

DEFINE_CLEANUP(struct config *, config_free)

static char *read_example(void)
{
	struct error e = ERROR_INIT;
	struct buf text = BUF_INIT(1 << 20);
	assert_int_equal(fs_read("config.example.toml", &text, &e), 0);
	return buf_steal(&text);
}

static void defaults_are_sensible(void **state)
{
	(void)state;
	struct error e = ERROR_INIT;
	cleanup(config_freep) struct config *c = NULL;
	assert_int_equal(config_load(NULL, &c, &e), 0);
	assert_string_equal(c->hub.api_url, "http://127.0.0.1:8081/hub/api");
	assert_int_equal(c->hub.poll_ms, 60000);
	assert_string_equal(c->controller.socket, "/run/elsad/elsad.sock");
	assert_int_equal(c->controller.observe_ms, 5000);
	assert_string_equal(c->session.command[0], "jupyterhub-singleuser");
	assert_null(c->session.command[1]);
	assert_non_null(c->session.env);
	assert_null(c->session.env[0]);
	assert_int_equal(c->session.pids, 1024);
	assert_false(c->network.internet);
	assert_string_equal(c->store.verify, "sample");
	assert_int_equal(c->store.keep, 3);
	assert_int_equal(c->store.keep_age_ms, 0);
	assert_int_equal(c->store.gc_ms, 86400000);
	assert_string_equal(c->store.key_file, "/var/lib/elsa/store.key");
	assert_string_equal(c->store.key_env, "");
	assert_null(c->store.key_command[0]);
	assert_null(c->store.old_key_files[0]);
	assert_int_equal(c->store.cache_bytes, INT64_C(10) << 30);
	assert_true(c->node.lazy_restore);
	assert_int_equal(c->idle.rule_count, 1);
	const struct config_rule *rule = &c->idle.rules[0];
	assert_string_equal(rule->name, "default");
	assert_string_equal(rule->admins, "any");
	assert_null(rule->users);
	assert_int_equal(rule->timeout_ms, 3600000);
	assert_int_equal(rule->min_uptime_ms, 120000);
	assert_int_equal(rule->stuck_busy_ms, 12 * 3600000);
	assert_true(rule->cpu_threshold == 0.05);
}

static void values_are_read(void **state)
{
	(void)state;
	cleanup(config_freep) struct config *c =
		parse("hub.poll = 90\n"
		      "[controller]\n"
		      "observe = 0.25\n"
		      "listen = \"[::1]:8443\"\n"
		      "token_file = \"/etc/token\"\n"
		      "[session]\n"
		      "memory = \"4GiB\"\n"
		      "cpus = 2\n"
		      "env = [\"A=b\\n\\\"c\\\\\", \"_X=\"]\n"
		      "[network]\n"
		      "allow = [\"192.168.0.0/16:443\"]\n"
		      "dns = [\"9.9.9.9\", \"2620:fe::fe\"]\n"
		      "[store]\n"
		      "keep_age = \"2w\"\n"
		      "keep_bytes = \"20G\"\n"
		      "gc = 0\n"
		      "key_command = [\"kms\", \"key elsa\"]\n"
		      "old_key_files = [\"/var/lib/elsa/store.key\"]\n"
		      "cache_size = 0\n"
		      "[idle]\n"
		      "timeout = \"30m\"\n");
	assert_int_equal(c->store.keep_age_ms, 14 * INT64_C(86400000));
	assert_int_equal(c->store.keep_bytes, INT64_C(20) << 30);
	assert_int_equal(c->store.gc_ms, 0);
	assert_string_equal(c->store.key_command[1], "key elsa");
	assert_null(c->store.key_command[2]);
	assert_string_equal(c->store.old_key_files[0], c->store.key_file);
	assert_int_equal(c->store.cache_bytes, 0);
	assert_int_equal(c->hub.poll_ms, 90000);
	assert_int_equal(c->controller.observe_ms, 250);
	assert_int_equal(c->session.memory_bytes, INT64_C(4) << 30);
	assert_true(c->session.cpus == 2.0);
	assert_string_equal(c->session.env[0], "A=b\n\"c\\");
	assert_int_equal(c->idle.rules[0].timeout_ms, 1800000);
}

#define CLASS(name, memory) "[[size.class]]\nname = \"" name "\"\nmemory = \"" memory "\"\n"

static void classes_are_read(void **state)
{
	(void)state;
	cleanup(config_freep) struct config *none = parse("");
	assert_int_equal(none->size.class_count, 0);
	assert_false(none->size.catalogue);
	assert_int_equal(none->size.settle_ms, 86400000);
	cleanup(config_freep) struct config *c =
		parse(CLASS("small", "1G") "price = 0.05\n" CLASS("big", "16G") "cpus = 4\n");
	assert_int_equal(c->size.class_count, 2);
	assert_string_equal(c->size.classes[0].name, "small");
	assert_int_equal(c->size.classes[0].memory_bytes, INT64_C(1) << 30);
	assert_true(c->size.classes[0].price == 0.05);
	assert_true(c->size.classes[0].cpus == 0);
	assert_true(c->size.classes[1].cpus == 4);
}

#define BUDGET(group, amount) "[[budget.group]]\ngroup = \"" group "\"\namount = " amount "\n"

static void budgets_are_read(void **state)
{
	(void)state;
	cleanup(config_freep) struct config *none = parse("");
	assert_int_equal(none->budget.group_count, 0);
	assert_true(none->budget.tell == 0.8);
	assert_string_equal(none->size.running, "keep");
	cleanup(config_freep) struct config *c = parse(BUDGET(
		"students",
		"40") "per = \"day\"\nstarts = \"spot\"\ntimeout = \"10m\"\n" BUDGET("students",
										     "400.5"));
	assert_int_equal(c->budget.group_count, 2);
	assert_string_equal(c->budget.groups[0].per, "day");
	assert_string_equal(c->budget.groups[0].starts, "spot");
	assert_int_equal(c->budget.groups[0].timeout_ms, 600000);
	assert_string_equal(c->budget.groups[1].per, "month");
	assert_string_equal(c->budget.groups[1].starts, "allow");
	assert_int_equal(c->budget.groups[1].timeout_ms, 0);
	assert_true(c->budget.groups[1].amount == 400.5);
}

static void rules_inherit(void **state)
{
	(void)state;
	cleanup(config_freep) struct config *c = parse("[[idle.rule]]\n"
						       "name = \"staff\"\n"
						       "groups = [\"staff\"]\n"
						       "timeout = \"8h\"\n"
						       "[[idle.rule]]\n"
						       "users = [\"root\"]\n"
						       "exempt = true\n"
						       "[idle]\n"
						       "timeout = \"30m\"\n"
						       "max_age = \"1w\"\n");
	const struct config_rule *rules = c->idle.rules;
	assert_int_equal(c->idle.rule_count, 3);
	assert_string_equal(rules[0].name, "staff");
	assert_string_equal(rules[0].groups[0], "staff");
	assert_null(rules[0].users);
	assert_int_equal(rules[0].timeout_ms, 8 * 3600000);
	assert_int_equal(rules[0].max_age_ms, 7 * INT64_C(86400000));
	assert_string_equal(rules[1].name, "rule 2");
	assert_true(rules[1].exempt);
	assert_string_equal(rules[2].name, "default");
	assert_false(rules[2].exempt);
	assert_int_equal(rules[2].timeout_ms, 1800000);
}

static const struct {
	const char *text, *error;
} bad[] = {
	{ "[hub", "t:1:5: " },
	{ "a = 1\na = 2\n", "t:2:" },
	{ "[hub]\npoll = \"60s\"\npol = 1\n",
	  "t:3:1: option hub.pol is not known; did you mean poll?" },
	{ "[hub]\nxyzzy = 1\n", "t:2:1: option hub.xyzzy is not known" },
	{ "[hub]\nobserve = 1\n",
	  "t:2:1: option hub.observe is not known; did you mean controller.observe?" },
	{ "[hubb]\n", "t:1:2: section hubb is not known; did you mean hub?" },
	{ "timeout = 3\n", "t:1:1: section timeout is not known; did you mean hub.timeout?" },
	{ "hub = 3\n", "t:1:1: hub is a section, [hub], and not an integer" },
	{ "[[hub]]\n", "t:1:3: hub is a section, [hub], and not a list" },
	{ "[hub]\npoll = true\n", "t:2:8: hub.poll: a duration such as" },
	{ "[hub]\npoll = \"60 s\"\n", "t:2:8: hub.poll: a duration such as" },
	{ "[hub]\npoll = \"-60s\"\n", "t:2:8: hub.poll: a duration such as" },
	{ "[hub]\npoll = 0\n", "t:2:8: hub.poll: out of range: it must be from 1s to 1d" },
	{ "[hub]\npoll = -1\n", "t:2:8: hub.poll: out of range" },
	{ "[hub]\npoll = nan\n", "t:2:8: hub.poll: out of range" },
	{ "[hub]\npoll = inf\n", "t:2:8: hub.poll: out of range" },
	{ "[hub]\npoll = 9223372036854775807\n", "t:2:8: hub.poll: out of range" },
	{ "[hub]\npoll = \"9223372036854775807d\"\n", "t:2:8: hub.poll: out of range" },
	{ "[hub]\npoll = 99999999999999999999\n", "t:2:" },
	{ "[hub]\npage_size = 1.5\n", "t:2:13: hub.page_size: an integer is wanted, not a number" },
	{ "[hub]\npage_size = 0\n", "t:2:13: hub.page_size: out of range: it must be from 1 to" },
	{ "[hub]\napi_url = \"hub\"\n", "t:2:11: hub.api_url: \"hub\": a URL such as" },
	{ "[hub]\napi_url = \"http://\"\n", "t:2:11: hub.api_url: " },
	{ "[hub]\napi_url = \"http://h:0/x\"\n", "t:2:11: hub.api_url: " },
	{ "[hub]\napi_url = \"http://me@h/x\"\n", "t:2:11: hub.api_url: " },
	{ "[hub]\napi_url = \"http://a\\u0000b\"\n", "t:2:11: a NUL character is not allowed" },
	{ "hub = { \"a\\u0000b\" = 1 }\n", "t:1:9: a NUL character is not allowed" },
	{ "[hub]\ntoken_file = 2026-01-01\n",
	  "t:2:14: hub.token_file: a string is wanted, not a time" },
	{ "[hub]\ntoken_file = \"token\"\n",
	  "t:2:14: hub.token_file: \"token\": an absolute path" },
	{ "[node]\nstate_dir = \"/a/../b\"\n", "t:2:13: node.state_dir: " },
	{ "[node]\nsocket = \"/12345678901234567890123456789012345678901234567890"
	  "123456789012345678901234567890123456789012345678901234567890\"\n",
	  "t:2:10: node.socket: " },
	{ "[node]\ncriu = \"./criu\"\n", "t:2:8: node.criu: " },
	{ "[node]\ncgroup = \"a/b\"\n", "t:2:10: node.cgroup: " },
	{ "[node]\ncgroup = \"..\"\n", "t:2:10: node.cgroup: " },
	{ "[controller]\nlisten = \"8443\"\n", "t:2:10: controller.listen: " },
	{ "[controller]\nlisten = \"h:70000\"\n", "t:2:10: controller.listen: " },
	{ "[controller]\nlisten = \":80\"\n", "t:2:10: controller.listen: " },
	{ "[controller]\nlisten = \"h:80\"\n",
	  "t:2:10: controller.listen: needs controller.token_file" },
	{ "[controller]\nallowed_users = \"hub\"\n",
	  "t:2:17: controller.allowed_users: a list of strings is wanted, not a string" },
	{ "[controller]\nallowed_users = [\"a\",\n  7]\n",
	  "t:3:3: controller.allowed_users: a list of strings is wanted, not an integer" },
	{ "[controller]\nallowed_users = [\"a\",\n  \"\"]\n", "t:3:3: controller.allowed_users: " },
	{ "[session]\nmemory = \"4X\"\n", "t:2:10: session.memory: a size such as" },
	{ "[session]\nmemory = 1.5\n", "t:2:10: session.memory: a size such as" },
	{ "[session]\nmemory = \"99999999T\"\n", "t:2:10: session.memory: out of range" },
	{ "[session]\ncpus = -0.5\n", "t:2:8: session.cpus: out of range: it must be from 0 to" },
	{ "[idle]\nmax_age = \"1h\"\nmin_uptime = \"2h\"\n",
	  "t:2:11: idle.max_age: is below idle.min_uptime" },
	{ "[idle]\nmax_age = \"1h\"\n[[idle.rule]]\nname = \"labs\"\nmin_uptime = \"2h\"\n",
	  "t: idle.rule \"labs\": max_age is below min_uptime" },
	{ "[session]\ncommand = []\n", "t:2:11: session.command: is empty" },
	{ "[session]\nenv = [\"A\"]\n", "t:2:8: session.env: \"A\": \"NAME=VALUE\" is wanted" },
	{ "[session]\nenv = [\"1A=\"]\n", "t:2:8: session.env: " },
	{ "[session]\nhome = \"/h/{name}\"\n", "t:2:8: session.home: " },
	{ "[session]\nuid_max = 5\n", "t: session.uid_min: is above session.uid_max" },
	{ "[session]\nuid_min = 9\nuid_max = 5\n",
	  "t:2:11: session.uid_min: is above session.uid_max" },
	{ "[network]\npool = \"10.99.0.0\"\n", "t:2:8: network.pool: " },
	{ "[network]\npool = \"10.99.0.0/31\"\n", "t:2:8: network.pool: " },
	{ "[network]\npool = \"10.99.0.1/16\"\n",
	  "t:2:8: network.pool: \"10.99.0.1/16\": a network's first address" },
	{ "[network]\npool = \"10.99.0/16\"\n", "t:2:8: network.pool: " },
	{ "[network]\nhost_address = \"::1\"\n", "t:2:16: network.host_address: " },
	{ "[network]\nallow = [\"10.0.0.1\"]\n", "t:2:10: network.allow: " },
	{ "[network]\nallow = [\"hub:80\"]\n", "t:2:10: network.allow: " },
	{ "[network]\ninternet = \"yes\"\n",
	  "t:2:12: network.internet: true or false is wanted, not a string" },
	{ "[network]\ndns = [\"one\"]\n", "t:2:8: network.dns: " },
	{ "[store]\nurl = \"ftp://x\"\n", "t:2:7: store.url: \"ftp://x\": \"file:///DIRECTORY\"" },
	{ "[store]\nurl = \"file://x\"\n", "t:2:7: store.url: " },
	{ "[store]\nurl = \"file:///\"\n", "t:2:7: store.url: " },
	{ "[store]\nurl = \"s3://\"\n", "t:2:7: store.url: " },
	{ "[store]\nurl = \"s3://Bucket/x\"\n", "t:2:7: store.url: " },
	{ "[store]\nurl = \"gs://bucket?region=a b\"\n", "t:2:7: store.url: " },
	{ "[store]\nverify = \"some\"\n",
	  "t:2:10: store.verify: \"some\" is not one of: sample all" },
	{ "[store]\nverify = \"sample all\"\n", "t:2:10: store.verify: " },
	{ "[store]\nverify = \"\"\n", "t:2:10: store.verify: " },
	{ "[store]\nkeep = 0\n", "t:2:8: store.keep: out of range: it must be from 1 to" },
	{ "[store]\nkey_file = \"\"\n", "t:2:12: store.key_file: \"\": an absolute path" },
	{ "[store]\nkey_env = \"A=b\"\n",
	  "t:2:11: store.key_env: \"A=b\": the name of an environment variable" },
	{ "[store]\nkey_env = \"1A\"\n", "t:2:11: store.key_env: " },
	{ "[store]\nkey_env = \"KEY\"\nkey_command = [\"kms\"]\n",
	  "t:3:15: store.key_command: gives the master key, and so does store.key_env" },
	{ "[store]\nkey_command = [\"./kms\"]\n",
	  "t:2:15: store.key_command: must begin with a program's name" },
	{ "[store]\nkey_command = [\"\"]\n", "t:2:16: store.key_command: " },
	{ "[store]\nkey_command = \"kms get\"\n",
	  "t:2:15: store.key_command: a list of strings is wanted, not a string" },
	{ "[store]\nold_key_files = [\"old.key\"]\n", "t:2:18: store.old_key_files: " },
	{ "[store]\nold_key_files = [\"/var/lib/elsa/store.key\"]\n",
	  "t:2:17: store.old_key_files: names store.key_file" },
	{ "[store]\ncache = \"cache\"\n", "t:2:9: store.cache: " },
	{ "[store]\ncache_size = \"-1G\"\n", "t:2:14: store.cache_size: a size such as" },
	{ "[node]\nlazy_restore = 1\n",
	  "t:2:16: node.lazy_restore: true or false is wanted, not an integer" },
	{ "[wake]\npolls = [\"/api\"]\n", "t:2:10: wake.polls: " },
	{ "[wake]\npolls = [\"api\", \"api/*/x\"]\n", "t:2:17: wake.polls: " },
	{ "[wake]\npolls = [\"api/../x\"]\n", "t:2:10: wake.polls: " },
	{ "[wake]\npolls = [\"open\"]\n", "t:2:10: wake.polls: " },
	{ "[wake]\npolls = [\"api x\"]\n", "t:2:10: wake.polls: " },
	{ "[idle]\nquiet_hours = [\"22-06\"]\n", "t:2:16: idle.quiet_hours: " },
	{ "[idle]\nquiet_hours = [\"22:00-25:00\"]\n", "t:2:16: idle.quiet_hours: " },
	{ "[idle]\nquiet_hours = [\"mun 22:00-23:00\"]\n", "t:2:16: idle.quiet_hours: " },
	{ "[idle]\nrule = 3\n", "t:2:1: idle.rule: rules are written [[idle.rule]]" },
	{ "[idle]\nrule = [3]\n", "t:2:1: idle.rule: rules are written [[idle.rule]]" },
	{ "[idle.rule]\nname = \"x\"\n", "t:1:7: idle.rule: rules are written [[idle.rule]]" },
	{ "[[idle.rule]]\nuser = [\"x\"]\n",
	  "t:2:1: option idle.rule.user is not known; did you mean users?" },
	{ "[[idle.rule]]\nadmins = \"all\"\n", "t:2:10: idle.rule.admins: " },
	{ "[\"idle.rule\"]\nname = \"x\"\n", "t:1:2: section idle.rule is not known" },
	{ "[size]\nclass = 3\n", "t:2:1: size.class: classes are written [[size.class]]" },
	{ "[size]\nslack = -1\n", "t:2:9: size.slack: out of range" },
	{ CLASS("a", "1G") "[[size.class]]\nmemory = \"2G\"\n",
	  "t:4:1: size.class: it has no name" },
	{ "[[size.class]]\nname = \"a\"\n", "t:1:1: size.class: it has no memory" },
	{ CLASS("a", "1G") CLASS("b", "2G") CLASS("a", "4G"),
	  "t:8:8: size.class: there is a class \"a\" already" },
	{ CLASS("a", "1G") CLASS("b", "1024M"),
	  "t:6:10: size.class: it has the same memory and cpus as \"a\"" },
	{ CLASS("auto", "1G"), "t:2:8: size.class: \"auto\" is what users say" },
	{ CLASS("a", "1k"), "t:3:10: size.class.memory: " },
	{ "[[size.class]]\nname = \"a\"\nmemory = -1\n",
	  "t:3:10: size.class.memory: out of range: it must be from 16M" },
	{ CLASS("a", "1G") "price = -0.5\n", "t:4:9: size.class.price: out of range" },
	{ CLASS("a b", "1G"), "t:2:8: size.class.name: " },
	{ CLASS("a", "1G") "ram = 3\n", "t:4:1: option size.class.ram is not known" },
	{ CLASS("a", "1G") "[size]\ncatalogue = true\n",
	  "t:5:13: size.catalogue: gives the classes, and so does [[size.class]]" },
	{ CLASS("a", "1G") "[session]\nmemory = \"2G\"\n",
	  "t:5:10: session.memory: no [[size.class]] is as large" },
	{ "[[budget.group]]\namount = 3\n", "t:1:1: budget.group: it has no group, such as" },
	{ "[[budget.group]]\ngroup = \"a\"\n", "t:1:1: budget.group: it has no amount, such as" },
	{ BUDGET("a", "0"), "t:1:1: budget.group: it has no amount" },
	{ BUDGET("a", "-1"), "t:3:10: budget.group.amount: out of range" },
	{ BUDGET("", "1"), "t:2:9: budget.group.group: " },
	{ BUDGET("a", "1") BUDGET("a", "2"),
	  "t:5:9: budget.group: \"a\" has a budget for each month already: give one" },
	{ BUDGET("a", "1") "per = \"week\"\n",
	  "t:4:7: budget.group.per: \"week\" is not one of: day" },
	{ BUDGET("a", "1") "starts = \"no\"\n",
	  "t:4:10: budget.group.starts: \"no\" is not one of" },
	{ "[budget]\ntell = 2\n", "t:2:8: budget.tell: out of range" },
	{ "[size]\nrunning = \"shrink\"\n",
	  "t:2:11: size.running: \"shrink\" is not one of: keep" },
	{ "[[idle.rule]]\n[[idle.rule]]\ncpu_threshold = \"x\"\n",
	  "t:3:17: idle.rule.cpu_threshold: a number is wanted, not a string" },
	{ "[log]\nlevel = \"loud\"\n", "t:2:9: log.level: \"loud\" is not one of: error" },
	{ "[log]\n# \xc3\xa4\xc3\xb6\n\"level\" = 'inf\xc3\xb6'\n", "t:3:11: log.level: " },
	{ "[log]\nlevel = \"\xff\"\n", "t:2:" },
};

static void bad_input_is_told_with_its_place(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct error e = ERROR_INIT;
		struct config *c = NULL;
		int r = config_parse(bad[i].text, strlen(bad[i].text), "t", &c, &e);
		if (r != -EINVAL || strncmp(e.text, bad[i].error, strlen(bad[i].error)) != 0)
			fail_msg("%s\ngave %d \"%s\"\nnot \"%s\"", bad[i].text, r, e.text,
				 bad[i].error);
		assert_null(c);
		assert_int_equal(e.fault, FAULT_BAD_INPUT);
	}
}

static void files_fail_with_a_remedy(void **state)
{
	(void)state;
	struct error e = ERROR_INIT;
	struct config *c = NULL;
	assert_int_equal(config_load("/nonexistent/elsa.toml", &c, &e), -ENOENT);
	assert_non_null(strstr(e.text, "/nonexistent/elsa.toml"));
	assert_true(e.remedy[0]);
	assert_true(config_load("/dev/zero", &c, &e) < 0);
	assert_non_null(strstr(e.text, "larger than"));
}

static void printing_is_the_identity(void **state)
{
	(void)state;
	static const char *const texts[] = {
		"",
		"[hub]\npoll = \"1500ms\"\n[session]\nmemory = 1000\ncpus = 0.1\n"
		"env = [\"A=\\u0007\\t\\\"\\\\\", \"B=\xc3\xa4\"]\n"
		"[[idle.rule]]\nusers = [\"a*\", \"b\"]\nservers = [\"\"]\nexempt = true\n"
		"[[idle.rule]]\ngroups = []\nadmins = \"only\"\ncpu_threshold = 1e-7\n"
		"[idle]\nquiet_hours = [\"22:00-06:00\"]\ntimeout = 0\ncpu_threshold = 100\n",
		"[[size.class]]\nname = \"a\"\nmemory = \"1G\"\n"
		"[[size.class]]\nname = \"b\"\nmemory = 5000000000\ncpus = 2.5\nprice = 0.1\n"
		"[size]\nslack = 0\n",
		BUDGET("a", "1")
			BUDGET("b \\\"c\\\"", "0.25") "per = \"day\"\nstarts = \"refuse\"\n",
	};
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		cleanup(config_freep) struct config *first = parse(texts[i]);
		cleanup_free char *printed = config_print(first);
		cleanup(config_freep) struct config *second = parse(printed);
		cleanup_free char *again = config_print(second);
		assert_string_equal(printed, again);
		assert_int_equal(first->idle.rule_count, second->idle.rule_count);
		assert_int_equal(first->size.class_count, second->size.class_count);
		assert_int_equal(first->budget.group_count, second->budget.group_count);
		assert_int_equal(first->session.memory_bytes, second->session.memory_bytes);
		assert_true(first->session.cpus == second->session.cpus);
	}
}

static void example_is_the_table(void **state)
{
	(void)state;
	cleanup_free char *file = read_example();
	cleanup_free char *example = config_example();
	assert_string_equal(file, example);
	for (size_t i = 0; i < option_count; i++) {
		cleanup_free char *line = str_printf("\n#%s = ", options[i].key);
		cleanup_free char *header = str_printf("[%s]", options[i].section);
		const char *section = strstr(file, header);
		assert_non_null(section);
		assert_non_null(strstr(section, line));
	}
}

static void cut(char *text, const char *from, const char *to)
{
	char *begin = strstr(text, from);
	assert_non_null(begin);
	char *end = strstr(begin, to);
	assert_non_null(end);
	memmove(begin, end, strlen(end) + 1);
}

/* With every "#" before an option taken away, it must say what holds without the file, but for the
 * entries of lists, which are examples. */
static void example_equals_the_defaults(void **state)
{
	(void)state;
	cleanup_free char *file = read_example();
	cleanup(config_freep) struct config *commented = parse(file);
	cleanup(config_freep) struct config *plain = parse("");
	char *to = file;
	for (const char *from = file; *from; from++)
		if (*from != '#' || from[1] == ' ')
			*to++ = *from;
	*to = '\0';
	cleanup(config_freep) struct config *opened = parse(file);
	cleanup_free char *a = config_print(commented);
	cleanup_free char *b = config_print(plain);
	assert_string_equal(a, b);
	assert_int_equal(opened->idle.rule_count, 2);
	assert_string_equal(opened->idle.rules[0].name, "teachers");
	cleanup_free char *c = config_print(opened);
	assert_int_equal(opened->size.class_count, 1);
	cut(c, "\n[[idle.rule]]", "\n[size]");
	cut(c, "\n[[size.class]]", "\n[account]");
	assert_int_equal(opened->budget.group_count, 1);
	cut(c, "\n[[budget.group]]", "\n[usage]");
	assert_string_equal(c, b);
}

static void quiet_hours_are_read(void **state)
{
	(void)state;
	struct config_quiet q;
	assert_int_equal(config_quiet_parse("22:00-06:30", &q), 0);
	assert_int_equal(q.from_minute, 22 * 60);
	assert_int_equal(q.to_minute, 6 * 60 + 30);
	assert_int_equal(q.weekdays, 0x7f);
	assert_int_equal(config_quiet_parse("mon-fri 08:00-18:00", &q), 0);
	assert_int_equal(q.weekdays, 0x1f);
	assert_int_equal(config_quiet_parse("Sat-Mon,wed 00:00-24:00", &q), 0);
	assert_int_equal(q.weekdays, 0x65);
	assert_int_equal(q.to_minute, 24 * 60);
	static const char *const wrong[] = {
		"",
		"08:00",
		"8:00-9:00",
		"08:00-08:00",
		"24:00-08:00",
		"08:60-09:00",
		"24:01-08:00",
		"mon",
		"mon08:00-09:00",
		"mon- 08:00-09:00",
		"mon, 1:1-2:2",
		"08:00-09:00 ",
		"mon-fri 08:00",
		"08:00 - 09:00",
	};
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++)
		assert_int_equal(config_quiet_parse(wrong[i], &q), -EINVAL);
}

static void units_are_read_and_written(void **state)
{
	(void)state;
	int64_t v;
	char text[VALUE_TEXT_SIZE];
	assert_int_equal(value_parse_duration("2h", &v), 0);
	assert_int_equal(v, 7200000);
	assert_int_equal(value_parse_duration("2 h", &v), -EINVAL);
	assert_int_equal(value_parse_duration("", &v), -EINVAL);
	assert_int_equal(value_parse_duration("5", &v), -EINVAL);
	assert_int_equal(value_parse_size("3M", &v), 0);
	assert_int_equal(v, 3 << 20);
	assert_int_equal(value_parse_size("iB", &v), -EINVAL);
	assert_string_equal(value_format_duration(90000, text), "90s");
	assert_string_equal(value_format_duration(0, text), "0ms");
	assert_string_equal(value_format_duration(7 * INT64_C(86400000), text), "1w");
	assert_string_equal(value_format_size(0, text), "0");
	assert_string_equal(value_format_size(1536, text), "1536");
	assert_string_equal(value_format_size(INT64_C(3) << 40, text), "3T");
	assert_int_equal(value_distance("timeuot", "timeout"), 1);
	assert_int_equal(value_distance("", "abc"), 3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(defaults_are_sensible),
		cmocka_unit_test(values_are_read),
		cmocka_unit_test(rules_inherit),
		cmocka_unit_test(classes_are_read),
		cmocka_unit_test(budgets_are_read),
		cmocka_unit_test(bad_input_is_told_with_its_place),
		cmocka_unit_test(files_fail_with_a_remedy),
		cmocka_unit_test(printing_is_the_identity),
		cmocka_unit_test(example_is_the_table),
		cmocka_unit_test(example_equals_the_defaults),
		cmocka_unit_test(quiet_hours_are_read),
		cmocka_unit_test(units_are_read_and_written),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
