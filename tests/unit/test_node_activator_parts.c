/* SPDX-License-Identifier: Apache-2.0 */
#include "base/cleanup.h"
#include "base/fs.h"
#include "node/activator_credentials.h"
#include "node/activator_polls.h"
#include "node/activator_record.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

DEFINE_CLEANUP(struct config *, config_free)

/* --- heads ---------------------------------------------------------------------- */

#define BAD (-EBADMSG)

static const struct {
	const char *text;
	int result;
	const char *method, *target;
	bool body, upgrades, keeps_alive;
	size_t rest; /* bytes behind the head */
} heads[] = {
	{ "GET / HTTP/1.1\r\nHost: x\r\n\r\n", 1, "GET", "/", false, false, true, 0 },
	{ "GET /a?b=c%20 HTTP/1.1\r\n\r\nGET", 1, "GET", "/a?b=c%20", false, false, true, 3 },
	{ "\r\nHEAD /a HTTP/1.0\r\n\r\n", 1, "HEAD", "/a", false, false, false, 0 },
	{ "GET / HTTP/1.1\r\nConnection: close\r\n\r\n", 1, "GET", "/", false, false, false, 0 },
	{ "POST /a HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", 1, "POST", "/a", true, false, true,
	  3 },
	{ "GET /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 1, "GET", "/a", true,
	  false, true, 5 },
	{ "GET /ws HTTP/1.1\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\r\n\x81",
	  1, "GET", "/ws", false, true, true, 1 },
	{ "", 0 },
	{ "GET / HTTP/1.1\r\nHost: x\r\n", 0 },
	{ "GET / HTTP/1.1\r\nHost: x\r\n\r", 0 },
	{ "get / HTTP/1.1\r\n\r\n", BAD },
	{ "GET / HTTP/0.9\r\n\r\n", BAD },
	{ "GET / HTTP/2.0\r\n\r\n", BAD },
	{ "GET  HTTP/1.1\r\n\r\n", BAD },
	{ "GET / HTTP/1.1\r\nA b: c\r\n\r\n", BAD },
	{ "GET / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", BAD },
	{ "GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", BAD },
	{ "GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", BAD },
	{ "\x16\x03\x01", BAD },
};

static void check_head(size_t i, size_t step)
{
	struct request_head head;
	size_t len = strlen(heads[i].text);
	int r = 0;
	request_head_init(&head);
	for (size_t n = 0; n < len && r == 0;) {
		n = n + step < len ? n + step : len;
		/* It may move. */
		cleanup_free char *data = strndup(heads[i].text, n);
		r = request_head_read(&head, data, n);
		if (r != 1)
			continue;
		assert_string_equal(request_head_method(&head), heads[i].method);
		assert_true(text_is(request_head_target(&head, data), heads[i].target));
	}
	if (r != heads[i].result)
		fail_msg("head %zu by %zu: %d", i, step, r);
	if (r != 1)
		return;
	assert_int_equal(request_head_has_body(&head), heads[i].body);
	assert_int_equal(request_head_upgrades(&head), heads[i].upgrades);
	assert_int_equal(request_head_keeps_alive(&head), heads[i].keeps_alive);
	assert_int_equal(head.len, len - heads[i].rest);
}

static void heads_are_read_in_any_pieces(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(heads); i++) {
		check_head(i, 1);
		check_head(i, 7);
		check_head(i, 4096);
	}
}

static void fields_are_found_whatever_their_case(void **state)
{
	static const char text[] = "GET / HTTP/1.1\r\nCookie: a=1\r\nEMPTY:\r\ncookie:  b=2 \r\n"
				   "X-Long: "
				   "0123456789\r\n\r\n";
	struct request_head head;
	(void)state;
	request_head_init(&head);
	assert_int_equal(request_head_read(&head, text, 30), 0);
	assert_int_equal(request_head_read(&head, text, sizeof(text) - 1), 1);
	assert_true(text_is(request_head_field(&head, text, "cookie", 0), "a=1"));
	assert_true(text_contains(request_head_field(&head, text, "COOKIE", 1), "b=2"));
	assert_null(request_head_field(&head, text, "cookie", 2).at);
	assert_int_equal(request_head_field(&head, text, "empty", 0).len, 0);
	assert_non_null(request_head_field(&head, text, "empty", 0).at);
	assert_true(text_is(request_head_field(&head, text, "x-long", 0), "0123456789"));
	assert_null(request_head_field(&head, text, "Host", 0).at);
}

