/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "tests/unit/http_world.h"

#include <event2/listener.h>

static void assert_still_serving(struct world *w)
{
	cleanup_answer struct answer a;
	get(w, "/hello", &a);
	assert_int_equal(a.status, 200);
}

/* --- what is not HTTP ----------------------------------------------------- */

/* `answer` begins what is said before the hang-up; NULL: anything or nothing. */
static const struct {
	const char *bytes;
	size_t len; /* 0: up to the NUL */
	const char *answer;
} garbage[] = {
	{ "\n\n", 0, "HTTP/1.1 400" },
	{ "GARBAGE\r\n\r\n", 0, "HTTP/1.1 400" },
	{ "GET\r\n\r\n", 0, "HTTP/1.1 400" },
	{ "GET /hello\r\n\r\n", 0, NULL },
	{ "GET /hello HTTP/9.9\r\n\r\n", 0, NULL },
	{ "GET /hello HTTP/x.y\r\n\r\n", 0, "HTTP/1.1 400" },
	{ "GET http:// HTTP/1.1\r\n\r\n", 0, NULL },
	{ "BREW /hello HTTP/1.1\r\nConnection: close\r\n\r\n", 0, "HTTP/1.1 405" },
	{ "CONNECT a:1 HTTP/1.1\r\nConnection: close\r\n\r\n", 0, "HTTP/1.1 404" },
	{ "OPTIONS * HTTP/1.1\r\nConnection: close\r\n\r\n", 0, NULL },
	{ "GET /hello HTTP/1.1\r\nno colon\r\n\r\n", 0, NULL },
	{ "GET /hello HTTP/1.1\r\n: no name\r\n\r\n", 0, NULL },
	{ "POST /echo HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 0, "HTTP/1.1 400" },
	{ "POST /echo HTTP/1.1\r\nContent-Length: 1x\r\n\r\n", 0, "HTTP/1.1 400" },
	{ "POST /echo HTTP/1.1\r\nContent-Length: 9223372036854775807\r\n\r\n", 0, "HTTP/1.1 413" },
	{ "POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", 0, "HTTP/1.1 4" },
	{ "POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n7fffffffffffffff\r\n", 0,
	  "HTTP/1.1 4" },
	{ "POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n", 0, "HTTP/1.1 4" },
	{ "GET /hel\0lo HTTP/1.1\r\n\r\n", 25, NULL },
	{ "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\n\n\n", 14, "HTTP/1.1 400" }, /* TLS */
	{ "\xff\xfe\xfd\xfc\r\n\r\n", 0, "HTTP/1.1 400" },
};

/* Says it, hangs up its sending side so that the server need not wait for more, and listens. */
static void say_garbage(struct world *w, const char *bytes, size_t len, const char *answer)
{
	cleanup_buf struct buf said = BUF_INIT(1 << 20);
	cleanup_fd int fd = raw_connect(w);
	raw_send(w, fd, bytes, len);
	if (answer)
		raw_receive(w, fd, "\r\n", &said);
	shutdown(fd, SHUT_WR);
	raw_receive(w, fd, NULL, &said);
	if (answer && strncmp(buf_text(&said), answer, strlen(answer)) != 0)
		fail_msg("%s: %s", bytes, buf_text(&said));
}

static void test_garbage(void **state)
{
	struct world *w = *state;
	for (size_t i = 0; i < ARRAY_SIZE(garbage); i++) {
		size_t len = garbage[i].len ? garbage[i].len : strlen(garbage[i].bytes);
		say_garbage(w, garbage[i].bytes, len, garbage[i].answer);
		assert_still_serving(w);
	}
}

static void test_endless_headers(void **state)
{
	struct world *w = *state;
	enum { SIZE = 1 << 20 };
	cleanup_free char *line = malloc(SIZE);
	memset(line, 'a', SIZE);
	say_garbage(w, line, SIZE, NULL);
	memcpy(line, REQUEST("/hello"), strlen(REQUEST("/hello")));
	say_garbage(w, line, SIZE, NULL);
	for (size_t i = strlen(REQUEST("/hello")); i + 6 <= SIZE; i += 6)
		memcpy(line + i, "a: b\r\n", 6);
	say_garbage(w, line, SIZE, NULL);
	assert_int_equal(w->requests, 0);
	assert_still_serving(w);
}

/* Pseudo-random bytes, the same in every run, some of them behind a good beginning. */
static void test_noise(void **state)
{
	struct world *w = *state;
	unsigned seed = 7;
	for (int i = 0; i < 50; i++) {
		char bytes[2048];
		for (size_t j = 0; j < sizeof(bytes); j++)
			bytes[j] = (char)rand_r(&seed);
		if (i % 2)
			memcpy(bytes, REQUEST("/hello"), strlen(REQUEST("/hello")));
		say_garbage(w, bytes, sizeof(bytes), NULL);
	}
	assert_still_serving(w);
}

static void test_hang_up_in_a_request(void **state)
{
	struct world *w = *state;
	static const char request[] = "POST /echo HTTP/1.1\r\nContent-Length: 10\r\n\r\n12345";
	for (size_t len = 0; len < strlen(request); len++)
		say_garbage(w, request, len, NULL);
	assert_still_serving(w);
}

/* --- several requests on a connection ------------------------------------- */

static void test_pipelined(void **state)
{
	struct world *w = *state;
	cleanup_buf struct buf said = BUF_INIT(1 << 20);
	cleanup_fd int fd = raw_connect(w);
	static const char three[] = REQUEST("/things/1") "\r\n" REQUEST("/things/2") "\r\n" REQUEST(
		"/things/3") "Connection: close\r\n\r\n";
	raw_send(w, fd, three, strlen(three));
	raw_receive(w, fd, NULL, &said);
	assert_non_null(strstr(buf_text(&said), "id=1"));
	assert_non_null(strstr(buf_text(&said), "id=2"));
	assert_non_null(strstr(buf_text(&said), "id=3"));
}

/* evhttp ends the program when it reads while a request is being handled. */
static void test_bytes_while_pending(void **state)
{
	struct world *w = *state;
	cleanup_buf struct buf said = BUF_INIT(1 << 20);
	cleanup_fd int fd = raw_connect(w);
	raw_send(w, fd, REQUEST("/hold") "\r\nmore", strlen(REQUEST("/hold") "\r\nmore"));
	run_until(w, w->held);
	for (int i = 0; i < 100; i++)
		raw_send(w, fd, " and more", 9);
	assert_int_equal(w->closed, 0);
	reply_string(w->held, "held");
	raw_receive(w, fd, "held", &said);
	raw_send(w, fd, "\r\n\r\n", 4);
	raw_receive(w, fd, NULL, &said);
	assert_still_serving(w);
}

/* --- callers that go away ------------------------------------------------- */

enum farewell { FAREWELL_CLOSE, FAREWELL_SHUTDOWN, FAREWELL_RESET, FAREWELL_COUNT };

static void leave(int *fd, enum farewell how)
{
	static const struct linger reset = { .l_onoff = 1 };
	if (how == FAREWELL_RESET)
		setsockopt(*fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	if (how == FAREWELL_SHUTDOWN)
		shutdown(*fd, SHUT_WR);
	else
		close(steal_fd(fd));
}

static void ask_and_leave(struct world *w, const char *path, bool tcp, const char *extra,
			  enum farewell how)
{
	cleanup_fd int fd = tcp ? tcp_connect(w) : raw_connect(w);
	cleanup_free char *request = str_printf("GET %s HTTP/1.1\r\nHost: x\r\n"
						"Authorization: Bearer " TOKEN "\r\n\r\n%s",
						path, extra);
	w->closed = 0;
	raw_send(w, fd, request, strlen(request));
	run_until(w, w->held);
	leave(&fd, how);
	run_until(w, w->closed);
	assert_int_equal(w->closed, 1);
	assert_null(w->held);
}

static void test_on_close(void **state)
{
	struct world *w = *state;
	for (int how = 0; how < FAREWELL_COUNT; how++)
		for (int tcp = 0; tcp < 2; tcp++) {
			ask_and_leave(w, "/hold", tcp, "", how);
			ask_and_leave(w, "/hold", tcp, "and some that nobody reads", how);
			ask_and_leave(w, "/stream", tcp, "", how);
			ask_and_leave(w, "/stream", tcp, "and some that nobody reads", how);
		}
	assert_still_serving(w);
}

/* A handler that did not ask to be told answers what it still holds. */
static void hold_unaware(struct world *w, const char *path)
{
	int fd = raw_connect(w);
	cleanup_free char *request = str_printf("GET %s?unaware HTTP/1.1\r\n\r\n", path);
	raw_send(w, fd, request, strlen(request));
	run_until(w, w->held);
	close(fd);
	assert_still_serving(w);
	assert_still_serving(w);
	assert_int_equal(w->closed, 0);
	assert_string_equal(http_exchange_query(w->held, "unaware"), "");
}

static void test_answers_into_the_void(void **state)
{
	struct world *w = *state;
	hold_unaware(w, "/hold");
	reply_string(w->held, "too late");
	w->held = NULL;
	hold_unaware(w, "/stream");
	http_reply_chunk(w->held, "too late", 8);
	http_reply_end(w->held);
	w->held = NULL;
	hold_unaware(w, "/stream");
	for (int i = 0; i < 100; i++) {
		http_reply_chunk(w->held, "too late", 8);
		turn(w);
	}
	http_exchange_on_close(w->held, on_held_closed, w);
	http_reply_end(w->held);
	assert_still_serving(w);
}

/* An answer to the last moment's caller: on_close has no more to say, even when it was due. */
static void test_answer_and_leave_at_once(void **state)
{
	struct world *w = *state;
	for (int i = 0; i < 20; i++) {
		int fd = raw_connect(w);
		w->held = NULL;
		raw_send(w, fd, REQUEST("/hold") "\r\n", strlen(REQUEST("/hold") "\r\n"));
		run_until(w, w->held);
		close(fd);
		reply_string(w->held, "just in time");
		turn(w);
	}
	assert_int_equal(w->closed, 0);
	assert_still_serving(w);
}

static void reply_in_on_close(void *arg)
{
	struct world *w = arg;
	reply_string(w->held, "nobody hears this");
	w->closed++;
}

static void test_answer_in_on_close(void **state)
{
	struct world *w = *state;
	int fd = raw_connect(w);
	raw_send(w, fd, REQUEST("/hold") "\r\n", strlen(REQUEST("/hold") "\r\n"));
	run_until(w, w->held);
	http_exchange_on_close(w->held, reply_in_on_close, w);
	close(fd);
	run_until(w, w->closed == 1);
	assert_still_serving(w);
}

static void test_server_goes_away(void **state)
{
	struct world *w = *state;
	struct answer a[3] = { 0 };
	struct http_exchange *unaware[2];
	static const char *const urls[] = { "http://x/hold", "http://x/hold?unaware",
					    "http://x/stream?unaware" };
	for (size_t i = 0; i < ARRAY_SIZE(urls); i++) {
		struct http_request request = { .url = urls[i], .unix_socket = w->path };
		w->held = NULL;
		http_client_call(w->client, &request, on_answer, &a[i], NULL, NULL);
		run_until(w, w->held);
		if (i > 0)
			unaware[i - 1] = w->held;
	}
	w->local = http_server_free(w->local);
	assert_int_equal(w->closed, 1);
	for (size_t i = 0; i < ARRAY_SIZE(a); i++) {
		run_until(w, a[i].done);
		assert_int_equal(a[i].status, 0);
		assert_int_equal(a[i].error.fault, FAULT_UNAVAILABLE);
		answer_deinit(&a[i]);
	}
	size_t len;
	assert_null(http_exchange_header(unaware[0], "Host"));
	assert_string_equal(http_exchange_body(unaware[0], &len), "");
	reply_string(unaware[0], "too late");
	http_reply_chunk(unaware[1], "too late", 8);
	http_reply_end(unaware[1]);
}

/* --- where it listens ----------------------------------------------------- */

static int listen_at(struct world *w, const char *where, const struct http_server_options *options,
		     struct http_server **server, struct error *e)
{
	struct http_server_options o = *options;
	o.routes = world_routes;
	o.arg = w;
	*server = NULL;
	return http_server_new(w->base, where, &o, server, e);
}

static void test_bad_places(void **state)
{
	struct world *w = *state;
	static const char *const places[] = {
		"",
		"localhost:80",
		"127.0.0.1",
		"127.0.0.1:",
		"127.0.0.1:x",
		"127.0.0.1:1x",
		"127.0.0.1:-1",
		"127.0.0.1:65536",
		"1.2.3:80",
		":80",
		"::1:80",
		"[::1]",
		"[::1:80",
		"[]:80",
		"unix:",
		"unix:relative",
		"unix:/no/such/directory/sock",
		"unix:/0123456789012345678901234567890123456789012345678901234567890123456789"
		"0123456789012345678901234567890123456789"
	};
	for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
		struct http_server_options options = { .token = TOKEN };
		struct http_server *server;
		struct error e = ERROR_INIT;
		if (listen_at(w, places[i], &options, &server, &e) >= 0)
			fail_msg("%s was taken", places[i]);
		assert_true(e.text[0]);
		assert_null(server);
	}
}

static void test_tcp_needs_a_token(void **state)
{
	struct world *w = *state;
	struct http_server *server;
	struct http_server_options none = { 0 }, empty = { .token = "" }, open = { .open = true };
	assert_int_equal(listen_at(w, "127.0.0.1:0", &none, &server, NULL), -EINVAL);
	assert_int_equal(listen_at(w, "127.0.0.1:0", &empty, &server, NULL), -EINVAL);
	assert_int_equal(listen_at(w, "127.0.0.1:0", &open, &server, NULL), 0);
	http_server_free(server);
}

static void test_ipv6(void **state)
{
	struct world *w = *state;
	struct http_server_options options = { .open = true };
	struct http_server *server;
	struct error e = ERROR_INIT;
	if (listen_at(w, "[::1]:0", &options, &server, &e) < 0)
		skip(); /* a machine without it */
	cleanup_answer struct answer a;
	snprintf(w->url, sizeof(w->url), "http://[::1]:%d", http_server_port(server));
	call(w, (struct http_request) { 0 }, "/whoami", &a);
	assert_string_equal(buf_text(&a.body), "::1");
	http_server_free(server);
}

static void test_port_in_use(void **state)
{
	struct world *w = *state;
	struct http_server_options options = { .open = true };
	struct http_server *server;
	struct error e = ERROR_INIT;
	char where[64];
	snprintf(where, sizeof(where), "127.0.0.1:%d", http_server_port(w->tcp));
	assert_int_equal(listen_at(w, where, &options, &server, &e), -EADDRINUSE);
	assert_int_equal(e.fault, FAULT_CONFLICT);
}

static void test_socket_in_use(void **state)
{
	struct world *w = *state;
	struct http_server_options options = { 0 };
	struct http_server *server;
	struct error e = ERROR_INIT;
	assert_int_equal(listen_at(w, w->where, &options, &server, &e), -EBUSY);
	assert_int_equal(e.fault, FAULT_CONFLICT);
	assert_still_serving(w);
}

/* What a killed process leaves is replaced, and gone after an orderly end. */
static void test_stale_socket(void **state)
{
	struct world *w = *state;
	struct stat st;
	w->local = http_server_free(w->local);
	assert_int_equal(lstat(w->path, &st), -1);
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	snprintf(address.sun_path, sizeof(address.sun_path), "%s", w->path);
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(fd, 1), 0);
	close(fd);
	world_serve(w, &(struct http_server_options) { 0 });
	assert_int_equal(stat(w->path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0666);
	assert_still_serving(w);
}

static void test_file_in_the_way(void **state)
{
	struct world *w = *state;
	struct http_server_options options = { 0 };
	struct http_server *server;
	struct error e = ERROR_INIT;
	char where[160];
	char path[128];
	snprintf(path, sizeof(path), "%s/file", w->dir);
	snprintf(where, sizeof(where), "unix:%s", path);
	close(open(path, O_CREAT | O_WRONLY, 0600));
	assert_int_equal(listen_at(w, where, &options, &server, &e), -EEXIST);
	assert_int_equal(access(path, F_OK), 0);
}

/* Another's socket at our path, put there meanwhile, is left alone. */
static void test_socket_taken_over(void **state)
{
	struct world *w = *state;
	struct http_server_options options = { 0 };
	struct http_server *second;
	unlink(w->path);
	assert_int_equal(listen_at(w, w->where, &options, &second, NULL), 0);
	w->local = http_server_free(w->local);
	assert_still_serving(w);
	http_server_free(second);
	assert_int_equal(access(w->path, F_OK), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		world_test(test_garbage),
		world_test(test_endless_headers),
		world_test(test_noise),
		world_test(test_hang_up_in_a_request),
		world_test(test_pipelined),
		world_test(test_bytes_while_pending),
		world_test(test_on_close),
		world_test(test_answers_into_the_void),
		world_test(test_answer_and_leave_at_once),
		world_test(test_answer_in_on_close),
		world_test(test_server_goes_away),
		world_test(test_bad_places),
		world_test(test_tcp_needs_a_token),
		world_test(test_ipv6),
		world_test(test_port_in_use),
		world_test(test_socket_in_use),
		world_test(test_stale_socket),
		world_test(test_file_in_the_way),
		world_test(test_socket_taken_over),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
