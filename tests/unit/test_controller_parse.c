/* SPDX-License-Identifier: Apache-2.0 */
/* What the Hub, the sessions' servers and the sessions themselves say: bytes in, facts out. */
#include "base/cleanup.h"
#include "controller/activity.h"
#include "controller/hub_private.h"
#include "controller/observe.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define NOW 1795400000000 /* 2026-11-23T02:13:20Z */

/* --- the Hub -----------------------------------------------------------------------------------
 */

struct users {
	size_t count, admins, groups;
	wall_ms activity;
};

static void count_user(const struct hub_user *user, void *arg)
{
	struct users *users = arg;
	users->count++;
	users->admins += user->admin;
	users->groups += json_array_size(user->groups);
	if (strcmp(user->name, "a/b") == 0)
		users->activity = hub_server_activity(user->servers, "lab", NOW + 7);
}

static int parse_page(const char *text, struct users *users, int64_t *next)
{
	*users = (struct users) { 0 };
	return hub_parse_page(text, strlen(text), count_user, users, next, NULL);
}

/* As JupyterHub 5.2 writes it. */
static const char page[] =
	"{\"items\": [{\"name\": \"a/b\", \"admin\": true, \"groups\": [\"x\", \"y\"], "
	"\"servers\": "
	"{\"lab\": {\"last_activity\": \"2026-11-23T02:13:20.000000Z\", \"ready\": true}}}, "
	"{\"name\": \"bob\", \"admin\": false}], \"_pagination\": {\"offset\": 0, \"limit\": 2, "
	"\"total\": 5, \"next\": {\"offset\": 2, \"limit\": 2, \"url\": \"http://x/?offset=2\"}}}";

static void good_pages(void **state)
{
	(void)state;
	struct users users;
	int64_t next;
	assert_int_equal(parse_page(page, &users, &next), 0);
	assert_int_equal(next, 2);
	assert_int_equal(users.count, 2);
	assert_int_equal(users.admins, 1);
	assert_int_equal(users.groups, 2);
	assert_int_equal(users.activity, NOW);
	assert_int_equal(parse_page("{\"items\": [{\"name\": \"a/b\", \"servers\": {\"lab\": "
				    "{\"last_activity\": \"2026-11-23T02:13:20.000000Z\", "
				    "\"ready\": false, \"pending\": \"spawn\"}}}], "
				    "\"_pagination\": {\"next\": null}}",
				    &users, &next),
			 0);
	assert_int_equal(users.activity, NOW + 7);
	assert_int_equal(
		parse_page("{\"items\": [], \"_pagination\": {\"next\": null}}", &users, &next), 0);
	assert_int_equal(next, -1);
	assert_int_equal(users.count, 0);
}

static void bad_pages(void **state)
{
	(void)state;
	static const char *const bad[] = {
		"",
		"<html>",
		"null",
		"[]",
		"{}",
		"{\"items\": []}",
		"{\"items\": {}, \"_pagination\": {}}",
		"{\"items\": [{}], \"_pagination\": {}}",
		"{\"items\": [\"ada\"], \"_pagination\": {}}",
		"{\"items\": [{\"name\": 7}], \"_pagination\": {}}",
		"{\"items\": [], \"_pagination\": {\"next\": 7}}",
		"{\"items\": [], \"_pagination\": {\"next\": {\"offset\": \"2\"}}}",
		"{\"items\": [], \"_pagination\": {\"offset\": 5, \"next\": {\"offset\": 5}}}",
		"{\"items\": [], \"_pagination\": {\"offset\": 5, \"next\": {\"offset\": -1}}}",
	};
	struct users users;
	int64_t next;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		if (parse_page(bad[i], &users, &next) == 0)
			fail_msg("believed: %s", bad[i]);
	for (size_t len = 0; len < strlen(page); len++)
		if (hub_parse_page(page, len, count_user, &users, &next, NULL) == 0)
			fail_msg("believed when cut at %zu", len);
}

static void scopes(void **state)
{
	(void)state;
	char missing[128];
	bool sees_all;
	static const char all[] =
		"{\"scopes\": [\"delete:servers\", \"list:users\", \"read:servers\", \"servers\", "
		"\"read:users:activity\"]}";
	static const char filtered[] = "{\"scopes\": [\"list:users!group=x\", \"servers\", "
				       "\"read:servers\", 7, \"list:usersx\"]}";
	assert_int_equal(
		hub_parse_self(all, strlen(all), missing, sizeof(missing), &sees_all, NULL), 0);
	assert_string_equal(missing, "");
	assert_true(sees_all);
	assert_int_equal(hub_parse_self(filtered, strlen(filtered), missing, sizeof(missing),
					&sees_all, NULL),
			 0);
	assert_string_equal(missing, "read:users:activity, delete:servers");
	assert_false(sees_all);
	assert_true(hub_parse_self("{}", 2, missing, sizeof(missing), &sees_all, NULL) < 0);
	assert_true(hub_parse_self("[]", 2, missing, sizeof(missing), &sees_all, NULL) < 0);
	assert_true(hub_parse_self("x", 1, missing, sizeof(missing), &sees_all, NULL) < 0);
	/* A list longer than there is room for is cut, not written past. */
	assert_int_equal(hub_parse_self("{\"scopes\": []}", 14, missing, 20, &sees_all, NULL), 0);
	assert_true(strlen(missing) < 20);
}

