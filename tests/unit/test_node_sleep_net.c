/* SPDX-License-Identifier: Apache-2.0 */
/* The address of a session that sleeps, on the real kernel, in namespaces of the test's own. */
#define _GNU_SOURCE
#include "tests/unit/sandbox_place.h"

#include "node/net_keep.h"
#include "node/sleep_net.h"
#include "node/sleep_packet.h"

#include <event2/event.h>
#include <sys/ioctl.h>
#include <termios.h>

#define ADDRESS "10.99.0.9"
enum { PORT = 8888, SOON_MS = 5000 };

struct world {
	struct event_base *base;
	struct sleep_net *net;
	struct packet last;
	int packets;
};

static void on_packet(const void *data, size_t len, void *arg)
{
	struct world *w = arg;
	if (packet_parse(data, len, &w->last))
		w->packets++;
}

static void open_world(struct world *w)
{
	struct error e = ERROR_INIT;
	need_root();
	*w = (struct world) { .base = event_base_new() };
	ok(sleep_net_open(config, w->base, on_packet, w, &w->net, &e), &e);
}

static void close_world(struct world *w)
{
	sleep_net_close(w->net);
	event_base_free(w->base);
}

static int begin_call(void)
{
	const struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(PORT) };
	struct sockaddr_in in = to;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	inet_pton(AF_INET, ADDRESS, &in.sin_addr);
	assert_true(connect(fd, (struct sockaddr *)&in, sizeof(in)) == 0 || errno == EINPROGRESS);
	return fd;
}

static bool is_connected(int fd, int ms)
{
	struct pollfd p = { .fd = fd, .events = POLLOUT };
	int code = -1;
	socklen_t len = sizeof(code);
	return poll(&p, 1, ms) == 1 && getsockopt(fd, SOL_SOCKET, SO_ERROR, &code, &len) == 0 &&
	       code == 0;
}

static void test_who_calls_is_answered(void **state)
{
	(void)state;
	struct world w;
	struct sockaddr_in first, second;
	struct error e = ERROR_INIT;
	open_world(&w);
	ok(sleep_net_route(config, ADDRESS, &e), &e);
	ok(sleep_net_undirect(config, ADDRESS, PORT, &e), &e);
	/* Nobody answers yet: it tries again, and is answered then. */
	cleanup_fd int early = begin_call();
	cleanup_fd int listener = sleep_net_bind(FIRST, &first, &e);
	cleanup_fd int other = sleep_net_bind(SECOND, &second, &e);
	assert_true(listener >= 0 && other >= 0 && listen(listener, 8) == 0);
	assert_int_not_equal(first.sin_port, second.sin_port);
	ok(sleep_net_redirect(config, ADDRESS, PORT, &second, &e), &e);
	ok(sleep_net_redirect(config, ADDRESS, PORT, &first, &e), &e);
	ok(sleep_net_redirect(config, ADDRESS, PORT, &first, &e), &e);
	cleanup_fd int caller = begin_call();
	assert_true(is_connected(caller, SOON_MS) && is_connected(early, SOON_MS));
	cleanup_fd int got = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	ok(sleep_net_undirect(config, ADDRESS, PORT, &e), &e);
	/* One that has begun keeps its way. */
	char word[3];
	assert_int_equal(send(caller, "hi", 2, 0), 2);
	assert_int_equal(recv(got, word, sizeof(word), 0), 2);
	ok(sleep_net_unroute(config, ADDRESS, &e), &e);
	ok(sleep_net_unroute(config, ADDRESS, &e), &e);
	close_world(&w);
}

/* The session's kernel sent this; its namespace is gone, and the peer's has not heard of it. */
static void test_a_connection_that_was_open(void **state)
{
	(void)state;
	struct world w;
	struct box box;
	struct error e = ERROR_INIT;
	open_world(&w);
	box_prepare(&box, FIRST, ADDRESS);
	box_start(&box, "python3", "-c",
		  "import socket, time\n"
		  "s = socket.create_server(('', 8888))\n"
		  "print('listens', flush=True)\n"
		  "c, _ = s.accept()\n"
		  "c.recv(2)\n"
		  "print('accepted', flush=True)\n"
		  "time.sleep(600)\n");
	wait_for_log(&box, "listens");
	cleanup_fd int caller = begin_call();
	assert_true(is_connected(caller, SOON_MS) && send(caller, "hi", 2, 0) == 2);
	wait_for_log(&box, "accepted");
	ok(sandbox_freeze(&box.sb, &e), &e);
	ok(sandbox_hold(&box.sb, &e), &e);
	ok(sandbox_kill(&box.sb, &e), &e);
	ok(sleep_net_route(config, ADDRESS, &e), &e);
	ok(sandbox_teardown(&box.sb, true, &e), &e);
	sandbox_deinit(&box.sb);
	assert_int_equal(send(caller, "me again", 8, 0), 8);
	for (int i = 0; i < 100 && w.last.len != 8; i++)
		event_base_loop(w.base, EVLOOP_ONCE);
	assert_int_equal(w.last.len, 8);
	assert_int_equal(w.last.to_port, PORT);
	/* What is said in the session's name is heard. */
	const struct packet_connection c = { .expects = w.last.seq + 8, .window = 500 };
	uint8_t answer[PACKET_ANSWER_MOST];
	int left = 1;
	sleep_net_send(w.net, answer, packet_answer(&w.last, &c, answer));
	for (int i = 0; i < 500 && left; i++) {
		assert_int_equal(ioctl(caller, TIOCOUTQ, &left), 0);
		usleep(10000);
	}
	assert_int_equal(left, 0);
	struct pollfd p = { .fd = caller, .events = POLLIN | POLLHUP };
	assert_int_equal(poll(&p, 1, 0), 0);
	ok(sleep_net_unroute(config, ADDRESS, &e), &e);
	close_world(&w);
}

static void test_the_device_outlives_the_program(void **state)
{
	(void)state;
	struct world w;
	struct error e = ERROR_INIT;
	open_world(&w);
	ok(sleep_net_route(config, ADDRESS, &e), &e);
	close_world(&w);
	/* Silence, rather than a refusal. */
	assert_false(connects_within(300, ADDRESS, PORT));
	open_world(&w);
	cleanup_fd int caller = begin_call();
	(void)caller;
	ok(sleep_net_unroute(config, ADDRESS, &e), &e);
	close_world(&w);
	ok(sleep_net_teardown(config, &e), &e);
	ok(sleep_net_teardown(config, &e), &e);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_who_calls_is_answered),
		cmocka_unit_test(test_a_connection_that_was_open),
		cmocka_unit_test(test_the_device_outlives_the_program),
	};
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
