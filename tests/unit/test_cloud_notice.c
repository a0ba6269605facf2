/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/fs.h"
#include "base/names.h"
#include "cloud/notice.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* What sources say, and the list of what has been heard. */

#define NOW     1000000
#define NOTHING ""

static int azure(const char *text, size_t len, struct notice_items *to)
{
	return notice_azure_events(text, len, "vm-1", to);
}

static int file(const char *text, size_t len, struct notice_items *to)
{
	return notice_file(text, len, NOW, to, NULL);
}

/* "kind:key@at kind:key@at", with a '?' when something was not understood. */
static char *show(const struct notice_items *items)
{
	struct buf text = BUF_INIT(4096);
	for (size_t i = 0; i < items->count; i++) {
		const struct notice_item *item = &items->items[i];
		assert_int_equal(
			buf_printf(&text, "%s%s:%s@%lld", i ? " " : "",
				   name_of(notice_kind_names, NOTICE_KIND_COUNT, item->kind),
				   item->key, (long long)item->at),
			0);
	}
	if (items->odd[0])
		assert_int_equal(buf_printf(&text, "?"), 0);
	return text.data ? buf_steal(&text) : strdup("");
}

static const struct {
	int (*read)(const char *text, size_t len, struct notice_items *to);
	const char *text, *want; /* NULL: refused */
} cases[] = {
	/* spot/instance-action */
	{ notice_aws_action, "{\"action\": \"terminate\", \"time\": \"2016-09-19T18:29:47Z\"}",
	  "evict:instance-action@1474309787000" },
	{ notice_aws_action, "{\"action\": \"stop\", \"time\": \"2016-09-19T18:29:47.5Z\"}",
	  "evict:instance-action@1474309787500" },
	{ notice_aws_action, "{\"action\": \"hibernate\", \"time\": \"2016-09-19T18:29:47Z\"}",
	  "evict:instance-action@1474309787000" },
	{ notice_aws_action, "{\"action\": \"vaporize\", \"time\": \"2016-09-19T18:29:47Z\"}",
	  "evict:instance-action@1474309787000?" },
	{ notice_aws_action, "{\"action\": \"stop\", \"time\": \"soon\"}",
	  "evict:instance-action@0?" },
	{ notice_aws_action, "{\"action\": \"stop\", \"time\": 1474309787}",
	  "evict:instance-action@0?" },
	{ notice_aws_action, "{\"action\": \"stop\"}", "evict:instance-action@0?" },
	{ notice_aws_action, "{\"action\": \"stop\", \"time\": \"99999-09-19T18:29:47Z\"}",
	  "evict:instance-action@0?" },
	{ notice_aws_action, "{\"action\": \"stop\", \"time\": \"0001-01-01T00:00:00Z\"}",
	  "evict:instance-action@0?" },
	{ notice_aws_action, "{\"action\": \"stop\", \"time\": \"2016-09-", NULL },
	{ notice_aws_action, "<html><body>Welcome</body></html>", NULL },
	{ notice_aws_action, "{}", NULL },
	{ notice_aws_action, "[]", NULL },
	{ notice_aws_action, "null", NULL },
	{ notice_aws_action, "", NULL },
	{ notice_aws_action, "{\"action\": \"stop\", \"action\": \"stop\"}", NULL },

	/* events/recommendations/rebalance */
	{ notice_aws_rebalance, "{\"noticeTime\": \"2016-09-19T18:29:47Z\"}",
	  "rebalance:rebalance@0" },
	{ notice_aws_rebalance, "{\"time\": \"2016-09-19T18:29:47Z\"}", NULL },
	{ notice_aws_rebalance, "yes", NULL },

	/* events/maintenance/scheduled */
	{ notice_aws_scheduled, "[]", NOTHING },
	{ notice_aws_scheduled,
	  "[{\"NotBefore\": \"19 Sep 2016 18:29:47 GMT\", \"Code\": \"system-reboot\", "
	  "\"Description\": \"scheduled reboot\", \"EventId\": "
	  "\"instance-event-0d59937288b749b32\", "
	  "\"NotAfter\": \"19 Sep 2016 19:17:23 GMT\", \"State\": \"active\"}]",
	  "reboot:instance-event-0d59937288b749b32@1474309787000" },
	{ notice_aws_scheduled,
	  "[{\"Code\": \"instance-stop\", \"EventId\": \"a\"}, "
	  "{\"Code\": \"instance-retirement\", \"EventId\": \"b\", \"State\": \"active\"}, "
	  "{\"Code\": \"instance-reboot\", \"EventId\": \"c\"}, "
	  "{\"Code\": \"system-maintenance\", \"EventId\": \"d\"}]",
	  "evict:a@0 evict:b@0 reboot:c@0 freeze:d@0" },
	{ notice_aws_scheduled,
	  "[{\"Code\": \"instance-stop\", \"EventId\": \"a\", \"State\": \"completed\"}, "
	  "{\"Code\": \"instance-stop\", \"EventId\": \"b\", \"State\": \"canceled\"}, "
	  "{\"Code\": \"instance-stop\", \"EventId\": \"c\", \"Description\": \"[Canceled] x\"}, "
	  "{\"Code\": \"instance-stop\", \"EventId\": \"d\", \"Description\": \"[Completed] x\"}]",
	  NOTHING },
	{ notice_aws_scheduled, "[{\"Code\": \"instance-upgrade\"}]",
	  "rebalance:instance-upgrade@0?" },
	{ notice_aws_scheduled, "[{\"Code\": \"instance-stop\", \"NotBefore\": \"tomorrow\"}]",
	  "evict:instance-stop@0?" },
	{ notice_aws_scheduled, "[{\"Code\": \"instance-stop\", \"EventId\": \"a.b\\\" c\"}]",
	  "evict:a_b__c@0" },
	{ notice_aws_scheduled, "[1]", NULL },
	{ notice_aws_scheduled, "{\"Code\": \"instance-stop\"}", NULL },

	/* autoscaling/target-lifecycle-state */
	{ notice_aws_lifecycle, "InService", NOTHING },
	{ notice_aws_lifecycle, "InService\n", NOTHING },
	{ notice_aws_lifecycle, "Terminated", "evict:target-lifecycle-state@0" },
	{ notice_aws_lifecycle, "Warmed:Stopped", "evict:target-lifecycle-state@0" },
	{ notice_aws_lifecycle, "Warmed:Running", "rebalance:target-lifecycle-state@0" },
	{ notice_aws_lifecycle, "Detached", "rebalance:target-lifecycle-state@0" },
	{ notice_aws_lifecycle, "Standby", "rebalance:target-lifecycle-state@0" },
	{ notice_aws_lifecycle, "Elsewhere", "rebalance:target-lifecycle-state@0?" },
	{ notice_aws_lifecycle, "", NULL },
	{ notice_aws_lifecycle, "<html>", NULL },
	{ notice_aws_lifecycle, "Not Found", NULL },

	/* instance/preempted, instance/maintenance-event */
	{ notice_gcp_preempted, "FALSE", NOTHING },
	{ notice_gcp_preempted, "TRUE", "evict:preempted@0" },
	{ notice_gcp_preempted, "TRUE\n", "evict:preempted@0" },
	{ notice_gcp_preempted, "", NULL },
	{ notice_gcp_preempted, "MAYBE", NULL },
	{ notice_gcp_preempted, "<html>", NULL },
	{ notice_gcp_maintenance, "NONE", NOTHING },
	{ notice_gcp_maintenance, "MIGRATE_ON_HOST_MAINTENANCE", "freeze:maintenance-event@0" },
	{ notice_gcp_maintenance, "TERMINATE_ON_HOST_MAINTENANCE", "evict:maintenance-event@0" },
	{ notice_gcp_maintenance, "EXPLODE", "rebalance:maintenance-event@0?" },
	{ notice_gcp_maintenance, "{}", NULL },
	{ notice_gcp_maintenance, "", NULL },

	/* scheduledevents */
	{ azure, "{\"DocumentIncarnation\": 1, \"Events\": []}", NOTHING },
	{ azure,
	  "{\"DocumentIncarnation\": 2, \"Events\": [{\"EventId\": \"4CAEA225-A741\", "
	  "\"EventStatus\": \"Scheduled\", \"EventType\": \"Preempt\", \"ResourceType\": "
	  "\"VirtualMachine\", \"Resources\": [\"vm-1\"], \"NotBefore\": "
	  "\"Mon, 19 Sep 2016 18:29:47 GMT\", \"Description\": \"\", \"EventSource\": "
	  "\"Platform\", "
	  "\"DurationInSeconds\": -1}]}",
	  "evict:4CAEA225-A741@1474309787000" },
	{ azure,
	  "{\"Events\": [{\"EventId\": \"a\", \"EventType\": \"Terminate\", \"NotBefore\": \"\"}, "
	  "{\"EventId\": \"b\", \"EventType\": \"Reboot\"}, "
	  "{\"EventId\": \"c\", \"EventType\": \"Redeploy\"}, "
	  "{\"EventId\": \"d\", \"EventType\": \"Freeze\"}, "
	  "{\"EventId\": \"e\", \"EventType\": \"Rewrite\"}]}",
	  "evict:a@0 reboot:b@0 evict:c@0 freeze:d@0 rebalance:e@0?" },
	{ azure,
	  "{\"Events\": [{\"EventId\": \"a\", \"EventType\": \"Preempt\", \"Resources\": "
	  "[\"vm-2\"]}, "
	  "{\"EventId\": \"b\", \"EventType\": \"Preempt\", \"Resources\": [\"vm-2\", \"VM-1\"]}]}",
	  "evict:b@0" },
	{ azure,
	  "{\"Events\": [{\"EventId\": \"a\", \"EventType\": \"Reboot\", \"EventStatus\": "
	  "\"Completed\"}]}",
	  NOTHING },
	{ azure,
	  "{\"Events\": [{\"EventId\": \"a\", \"EventType\": \"Freeze\", \"NotBefore\": "
	  "\"later\"}]}",
	  "freeze:a@0?" },
	{ azure, "{\"Events\": [{\"EventType\": \"Preempt\"}]}", NULL },
	{ azure, "{\"Events\": [7]}", NULL },
	{ azure, "{\"Events\": {}}", NULL },
	{ azure, "{}", NULL },
	{ azure, "Service Unavailable", NULL },

	/* a file, or what a command prints */
	{ file, "", NOTHING },
	{ file, " \n", NOTHING },
	{ file, "[]", NOTHING },
	{ file, "{\"kind\": \"none\"}", NOTHING },
	{ file, "{\"kind\": \"evict\"}", "evict:file:0@0" },
	{ file, "{\"kind\": \"evict\", \"at\": \"2016-09-19T18:29:47Z\"}",
	  "evict:file:0@1474309787000" },
	{ file, "{\"kind\": \"evict\", \"at\": \"Mon, 19 Sep 2016 18:29:47 GMT\"}",
	  "evict:file:0@1474309787000" },
	{ file, "{\"kind\": \"reboot\", \"in\": \"30s\"}", "reboot:file:0@1030000" },
	{ file, "{\"kind\": \"reboot\", \"in\": 2.5}", "reboot:file:0@1002500" },
	{ file, "{\"kind\": \"reboot\", \"in\": \"2m\", \"id\": \"x.y\"}",
	  "reboot:file:x_y@1120000" },
	{ file, "[{\"kind\": \"freeze\"}, {\"kind\": \"rebalance\", \"detail\": \"d\"}]",
	  "freeze:file:0@0 rebalance:file:1@0" },
	{ file, "{\"kind\": \"evict\", \"in\": \"-1s\"}", NULL },
	{ file, "{\"kind\": \"evict\", \"in\": -1}", NULL },
	{ file, "{\"kind\": \"evict\", \"in\": \"inf\"}", NULL },
	{ file, "{\"kind\": \"evict\", \"in\": \"1e300\"}", NULL },
	{ file, "{\"kind\": \"evict\", \"in\": \"1 fortnight\"}", NULL },
	{ file, "{\"kind\": \"evict\", \"in\": \"\"}", NULL },
	{ file, "{\"kind\": \"evict\", \"in\": true}", NULL },
	{ file, "{\"kind\": \"evict\", \"at\": \"soon\"}", NULL },
	{ file, "{\"kind\": \"evict\", \"at\": \"2016-09-19T18:29:47Z\", \"in\": 1}", NULL },
	{ file, "{\"kind\": \"explode\"}", NULL },
	{ file, "{\"kind\": 1}", NULL },
	{ file, "{\"at\": \"2016-09-19T18:29:47Z\"}", NULL },
	{ file, "{\"kind\": \"evict\", \"when\": \"now\"}", NULL },
	{ file, "{\"kind\": \"evict\"", NULL },
	{ file, "evict", NULL },
	{ file, "[[]]", NULL },
	{ file, "[{\"kind\": \"evict\", \"id\": \"a\"}, {\"kind\": \"evict\", \"id\": \"a\"}]",
	  NULL },
};

