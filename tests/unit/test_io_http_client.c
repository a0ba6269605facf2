/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "tests/unit/http_world.h"

#include <pthread.h>
#include <time.h>

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

int main(void)
{
	const struct CMUnitTest tests[] = {
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
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