static void too_many_fields_are_refused(void **state)
{
	cleanup_buf struct buf text = BUF_INIT(HEAD_MOST);
	struct request_head head;
	(void)state;
	buf_printf(&text, "GET / HTTP/1.1\r\n");
	for (int i = 0; i <= HEAD_FIELDS_MOST; i++)
		buf_printf(&text, "A: b\r\n");
	request_head_init(&head);
	assert_int_equal(request_head_read(&head, text.data, text.len), -EBADMSG);
}

/* --- polls ---------------------------------------------------------------------- */

static const struct {
	const char *target, *path; /* NULL: none */
} paths[] = {
	{ "/user/ada%40x/api/kernels?1795990", "api/kernels" },
	{ "/user/ada@x/api/kernels", "api/kernels" },
	{ "/user/ada@x/api/contents/", "api/contents" },
	{ "/user/ada@x/api/contents/a%20b/c", "api/contents/a b/c" },
	{ "/user/ada@x/", "" },
	{ "/user/ada@x", NULL },
	{ "/user/adam/api/kernels", NULL },
	{ "/user/ada@x/../eve/api/kernels", NULL },
	{ "/user/ada@x/api/contents/%2e%2e/x", NULL },
	{ "/user/ada@x/api//kernels", NULL },
	{ "/user/ada@x/api/%00", NULL },
	{ "/user/ada@x/api/%zz", NULL },
	{ "/user/ada@x/api/%4", NULL },
	{ "http://h/user/ada@x/api/kernels", NULL },
	{ "*", NULL },
};

static struct text text_of(const char *s)
{
	return (struct text) { .at = s, .len = strlen(s) };
}

static void paths_are_those_below_the_server(void **state)
{
	char path[POLL_PATH_SIZE];
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(paths); i++) {
		int r = poll_path(text_of(paths[i].target), "/user/ada%40x/", path);
		if ((r == 0) != (paths[i].path != NULL))
			fail_msg("%s: %d", paths[i].target, r);
		if (r == 0)
			assert_string_equal(path, paths[i].path);
	}
}

static const struct {
	const char *target, *poll; /* the pattern's path; NULL: a person */
} polls[] = {
	/* As Chromium was seen to ask. */
	{ "/api/kernels?1795990579987", "api/kernels" },
	{ "/api/sessions?_=1795990344183", "api/sessions" },
	{ "/api/terminals?1", "api/terminals" },
	{ "/api/kernelspecs?1", "api/kernelspecs" },
	{ "/api/me?1", "api/me" },
	{ "/api/contents?content=1&1795990579987", "api/contents" },
	{ "/api/contents/a/b?content=1&hash=0&1", "api/contents" },
	{ "/api/contents/a%20b?type=directory&_=1", "api/contents" },
	{ "/api/contents?type=directory&_=1", "api/contents" },
	{ "/api", "api" },
	/* People. */
	{ "/api/contents/a.ipynb?content=0&1", NULL },
	{ "/api/contents/a.ipynb?type=notebook&content=1&1", NULL },
	{ "/api/contents/a.ipynb?content=1&type=notebook", NULL },
	{ "/api/kernels/1/channels?session_id=2", NULL },
	{ "/api/kernelsx", NULL },
	{ "/lab", NULL },
	{ "/", NULL },
	{ "/files/a.png", NULL },
};

static void polls_are_told_from_people(void **state)
{
	cleanup(config_freep) struct config *config = NULL;
	struct config_poll patterns[32];
	size_t count = 0;
	(void)state;
	assert_int_equal(config_load(NULL, &config, NULL), 0);
	for (; config->wake.polls[count]; count++)
		assert_int_equal(config_poll_parse(config->wake.polls[count], &patterns[count]), 0);
	for (size_t i = 0; i < ARRAY_SIZE(polls); i++) {
		char path[POLL_PATH_SIZE];
		struct text target = text_of(polls[i].target);
		assert_int_equal(poll_path(target, "/", path), 0);
		const struct config_poll *found = poll_find(patterns, count, path, target);
		const char *told = found ? found->path : NULL;
		if ((told && polls[i].poll) ? strcmp(told, polls[i].poll) != 0
					    : told != polls[i].poll)
			fail_msg("%s is %s", polls[i].target, told ? told : "a person");
	}
}