static void answers_are_read(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct notice_items items;
		int r = cases[i].read(cases[i].text, strlen(cases[i].text), &items);
		if (!cases[i].want) {
			if (r != -EBADMSG)
				fail_msg("taken: %s", cases[i].text);
			continue;
		}
		if (r != 0)
			fail_msg("refused: %s", cases[i].text);
		cleanup_free char *got = show(&items);
		assert_string_equal(got, cases[i].want);
	}
}

static void floods_are_cut(void **state)
{
	(void)state;
	cleanup_buf struct buf text = BUF_INIT(1 << 20);
	struct notice_items items;
	assert_int_equal(buf_printf(&text, "["), 0);
	for (int i = 0; i < 500; i++)
		assert_int_equal(buf_printf(&text,
					    "%s{\"Code\":\"instance-stop\",\"EventId\":\"%d\"}",
					    i ? "," : "", i),
				 0);
	assert_int_equal(buf_printf(&text, "]"), 0);
	assert_int_equal(notice_aws_scheduled(text.data, text.len, &items), 0);
	assert_int_equal(items.count, NOTICE_MOST);
	assert_true(items.odd[0]);
	while (text.len <= NOTICE_BODY_MOST)
		assert_int_equal(buf_printf(&text, "%1000s", ""), 0);
	assert_int_equal(notice_aws_scheduled(text.data, text.len, &items), -EBADMSG);
	assert_int_equal(notice_file(text.data, text.len, 0, &items, NULL), -EBADMSG);
	buf_reset(&text);
	for (int i = 0; i < 20000; i++)
		assert_int_equal(buf_printf(&text, "["), 0);
	assert_int_equal(notice_aws_scheduled(text.data, text.len, &items), -EBADMSG);
}

