/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "tests/unit/activator_world.h"

#include <malloc.h>
#include <sys/resource.h>

#define GET "GET /user/ada/lab?token=secret HTTP/1.1\r\nHost: x\r\nAccept: text/html\r\n\r\n"
enum { HEAD_BYTES = 80 << 10 };

#define API "POST /user/ada/api/x HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"

static void somebody_waits_and_is_relayed(void **state)
{
	struct world *w = *state;
	cleanup_buf struct buf heard = BUF_INIT(1 << 20), told = BUF_INIT(1 << 20);
	cleanup_fd int fd = client(w, GET "pipelined \x01 bytes");
	UNTIL(w, w->touches == 1);
	assert_string_equal(w->touched, "GET /user/ada/lab");
	assert_int_equal(w->connects, 0);
	activator_woken(w->a);
	cleanup_fd int server = server_accept(w);
	const size_t len = strlen(GET "pipelined \x01 bytes");
	hear(w, server, &told, len);
	assert_memory_equal(told.data, GET "pipelined \x01 bytes", len);
	say(w, server, "HTTP/1.1 200 OK\r\n\r\nyes", 22);
	hear(w, fd, &heard, 22);
	assert_memory_equal(heard.data, "HTTP/1.1 200 OK\r\n\r\nyes", 22);
	assert_int_equal(w->overs, 0);
	shutdown(server, SHUT_WR);
	hear_to_end(w, fd, &heard);
	assert_int_equal(heard.len, 22);
	shutdown(fd, SHUT_WR);
	hear_to_end(w, server, &told);
	UNTIL(w, w->overs == 1);
}

/* More than all buffers, both ways at once, after the sender's end. */
static void a_large_body_goes_through_exactly(void **state)
{
	struct world *w = *state;
	enum { SIZE = 24 << 20 };
	cleanup_free char *body = malloc(SIZE);
	cleanup_buf struct buf told = BUF_INIT(SIZE + 4096);
	size_t sent = 0;
	for (size_t i = 0; i < SIZE; i++)
		body[i] = (char)(i * 2654435761u >> 13);
	cleanup_fd int fd = client(w, GET);
	UNTIL(w, w->touches == 1);
	/* Nobody takes it: it must not pile up here. */
	for (int i = 0; i < 200; i++) {
		ssize_t n = send(fd, body + sent, SIZE - sent, MSG_NOSIGNAL);
		sent += n > 0 ? (size_t)n : 0;
		event_base_loop(w->base, EVLOOP_NONBLOCK);
	}
	assert_true(sent < SIZE);
	activator_woken(w->a);
	cleanup_fd int server = server_accept(w);
	UNTIL(w, ({
		      ssize_t n =
			      sent < SIZE ? send(fd, body + sent, SIZE - sent, MSG_NOSIGNAL) : 0;
		      sent += n > 0 ? (size_t)n : 0;
		      hear_some(server, &told);
		      sent == SIZE;
	      }));
	shutdown(fd, SHUT_WR);
	hear_to_end(w, server, &told);
	assert_int_equal(told.len, strlen(GET) + SIZE);
	assert_memory_equal(told.data + strlen(GET), body, SIZE);
}

static void a_failed_wake_is_told_and_the_next_works(void **state)
{
	struct world *w = *state;
	cleanup_buf struct buf page = BUF_INIT(1 << 16), json = BUF_INIT(1 << 16);
	cleanup_fd int person = client(w, GET "and a body that nobody reads");
	cleanup_fd int program = client(w, API);
	UNTIL(w, w->touches == 2);
	activator_failed(w->a, "The store <does> not answer.", 7);
	hear_to_end(w, person, &page);
	hear_to_end(w, program, &json);
	assert_memory_equal(page.data, "HTTP/1.1 503 ", 13);
	assert_non_null(strstr(page.data, "Retry-After: 7\r\n"));
	assert_non_null(strstr(page.data, "<p>The store &lt;does&gt; not answer.</p>"));
	assert_non_null(strstr(json.data, "Content-Type: application/json\r\n"));
	assert_non_null(strstr(json.data, "\"message\": \"The store <does> not answer.\""));
	cleanup_fd int again = client(w, API);
	UNTIL(w, w->touches == 3);
	activator_woken(w->a);
	cleanup_fd int server = server_accept(w);
	cleanup_buf struct buf told = BUF_INIT(1 << 16);
	hear(w, server, &told, strlen(API));
	assert_memory_equal(told.data, API, strlen(API));
}