/* --- credentials ---------------------------------------------------------------- */

/* Made by tornado 6.4's create_signed_value(). */
#define NAME  "jupyterhub-user-ada"
#define NOW   1795991000
#define TOKEN "5f0c1d2e3a4b4c5d6e7f8091a2b3c4d5"
#define SIGNED                                                                                     \
	"2|1:0|10:1795990000|19:jupyterhub-user-ada|44:NWYwYzFkMmUzYTRiNGM1ZDZlN2Y4MDkxYTJiM2M0Z"  \
	"DU=|244227ce93730fbadfbad44bccc2fd45600efb697fcac6e0468d7bc6f5989077"
/* ... in base64, as the Hub makes "_xsrf": of this token, and of another. */
#define XSRF                                                                                       \
	"MnwxOjB8MTA6MTc5NTk5MDAwMHw1Ol94c3JmfDk2OmMyVnpjekU2TVdVMlpqQTBNR001WlROaE16QTVZalJpTWpW" \
	"bFpERTBPRFl4WmpWbVkyVmlOVEk0TXpsalpEVmxPRGRsWkRVd09Ea3lORE14TjJObU5tUXdNV1ZtT1E9PXw3MjU2" \
	"MGI0Y2Q4NDI2MGE5YjQ5ZDNhMzFlMjAyYjAzODI4MDdkMjY2N2E4MzU0ZDViZjE4M2NlOWRiODQyOTZj"
#define OTHER_XSRF                                                                                 \
	"MnwxOjB8MTA6MTc5NTk5MDAwMHw1Ol94c3JmfDk2OmMyVnpjekU2WkRreU9UaGhNVEJrTVdJd056TTFPRE0zWkdN" \
	"MFltUTROV1JoWXpZME1XSXdaak5qWldZeU4yRTBOMlUxWkRVellUVTBaakptTTJZMVlqSm1ZMlptWVE9PXw3ZmRl" \
	"OGNlYzdmMjE4ODUwOTVjOTE0MTA4NjE1ZDZiYmIxMjI0OWEwYzMyYTdhNzM0YjAyZDE2MjdhYTViODIw"
#define COOKIE "Cookie: x=y; " NAME "=\"" SIGNED "\"; jupyterhub-session-id=s1"

static const struct {
	const char *what, *target, *fields;
	const char *token; /* NULL: none */
	bool in_url;
} shown[] = {
	{ "nothing", "/", "", NULL },
	{ "a token", "/", "Authorization: token abc\r\n", "abc" },
	{ "Bearer", "/", "Authorization: Bearer  abc\r\n", "abc" },
	{ "Basic", "/", "Authorization: Basic abc\r\n", NULL },
	{ "no token", "/", "Authorization: token \r\n", NULL },
	{ "two words", "/", "Authorization: token a b\r\n", NULL },
	{ "in the URL", "/?a=b&token=abc", "", "abc", .in_url = true },
	{ "in the URL, where that is off", "/?token=abc", "", NULL },
	{ "a cookie", "/", COOKIE "\r\n", TOKEN },
	{ "a cookie without quotes", "/", "Cookie: " NAME "=" SIGNED "\r\n", TOKEN },
	{ "in a second field", "/", "Cookie: a=b\r\nCookie: " NAME "=" SIGNED "\r\n", TOKEN },
	{ "the last one", "/", "Cookie: " NAME "=x; " NAME "=" SIGNED "\r\n", TOKEN },
	{ "the last one, bad", "/", "Cookie: " NAME "=" SIGNED "; " NAME "=x\r\n", NULL },
	{ "another's cookie", "/", "Cookie: jupyterhub-user-eve=" SIGNED "\r\n", NULL },
	{ "a page's own request", "/",
	  COOKIE "; _xsrf=" XSRF "\r\nSec-Fetch-Mode: cors\r\nX-XSRFToken: " XSRF "\r\n", TOKEN },
	{ "... with it in the query", "/?_xsrf=" XSRF,
	  COOKIE "; _xsrf=" XSRF "\r\nSec-Fetch-Mode: same-origin\r\n", TOKEN },
	{ "... among several", "/",
	  COOKIE "; _xsrf=z; _xsrf=" XSRF "\r\nSec-Fetch-Mode: cors\r\nX-XSRFToken: " XSRF "\r\n",
	  TOKEN },
	{ "... without", "/", COOKIE "; _xsrf=" XSRF "\r\nSec-Fetch-Mode: cors\r\n", NULL },
	{ "... not its cookie", "/",
	  COOKIE "; _xsrf=" OTHER_XSRF "\r\nSec-Fetch-Mode: cors\r\nX-XSRFToken: " XSRF "\r\n",
	  NULL },
	{ "another user's page", "/",
	  COOKIE "; _xsrf=" OTHER_XSRF "\r\nSec-Fetch-Mode: cors\r\nX-XSRFToken: " OTHER_XSRF
		 "\r\n",
	  NULL },
	{ "a page that is opened", "/", COOKIE "\r\nSec-Fetch-Mode: navigate\r\n", TOKEN },
};

