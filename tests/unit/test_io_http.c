/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "tests/unit/http_world.h"
#include "wire/codec.h"

/* --- requests and answers ------------------------------------------------- */

static void test_get(void **state)
{
	struct world *w = *state;
	for (int i = 0; i < 3; i++) {
		cleanup_answer struct answer local, tcp;
		get(w, "/hello", &local);
		call(w, (struct http_request) { .headers = AUTHORIZED }, "/hello", &tcp);
		assert_int_equal(local.status, 200);
		assert_int_equal(tcp.status, 200);
		assert_int_equal(tcp.error.fault, FAULT_NONE);
		assert_string_equal(buf_text(&local.body), "{\"hello\":\"world\"}\n");
		assert_string_equal(buf_text(&tcp.body), "{\"hello\":\"world\"}\n");
	}
	assert_int_equal(w->requests, 6);
}

static void test_peer(void **state)
{
	struct world *w = *state;
	cleanup_answer struct answer local, tcp;
	char expected[32];
	snprintf(expected, sizeof(expected), "uid %u", (unsigned)geteuid());
	get(w, "/whoami", &local);
	assert_string_equal(buf_text(&local.body), expected);
	call(w, (struct http_request) { .headers = AUTHORIZED }, "/whoami", &tcp);
	assert_string_equal(buf_text(&tcp.body), "127.0.0.1");
}

static const struct {
	const char *path;
	int status;
	const char *body;
} gets[] = {
	{ "/things/7", 200, "id=7 q=(none)" },
	{ "/things/7?q=", 200, "id=7 q=" },
	{ "/things/a%2Fb%20c?x=1&q=%2f+%26", 200, "id=a/b c q=/ &" },
	{ "/things/..%2F..", 200, "id=../.. q=(none)" },
	{ "/things/%C3%A9", 200, "id=\xc3\xa9 q=(none)" },
	{ "/say?status=202&body=yes", 202, "yes" },
	{ "/say?status=302&name=Location&value=/hello", 302, "" },
	{ "/say?status=204", 204, "" },
	{ "/say?status=500&body=oops", 500, "oops" },
	{ "/say?status=200&body=b&name=X-A&value=1%0d%0aX-B:2", 200, "b" },
	{ "/fail", 409,
	  "{\"error\":{\"fault\":\"conflict\",\"text\":\"it is \xef\xbf\xbd busy\","
	  "\"remedy\":\"wait\"}}\n" },
};

static void test_paths_and_statuses(void **state)
{
	struct world *w = *state;
	for (size_t i = 0; i < ARRAY_SIZE(gets); i++) {
		cleanup_answer struct answer a;
		get(w, gets[i].path, &a);
		if (a.status != gets[i].status || strcmp(buf_text(&a.body), gets[i].body) != 0)
			fail_msg("%s: %d %s", gets[i].path, a.status, buf_text(&a.body));
		assert_int_equal(a.error.fault, FAULT_NONE);
	}
}

/* Everything that is refused before it reaches a handler, in the one form of errors. */
static const struct {
	const char *method;
	const char *path;
	const char *body;
	int status;
	enum fault fault;
	const char *text;
} refusals[] = {
	{ "GET", "/nothing", NULL, 404, FAULT_NOT_FOUND, "there is nothing at /nothing" },
	{ "GET", "/", NULL, 404, FAULT_NOT_FOUND, "there is nothing at /" },
	{ "POST", "/hello", "{}", 405, FAULT_BAD_INPUT, "/hello takes only GET" },
	{ "PATCH", "/things/1", "{}", 405, FAULT_BAD_INPUT, "/things/1 takes only GET, DELETE" },
	{ "OPTIONS", "/echo", NULL, 405, FAULT_BAD_INPUT, "/echo takes only POST, PUT" },
	{ "GET", "/things/%00", NULL, 400, FAULT_BAD_INPUT,
	  "the path of the address is badly encoded" },
	{ "GET", "/things/1?q=%00", NULL, 400, FAULT_BAD_INPUT,
	  "the query of the address is badly encoded or too long" },
	{ "POST", "/json", "{", 400, FAULT_BAD_INPUT,
	  "the body is not JSON: string or '}' expected near end of file (line 1, column 1)" },
	{ "POST", "/json", "", 400, FAULT_BAD_INPUT,
	  "the body is not JSON: '[' or '{' expected near end of file (line 1, column 0)" },
	{ "POST", "/json", "[1]", 400, FAULT_BAD_INPUT, "the body is not a JSON object" },
	{ "POST", "/json", "{\"a\":1,\"a\":2}", 400, FAULT_BAD_INPUT,
	  "the body is not JSON: duplicate object key near '\"a\"' (line 1, column 10)" },
};