static void azure_facts_are_read(void **state)
{
	(void)state;
	static const char text[] =
		"{\"location\": \"westeurope\", \"name\": \"vm-1\", \"priority\": \"Spot\", "
		"\"vmId\": \"02aab8a4-74ef\", \"vmSize\": \"Standard_D4s_v5\", \"zone\": \"2\"}";
	static const char plain[] =
		"{\"location\": \"westus\", \"name\": \"\", \"priority\": \"\", \"vmId\": \"x\", "
		"\"vmSize\": \"\", \"zone\": \"\"}";
	struct notice_facts f = { 0 };
	assert_int_equal(notice_azure_facts(text, strlen(text), &f), 0);
	assert_string_equal(f.instance, "02aab8a4-74ef");
	assert_string_equal(f.type, "Standard_D4s_v5");
	assert_string_equal(f.zone, "westeurope-2");
	assert_string_equal(f.price, "spot");
	assert_string_equal(f.name, "vm-1");
	assert_int_equal(notice_azure_facts(plain, strlen(plain), &f), 0);
	assert_string_equal(f.zone, "westus");
	assert_string_equal(f.price, "on-demand");
	assert_int_equal(notice_azure_facts("{}", 2, &f), -EBADMSG);
	assert_int_equal(notice_azure_facts("<x>", 3, &f), -EBADMSG);
}

