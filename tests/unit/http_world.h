/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_TESTS_HTTP_WORLD_H
#define ELSA_TESTS_HTTP_WORLD_H

/*
 * A server on a unix socket, one on TCP and a client, all on one loop, for the
 * tests of io/http_*. Nothing waits for a fixed time: the loop is turned until
 * something holds, and a test that would wait for ever fails after WAIT_S.
 */

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fs.h"
#include "io/http_client.h"
#include "io/http_server.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define WAIT_S        20
#define TOKEN         "s3cret"
#define REQUEST(path) "GET " path " HTTP/1.1\r\nHost: x\r\n"
#define AUTHORIZED                                                                                 \
	(const char *const[])                                                                      \
	{                                                                                          \
		"Authorization: Bearer " TOKEN, NULL                                               \
	}

struct world {
	struct event_base *base;
	struct http_server *local; /* unix */
	struct http_server *tcp;
	struct http_client *client;
	char dir[64];
	char path[80];  /* of the unix socket */
	char where[96]; /* "unix:" and that */
	char url[64];   /* "http://127.0.0.1:PORT" */

	/* What the handlers have seen. */
	struct http_exchange *held; /* by GET /hold and /stream */
	int requests;
	int closed;

	int descriptors; /* open before all this */
};

/* What a call came to. */
struct answer {
	int done; /* how often */
	int status;
	int retry_after_s;
	struct error error;
	struct buf body;
};

#define cleanup_answer cleanup(answer_deinit)

static inline void answer_deinit(struct answer *a)
{
	buf_deinit(&a->body);
}

static inline void on_answer(const struct http_reply *reply, void *arg)
{
	struct answer *a = arg;
	a->done++;
	a->status = reply->status;
	a->retry_after_s = reply->retry_after_s;
	a->error = reply->error;
	a->body = BUF_INIT(SIZE_MAX / 2);
	buf_append(&a->body, reply->body, reply->body_len);
	assert_int_equal(reply->body[reply->body_len], '\0');
}

#define run_until(w, condition)                                                                    \
	do {                                                                                       \
		mono_us end_ = clock_mono() + WAIT_S * 1000000LL;                                  \
		while (!(condition)) {                                                             \
			if (clock_mono() > end_)                                                   \
				fail_msg("never: %s", #condition);                                 \
			turn(w);                                                                   \
		}                                                                                  \
	} while (0)

/* One round of the loop, of a millisecond at most. */
static inline void turn(struct world *w)
{
	struct timeval most = { .tv_usec = 1000 };
	event_base_loopexit(w->base, &most);
	event_base_loop(w->base, EVLOOP_ONCE);
}

/* Calls and waits for the end. `path` is put behind the address of the TCP server, or used with the
 * unix one when `request` says so. */
static inline void call(struct world *w, struct http_request request, const char *path,
			struct answer *a)
{
	char url[512];
	struct error e = ERROR_INIT;
	snprintf(url, sizeof(url), "%s%s", w->url, path);
	request.url = url;
	*a = (struct answer) { 0 };
	if (http_client_call(w->client, &request, on_answer, a, NULL, &e) < 0)
		fail_msg("%s", e.text);
	assert_int_equal(a->done, 0);
	run_until(w, a->done);
	assert_int_equal(a->done, 1);
}

/* ... on the unix socket, where no more than the path is to be said. */
static inline void get(struct world *w, const char *path, struct answer *a)
{
	call(w, (struct http_request) { .unix_socket = w->path }, path, a);
}

/* --- clients that are none ------------------------------------------------ */

static inline int raw_connect(struct world *w)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	snprintf(address.sun_path, sizeof(address.sun_path), "%s", w->path);
	assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	return fd;
}

