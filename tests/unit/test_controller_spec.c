/* SPDX-License-Identifier: Apache-2.0 */
#include "base/cleanup.h"
#include "controller/spec.h"
#include "wire/codec.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

/* --- names as parts of paths -------------------------------------------------------------------
 */

static void assert_safe(const char *name, const char *expected)
{
	cleanup_free char *safe = safe_path_name(name);
	assert_string_equal(safe, expected);
}

static void safe_names(void **state)
{
	(void)state;
	assert_safe("ada", "ada");
	assert_safe("Ada_L-2.b", "Ada_L-2.b");
	assert_safe("", "");
	assert_safe("a/b", "a%2Fb");
	assert_safe("a%2Fb", "a%252Fb");
	assert_safe("..", "%2E.");
	assert_safe(".hidden", "%2Ehidden");
	assert_safe("../../etc/passwd", "%2E.%2F..%2Fetc%2Fpasswd");
	assert_safe("a b\n", "a%20b%0A");
	assert_safe("\xc3\xbc", "%C3%BC");
	assert_safe("{home}", "%7Bhome%7D");
}

static void long_names_are_hashed(void **state)
{
	(void)state;
	char name[301];
	memset(name, 'x', sizeof(name) - 1);
	name[300] = '\0';
	cleanup_free char *one = safe_path_name(name);
	name[299] = 'y';
	cleanup_free char *other = safe_path_name(name);
	assert_true(strlen(one) <= 128);
	assert_string_not_equal(one, other);
	assert_non_null(strstr(one, "%h"));
	/* The longest that stays as it is, and one more. */
	name[128] = '\0';
	assert_safe(name, name);
	name[128] = 'x';
	name[129] = '\0';
	cleanup_free char *more = safe_path_name(name);
	assert_true(strlen(more) <= 128 && strcmp(more, name) != 0);
}

static void hashing_does_not_cut_an_escape(void **state)
{
	(void)state;
	for (size_t lead = 0; lead < 3; lead++) {
		char name[301] = "aaa";
		memset(name + lead, '/', 300 - lead);
		cleanup_free char *safe = safe_path_name(name);
		const char *mark = strstr(safe, "%h");
		assert_non_null(mark);
		for (const char *p = safe; p < mark; p++)
			if (*p == '%')
				assert_true(strncmp(p, "%2F", 3) == 0 && p + 3 <= mark);
	}
}

static void no_short_name_looks_like_a_long_one(void **state)
{
	(void)state;
	char name[301];
	memset(name, 'x', sizeof(name) - 1);
	name[300] = '\0';
	cleanup_free char *safe = safe_path_name(name);
	cleanup_free char *again = safe_path_name(safe);
	assert_string_not_equal(safe, again);
}

static void paths(void **state)
{
	(void)state;
	const struct path_names names = {
		.home = "/home/ada", .user = "a%2Fb", .id = "0123", .uid = 2000000000
	};
	const struct {
		const char *pattern, *path;
	} cases[] = {
		{ "{home}", "/home/ada" },
		{ "/srv/{user}/{id}-{uid}", "/srv/a%2Fb/0123-2000000000" },
		{ "/srv/{other}/x", "/srv/{other}/x" },
		{ "/srv/{user", "/srv/{user" },
		{ "", "" },
	};
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		cleanup_free char *path = expand_path(cases[i].pattern, &names);
		assert_string_equal(path, cases[i].path);
	}
	char longest[5001];
	memset(longest, 'a', 5000);
	longest[5000] = '\0';
	assert_null(expand_path(longest, &names));
}

/* --- environments ------------------------------------------------------------------------------
 */

static void environments(void **state)
{
	(void)state;
	char *const configured[] = { (char *)"B=config", (char *)"AB=x", NULL };
	cleanup_json json_t *env = json_pack("{s:s, s:s, s:s}", "A", "1", "B", "spawner", "C", "=");
	char **merged = merge_env(env, configured);
	const char *expected[] = { "A=1", "C==", "B=config", "AB=x" };
	for (size_t i = 0; i < ARRAY_SIZE(expected); i++)
		assert_string_equal(merged[i], expected[i]);
	assert_null(merged[4]);
	free_strings(merged);

	merged = merge_env(NULL, NULL);
	assert_null(merged[0]);
	free_strings(merged);
}

