/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "tests/unit/activator_world.h"

#include "node/activator_private.h"

/*
 * Those who take time or room from others at the address of a session that sleeps: nothing that
 * they do keeps anybody else from it, wakes it, or has memory grow.
 */

#define API  "POST /user/ada/api/x HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
#define POLL "GET /api/kernels HTTP/1.1\r\n\r\n"

static bool is_over(int fd)
{
	char byte;
	ssize_t n = recv(fd, &byte, 1, MSG_PEEK);
	return n == 0 || (n < 0 && errno != EAGAIN && errno != EINPROGRESS && errno != ENOTCONN);
}

/* One more byte on each; how many are still open. */
static int drip(const int *fds, int count)
{
	int open = 0;
	for (int i = 0; i < count; i++) {
		send(fds[i], "a", 1, MSG_NOSIGNAL);
		open += !is_over(fds[i]);
	}
	return open;
}

/* Slow-loris: a byte now and then, so that it never says nothing. */
static void a_dripping_head_is_given_up(void **state)
{
	enum { DRIPPING = 40, HEAD_MS = 1000 };
	struct world *w = *state;
	int dripping[DRIPPING];
	w->all->limits.head_ms = HEAD_MS;
	for (int i = 0; i < DRIPPING; i++)
		dripping[i] = client(w, "GET /user/ada/lab HTTP/1.1\r\nX: ");
	UNTIL(w, activator_connections(w->a) == DRIPPING);
	mono_us half = clock_mono() + HEAD_MS * 1000 / 2;
	UNTIL(w, (drip(dripping, DRIPPING), clock_mono() > half));
	/* Meanwhile somebody comes, and is heard. */
	cleanup_fd int fd = client(w, API);
	UNTIL(w, w->touches == 1);
	assert_int_equal(drip(dripping, DRIPPING), DRIPPING);
	UNTIL(w, drip(dripping, DRIPPING) == 0);
	assert_int_equal(w->touches, 1);
	assert_int_equal(activator_connections(w->a), 1);
	for (int i = 0; i < DRIPPING; i++)
		close(dripping[i]);
}

/* What was heard and is not a whole answer stays. False at the end. */
static bool hear_answers(int fd, struct buf *heard, size_t *answers)
{
	static const char end[] = "\"reason\": null}";
	bool open = hear_some(fd, heard);
	const char *last = buf_text(heard), *found;
	for (; (found = strstr(last, end)); last = found + strlen(end))
		++*answers;
	size_t left = heard->len - (size_t)(last - buf_text(heard));
	if (heard->len)
		memmove(heard->data, last, left + 1);
	heard->len = left;
	return open;
}

/* Each of them is answered, but not before the one before it was read. */
static void answers_that_nobody_reads_do_not_pile_up(void **state)
{
	enum { ROUND = 1000, MOST = 16 << 20, LITTLE = 4096, QUIET_US = 200000 };
	struct world *w = *state;
	const size_t len = strlen(POLL);
	cleanup_free char *round = malloc(ROUND * len + 1);
	for (size_t i = 0; i < ROUND; i++)
		memcpy(round + i * len, POLL, len);
	w->all->limits.head_ms = WAIT_S * 1000;
	w->env[0] = "JUPYTERHUB_SERVICE_PREFIX=/";
	activator_free(w->a);
	world_begin(w);
	cleanup_fd int fd = connect_to(w->port);
	size_t sent = 0;
	for (mono_us last = clock_mono(); clock_mono() - last < QUIET_US && sent < MOST;) {
		size_t at = sent % (ROUND * len);
		ssize_t n = send(fd, round + at, ROUND * len - at, MSG_NOSIGNAL);
		sent += n > 0 ? (size_t)n : 0;
		last = n > LITTLE ? clock_mono() : last;
		event_base_loop(w->base, EVLOOP_NONBLOCK);
	}
	assert_true(sent < MOST);
	/* Read, they all come. */
	shutdown(fd, SHUT_WR);
	size_t answers = 0;
	cleanup_buf struct buf heard = BUF_INIT(1 << 20);
	UNTIL(w, !hear_answers(fd, &heard, &answers));
	assert_int_equal(answers, sent / len);
	assert_int_equal(w->touches, 0);
}

