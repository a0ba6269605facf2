/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "http_world.h"
#include "wire/codec.h"

#include <pthread.h>
#include <time.h>

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

/* --- the client's limits -------------------------------------------------- */

static void test_answer_cap(void **state)
{
	struct world *w = *state;
	cleanup_answer struct answer fits, larger;
	struct http_request request = { .unix_socket = w->path, .max_body = 100000 };
	call(w, request, "/big?size=100000", &fits);
	assert_int_equal(fits.status, 200);
	assert_int_equal(fits.body.len, 100000);
	call(w, request, "/big?size=100001", &larger);
	assert_int_equal(larger.status, 0);
	assert_int_equal(larger.error.fault, FAULT_INTERNAL);
	assert_non_null(strstr(larger.error.text, "larger than 100000 bytes"));
	assert_int_equal(larger.body.len, 0);
}

static void test_timeout(void **state)
{
	struct world *w = *state;
	/* On a busy machine a short time may be over before the request is there. */
	for (int ms = 50; w->closed == 0 && ms < 20000; ms *= 2) {
		cleanup_answer struct answer a;
		call(w, (struct http_request) { .unix_socket = w->path, .timeout_ms = ms }, "/hold",
		     &a);
		assert_int_equal(a.status, 0);
		assert_int_equal(a.error.fault, FAULT_TIMEOUT);
		run_until(w, w->closed || !w->held);
	}
	assert_int_equal(w->closed, 1);
}

static void test_nobody_there(void **state)
{
	struct world *w = *state;
	cleanup_answer struct answer local, tcp;
	call(w, (struct http_request) { .unix_socket = "/no/such/socket" }, "/hello", &local);
	assert_int_equal(local.status, 0);
	assert_int_equal(local.error.fault, FAULT_UNAVAILABLE);
	w->tcp = http_server_free(w->tcp);
	call(w, (struct http_request) { 0 }, "/hello", &tcp);
	assert_int_equal(tcp.status, 0);
	assert_int_equal(tcp.error.fault, FAULT_UNAVAILABLE);
	assert_non_null(strstr(tcp.error.text, w->url));
}

static void test_bad_addresses(void **state)
{
	struct world *w = *state;
	static const char *const urls[] = {
		NULL,      "",           "x",        "file:///etc/passwd", "ftp://127.0.0.1/",
		"http:/x", "gopher://x", " http://x"
	};
	for (size_t i = 0; i < ARRAY_SIZE(urls); i++) {
		struct http_request request = { .url = urls[i] };
		struct error e = ERROR_INIT;
		assert_int_equal(http_client_call(w->client, &request, on_answer, NULL, NULL, &e),
				 -EINVAL);
		assert_int_equal(e.fault, FAULT_BAD_INPUT);
	}
	struct answer a = { 0 };
	struct http_request request = { .url = "http://a b:99999999/" };
	if (http_client_call(w->client, &request, on_answer, &a, NULL, NULL) == 0) {
		run_until(w, a.done);
		assert_int_equal(a.error.fault, FAULT_BAD_INPUT);
		answer_deinit(&a);
	}
}

/* What "Retry-After: VALUE" is taken for; the HTTP server sends any. */
static int retry_after(struct world *w, const char *value)
{
	cleanup_answer struct answer a;
	cleanup_free char *escaped = http_escape(value);
	char path[256];
	snprintf(path, sizeof(path), "/say?status=503&name=Retry-After&value=%s", escaped);
	get(w, path, &a);
	assert_int_equal(a.status, 503);
	assert_int_equal(a.error.fault, FAULT_NONE);
	return a.retry_after_s;
}

static int retry_at(struct world *w, int in_seconds)
{
	time_t t = time(NULL) + in_seconds;
	struct tm tm;
	char text[64];
	strftime(text, sizeof(text), "%a, %d %b %Y %H:%M:%S GMT", gmtime_r(&t, &tm));
	return retry_after(w, text);
}

static void test_retry_after(void **state)
{
	struct world *w = *state;
	cleanup_answer struct answer none;
	get(w, "/hello", &none);
	assert_int_equal(none.retry_after_s, 0);
	assert_int_equal(retry_after(w, "120"), 120);
	assert_int_equal(retry_after(w, "0"), 0);
	assert_int_equal(retry_after(w, "-5"), 0);
	assert_int_equal(retry_after(w, "soon"), 0);
	assert_int_equal(retry_after(w, "99999999"), 6 * 3600);
	assert_in_range(retry_at(w, 1000), 900, 1000);
	assert_int_equal(retry_at(w, -1000), 0);
}

