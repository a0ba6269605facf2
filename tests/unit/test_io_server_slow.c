/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "io/http_reaper.h"
#include "tests/unit/http_world.h"

/* --- slow ones ------------------------------------------------------------ */

/* Where silence is not borne for long, a busy machine can be too slow for it itself: then what is
 * to be tried is begun anew. */

static void assert_serves_in_time(struct world *w)
{
	cleanup_answer struct answer a = { 0 };
	mono_us end = clock_mono() + WAIT_S * 1000000LL;
	while (a.status == 0 && clock_mono() < end) {
		buf_deinit(&a.body);
		get(w, "/hello", &a);
	}
	assert_int_equal(a.status, 200);
}

static struct http_exchange *call_held(struct world *w, const char *path, struct answer *a)
{
	cleanup_free char *url = str_printf("http://x%s", path);
	struct http_request request = { .url = url, .unix_socket = w->path };
	mono_us end = clock_mono() + WAIT_S * 1000000LL;
	for (w->held = NULL; !w->held && clock_mono() < end;) {
		buf_deinit(&a->body);
		*a = (struct answer) { 0 };
		http_client_call(w->client, &request, on_answer, a, NULL, NULL);
		run_until(w, w->held || a->done);
	}
	assert_non_null(w->held);
	return w->held;
}

static void test_idle_connections_end(void **state)
{
	struct world *w = *state;
	static const char *const beginnings[] = {
		"", "GET /hel", "GET /hello HTTP/1.1\r\nHost:",
		"POST /echo HTTP/1.1\r\nContent-Length: 10\r\n\r\n123", REQUEST("/hello") "\r\n"
	};
	world_serve(w, &(struct http_server_options) { .idle_ms = 50 });
	for (size_t i = 0; i < ARRAY_SIZE(beginnings); i++) {
		cleanup_buf struct buf said = BUF_INIT(10000);
		cleanup_fd int fd = raw_connect(w);
		raw_send(w, fd, beginnings[i], strlen(beginnings[i]));
		raw_receive(w, fd, NULL, &said);
	}
	assert_serves_in_time(w);
}

static bool fired;

static void on_time(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	(void)arg;
	fired = true;
}

/* Lets the loop run for several times the idle timeout, which must then not have happened. */
static void wait_idly(struct world *w)
{
	struct timeval t = { .tv_usec = 150000 };
	fired = false;
	event_base_once(w->base, -1, EV_TIMEOUT, on_time, NULL, &t);
	run_until(w, fired);
}

static void test_waiting_for_an_answer_is_not_idle(void **state)
{
	struct world *w = *state;
	world_serve(w, &(struct http_server_options) { .idle_ms = 50 });
	struct answer hold = { 0 }, stream = { 0 };
	struct http_exchange *held = call_held(w, "/hold", &hold);
	call_held(w, "/stream", &stream);
	wait_idly(w);
	assert_int_equal(w->closed, 0);
	reply_string(held, "at last");
	http_reply_chunk(w->held, "ended\n", 6);
	http_reply_end(w->held);
	run_until(w, hold.done && stream.done);
	assert_string_equal(buf_text(&hold.body), "at last");
	assert_string_equal(buf_text(&stream.body), "begun\nended\n");
	answer_deinit(&hold);
	answer_deinit(&stream);
}

/* A connection whose answer came in pieces is an idle one again afterwards. */
static void test_idle_after_pieces(void **state)
{
	struct world *w = *state;
	cleanup_buf struct buf said = BUF_INIT(10000);
	world_serve(w, &(struct http_server_options) { .idle_ms = 1000 });
	cleanup_fd int fd = raw_connect(w);
	raw_send(w, fd, REQUEST("/stream") "\r\n", strlen(REQUEST("/stream") "\r\n"));
	run_until(w, w->held);
	http_reply_end(w->held);
	raw_receive(w, fd, NULL, &said);
	assert_non_null(strstr(buf_text(&said), "\r\n0\r\n\r\n"));
}

/* Also when there is something left to be read. */
static bool has_hung_up(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLRDHUP };
	return poll(&p, 1, 0) == 1;
}

static void test_reader_that_stalls(void **state)
{
	struct world *w = *state;
	enum { SIZE = 8 << 20 };
	cleanup_buf struct buf said = BUF_INIT(2UL * SIZE);
	world_serve(w, &(struct http_server_options) { .idle_ms = 50 });
	cleanup_fd int fd = raw_connect(w);
	raw_send(w, fd, REQUEST("/big?size=8388608") "\r\n",
		 strlen(REQUEST("/big?size=8388608") "\r\n"));
	run_until(w, has_hung_up(fd));
	raw_receive(w, fd, NULL, &said);
	assert_true(said.len < SIZE);
	assert_serves_in_time(w);
}

/* One that reads nothing at all of an endless answer does not fill the memory. */
static void test_reader_that_never_reads(void **state)
{
	struct world *w = *state;
	enum { SIZE = 1 << 20 };
	cleanup_free char *piece = calloc(1, SIZE);
	cleanup_fd int fd = raw_connect(w);
	raw_send(w, fd, REQUEST("/stream") "\r\n", strlen(REQUEST("/stream") "\r\n"));
	run_until(w, w->held);
	for (int i = 0; i < 1000 && !w->closed; i++) {
		http_reply_chunk(w->held, piece, SIZE);
		turn(w);
	}
	assert_int_equal(w->closed, 1);
}