/* --- the list --------------------------------------------------------------------------- */

static char told[512];

static void note(enum notice_change change, const struct node_notice *notice, void *arg)
{
	static const char *const names[] = { "+", "~", "-" };
	size_t len = strlen(told);
	(void)arg;
	snprintf(told + len, sizeof(told) - len, "%s%s@%lld ", names[change], notice->id,
		 (long long)notice->at);
}

static void put(struct notice_list *list, const char *source, const char *text, wall_ms now,
		const char *want)
{
	struct notice_items items;
	told[0] = '\0';
	assert_int_equal(notice_file(text, strlen(text), now, &items, NULL), 0);
	assert_int_equal(notice_list_put(list, source, &items, now, note, NULL), 0);
	assert_string_equal(told, want);
}

static void notices_appear_change_and_are_cancelled(void **state)
{
	(void)state;
	static const char evict[] =
		"{\"kind\":\"evict\",\"id\":\"a\",\"at\":\"1970-01-01T00:10:00Z\"}";
	struct notice_list list = { 0 };
	put(&list, "x", evict, 0x1000, "+file:a.1000@600000 ");
	put(&list, "x", evict, 0x2000, "");
	assert_int_equal(list.items[0].seen_at, 0x1000);
	put(&list, "y", evict, 0x2000, "+file:a.2000@600000 ");
	put(&list, "x", "{\"kind\":\"evict\",\"id\":\"a\",\"at\":\"1970-01-01T00:05:00Z\"}", 0x2000,
	    "~file:a.1000@300000 ");
	put(&list, "x", "{\"kind\":\"reboot\",\"id\":\"a\",\"at\":\"1970-01-01T00:05:00Z\"}",
	    0x2000, "~file:a.1000@300000 ");
	/* the time is no longer said: the one from before counts */
	put(&list, "x", "{\"kind\":\"reboot\",\"id\":\"a\"}", 0x2000, "");
	assert_int_equal(list.items[0].at, 300000);
	put(&list, "x", "", 0x2000, "-file:a.1000@300000 ");
	put(&list, "x", evict, 0x3000, "+file:a.3000@600000 "); /* another one */
	assert_int_equal(list.count, 2);
	put(&list, "y", "[]", 0x3000, "-file:a.2000@600000 ");
	notice_list_deinit(&list);
	notice_list_deinit(&list);
}

