/* SPDX-License-Identifier: Apache-2.0 */
#include "io/http_route.h"

#include "base/cleanup.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

/* "name=value" of all, with blanks between. */
static void format_params(const struct http_params *params, char *to, size_t size)
{
	size_t len = 0;
	to[0] = '\0';
	for (size_t i = 0; i < params->count && len < size; i++)
		len += (size_t)snprintf(to + len, size - len, "%s%s=%s", i ? " " : "",
					params->items[i].name, params->items[i].value);
}

static const struct {
	const char *pattern;
	const char *path;
	int result;
	const char *params;
} routes[] = {
	{ "/", "/", 1, "" },
	{ "/", "", 0, "" },
	{ "/", "//", 0, "" },
	{ "/a", "/a", 1, "" },
	{ "/a", "/a/", 0, "" },
	{ "/a", "/ab", 0, "" },
	{ "/a", "/", 0, "" },
	{ "/a", "a", 0, "" },
	{ "/a/b", "/a", 0, "" },
	{ "/a/b", "/a/b", 1, "" },
	{ "/a/b", "/a/b/c", 0, "" },
	{ "/a/b", "/a//b", 0, "" },
	{ "/a/{id}", "/a/7", 1, "id=7" },
	{ "/a/{id}", "/a/", 1, "id=" },
	{ "/a/{id}", "/a", 0, "" },
	{ "/a/{id}", "/a/7/b", 0, "" },
	{ "/a/{id}", "/a/x%2Fy", 1, "id=x/y" },
	{ "/a/{id}", "/a/%C3%a9+%25", 1, "id=\xc3\xa9+%" },
	{ "/a/{id}", "/a/..", 1, "id=.." },
	{ "/a/{id}", "/a/%", -EINVAL, "" },
	{ "/a/{id}", "/a/%4", -EINVAL, "" },
	{ "/a/{id}", "/a/%4g", -EINVAL, "" },
	{ "/a/{id}", "/a/%g4", -EINVAL, "" },
	{ "/a/{id}", "/a/x%00y", -EINVAL, "" },
	{ "/{a}/{b}/c", "/1/2/c", 1, "a=1 b=2" },
	{ "/{a}/{b}/c", "/1/2/d", 0, "" },
	{ "/f/{path*}", "/f/x/y%2Fz/", 1, "path=x/y%2Fz/" },
	{ "/f/{path*}", "/f/", 1, "path=" },
	{ "/f/{path*}", "/f", 0, "" },
	{ "/{u}/f/{path*}", "/%20/f/%00", 1, "u=  path=%00" },
};

static void test_routes(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(routes); i++) {
		struct http_params params = { 0 };
		char text[128];
		int r = http_route_match(routes[i].pattern, routes[i].path, &params);
		format_params(&params, text, sizeof(text));
		if (r != routes[i].result || strcmp(text, routes[i].params) != 0)
			fail_msg("%s %s: %d \"%s\"", routes[i].pattern, routes[i].path, r, text);
		http_params_deinit(&params);
	}
}

static const struct {
	const char *query;
	int result;
	const char *params;
} queries[] = {
	{ NULL, 0, "" },
	{ "", 0, "" },
	{ "a=1", 0, "a=1" },
	{ "a=1&b=2", 0, "a=1 b=2" },
	{ "&a=1&&b=2&", 0, "a=1 b=2" },
	{ "a", 0, "a=" },
	{ "a=", 0, "a=" },
	{ "=x", 0, "=x" },
	{ "a=b=c", 0, "a=b=c" },
	{ "a=x+y%2B%26%3d", 0, "a=x y+&=" },
	{ "%61+b=1", 0, "a b=1" },
	{ "user=&server=x%2Fy", 0, "user= server=x/y" },
	{ "a=%", -EINVAL, "" },
	{ "a=%4&b=1", -EINVAL, "" },
	{ "a=%00", -EINVAL, "" },
	{ "%00=a", -EINVAL, "" },
	{ "1&2&3&4&5&6&7&8&9&10&11&12&13&14&15&16", 0,
	  "1= 2= 3= 4= 5= 6= 7= 8= 9= 10= 11= 12= 13= 14= 15= 16=" },
};

static void test_queries(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(queries); i++) {
		struct http_params params = { 0 };
		char text[128];
		int r = http_query_parse(queries[i].query, &params);
		format_params(&params, text, sizeof(text));
		if (r != queries[i].result || (r == 0 && strcmp(text, queries[i].params) != 0))
			fail_msg("%s: %d \"%s\"", queries[i].query, r, text);
		http_params_deinit(&params);
		http_params_deinit(&params);
	}
}

static void test_too_many(void **state)
{
	(void)state;
	struct http_params params = { 0 };
	assert_int_equal(http_query_parse("1&2&3&4&5&6&7&8&9&10&11&12&13&14&15&16&17", &params),
			 -EINVAL);
	http_params_deinit(&params);
}

static void test_first_counts(void **state)
{
	(void)state;
	struct http_params params = { 0 };
	assert_int_equal(http_query_parse("a=1&a=2", &params), 0);
	assert_string_equal(http_params_get(&params, "a"), "1");
	assert_null(http_params_get(&params, "b"));
	http_params_deinit(&params);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_routes),
		cmocka_unit_test(test_queries),
		cmocka_unit_test(test_too_many),
		cmocka_unit_test(test_first_counts),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
