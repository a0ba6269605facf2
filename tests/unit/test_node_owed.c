/* SPDX-License-Identifier: Apache-2.0 */
/* Whether a server owes an answer: as a table, and of real connections. */
#include "node/owed.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

static void test_owed_by(void **state)
{
	(void)state;
	static const struct {
		const char *what;
		struct owed_line line;
		bool owed;
	} cases[] = {
		{ "asked after a silence", { 900, 900, 5, 300000 }, true },
		{ "asked a while ago", { 900, 900, 59999, 300000 }, true },
		{ "asked so long ago that nothing will come", { 900, 900, 60000, 300000 }, false },
		{ "answered", { 900, 900, 300000, 5 }, false },
		{ "answered at once", { 900, 900, 5, 5 }, false },
		{ "the answer to a ping of ours", { 900, 900, 400, 402 }, false },
		{ "the same from far away", { 900, 900, 100, 1100 }, false },
		{ "behind that", { 900, 900, 99, 1100 }, true },
		{ "its first question", { 900, 0, 10, 11 }, true },
		{ "its first question, long ago", { 900, 0, 60000, 60001 }, false },
		{ "connected, and nothing came", { 0, 0, 10, 10 }, false },
		{ "connected, and was greeted", { 0, 900, 10, 10 }, false },
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		if (owed_by(&cases[i].line) != cases[i].owed)
			fail_msg("%s", cases[i].what);
}

static int listener(int family, in_port_t *port)
{
	struct sockaddr_in6 any6 = { .sin6_family = AF_INET6 };
	struct sockaddr_in any = { .sin_family = AF_INET };
	socklen_t len = sizeof(any6);
	const struct sockaddr *a = family == AF_INET ? (const void *)&any : (const void *)&any6;
	int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(fd, a, family == AF_INET ? sizeof(any) : sizeof(any6)), 0);
	assert_int_equal(listen(fd, 1), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&any6, &len), 0);
	*port = any6.sin6_port; /* at the same place in both */
	return fd;
}

static bool is_owed(in_port_t port)
{
	struct error e = ERROR_INIT;
	bool owed = false;
	if (owed_is_there(getpid(), ntohs(port), &owed, &e) < 0)
		fail_msg("%s", e.text);
	return owed;
}

/* Over IPv4 to a socket of either family. */
static void answers(int family)
{
	struct sockaddr_in to = { .sin_family = AF_INET,
				  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	char text[8];
	int from = listener(family, &to.sin_port);
	int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(connect(client, (struct sockaddr *)&to, sizeof(to)), 0);
	int server = accept(from, NULL, NULL);
	assert_true(server >= 0);
	assert_false(is_owed(to.sin_port));
	for (int i = 0; i < 2; i++) {
		assert_int_equal(send(client, "ask", 3, 0), 3);
		assert_int_equal(recv(server, text, sizeof(text), 0), 3);
		assert_true(is_owed(to.sin_port));
		assert_false(is_owed(htons(1)));
		assert_int_equal(send(server, "tell", 4, 0), 4);
		assert_int_equal(recv(client, text, sizeof(text), 0), 4);
		assert_false(is_owed(to.sin_port));
		poll(NULL, 0, OWED_ANSWER_MS + 100);
	}
	close(client);
	close(server);
	close(from);
}

static void test_a_server_that_answers(void **state)
{
	(void)state;
	if (geteuid() != 0)
		skip();
	answers(AF_INET);
	answers(AF_INET6);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_owed_by),
		cmocka_unit_test(test_a_server_that_answers),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