static inline int tcp_connect(struct world *w)
{
	struct sockaddr_in address = { .sin_family = AF_INET,
				       .sin_port = htons((uint16_t)http_server_port(w->tcp)),
				       .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	return fd;
}

/* The server may hang up in the middle. */
static inline void raw_send(struct world *w, int fd, const char *data, size_t len)
{
	while (len) {
		ssize_t n = send(fd, data, len, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n < 0 && errno != EAGAIN)
			return;
		data += n > 0 ? n : 0;
		len -= n > 0 ? (size_t)n : 0;
		turn(w);
	}
}

/* Reads until the server hangs up, or `until` is in what it said. */
static inline void raw_receive(struct world *w, int fd, const char *until, struct buf *to)
{
	char chunk[65536];
	mono_us end = clock_mono() + WAIT_S * 1000000LL;
	for (;;) {
		ssize_t n = recv(fd, chunk, sizeof(chunk), MSG_DONTWAIT);
		if (n == 0 || (n < 0 && errno != EAGAIN))
			return;
		if (n > 0)
			assert_int_equal(buf_append(to, chunk, (size_t)n), 0);
		if (until && strstr(buf_text(to), until))
			return;
		if (clock_mono() > end)
			fail_msg("the server neither answers nor hangs up");
		turn(w);
	}
}

/* --- the servers ---------------------------------------------------------- */

static inline void reply_string(struct http_exchange *x, const char *text)
{
	http_reply_text(x, 200, "text/plain", text, strlen(text));
}

static inline void handle_hello(struct http_exchange *x, void *arg)
{
	struct world *w = arg;
	w->requests++;
	http_reply_json(x, 200, json_pack("{s:s}", "hello", "world"));
}

static inline void handle_whoami(struct http_exchange *x, void *arg)
{
	(void)arg;
	reply_string(x, http_exchange_peer(x));
}

static inline void handle_echo(struct http_exchange *x, void *arg)
{
	size_t len;
	const char *body = http_exchange_body(x, &len);
	const char *type = http_exchange_header(x, "content-type");
	(void)arg;
	assert_int_equal(body[len], '\0');
	http_reply_text(x, 201, type ? type : "none", body, len);
}

static inline void handle_thing(struct http_exchange *x, void *arg)
{
	const char *q = http_exchange_query(x, "q");
	cleanup_free char *text =
		str_printf("id=%s q=%s", http_exchange_param(x, "id"), q ? q : "(none)");
	(void)arg;
	assert_null(http_exchange_param(x, "other"));
	assert_null(http_exchange_query(x, "other"));
	reply_string(x, text);
}

static inline void handle_json(struct http_exchange *x, void *arg)
{
	json_t *json = http_exchange_json(x);
	(void)arg;
	if (json)
		http_reply_json(x, 200, json);
}

static inline void handle_fail(struct http_exchange *x, void *arg)
{
	struct error e = ERROR_INIT;
	(void)arg;
	error_set(&e, EBUSY, "it is \xff busy");
	error_remedy(&e, 0, "wait");
	http_reply_error(x, &e);
}

/* Answers with the status, header and body it is told. */
static inline void handle_say(struct http_exchange *x, void *arg)
{
	const char *name = http_exchange_query(x, "name");
	const char *body = http_exchange_query(x, "body");
	(void)arg;
	if (name)
		http_reply_header(x, name, http_exchange_query(x, "value"));
	http_reply_text(x, (int)strtol(http_exchange_query(x, "status"), NULL, 10), "text/plain",
			body ? body : "", strlen(body ? body : ""));
}

static inline void handle_big(struct http_exchange *x, void *arg)
{
	size_t len = strtoul(http_exchange_query(x, "size"), NULL, 10);
	cleanup_free char *data = malloc(len + 1);
	(void)arg;
	memset(data, 'b', len);
	http_reply_text(x, 200, "application/octet-stream", data, len);
}

static inline void on_held_closed(void *arg)
{
	struct world *w = arg;
	w->closed++;
	w->held = NULL;
}

/* Keeps the exchange for the test to answer. */
static inline void handle_hold(struct http_exchange *x, void *arg)
{
	struct world *w = arg;
	w->held = x;
	if (!http_exchange_query(x, "unaware"))
		http_exchange_on_close(x, on_held_closed, w);
}

static inline void handle_stream(struct http_exchange *x, void *arg)
{
	handle_hold(x, arg);
	http_reply_begin(x, 200, "text/event-stream");
	http_reply_chunk(x, "begun\n", 6);
}

static const struct http_route world_routes[] = {
	{ "GET", "/hello", handle_hello },
	{ "GET", "/whoami", handle_whoami },
	{ "POST", "/echo", handle_echo },
	{ "PUT", "/echo", handle_echo },
	{ "GET", "/things/{id}", handle_thing },
	{ "DELETE", "/things/{id}", handle_thing },
	{ "POST", "/json", handle_json },
	{ "GET", "/fail", handle_fail },
	{ "GET", "/say", handle_say },
	{ "GET", "/big", handle_big },
	{ "GET", "/hold", handle_hold },
	{ "GET", "/stream", handle_stream },
	{ 0 },
};

/* Servers with other options than the usual: NULL in place of one leaves it as it is. */
static inline void world_serve(struct world *w, const struct http_server_options *options)
{
	struct error e = ERROR_INIT;
	struct http_server_options o = *options;
	o.routes = world_routes;
	o.arg = w;
	o.token = TOKEN;
	w->local = http_server_free(w->local);
	w->tcp = http_server_free(w->tcp);
	if (http_server_new(w->base, w->where, &o, &w->local, &e) < 0 ||
	    http_server_new(w->base, "127.0.0.1:0", &o, &w->tcp, &e) < 0)
		fail_msg("%s", e.text);
	snprintf(w->url, sizeof(w->url), "http://127.0.0.1:%d", http_server_port(w->tcp));
}

static inline int count_descriptors(void)
{
	int count = 0;
	cleanup_dir DIR *dir = opendir("/proc/self/fd");
	while (dir && readdir(dir))
		count++;
	return count;
}

static inline int world_setup(void **state)
{
	struct world *w = calloc(1, sizeof(*w));
	w->descriptors = count_descriptors();
	snprintf(w->dir, sizeof(w->dir), "/tmp/elsa-test-XXXXXX");
	if (!mkdtemp(w->dir) || chmod(w->dir, 0755) < 0)
		return -1;
	snprintf(w->path, sizeof(w->path), "%s/sock", w->dir);
	snprintf(w->where, sizeof(w->where), "unix:%s", w->path);
	w->base = event_base_new();
	world_serve(w, &(struct http_server_options) { 0 });
	*state = w;
	return http_client_new(w->base, &w->client, NULL);
}

static inline int world_teardown(void **state)
{
	struct world *w = *state;
	w->client = http_client_free(w->client);
	w->local = http_server_free(w->local);
	w->tcp = http_server_free(w->tcp);
	event_base_free(w->base);
	fs_remove_tree(w->dir, NULL);
	int leaked = count_descriptors() - w->descriptors;
	free(w);
	return leaked ? -1 : 0;
}

#define world_test(f) cmocka_unit_test_setup_teardown(f, world_setup, world_teardown)

#endif