static void past_is_now_and_stays(void **state)
{
	(void)state;
	static const char past[] =
		"{\"kind\":\"evict\",\"id\":\"a\",\"at\":\"1970-01-01T00:00:01Z\"}";
	struct notice_list list = { 0 };
	put(&list, "x", past, 5000, "+file:a.1388@5000 ");
	put(&list, "x", past, 6000, "");
	put(&list, "x", "{\"kind\":\"evict\",\"id\":\"a\",\"in\":60}", 7000, "");
	put(&list, "x", "", 7000, "-file:a.1388@5000 ");
	put(&list, "x", "{\"kind\":\"evict\",\"id\":\"a\",\"in\":60}", 7000, "+file:a.1b58@67000 ");
	put(&list, "x", past, 8000, "~file:a.1b58@8000 "); /* moved to the past: now */
	put(&list, "x", past, 9000, "");
	notice_list_deinit(&list);
}

static void relative_times_do_not_wander(void **state)
{
	(void)state;
	struct notice_list list = { 0 };
	put(&list, "x", "{\"kind\":\"evict\",\"in\":\"30s\"}", 1000, "+file:0.3e8@31000 ");
	put(&list, "x", "{\"kind\":\"evict\",\"in\":\"30s\"}", 3000, "");
	put(&list, "x", "{\"kind\":\"evict\",\"in\":\"26s\"}", 4700, "");
	put(&list, "x", "{\"kind\":\"evict\",\"in\":\"10s\"}", 5000, "~file:0.3e8@15000 ");
	notice_list_deinit(&list);
}