/* --- requests ----------------------------------------------------------------------------------
 */

static int parse(const char *text, struct start_request *to, json_t **body)
{
	*body = json_loads(text, 0, NULL);
	assert_non_null(*body);
	return start_request_parse(*body, to, NULL);
}

static void good_requests(void **state)
{
	(void)state;
	struct start_request r;
	cleanup_json json_t *least = NULL;
	cleanup_json json_t *all = NULL;
	assert_int_equal(parse("{\"user\": \"ada\"}", &r, &least), 0);
	assert_string_equal(r.user, "ada");
	assert_string_equal(r.server, "");
	assert_int_equal(r.port, 8888);
	assert_false(r.fresh);
	assert_null(r.cmd);
	assert_null(r.home);
	assert_int_equal(parse("{\"user\": \"a/b\", \"server\": \"lab\", \"fresh\": true, "
			       "\"cmd\": [\"x\"], \"env\": {\"A\": \"\"}, \"port\": 1, "
			       "\"api_token\": \"t\", \"home\": \"/h\", \"image\": null, "
			       "\"memory_bytes\": 5, \"cpus\": 0.5, \"pids\": 7, \"spawner\": [1], "
			       "\"unknown\": {}}",
			       &r, &all),
			 0);
	assert_true(r.fresh);
	assert_int_equal(r.port, 1);
	assert_string_equal(r.home, "/h");
	assert_null(r.image);
	assert_int_equal(r.limits.memory_bytes, 5);
	assert_true(r.limits.cpus > 0.49 && r.limits.cpus < 0.51);
	assert_int_equal(r.limits.pids, 7);
	assert_true(json_is_array(r.spawner));
}

static void bad_requests(void **state)
{
	(void)state;
	static const char *const bad[] = {
		"{}",
		"{\"user\": \"\"}",
		"{\"user\": null}",
		"{\"user\": [\"ada\"]}",
		"{\"user\": \"ada\", \"server\": 1}",
		"{\"user\": \"ada\", \"cmd\": {}}",
		"{\"user\": \"ada\", \"cmd\": [\"a\", null]}",
		"{\"user\": \"ada\", \"env\": {\"\": \"x\"}}",
		"{\"user\": \"ada\", \"env\": {\"A\": null}}",
		"{\"user\": \"ada\", \"port\": 1.0}",
		"{\"user\": \"ada\", \"port\": -1}",
		"{\"user\": \"ada\", \"home\": \"/..\"}",
		"{\"user\": \"ada\", \"home\": \"/a/../b\"}",
		"{\"user\": \"ada\", \"home\": \"/a/..\"}",
		"{\"user\": \"ada\", \"home\": \"\"}",
		"{\"user\": \"ada\", \"cpus\": 1e9}",
		"{\"user\": \"ada\", \"memory_bytes\": \"1G\"}",
		"{\"user\": \"ada\", \"fresh\": 1}",
		"{\"user\": \"ada\", \"api_token\": \"a\\r\\nb\"}",
	};
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct start_request r;
		cleanup_json json_t *body = NULL;
		if (parse(bad[i], &r, &body) == 0)
			fail_msg("taken: %s", bad[i]);
	}
}

static void lengths_are_of_characters(void **state)
{
	(void)state;
	char name[300 * 3 + 2] = "";
	for (size_t i = 0; i < 300; i++)
		memcpy(name + 3 * i, "\xe6\x97\xa5", 4);
	assert_int_equal(check_name(name, false, "user", NULL), 0);
	memcpy(name + strlen(name), "x", 2);
	assert_true(check_name(name, false, "user", NULL) < 0);
	assert_int_equal(check_name("", true, "server", NULL), 0);
	assert_true(check_name("", false, "user", NULL) < 0);
	assert_true(check_name(NULL, true, "server", NULL) < 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(safe_names),
		cmocka_unit_test(long_names_are_hashed),
		cmocka_unit_test(hashing_does_not_cut_an_escape),
		cmocka_unit_test(no_short_name_looks_like_a_long_one),
		cmocka_unit_test(paths),
		cmocka_unit_test(environments),
		cmocka_unit_test(good_requests),
		cmocka_unit_test(bad_requests),
		cmocka_unit_test(lengths_are_of_characters),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