/* All the room of the node is taken by who says nothing to another session. */
static void silence_elsewhere_holds_no_room_either(void **state)
{
	enum { ROOM = 8 };
	struct world *w = *state;
	struct activator *first = w->a;
	int silent[ROOM];
	w->all->limits.all_connections = ROOM;
	for (int i = 0; i < ROOM; i++)
		silent[i] = connect_to(w->port);
	UNTIL(w, activator_connections(first) == ROOM);
	world_begin(w);
	cleanup_fd int fd = client(w, API);
	UNTIL(w, w->touches == 1);
	assert_int_equal(activator_connections(first), ROOM - 1);
	activator_free(first);
	for (int i = 0; i < ROOM; i++)
		close(silent[i]);
}

/* Connections that have found their session may last as long as they like. */
static void who_is_relayed_takes_no_room_from_who_waits(void **state)
{
	enum { ROOM = 4 };
	struct world *w = *state;
	struct activator *first = w->a;
	int clients[ROOM], servers[ROOM];
	w->all->limits.all_connections = ROOM;
	for (int i = 0; i < ROOM; i++)
		clients[i] = client(w, API);
	UNTIL(w, w->touches == ROOM);
	activator_woken(first);
	for (int i = 0; i < ROOM; i++)
		servers[i] = server_accept(w);
	world_begin(w);
	cleanup_fd int fd = client(w, API);
	UNTIL(w, w->touches == ROOM + 1);
	activator_free(first);
	for (int i = 0; i < ROOM; i++) {
		close(clients[i]);
		close(servers[i]);
	}
}

/* ... but are so many at most; who comes then again goes to the session itself. */
static void so_many_are_relayed_and_others_come_again(void **state)
{
	enum { ROOM = 2, COME = 5 };
	struct world *w = *state;
	int clients[COME], servers[ROOM];
	w->all->limits.all_relayed = ROOM;
	for (int i = 0; i < COME; i++)
		clients[i] = client(w, API);
	UNTIL(w, w->touches == COME);
	activator_woken(w->a);
	for (int i = 0; i < ROOM; i++)
		servers[i] = server_accept(w);
	int relayed = 0;
	for (int i = 0; i < ROOM; i++)
		say(w, servers[i], "done", 4);
	for (int i = 0; i < COME; i++) {
		cleanup_buf struct buf heard = BUF_INIT(1 << 16);
		hear(w, clients[i], &heard, 4);
		if (memcmp(heard.data, "done", 4) == 0) {
			relayed++;
			continue;
		}
		hear_to_end(w, clients[i], &heard);
		assert_memory_equal(heard.data, "HTTP/1.1 503 ", 13);
		assert_non_null(strstr(heard.data, "Retry-After: 1\r\n"));
	}
	assert_int_equal(relayed, ROOM);
	assert_int_equal(w->connects, ROOM);
	for (int i = 0; i < COME; i++)
		close(clients[i]);
	for (int i = 0; i < ROOM; i++)
		close(servers[i]);
	UNTIL(w, w->overs == 1);
}

static int who_has_heard(const int *fds, int count)
{
	char byte;
	for (int i = 0; i < count; i++)
		if (fds[i] >= 0 && recv(fds[i], &byte, 1, MSG_PEEK) == 1)
			return i;
	return -1;
}

/* Also when it was awake for long before there was room for them. */
static void who_waits_for_room_is_not_cut_off(void **state)
{
	enum { ROOM = 4, COME = 12, LATE_MS = 50 };
	struct world *w = *state;
	int clients[COME];
	w->all->limits.connections = ROOM;
	w->all->limits.late_ms = LATE_MS;
	for (int i = 0; i < COME; i++)
		clients[i] = client(w, API);
	UNTIL(w, w->touches == ROOM);
	activator_woken(w->a);
	mono_us late = clock_mono() + 4 * LATE_MS * 1000;
	UNTIL(w, clock_mono() > late);
	for (int i = 0; i < COME; i++) {
		cleanup_buf struct buf told = BUF_INIT(1 << 16);
		int served = -1;
		cleanup_fd int server = server_accept(w);
		hear(w, server, &told, strlen(API));
		say(w, server, "done", 4);
		UNTIL(w, (served = who_has_heard(clients, COME)) >= 0);
		close(clients[served]);
		clients[served] = -1;
	}
	UNTIL(w, w->overs == 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cleanup_world(a_dripping_head_is_given_up),
		cleanup_world(answers_that_nobody_reads_do_not_pile_up),
		cleanup_world(silence_elsewhere_holds_no_room_either),
		cleanup_world(who_is_relayed_takes_no_room_from_who_waits),
		cleanup_world(so_many_are_relayed_and_others_come_again),
		cleanup_world(who_waits_for_room_is_not_cut_off),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