static void lists_are_copied(void **state)
{
	(void)state;
	struct notice_list list = { 0 };
	struct notice_list copy = { 0 };
	assert_int_equal(notice_list_copy(&list, &copy.items, &copy.count), 0);
	assert_int_equal(copy.count, 0);
	notice_list_deinit(&copy);
	put(&list, "x", "[{\"kind\":\"evict\"},{\"kind\":\"freeze\"}]", 16,
	    "+file:0.10@0 +file:1.10@0 ");
	assert_int_equal(notice_list_copy(&list, &copy.items, &copy.count), 0);
	notice_list_deinit(&list);
	assert_int_equal(copy.count, 2);
	assert_string_equal(copy.items[1].source, "x");
	assert_int_equal(notice_deadline(&copy.items[0], 30000), 30016);
	copy.items[0].at = 7;
	assert_int_equal(notice_deadline(&copy.items[0], 30000), 7);
	notice_list_deinit(&copy);
}

/* --- which cloud -------------------------------------------------------------------------- */

static void clouds_are_told_apart(void **state)
{
	(void)state;
	static const struct {
		const char *vendor, *product, *version, *tag;
		enum notice_cloud want;
	} machines[] = {
		{ "Amazon EC2\n", "m7i.large\n", "1.0\n", "Amazon EC2\n", NOTICE_CLOUD_AWS },
		{ "Xen\n", "HVM domU\n", "4.11.amazon\n", "\n", NOTICE_CLOUD_AWS },
		{ "Xen\n", "HVM domU\n", "4.11\n", "\n", NOTICE_CLOUD_NONE },
		{ "Google\n", "Google Compute Engine\n", "Google\n", "\n", NOTICE_CLOUD_GCP },
		{ "Google\n", "Eve\n", "x\n", "\n", NOTICE_CLOUD_NONE },
		{ "Microsoft Corporation\n", "Virtual Machine\n", "x\n",
		  "7783-7084-3265-9085-8269-3286-77\n", NOTICE_CLOUD_AZURE },
		{ "Microsoft Corporation\n", "Virtual Machine\n", "x\n", "1234\n",
		  NOTICE_CLOUD_NONE },
		{ "QEMU\n", "Standard PC\n", "x\n", "\n", NOTICE_CLOUD_NONE },
	};
	char dir[] = "/tmp/elsa-test.XXXXXX";
	assert_non_null(mkdtemp(dir));
	assert_int_equal(notice_cloud_of(dir), NOTICE_CLOUD_NONE);
	for (size_t i = 0; i < ARRAY_SIZE(machines); i++) {
		const char *const values[] = { machines[i].vendor, machines[i].product,
					       machines[i].version, machines[i].tag };
		static const char *const names[] = { "sys_vendor", "product_name", "bios_version",
						     "chassis_asset_tag" };
		for (size_t k = 0; k < ARRAY_SIZE(names); k++) {
			cleanup_free char *path = fs_join(dir, names[k]);
			assert_int_equal(
				fs_replace_soon(path, values[k], strlen(values[k]), 0600, NULL), 0);
		}
		assert_int_equal(notice_cloud_of(dir), machines[i].want);
	}
	assert_int_equal(fs_remove_tree(dir, NULL), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(answers_are_read),
		cmocka_unit_test(floods_are_cut),
		cmocka_unit_test(azure_facts_are_read),
		cmocka_unit_test(notices_appear_change_and_are_cancelled),
		cmocka_unit_test(past_is_now_and_stays),
		cmocka_unit_test(relative_times_do_not_wander),
		cmocka_unit_test(lists_are_copied),
		cmocka_unit_test(clouds_are_told_apart),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