static void test_refusals(void **state)
{
	struct world *w = *state;
	for (size_t i = 0; i < ARRAY_SIZE(refusals); i++) {
		const char *body = refusals[i].body;
		cleanup_answer struct answer a;
		struct error e;
		call(w,
		     (struct http_request) { .unix_socket = w->path,
					     .method = refusals[i].method,
					     .body = body,
					     .body_len = body ? strlen(body) : 0 },
		     refusals[i].path, &a);
		cleanup_json json_t *json = json_loads(buf_text(&a.body), 0, NULL);
		wire_decode_error(json, a.status, &e);
		if (a.status != refusals[i].status || strcmp(e.text, refusals[i].text) != 0)
			fail_msg("%s %s: %d %s", refusals[i].method, refusals[i].path, a.status,
				 buf_text(&a.body));
		assert_int_equal(e.fault, refusals[i].fault);
	}
}

static void test_json(void **state)
{
	struct world *w = *state;
	cleanup_answer struct answer a;
	static const char body[] = "{\"a\":[1,{\"b\":null}]}";
	call(w,
	     (struct http_request) { .unix_socket = w->path,
				     .method = "POST",
				     .body = body,
				     .body_len = strlen(body) },
	     "/json", &a);
	assert_int_equal(a.status, 200);
	assert_string_equal(buf_text(&a.body), "{\"a\":[1,{\"b\":null}]}\n");
}

static void post(struct world *w, const char *body, size_t len, const char *const *headers,
		 struct answer *a)
{
	struct http_request request = { .unix_socket = w->path,
					.method = "POST",
					.body = body,
					.body_len = len,
					.headers = headers };
	call(w, request, "/echo", a);
}

static void test_bodies(void **state)
{
	struct world *w = *state;
	enum { SIZE = 3 << 20 };
	cleanup_free char *large = malloc(SIZE);
	memset(large, 'x', SIZE);
	cleanup_answer struct answer binary, large_back, empty;
	post(w, "a\0b", 3, NULL, &binary);
	assert_int_equal(binary.status, 201);
	assert_int_equal(binary.body.len, 3);
	assert_memory_equal(binary.body.data, "a\0b", 3);
	post(w, large, SIZE, NULL, &large_back);
	assert_int_equal(large_back.body.len, SIZE);
	assert_memory_equal(large_back.body.data, large, SIZE);
	call(w, (struct http_request) { .unix_socket = w->path, .method = "PUT" }, "/echo", &empty);
	assert_int_equal(empty.status, 201);
	assert_int_equal(empty.body.len, 0);
}

static void test_body_too_large(void **state)
{
	struct world *w = *state;
	world_serve(w, &(struct http_server_options) { .max_body = 1000 });
	cleanup_free char *body = malloc(1 << 20);
	memset(body, 'x', 1 << 20);
	cleanup_answer struct answer fits, refused, refused_at_once, after;
	post(w, body, 1000, NULL, &fits);
	assert_int_equal(fits.status, 201);
	post(w, body, 1001, NULL, &refused);
	assert_int_equal(refused.status, 413);
	assert_string_equal(buf_text(&refused.body), "{\"error\":{\"fault\":\"bad-input\",\"text\":"
						     "\"the body is larger than 1000 bytes\","
						     "\"remedy\":\"\"}}\n");
	/* evhttp does not take it in at all; it may hang up before it is sent. */
	post(w, body, 1 << 20, NULL, &refused_at_once);
	assert_true(refused_at_once.status == 413 ||
		    refused_at_once.error.fault == FAULT_UNAVAILABLE);
	get(w, "/hello", &after);
	assert_int_equal(after.status, 200);
}

static void test_content_type(void **state)
{
	struct world *w = *state;
	int fd = raw_connect(w);
	cleanup_buf struct buf said = BUF_INIT(100000);
	static const char ask[] = "POST /echo HTTP/1.1\r\nContent-Type: a/b\r\n"
				  "Content-Length: 2\r\nConnection: close\r\n\r\nhi";
	raw_send(w, fd, ask, strlen(ask));
	raw_receive(w, fd, NULL, &said);
	close(fd);
	assert_non_null(strstr(buf_text(&said), "\r\nContent-Type: a/b\r\n"));
	assert_non_null(strstr(buf_text(&said), "\r\nX-Content-Type-Options: nosniff\r\n"));
	assert_non_null(strstr(buf_text(&said), "\r\n\r\nhi"));
}