static void credentials_are_found_as_the_hub_does(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(shown); i++) {
		const struct credential_rules rules = { .cookie = NAME,
							.token_in_url = shown[i].in_url,
							.now_s = NOW };
		struct request_head head;
		struct credentials who;
		cleanup_free char *text =
			str_printf("GET %s HTTP/1.1\r\n%s\r\n", shown[i].target, shown[i].fields);
		request_head_init(&head);
		assert_int_equal(request_head_read(&head, text, strlen(text)), 1);
		bool found = credentials_find(&head, text, &rules, &who);
		if (found != (shown[i].token != NULL))
			fail_msg("%s: %s", shown[i].what, found ? who.token : "none");
		if (found)
			assert_string_equal(who.token, shown[i].token);
		assert_string_equal(who.session, strstr(text, "session-id") ? "s1" : "");
	}
}

static const struct {
	const char *value;
	bool good;
} values[] = {
	{ SIGNED, true },
	{ "\"" SIGNED "\"", true },
	{ "", false },
	{ "\"", false },
	{ "2|", false },
	{ "1|" SIGNED, false },
	{ "2|1:0|10:1700000000|19:" NAME "|4:YWJj|x", false }, /* too old */
	{ "2|1:0|10:1795990000|19:" NAME "|4:YWJj|x", true },
	{ "2|1:0|10:1795990000|19:" NAME "|4:YWJj|", true },
	{ "2|1:0|10:1795990000|19:" NAME "|4:YWJj", false },
	{ "2|1:0|10:1795990000|19:" NAME "|5:YWJj|x", false },
	{ "2|1:0|10:1795990000|19:" NAME "|99999:YWJj|x", false },
	{ "2|1:0|10:1795990000|19:" NAME "|:YWJj|x", false },
	{ "2|1:0|10:1795990000|19:" NAME "|4:YW!j|x", false },
	{ "2|1:0|10:1795990000|19:" NAME "|4:AAAA|x", false }, /* not printable */
	{ "2|1:0|1:x|19:" NAME "|4:YWJj|x", false },
};

static void signed_values_are_read(void **state)
{
	char to[64];
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(values); i++) {
		int r = signed_value_read(text_of(values[i].value), NAME, NOW, to, sizeof(to));
		if ((r == 0) != values[i].good)
			fail_msg("%s: %d", values[i].value, r);
	}
	assert_int_equal(signed_value_read(text_of(SIGNED), NAME, NOW, to, 32), -EINVAL);
	assert_int_equal(signed_value_read(text_of(SIGNED), NAME, NOW, to, 33), 0);
}

