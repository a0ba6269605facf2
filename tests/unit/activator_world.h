/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_TESTS_ACTIVATOR_WORLD_H
#define ELSA_TESTS_ACTIVATOR_WORLD_H

/*
 * An activator on a loopback port, and what stands for the session's server on
 * another, all on one loop. Clients are plain sockets. Nothing waits for a fixed
 * time: the loop is turned until something holds, and a test that would wait for
 * ever fails after WAIT_S.
 */

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fs.h"
#include "node/activator.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <cmocka.h>

#define WAIT_S 30

struct world {
	struct event_base *base;
	struct config *config;
	struct activators *all;
	struct activator *a; /* NULL: gone */
	int port;            /* the activator's */
	int server_fd;       /* the session's server listens; not watched by the loop */
	int server_port;
	int connects; /* asked for */
	int touches;
	int overs;
	char touched[256]; /* the last */
	void (*on_touch)(struct world *w);
	char dir[64];
	char record[96];
	char *env[16];
	struct session_spec spec;
};

static inline int on_loopback(int type, int *port)
{
	struct sockaddr_in at = { .sin_family = AF_INET,
				  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(at);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | type, 0);
	assert_true(fd >= 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof(at)), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&at, &len), 0);
	*port = ntohs(at.sin_port);
	return fd;
}

/* A socket whose connecting has begun. */
static inline int connect_to(int port)
{
	struct sockaddr_in at = { .sin_family = AF_INET,
				  .sin_port = htons((uint16_t)port),
				  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	assert_true(fd >= 0);
	int r = connect(fd, (struct sockaddr *)&at, sizeof(at));
	assert_true(r == 0 || errno == EINPROGRESS);
	return fd;
}

static inline int world_connect(void *arg, struct error *e)
{
	struct world *w = arg;
	w->connects++;
	return w->server_port ? connect_to(w->server_port)
			      : error_set(e, ECONNREFUSED, "no server");
}

static inline void world_touched(void *arg, const char *what)
{
	struct world *w = arg;
	w->touches++;
	snprintf(w->touched, sizeof(w->touched), "%s", what);
	if (w->on_touch)
		w->on_touch(w);
}

static inline void world_over(void *arg)
{
	struct world *w = arg;
	w->overs++;
	w->a = NULL;
}

static inline void world_listen(struct world *w)
{
	w->server_fd = on_loopback(SOCK_NONBLOCK, &w->server_port);
	assert_int_equal(listen(w->server_fd, 1024), 0);
}

static inline void world_begin(struct world *w)
{
	struct activator_options options = {
		.spec = &w->spec,
		.record = w->record,
		.listen_fd = on_loopback(0, &w->port),
		.connect = world_connect,
		.touched = world_touched,
		.over = world_over,
		.arg = w,
	};
	struct error e = ERROR_INIT;
	if (activator_begin(w->all, &options, &w->a, &e) < 0)
		fail_msg("%s", e.text);
}

static inline int world_setup(void **state)
{
	struct world *w = calloc(1, sizeof(*w));
	struct error e = ERROR_INIT;
	snprintf(w->dir, sizeof(w->dir), "/tmp/elsa-activator-XXXXXX");
	assert_non_null(mkdtemp(w->dir));
	snprintf(w->record, sizeof(w->record), "%s/record", w->dir);
	w->base = event_base_new();
	assert_non_null(w->base);
	assert_int_equal(config_load(NULL, &w->config, &e), 0);
	assert_int_equal(activators_new(w->base, w->config, &w->all, &e), 0);
	w->spec = (struct session_spec) { .id = "0123456789abcdef",
					  .user = "ada",
					  .server = "",
					  .address = "127.0.0.1",
					  .env = w->env };
	world_listen(w);
	world_begin(w);
	*state = w;
	return 0;
}

static inline int world_teardown(void **state)
{
	struct world *w = *state;
	activator_free(w->a);
	activators_free(w->all);
	event_base_free(w->base);
	config_free(w->config);
	close(w->server_fd);
	fs_remove_tree(w->dir, NULL);
	free(w);
	return 0;
}

static inline void world_turn(struct world *w)
{
	const struct timeval at_most = { .tv_usec = 5000 };
	event_base_loopexit(w->base, &at_most);
	event_base_loop(w->base, EVLOOP_ONCE);
}

#define UNTIL(w, condition)                                                                        \
	for (mono_us until_ = clock_mono() + WAIT_S * INT64_C(1000000); !(condition);) {           \
		if (clock_mono() > until_)                                                         \
			fail_msg("waited in vain for %s", #condition);                             \
		world_turn(w);                                                                     \
	}

static inline void say(struct world *w, int fd, const char *data, size_t len)
{
	while (len > 0) {
		ssize_t n = send(fd, data, len, MSG_NOSIGNAL);
		if (n < 0 && errno != EAGAIN && errno != EINPROGRESS && errno != ENOTCONN)
			fail_msg("cannot send: %s", strerror(errno));
		if (n < 0)
			world_turn(w);
		else
			data += n, len -= (size_t)n;
	}
}

static inline int client(struct world *w, const char *request)
{
	int fd = connect_to(w->port);
	say(w, fd, request, strlen(request));
	return fd;
}

/* One more piece into `to`: false at the end. */
static inline bool hear_some(int fd, struct buf *to)
{
	char piece[16 << 10];
	ssize_t n = recv(fd, piece, sizeof(piece), 0);
	if (n > 0)
		assert_int_equal(buf_append(to, piece, (size_t)n), 0);
	return n > 0 || (n < 0 && (errno == EAGAIN || errno == ENOTCONN));
}

/* Until there are `len` bytes. */
static inline void hear(struct world *w, int fd, struct buf *to, size_t len)
{
	UNTIL(w, (hear_some(fd, to), to->len >= len));
}

static inline void hear_to_end(struct world *w, int fd, struct buf *to)
{
	UNTIL(w, !hear_some(fd, to));
}

/* The next connection to the session's server. */
static inline int server_accept(struct world *w)
{
	int fd = -1;
	UNTIL(w, (fd = accept4(w->server_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0);
	return fd;
}

#define cleanup_world(name) cmocka_unit_test_setup_teardown(name, world_setup, world_teardown)

#endif