/* --- who may call --------------------------------------------------------- */

static const struct {
	const char *header;
	int status;
} tokens[] = {
	{ "Authorization: Bearer " TOKEN, 200 },
	{ "authorization: bearer   " TOKEN, 200 },
	{ "X-Nothing: 1", 401 },
	{ "Authorization: Bearer", 401 },
	{ "Authorization: Bearer s3cre", 401 },
	{ "Authorization: Bearer s3crets", 401 },
	{ "Authorization: Bearer S3cret", 401 },
	{ "Authorization: Bearer s3cret s3cret", 401 },
	{ "Authorization: Basic " TOKEN, 401 },
	{ "Authorization: " TOKEN, 401 },
	{ "Cookie: Authorization=Bearer " TOKEN, 401 },
};

static void test_token(void **state)
{
	struct world *w = *state;
	int requests = 0;
	for (size_t i = 0; i < ARRAY_SIZE(tokens); i++) {
		const char *const headers[] = { tokens[i].header, NULL };
		cleanup_answer struct answer a;
		struct error e;
		call(w, (struct http_request) { .headers = headers }, "/hello", &a);
		if (a.status != tokens[i].status)
			fail_msg("%s: %d", tokens[i].header, a.status);
		requests += a.status == 200;
		cleanup_json json_t *json = json_loads(buf_text(&a.body), 0, NULL);
		wire_decode_error(json, a.status, &e);
		assert_int_equal(e.fault, a.status == 200 ? FAULT_NONE : FAULT_DENIED);
	}
	assert_int_equal(w->requests, requests);
}

static void test_open(void **state)
{
	struct world *w = *state;
	cleanup_answer struct answer a;
	world_serve(w, &(struct http_server_options) { .open = true });
	call(w, (struct http_request) { 0 }, "/hello", &a);
	assert_int_equal(a.status, 200);
}

/* Calls as somebody else: from a child, while the loop here answers it. Returns the status. */
static int call_as(struct world *w, uid_t uid)
{
	struct http_request request = { .url = "http://x/hello", .unix_socket = w->path };
	int ends[2];
	assert_int_equal(pipe(ends), 0);
	pid_t pid = fork();
	if (pid == 0) {
		int status = 0;
		char *body = NULL;
		if (setresuid(uid, uid, uid) == 0)
			http_call_blocking(&request, &status, &body, NULL);
		free(body);
		_exit(write(ends[1], &status, sizeof(status)) == sizeof(status) ? 0 : 1);
	}
	close(ends[1]);
	struct pollfd p = { .fd = ends[0], .events = POLLIN };
	run_until(w, poll(&p, 1, 0) == 1);
	int status = -1;
	assert_int_equal(read(ends[0], &status, sizeof(status)), sizeof(status));
	close(ends[0]);
	waitpid(pid, NULL, 0);
	return status;
}

static void test_peer_credentials(void **state)
{
	struct world *w = *state;
	static const uid_t allowed[] = { 1501, 1502 };
	if (geteuid() != 0)
		skip();
	world_serve(w, &(struct http_server_options) { .allowed_uids = allowed,
						       .allowed_uid_count = 2 });
	assert_int_equal(call_as(w, 0), 200);
	assert_int_equal(call_as(w, 1501), 200);
	assert_int_equal(call_as(w, 1502), 200);
	assert_int_equal(call_as(w, 1500), 403);
	assert_int_equal(call_as(w, 65534), 403);
	assert_int_equal(w->requests, 3);
	world_serve(w, &(struct http_server_options) { .open = true });
	assert_int_equal(call_as(w, 1500), 200);
}

static void test_escape(void **state)
{
	(void)state;
	static const struct {
		const char *text;
		const char *escaped;
	} cases[] = {
		{ "", "" },
		{ "aZ09-._~", "aZ09-._~" },
		{ "a/b c?&=+%", "a%2Fb%20c%3F%26%3D%2B%25" },
		{ "\xc3\xa9\n", "%C3%A9%0A" },
	};
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		cleanup_free char *escaped = http_escape(cases[i].text);
		assert_string_equal(escaped, cases[i].escaped);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		world_test(test_get),
		world_test(test_peer),
		world_test(test_paths_and_statuses),
		world_test(test_refusals),
		world_test(test_json),
		world_test(test_bodies),
		world_test(test_body_too_large),
		world_test(test_content_type),
		world_test(test_token),
		world_test(test_open),
		world_test(test_peer_credentials),
		cmocka_unit_test(test_escape),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
