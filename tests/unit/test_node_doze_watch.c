/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "base/cleanup.h"
#include "node/doze_watch.h"

#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

/* A connection over loopback, and a watch over it. */
struct place {
	struct event_base *base;
	struct doze_watch *watch;
	int listener, peer, session;
	int64_t port;
	int touched;
};

static void on_touched(void *arg, const char *what)
{
	struct place *p = arg;
	assert_non_null(what);
	p->touched++;
}

static void raise_loopback(void)
{
	struct ifreq lo = { .ifr_name = "lo", .ifr_flags = IFF_UP | IFF_LOOPBACK };
	cleanup_fd int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	ioctl(fd, SIOCSIFFLAGS, &lo);
}

static void connect_both(struct place *p)
{
	struct sockaddr_in at = { .sin_family = AF_INET,
				  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(at);
	p->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(p->listener, (struct sockaddr *)&at, sizeof(at)), 0);
	assert_int_equal(listen(p->listener, 1), 0);
	assert_int_equal(getsockname(p->listener, (struct sockaddr *)&at, &len), 0);
	p->port = ntohs(at.sin_port);
	p->peer = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(connect(p->peer, (struct sockaddr *)&at, sizeof(at)), 0);
	p->session = accept(p->listener, NULL, NULL);
	assert_true(p->session >= 0);
}

static int set_up(void **state)
{
	static struct place place;
	place = (struct place) {
		.base = event_base_new(), .listener = -1, .peer = -1, .session = -1
	};
	*state = &place;
	if (geteuid() != 0)
		return 0;
	raise_loopback();
	connect_both(&place);
	return doze_watch_new(place.base, "lo", place.port, on_touched, &place, &place.watch, NULL);
}

static int tear_down(void **state)
{
	struct place *p = *state;
	p->watch = doze_watch_free(p->watch);
	close(p->peer);
	close(p->session);
	close(p->listener);
	event_base_free(p->base);
	return 0;
}

/* Sent, and looked at: over loopback a packet is where it is going when send(2) returns. */
static int touches(struct place *p, int from, const void *data, size_t len)
{
	p->touched = 0;
	assert_int_equal(send(from, data, len, 0), (ssize_t)len);
	event_base_loop(p->base, EVLOOP_NONBLOCK);
	return p->touched;
}

static void test_what_is_a_touch(void **state)
{
	struct place *p = *state;
	static char large[100000];
	static const struct {
		const char *data;
		size_t len;
		bool touch;
	} cases[] = {
		{ "GET / HTTP/1.1\r\n\r\n", 18, true },
		{ "\x81\x80maskx", 7, true },
		{ "\x8a\x80mask", 6, false },                  /* pong */
		{ "\x89\x84maskping\x8a\x80mask", 16, false }, /* ping, pong */
		{ "\x88\x80mask", 6, false },                  /* close */
		{ "\x8a\x80maskGET", 9, true },
		{ "x", 1, false }, /* no request is as short; a keepalive is */
		{ large, sizeof(large), true },
	};
	if (!p->watch)
		skip();
	event_base_loop(p->base, EVLOOP_NONBLOCK);
	assert_int_equal(p->touched, 0); /* of the handshake */
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		if ((touches(p, p->peer, cases[i].data, cases[i].len) > 0) != cases[i].touch)
			fail_msg("case %zu", i);
	assert_int_equal(touches(p, p->session, "an answer", 9), 0);
	close(p->peer);
	p->touched = 0;
	event_base_loop(p->base, EVLOOP_NONBLOCK);
	assert_int_equal(p->touched, 0);
}

static void on_touched_free(void *arg, const char *what)
{
	struct place *p = arg;
	(void)what;
	p->watch = doze_watch_free(p->watch);
	p->touched++;
}

static void test_freed_from_within(void **state)
{
	struct place *p = *state;
	if (!p->watch)
		skip();
	doze_watch_free(p->watch);
	assert_int_equal(
		doze_watch_new(p->base, "lo", p->port, on_touched_free, p, &p->watch, NULL), 0);
	for (int i = 0; i < 3; i++)
		assert_int_equal(send(p->peer, "data", 4, 0), 4);
	event_base_loop(p->base, EVLOOP_NONBLOCK);
	assert_int_equal(p->touched, 1);
	assert_null(p->watch);
}

static void test_no_such_link(void **state)
{
	struct place *p = *state;
	struct doze_watch *none = NULL;
	struct error e = ERROR_INIT;
	assert_true(doze_watch_new(p->base, "nolink0", 1, on_touched, p, &none, &e) < 0);
	assert_non_null(strstr(e.text, "nolink0"));
	assert_null(none);
	assert_null(doze_watch_free(NULL));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_what_is_a_touch, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_freed_from_within, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_no_such_link, set_up, tear_down),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