static void wake_at_once(struct world *w)
{
	activator_woken(w->a);
}

static void fail_at_once(struct world *w)
{
	activator_failed(w->a, "no", 1);
}

static void free_at_once(struct world *w)
{
	w->a = activator_free(w->a);
}

static void anything_may_be_called_when_touched(void **state)
{
	struct world *w = *state;
	cleanup_buf struct buf heard = BUF_INIT(1 << 16);
	w->on_touch = fail_at_once;
	cleanup_fd int fd = client(w, API);
	hear_to_end(w, fd, &heard);
	assert_memory_equal(heard.data, "HTTP/1.1 503 ", 13);
	w->on_touch = wake_at_once;
	cleanup_fd int second = client(w, API);
	cleanup_fd int server = server_accept(w);
	close(steal_fd(&second));
	shutdown(server, SHUT_WR);
	UNTIL(w, w->overs == 1);
	world_begin(w);
	w->on_touch = free_at_once;
	cleanup_fd int third = client(w, API);
	UNTIL(w, w->a == NULL);
	assert_int_equal(w->overs, 1);
}

static void what_is_no_http_is_nobody(void **state)
{
	static const struct {
		const char *bytes;
		size_t len;
	} garbage[] = {
		{ "\x16\x03\x01\x02\x00\x01\x00\x01\xfc", 9 }, /* TLS */
		{ "SSH-2.0-OpenSSH_9.2\r\n", 21 },
		{ "\0\0\0\0", 4 },
		{ "GET / HTTP/1.1\r\nno colon\r\n\r\n", 28 },
		{ "GET / HTTP/2.0\r\n\r\n", 18 },
		{ "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 24 },
	};
	struct world *w = *state;
	for (size_t i = 0; i < ARRAY_SIZE(garbage); i++) {
		cleanup_buf struct buf heard = BUF_INIT(1 << 16);
		cleanup_fd int fd = connect_to(w->port);
		say(w, fd, garbage[i].bytes, garbage[i].len);
		hear_to_end(w, fd, &heard);
		assert_int_equal(heard.len, 0);
	}
	/* Too long a head, and one that is never finished. */
	cleanup_free char *head = malloc(HEAD_BYTES);
	memset(head, 'a', HEAD_BYTES);
	memcpy(head, "GET / HTTP/1.1\r\nx: ", 19);
	cleanup_buf struct buf heard = BUF_INIT(1 << 16);
	cleanup_fd int fd = connect_to(w->port);
	for (size_t at = 0; at < HEAD_BYTES; at += 1024) {
		send(fd, head + at, 1024, MSG_NOSIGNAL);
		world_turn(w);
	}
	hear_to_end(w, fd, &heard);
	assert_int_equal(heard.len, 0);
	assert_int_equal(w->touches, 0);
	UNTIL(w, activator_connections(w->a) == 0);
}

static void hundreds_come_while_it_wakes(void **state)
{
	enum { MANY = 500 };
	struct world *w = *state;
	static int clients[MANY], servers[MANY];
	for (int i = 0; i < MANY; i++)
		clients[i] = client(w, i % 2 ? API : GET);
	UNTIL(w, w->touches == MANY);
	activator_woken(w->a);
	for (int i = 0; i < MANY; i++)
		servers[i] = server_accept(w);
	for (int i = 0; i < MANY; i++) {
		char answer[32];
		snprintf(answer, sizeof(answer), "answer %03d", i);
		say(w, servers[i], answer, 10);
		close(servers[i]);
	}
	bool seen[MANY] = { false };
	for (int i = 0; i < MANY; i++) {
		cleanup_buf struct buf heard = BUF_INIT(64);
		hear(w, clients[i], &heard, 10);
		long number = strtol(heard.data + 7, NULL, 10);
		assert_false(seen[number]);
		seen[number] = true;
		close(clients[i]);
	}
	UNTIL(w, w->overs == 1);
}

/* Connections that say nothing give way to those that come after them. */
static void silence_holds_no_room(void **state)
{
	enum { SILENT = 1024 };
	struct world *w = *state;
	static int silent[SILENT];
	struct rlimit files;
	getrlimit(RLIMIT_NOFILE, &files);
	if (files.rlim_cur < 4 * SILENT)
		skip();
	for (int i = 0; i < SILENT; i++) {
		silent[i] = connect_to(w->port);
		if (i % 32 == 0)
			world_turn(w);
	}
	UNTIL(w, activator_connections(w->a) == SILENT);
	cleanup_fd int fd = client(w, API);
	UNTIL(w, w->touches == 1);
	for (int i = 0; i < SILENT; i++)
		close(silent[i]);
}

static void a_session_that_does_not_listen_yet_is_tried_again(void **state)
{
	struct world *w = *state;
	int port = w->server_port;
	cleanup_fd int fd = client(w, API);
	UNTIL(w, w->touches == 1);
	w->server_port = 0;
	activator_woken(w->a);
	UNTIL(w, w->connects >= 3);
	w->server_port = port;
	cleanup_fd int server = server_accept(w);
	assert_int_equal(w->overs, 0);
}

static void who_has_said_nothing_yet_is_relayed_later(void **state)
{
	struct world *w = *state;
	cleanup_buf struct buf told = BUF_INIT(1 << 16);
	cleanup_fd int silent = connect_to(w->port);
	cleanup_fd int half = client(w, "GET /half HT");
	UNTIL(w, activator_connections(w->a) == 2);
	world_turn(w);
	activator_woken(w->a);
	cleanup_fd int first = server_accept(w);
	hear(w, first, &told, 12);
	assert_memory_equal(told.data, "GET /half HT", 12);
	say(w, silent, "anything", 8);
	cleanup_fd int second = server_accept(w);
	buf_reset(&told);
	hear(w, second, &told, 8);
	assert_memory_equal(told.data, "anything", 8);
	assert_int_equal(w->touches, 0);
}

/* An upgrade is somebody; after it bytes go both ways while either lives. */
static void a_websocket_is_held_and_relayed(void **state)
{
	static const char upgrade[] = "GET /user/ada/api/kernels/1/channels HTTP/1.1\r\nHost: x\r\n"
				      "Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n\x81\x01x";
	struct world *w = *state;
	cleanup_buf struct buf told = BUF_INIT(1 << 16), heard = BUF_INIT(1 << 16);
	cleanup_fd int fd = client(w, upgrade);
	UNTIL(w, w->touches == 1);
	activator_woken(w->a);
	cleanup_fd int server = server_accept(w);
	hear(w, server, &told, sizeof(upgrade) - 1);
	assert_memory_equal(told.data, upgrade, sizeof(upgrade) - 1);
	for (int i = 0; i < 20; i++) {
		say(w, server, "\x81\x02hi", 4);
		hear(w, fd, &heard, (size_t)(i + 1) * 4);
		say(w, fd, "\x81\x02ho", 4);
		hear(w, server, &told, sizeof(upgrade) - 1 + (size_t)(i + 1) * 4);
	}
	assert_int_equal(w->overs, 0);
}

/* What a sleeping session takes of our memory while nobody is connected. */
static void many_take_little(void **state)
{
	enum { MANY = 64, MOST = 2048 };
	struct world *w = *state;
	struct activator *all[MANY], *first = w->a;
	w->env[0] = "JUPYTERHUB_SERVICE_PREFIX=/user/ada/";
	w->env[1] = "JUPYTERHUB_API_URL=http://10.99.0.1:8081/hub/api";
	w->env[2] = "JUPYTERHUB_OAUTH_ACCESS_SCOPES=[\"access:servers!server=ada/\"]";
	size_t before = mallinfo2().uordblks;
	for (int i = 0; i < MANY; i++) {
		world_begin(w);
		all[i] = w->a;
	}
	size_t each = (mallinfo2().uordblks - before) / MANY;
	for (int i = 1; i < MANY; i++)
		activator_free(all[i]);
	activator_free(all[0]);
	w->a = first;
	print_message("%zu bytes\n", each);
	assert_true(each < MOST);
}

int main(void)
{
	struct rlimit files;
	getrlimit(RLIMIT_NOFILE, &files);
	files.rlim_cur = files.rlim_max;
	setrlimit(RLIMIT_NOFILE, &files);
	const struct CMUnitTest tests[] = {
		cleanup_world(somebody_waits_and_is_relayed),
		cleanup_world(a_large_body_goes_through_exactly),
		cleanup_world(a_failed_wake_is_told_and_the_next_works),
		cleanup_world(anything_may_be_called_when_touched),
		cleanup_world(what_is_no_http_is_nobody),
		cleanup_world(hundreds_come_while_it_wakes),
		cleanup_world(silence_holds_no_room),
		cleanup_world(a_session_that_does_not_listen_yet_is_tried_again),
		cleanup_world(who_has_said_nothing_yet_is_relayed_later),
		cleanup_world(a_websocket_is_held_and_relayed),
		cleanup_world(many_take_little),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