static void test_proxies_are_not_used(void **state)
{
	struct world *w = *state;
	cleanup_answer struct answer a;
	setenv("http_proxy", "http://127.0.0.1:1", 1);
	setenv("all_proxy", "http://127.0.0.1:1", 1);
	call(w, (struct http_request) { .headers = AUTHORIZED }, "/hello", &a);
	unsetenv("http_proxy");
	unsetenv("all_proxy");
	assert_int_equal(a.status, 200);
}

/* --- answers piece by piece ----------------------------------------------- */

struct reader {
	struct answer answer; /* first: it is the argument of on_answer() as well */
	size_t bytes;
	size_t refuse_after; /* 0: never */
	struct http_call **cancel;
};

static int on_piece(const char *data, size_t len, void *arg)
{
	struct reader *r = arg;
	(void)data;
	r->bytes += len;
	if (r->cancel) {
		http_call_cancel(*r->cancel);
		http_call_cancel(*r->cancel);
	}
	return r->refuse_after && r->bytes >= r->refuse_after;
}

static struct http_call *read_pieces(struct world *w, const char *path, struct reader *r)
{
	struct http_call *c = NULL;
	cleanup_free char *url = str_printf("http://x%s", path);
	struct http_request request = {
		.url = url, .unix_socket = w->path, .on_data = on_piece, .max_body = 1000
	};
	assert_int_equal(http_client_call(w->client, &request, on_answer, r, &c, NULL), 0);
	return c;
}

static void test_pieces(void **state)
{
	struct world *w = *state;
	enum { PIECES = 300, SIZE = 65536 };
	struct reader r = { 0 };
	cleanup_free char *piece = calloc(1, SIZE);
	read_pieces(w, "/stream", &r);
	run_until(w, r.bytes == 6);
	for (int i = 0; i < PIECES; i++) {
		http_reply_chunk(w->held, piece, SIZE);
		http_reply_chunk(w->held, piece, 0);
		turn(w);
	}
	assert_int_equal(r.answer.done, 0);
	http_reply_end(w->held);
	run_until(w, r.answer.done);
	assert_int_equal(r.answer.status, 200);
	assert_int_equal(r.bytes, 6 + PIECES * SIZE);
	assert_int_equal(r.answer.body.len, 0);
	assert_int_equal(w->closed, 0);
	answer_deinit(&r.answer);
}

static void test_piece_refused(void **state)
{
	struct world *w = *state;
	struct reader r = { .refuse_after = 1 };
	read_pieces(w, "/big?size=1000000", &r);
	run_until(w, r.answer.done);
	assert_int_equal(r.answer.status, 0);
	assert_non_null(strstr(r.answer.error.text, "refused by its reader"));
	answer_deinit(&r.answer);
}

/* The reader of a listing is not shown an error's body; the caller is. */
static void test_error_instead_of_pieces(void **state)
{
	struct world *w = *state;
	struct reader r = { 0 };
	read_pieces(w, "/say?status=404&body=gone", &r);
	run_until(w, r.answer.done);
	assert_int_equal(r.answer.status, 404);
	assert_string_equal(buf_text(&r.answer.body), "gone");
	assert_int_equal(r.bytes, 0);
	answer_deinit(&r.answer);
}

/* --- cancelling ----------------------------------------------------------- */

static void test_cancel_before_it_began(void **state)
{
	struct world *w = *state;
	struct reader r = { 0 };
	http_call_cancel(read_pieces(w, "/hello", &r));
	http_call_cancel(NULL);
	cleanup_answer struct answer other;
	get(w, "/hello", &other);
	assert_int_equal(w->requests, 1);
	assert_int_equal(r.answer.done, 0);
}

static void test_cancel_under_way(void **state)
{
	struct world *w = *state;
	struct reader r = { 0 };
	struct http_call *c = read_pieces(w, "/hold", &r);
	run_until(w, w->held);
	http_call_cancel(c);
	run_until(w, w->closed == 1);
	assert_int_equal(r.answer.done, 0);
}

static void test_cancel_itself_in_on_data(void **state)
{
	struct world *w = *state;
	struct http_call *c;
	struct reader r = { .cancel = &c };
	c = read_pieces(w, "/stream", &r);
	run_until(w, w->closed == 1);
	assert_int_equal(r.bytes, 6);
	assert_int_equal(r.answer.done, 0);
}

static void test_cancel_another_in_on_data(void **state)
{
	struct world *w = *state;
	struct reader held = { 0 };
	struct http_call *c = read_pieces(w, "/hold", &held);
	run_until(w, w->held);
	struct reader r = { .cancel = &c };
	read_pieces(w, "/say?status=200&body=1", &r);
	run_until(w, r.answer.done && w->closed == 1);
	assert_int_equal(r.answer.status, 200);
	assert_int_equal(held.answer.done, 0);
	answer_deinit(&r.answer);
}

struct chain {
	struct world *world;
	struct http_call *self;
	struct http_call *other;
	struct answer next;
	int done;
};