/* --- servers -----------------------------------------------------------------------------------
 */

static void kernels(void **state)
{
	(void)state;
	struct server_facts facts = { 0 };
	static const char body[] =
		"[{\"execution_state\": \"idle\", \"last_activity\": \"2026-11-23T02:00:00Z\"}, "
		"{\"execution_state\": \"busy\", \"last_activity\": \"2026-11-23T01:00:00Z\"}, "
		"{\"execution_state\": null, \"last_activity\": 7}, {}]";
	assert_int_equal(observe_parse_kernels(body, strlen(body), NOW, &facts), 0);
	assert_true(facts.kernel_busy);
	assert_int_equal(facts.kernel_activity_at, NOW - 800 * 1000);
	facts = (struct server_facts) { 0 };
	assert_int_equal(observe_parse_kernels("[]", 2, NOW, &facts), 0);
	assert_false(facts.kernel_busy);
	assert_int_equal(facts.kernel_activity_at, 0);
	assert_true(observe_parse_kernels("{}", 2, NOW, &facts) < 0);
	assert_true(observe_parse_kernels("", 0, NOW, &facts) < 0);
	assert_true(observe_parse_kernels(body, 20, NOW, &facts) < 0);
}

static void clocks_that_run_ahead(void **state)
{
	(void)state;
	struct server_facts facts = { 0 };
	static const char body[] = "[{\"last_activity\": \"2099-01-01T00:00:00Z\"}]";
	assert_int_equal(observe_parse_terminals(body, strlen(body), NOW, &facts), 0);
	assert_int_equal(facts.terminal_activity_at, NOW);
	static const char activity[] = "{\"last_request_ms\": 5, \"last_data_ms\": 9e99}";
	static const char ahead[] = "{\"last_request_ms\": 5, \"last_data_ms\": 9999999999999}";
	assert_int_equal(observe_parse_activity(activity, strlen(activity), NOW, &facts), 0);
	assert_int_equal(facts.request_at, 5);
	assert_int_equal(observe_parse_activity(ahead, strlen(ahead), NOW, &facts), 0);
	assert_int_equal(facts.request_at, NOW);
	assert_true(observe_parse_activity("[]", 2, NOW, &facts) < 0);
}

static void base_urls(void **state)
{
	(void)state;
	char *with[] = { (char *)"JUPYTERHUB_SERVICE_PREFIX=/user/a%2Fb/lab/", NULL };
	char *open[] = { (char *)"X=1", (char *)"JUPYTERHUB_SERVICE_PREFIX=/user/ada", NULL };
	char *odd[] = { (char *)"JUPYTERHUB_SERVICE_PREFIX=http://elsewhere/", NULL };
	struct session_spec spec = { .address = (char *)"10.99.0.17", .port = 8888 };
	const struct {
		char **env;
		const char *url;
	} cases[] = {
		{ with, "http://10.99.0.17:8888/user/a%2Fb/lab/" },
		{ open, "http://10.99.0.17:8888/user/ada/" },
		{ odd, "http://10.99.0.17:8888/" },
		{ NULL, "http://10.99.0.17:8888/" },
	};
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		spec.env = cases[i].env;
		cleanup_free char *url = observe_base_url(&spec);
		assert_string_equal(url, cases[i].url);
	}
}

/* --- reports -----------------------------------------------------------------------------------
 */

static void reports(void **state)
{
	(void)state;
	static const struct {
		const char *body;
		int r;
		wall_ms at;
	} cases[] = {
		{ "{\"last_activity\": \"2026-11-23T02:13:10Z\"}", 0, NOW - 10000 },
		{ "{\"servers\": {\"lab\": {\"last_activity\": \"2026-11-23T02:13:00Z\"}}}", 0,
		  NOW - 20000 },
		{ "{\"servers\": {\"x\": {\"last_activity\": \"2026-11-23T02:13:00Z\"}}, "
		  "\"last_activity\": \"2026-11-23T02:13:10Z\"}",
		  0, 0 },
		{ "{\"last_activity\": \"2099-01-01T00:00:00+01:00\"}", 0, NOW },
		{ "{}", -1, 0 },
		{ "[]", -1, 0 },
		{ "", -1, 0 },
		{ "{\"servers\": []}", -1, 0 },
		{ "{\"servers\": {\"lab\": {}}}", -1, 0 },
		{ "{\"servers\": {\"lab\": 7}}", -1, 0 },
		{ "{\"last_activity\": 7}", -1, 0 },
		{ "{\"last_activity\": \"soon\"}", -1, 0 },
	};
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		wall_ms at = -1;
		int r = activity_parse(cases[i].body, strlen(cases[i].body), "lab", NOW, &at);
		if ((r < 0) != (cases[i].r < 0) || (r == 0 && at != cases[i].at))
			fail_msg("%s: %d, %lld", cases[i].body, r, (long long)at);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(good_pages),
		cmocka_unit_test(bad_pages),
		cmocka_unit_test(scopes),
		cmocka_unit_test(kernels),
		cmocka_unit_test(clocks_that_run_ahead),
		cmocka_unit_test(base_urls),
		cmocka_unit_test(reports),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