/* --- connections that never get a request finished ------------------------- */

static bool is_this_busy(int fd, void *arg)
{
	return fd == *(int *)arg;
}

static bool is_shut(int fd)
{
	char c;
	return recv(fd, &c, 1, MSG_DONTWAIT | MSG_PEEK) == 0;
}

static int listen_unix(struct world *w, const char *name)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	w->local = http_server_free(w->local);
	snprintf(w->path, sizeof(w->path), "%s/%s", w->dir, name);
	snprintf(address.sun_path, sizeof(address.sun_path), "%s/%s", w->dir, name);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(fd, 10), 0);
	return fd;
}

static void test_reaper(void **state)
{
	struct world *w = *state;
	enum { LIMIT = 90, MOST = 10, COUNT = 3 };
	cleanup_fd int listener = listen_unix(w, "reaped");
	int client[COUNT], server[COUNT];
	int none = -1;
	struct http_reaper r;
	http_reaper_init(&r, listener);
	assert_int_equal(http_reaper_run(&r, 0, LIMIT, MOST, is_this_busy, &none), 0);
	for (int i = 0; i < COUNT; i++) {
		client[i] = raw_connect(w);
		server[i] = accept(listener, NULL, NULL);
	}
	/* 0 is busy, 1 was answered lately, 2 is neither. */
	assert_int_equal(http_reaper_run(&r, 100, LIMIT, MOST, is_this_busy, &server[0]), 2);
	http_reaper_answered(&r, server[1], 150);
	assert_int_equal(http_reaper_run(&r, 189, LIMIT, MOST, is_this_busy, &server[0]), 2);
	assert_false(is_shut(client[2]));
	http_reaper_run(&r, 190, LIMIT, MOST, is_this_busy, &server[0]);
	assert_false(is_shut(client[0]));
	assert_false(is_shut(client[1]));
	assert_true(is_shut(client[2]));
	http_reaper_run(&r, 240, LIMIT, MOST, is_this_busy, &server[0]);
	assert_true(is_shut(client[1]));
	http_reaper_run(&r, 1000, LIMIT, MOST, is_this_busy, &server[0]);
	assert_false(is_shut(client[0]));
	/* Shut down is not closed: that is for their owner to do. */
	assert_int_equal(r.count, COUNT);
	for (int i = 0; i < COUNT; i++) {
		close(client[i]);
		close(server[i]);
	}
	assert_int_equal(http_reaper_run(&r, 2000, LIMIT, MOST, is_this_busy, &none), 0);
	assert_int_equal(r.count, 0);
	http_reaper_deinit(&r);
}

static void test_reaper_counts(void **state)
{
	struct world *w = *state;
	enum { COUNT = 20 };
	cleanup_fd int listener = listen_unix(w, "reaped");
	int client[COUNT], server[COUNT];
	int none = -1;
	int shut = 0;
	struct http_reaper r;
	http_reaper_init(&r, listener);
	for (int i = 0; i < COUNT; i++) {
		client[i] = raw_connect(w);
		server[i] = accept(listener, NULL, NULL);
	}
	assert_int_equal(http_reaper_run(&r, 0, 1000, 15, is_this_busy, &none), COUNT);
	for (int i = 0; i < COUNT; i++) {
		shut += is_shut(client[i]);
		close(client[i]);
		close(server[i]);
	}
	assert_int_equal(shut, COUNT - 15);
	http_reaper_deinit(&r);
}

/* The server's own connections are told from the client's ends in the same process. */
static void test_reaper_of_tcp(void **state)
{
	struct world *w = *state;
	int none = -1;
	struct http_reaper r = { 0 };
	cleanup_fd int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_in any = { .sin_family = AF_INET };
	assert_int_equal(bind(listener, (struct sockaddr *)&any, sizeof(any)), 0);
	assert_int_equal(listen(listener, 10), 0);
	http_reaper_init(&r, listener);
	any.sin_port = ((struct sockaddr_in *)&r.local)->sin_port;
	any.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	cleanup_fd int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(connect(client, (struct sockaddr *)&any, sizeof(any)), 0);
	cleanup_fd int server = accept(listener, NULL, NULL);
	cleanup_fd int stranger = tcp_connect(w);
	assert_int_equal(http_reaper_run(&r, 0, 10, 10, is_this_busy, &none), 1);
	http_reaper_run(&r, 10, 10, 10, is_this_busy, &none);
	assert_true(is_shut(client));
	assert_false(is_shut(stranger));
	http_reaper_deinit(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		world_test(test_idle_connections_end),
		world_test(test_waiting_for_an_answer_is_not_idle),
		world_test(test_idle_after_pieces),
		world_test(test_reader_that_stalls),
		world_test(test_reader_that_never_reads),
		world_test(test_reaper),
		world_test(test_reaper_counts),
		world_test(test_reaper_of_tcp),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