/* Cancels another call, and itself for good measure, and starts the next. */
static void on_chain(const struct http_reply *reply, void *arg)
{
	struct chain *c = arg;
	struct http_request request = { .url = "http://x/hello", .unix_socket = c->world->path };
	assert_int_equal(reply->status, 200);
	c->done++;
	http_call_cancel(c->other);
	http_call_cancel(c->self);
	assert_int_equal(
		http_client_call(c->world->client, &request, on_answer, &c->next, NULL, NULL), 0);
	assert_int_equal(c->next.done, 0);
}

static void test_cancel_and_start_in_done(void **state)
{
	struct world *w = *state;
	struct reader held = { 0 };
	struct chain chain = { .world = w, .other = read_pieces(w, "/hold", &held) };
	run_until(w, w->held);
	struct http_request request = { .url = "http://x/hello", .unix_socket = w->path };
	http_client_call(w->client, &request, on_chain, &chain, &chain.self, NULL);
	run_until(w, chain.next.done && w->closed == 1);
	assert_int_equal(chain.next.status, 200);
	assert_int_equal(chain.done, 1);
	assert_int_equal(held.answer.done, 0);
	answer_deinit(&chain.next);
}

static void test_free_cancels(void **state)
{
	struct world *w = *state;
	struct reader r[3] = { 0 };
	for (size_t i = 0; i < ARRAY_SIZE(r); i++)
		read_pieces(w, i ? "/hello" : "/hold", &r[i]);
	run_until(w, w->held);
	w->client = http_client_free(w->client);
	run_until(w, w->closed == 1);
	for (size_t i = 0; i < ARRAY_SIZE(r); i++)
		answer_deinit(&r[i].answer);
	assert_int_equal(r[0].answer.done, 0);
}

static void test_many_at_once(void **state)
{
	struct world *w = *state;
	struct reader r[100] = { 0 };
	for (size_t i = 0; i < ARRAY_SIZE(r); i++)
		read_pieces(w, "/big?size=50000", &r[i]);
	for (size_t i = 0; i < ARRAY_SIZE(r); i++) {
		run_until(w, r[i].answer.done);
		assert_int_equal(r[i].answer.status, 200);
		assert_int_equal(r[i].bytes, 50000);
		answer_deinit(&r[i].answer);
	}
}

/* --- without a loop ------------------------------------------------------- */

struct blocking {
	struct http_request request;
	int result;
	int status;
	char *body;
	struct error error;
	bool done;
};

static void *call_blocking(void *arg)
{
	struct blocking *b = arg;
	b->result = http_call_blocking(&b->request, &b->status, &b->body, &b->error);
	__atomic_store_n(&b->done, true, __ATOMIC_SEQ_CST);
	return NULL;
}

static void run_blocking(struct world *w, struct blocking *b)
{
	pthread_t thread;
	assert_int_equal(pthread_create(&thread, NULL, call_blocking, b), 0);
	run_until(w, __atomic_load_n(&b->done, __ATOMIC_SEQ_CST));
	pthread_join(thread, NULL);
}

static void test_blocking(void **state)
{
	struct world *w = *state;
	struct blocking fine = { .request = { .url = "http://x/hello", .unix_socket = w->path } };
	run_blocking(w, &fine);
	assert_int_equal(fine.result, 0);
	assert_int_equal(fine.status, 200);
	assert_string_equal(fine.body, "{\"hello\":\"world\"}\n");
	free(fine.body);
	struct blocking missing = { .request = { .url = "http://x/no", .unix_socket = w->path } };
	run_blocking(w, &missing);
	assert_int_equal(missing.result, 0);
	assert_int_equal(missing.status, 404);
	free(missing.body);
	struct blocking nobody = { .request = { .url = "http://x/", .unix_socket = "/no/such" } };
	run_blocking(w, &nobody);
	assert_int_equal(nobody.result, -EHOSTDOWN);
	assert_int_equal(nobody.error.fault, FAULT_UNAVAILABLE);
	assert_null(nobody.body);
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
		world_test(test_answer_cap),
		world_test(test_timeout),
		world_test(test_nobody_there),
		world_test(test_bad_addresses),
		world_test(test_retry_after),
		world_test(test_proxies_are_not_used),
		world_test(test_pieces),
		world_test(test_piece_refused),
		world_test(test_error_instead_of_pieces),
		world_test(test_cancel_before_it_began),
		world_test(test_cancel_under_way),
		world_test(test_cancel_itself_in_on_data),
		world_test(test_cancel_another_in_on_data),
		world_test(test_cancel_and_start_in_done),
		world_test(test_free_cancels),
		world_test(test_many_at_once),
		world_test(test_blocking),
		cmocka_unit_test(test_escape),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