static const struct {
	const char *given, *needed;
	bool granted;
} scopes[] = {
	{ "[\"access:servers!user=ada\"]",
	  "[\"access:servers!server=ada/\",\"access:servers!user=ada\"]", true },
	{ "[\"access:servers!server=ada/\"]", "[\"access:servers!server=ada/\"]", true },
	{ "[\"access:servers!user=ada\"]", "[\"access:servers!server=ada/lab\"]", true },
	{ "[\"access:servers\"]", "[\"access:servers!server=ada/\"]", true },
	{ "[\"x\", \"access:servers\"]", "[\"y\", \"access:servers!server=ada/\"]", true },
	{ "[\"access:servers!server=ada/lab\"]", "[\"access:servers!server=ada/\"]", false },
	{ "[\"access:servers!user=ad\"]", "[\"access:servers!server=ada/\"]", false },
	{ "[\"access:servers!user=adam\"]", "[\"access:servers!server=ada/\"]", false },
	{ "[\"access:servers!group=ada\"]", "[\"access:servers!server=ada/\"]", false },
	{ "[\"access:servers!server=ada/\"]", "[\"access:servers!user=ada\"]", false },
	{ "[\"access:servers!user=ada\"]", "[\"access:servers\"]", false },
	{ "[\"access:services\"]", "[\"access:servers!server=ada/\"]", false },
	{ "[\"access\"]", "[\"access:servers!server=ada/\"]", false },
	{ "[]", "[\"access:servers!server=ada/\"]", false },
	{ "[\"access:servers\"]", "[]", false },
	{ "[1, null]", "[1, null]", false },
	{ "{}", "{}", false },
};

static void scopes_are_compared_as_the_hub_does(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(scopes); i++) {
		json_t *given = json_loads(scopes[i].given, 0, NULL);
		json_t *needed = json_loads(scopes[i].needed, 0, NULL);
		if (scopes_grant(given, needed) != scopes[i].granted)
			fail_msg("%s for %s", scopes[i].given, scopes[i].needed);
		json_decref(given);
		json_decref(needed);
	}
}

/* --- the record ------------------------------------------------------------------ */

static void answers_are_kept_as_they_were(void **state)
{
	char dir[] = "/tmp/elsa-record-XXXXXX";
	struct record_answer answer;
	(void)state;
	assert_non_null(mkdtemp(dir));
	assert_int_equal(record_read(dir, "api/kernels", &answer), -ENOENT);
	assert_int_equal(
		record_write(dir, "api/kernels", 200, "application/json", "[\n1]", 4, NULL), 0);
	assert_int_equal(record_write(dir, "api/x", 404, "text/html", "", 0, NULL), 0);
	assert_int_equal(record_write(dir, "api/\nx", 404, "text/html", "", 0, NULL), -EINVAL);
	assert_int_equal(record_read(dir, "api/kernels", &answer), 0);
	assert_int_equal(answer.status, 200);
	assert_string_equal(answer.type, "application/json");
	assert_string_equal(buf_text(&answer.body), "[\n1]");
	buf_deinit(&answer.body);
	assert_int_equal(record_read(dir, "api/x", &answer), 0);
	assert_int_equal(answer.status, 404);
	assert_int_equal(answer.body.len, 0);
	buf_deinit(&answer.body);
	fs_remove_tree(dir, NULL);
}

static void what_is_wanted_is_known_once(void **state)
{
	char dir[] = "/tmp/elsa-record-XXXXXX", path[64];
	cleanup_buf struct buf wanted = BUF_INIT(4096);
	(void)state;
	assert_non_null(mkdtemp(dir));
	record_want(dir, "api/contents/ab");
	record_want(dir, "api/contents/a");
	record_want(dir, "api/contents/ab");
	record_want(dir, "api/contents/line\nbreak");
	record_wanted(dir, &wanted);
	assert_string_equal(buf_text(&wanted), "api/contents/ab\napi/contents/a\n");
	for (int i = 0; i < RECORD_WANTED_MOST; i++) {
		snprintf(path, sizeof(path), "api/contents/%d", i);
		record_want(dir, path);
	}
	buf_reset(&wanted);
	record_wanted(dir, &wanted);
	assert_memory_equal(wanted.data, "api/contents/0\n", 15);
	fs_remove_tree(dir, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(heads_are_read_in_any_pieces),
		cmocka_unit_test(fields_are_found_whatever_their_case),
		cmocka_unit_test(too_many_fields_are_refused),
		cmocka_unit_test(paths_are_those_below_the_server),
		cmocka_unit_test(polls_are_told_from_people),
		cmocka_unit_test(credentials_are_found_as_the_hub_does),
		cmocka_unit_test(signed_values_are_read),
		cmocka_unit_test(scopes_are_compared_as_the_hub_does),
		cmocka_unit_test(answers_are_kept_as_they_were),
		cmocka_unit_test(what_is_wanted_is_known_once),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
