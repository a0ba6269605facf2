/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "io/http_exchange.h"

#include "base/cleanup.h"
#include "base/fs.h"
#include "wire/codec.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/keyvalq_struct.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

/* Most bytes of a piecemeal answer that wait for a slow reader before it is hung up on. */
enum { OUTPUT_MOST = 64 << 20 };

/* --- callers that go away ------------------------------------------------- */

/*
 * evhttp does not read while a request is being handled, so it does not learn
 * that the peer is gone; made to read, it would end the program at the first
 * byte that comes (event_errx in evhttp_read_cb, state EVCON_WRITING). So the
 * sockets are watched in an epoll set of our own, for hang-ups only and
 * edge-triggered: neither data that wait nor a lasting error make it spin. A
 * caller that shuts down only its sending side counts as gone, as for evhttp
 * when it writes.
 */
struct http_watch {
	int fd;
	struct event *event;
};

static void lose(struct http_exchange *x);

static void on_hang_up(evutil_socket_t fd, short what, void *arg)
{
	struct epoll_event e;
	(void)what;
	(void)arg;
	/* One at a time: what is done about one may end another. */
	while (epoll_wait(fd, &e, 1, 0) == 1)
		lose(e.data.ptr);
}

int http_watch_new(struct event_base *base, struct http_watch **watch, struct error *e)
{
	struct http_watch *w = calloc(1, sizeof(*w));
	if (!w)
		return error_set(e, ENOMEM, "out of memory");
	w->fd = epoll_create1(EPOLL_CLOEXEC);
	if (w->fd >= 0)
		w->event = event_new(base, w->fd, EV_READ | EV_PERSIST, on_hang_up, w);
	if (!w->event || event_add(w->event, NULL) < 0) {
		int r = error_errno(e, "cannot watch connections");
		http_watch_free(w);
		return r;
	}
	*watch = w;
	return 0;
}

void *http_watch_free(struct http_watch *watch)
{
	if (!watch)
		return NULL;
	if (watch->event)
		event_free(watch->event);
	cleanup_close_fd(&watch->fd);
	free(watch);
	return NULL;
}

/* evhttp has dropped the connection while an answer was under way, and has let go of the request.
 */
static void on_connection_closed(struct evhttp_connection *connection, void *arg)
{
	(void)connection;
	lose(arg);
}

static struct evhttp_connection *connection_of(const struct http_exchange *x)
{
	return x->request ? evhttp_request_get_connection(x->request) : NULL;
}

static void stop_watching(struct http_exchange *x)
{
	struct evhttp_connection *connection = connection_of(x);
	if (x->watched)
		epoll_ctl(x->watch->fd, EPOLL_CTL_DEL, x->fd, NULL);
	if (x->watched && connection)
		evhttp_connection_set_closecb(connection, NULL, NULL);
	x->watched = false;
}

void http_exchange_on_close(struct http_exchange *x, void (*closed)(void *arg), void *arg)
{
	struct evhttp_connection *connection = connection_of(x);
	struct epoll_event e = { .events = EPOLLRDHUP | EPOLLET, .data.ptr = x };
	x->closed = closed;
	x->closed_arg = arg;
	if (!connection || x->watched)
		return;
	/* While an answer is being sent evhttp may notice first. */
	evhttp_connection_set_closecb(connection, on_connection_closed, x);
	epoll_ctl(x->watch->fd, EPOLL_CTL_ADD, x->fd, &e);
	x->watched = true;
}

/* --- life ----------------------------------------------------------------- */

struct http_exchange *http_exchange_new(struct evhttp_request *request, struct http_watch *watch)
{
	struct http_exchange *x = calloc(1, sizeof(*x));
	struct evhttp_connection *connection = evhttp_request_get_connection(request);
	struct evbuffer *body = evhttp_request_get_input_buffer(request);
	if (!x)
		return NULL;
	x->request = request;
	x->watch = watch;
	x->fd = bufferevent_getfd(evhttp_connection_get_bufferevent(connection));
	x->body_len = evbuffer_get_length(body);
	if (evbuffer_add(body, "", 1) == 0)
		x->body = (const char *)evbuffer_pullup(body, -1);
	if (x->body)
		return x;
	free(x);
	return NULL;
}

static void end(struct http_exchange *x)
{
	stop_watching(x);
	if (x->ended)
		x->ended(x, x->ended_arg);
	x->ended = NULL;
}

static void exchange_free(struct http_exchange *x)
{
	end(x);
	http_params_deinit(&x->params);
	http_params_deinit(&x->query);
	free(x);
}

static void release_request(struct http_exchange *x)
{
	/* One that has lost its connection is ours alone. */
	if (x->request && !connection_of(x))
		evhttp_request_free(x->request);
	x->request = NULL;
	x->body = "";
	x->body_len = 0;
}

static void tell_closed(struct http_exchange *x)
{
	x->lost = true; /* an attempt to answer is ignored */
	x->closed(x->closed_arg);
}

static void lose(struct http_exchange *x)
{
	struct evhttp_connection *connection = connection_of(x);
	stop_watching(x);
	tell_closed(x);
	end(x);
	release_request(x);
	if (connection)
		evhttp_connection_free(connection); /* with the request */
	exchange_free(x);
}

void http_exchange_abandon(struct http_exchange *x)
{
	stop_watching(x);
	if (x->closed)
		tell_closed(x);
	end(x);
	release_request(x);
	if (x->closed)
		exchange_free(x);
}

/* --- what was asked ------------------------------------------------------- */

const char *http_exchange_param(struct http_exchange *x, const char *name)
{
	return http_params_get(&x->params, name);
}

const char *http_exchange_query(struct http_exchange *x, const char *name)
{
	return http_params_get(&x->query, name);
}

const char *http_exchange_header(struct http_exchange *x, const char *name)
{
	return x->request ? evhttp_find_header(evhttp_request_get_input_headers(x->request), name)
			  : NULL;
}

const char *http_exchange_body(struct http_exchange *x, size_t *len)
{
	if (len)
		*len = x->body_len;
	return x->body;
}

const char *http_exchange_peer(struct http_exchange *x)
{
	return x->peer;
}

json_t *http_exchange_json(struct http_exchange *x)
{
	struct error e = ERROR_INIT;
	json_error_t problem;
	cleanup_json json_t *json =
		json_loadb(x->body, x->body_len, JSON_REJECT_DUPLICATES, &problem);
	if (json_is_object(json))
		return steal_ptr(&json);
	if (json)
		error_set(&e, EINVAL, "the body is not a JSON object");
	else
		error_set(&e, EINVAL, "the body is not JSON: %s (line %d, column %d)", problem.text,
			  problem.line, problem.column);
	http_reply_error(x, &e);
	return NULL;
}

const char *http_exchange_peer_name(struct http_exchange *x)
{
	return x->certified.name[0] ? x->certified.name : NULL;
}

const char *http_exchange_peer_serial(struct http_exchange *x)
{
	return x->certified.name[0] ? x->certified.serial : NULL;
}

/* --- answers -------------------------------------------------------------- */

void http_reply_header(struct http_exchange *x, const char *name, const char *value)
{
	if (x->request)
		evhttp_add_header(evhttp_request_get_output_headers(x->request), name, value);
}

static void set_type(struct http_exchange *x, const char *type)
{
	http_reply_header(x, "Content-Type", type);
	http_reply_header(x, "X-Content-Type-Options", "nosniff");
}

void http_reply_text(struct http_exchange *x, int status, const char *type, const char *body,
		     size_t len)
{
	if (x->lost)
		return;
	set_type(x, type);
	end(x);
	struct evbuffer *buffer = evbuffer_new();
	if (!buffer || evbuffer_add(buffer, body, len) < 0)
		status = 500; /* out of memory: better no body than half a one */
	if (x->request)
		evhttp_send_reply(x->request, status, NULL, buffer);
	if (buffer)
		evbuffer_free(buffer);
	exchange_free(x);
}

void http_reply_json(struct http_exchange *x, int status, json_t *body)
{
	static const char failed[] =
		"{\"error\":{\"fault\":\"internal\",\"text\":\"cannot encode the answer\","
		"\"remedy\":\"\"}}\n";
	cleanup_free char *text = json_dumps(body, JSON_COMPACT);
	cleanup_free char *line = text ? str_printf("%s\n", text) : NULL;
	json_decref(body);
	http_reply_header(x, "Cache-Control", "no-store");
	http_reply_text(x, line ? status : 500, "application/json", line ? line : failed,
			line ? strlen(line) : strlen(failed));
}

void http_reply_status_error(struct http_exchange *x, int status, const struct error *error)
{
	http_reply_json(x, status, wire_encode_error(error));
}

void http_reply_error(struct http_exchange *x, const struct error *error)
{
	/* An error without a fault is a mistake of ours, not the caller's success. */
	enum fault fault = error->fault == FAULT_NONE ? FAULT_INTERNAL : error->fault;
	http_reply_status_error(x, fault_http_status(fault), error);
}

/* evhttp reads while it sends, and would take a caller that listens quietly for an idle one.
 * Stalled readers still time out. */
static void expect_silence(struct http_exchange *x, bool on)
{
	struct evhttp_connection *connection = connection_of(x);
	if (connection)
		bufferevent_set_timeouts(evhttp_connection_get_bufferevent(connection),
					 on ? NULL : &x->idle, &x->idle);
}

void http_reply_begin(struct http_exchange *x, int status, const char *type)
{
	if (x->lost || !x->request)
		return;
	set_type(x, type);
	expect_silence(x, true);
	evhttp_send_reply_start(x->request, status, NULL);
}

void http_reply_chunk(struct http_exchange *x, const char *data, size_t len)
{
	struct evhttp_connection *connection = connection_of(x);
	struct evbuffer *buffer = x->lost || !connection ? NULL : evbuffer_new();
	if (!buffer)
		return;
	struct bufferevent *out = evhttp_connection_get_bufferevent(connection);
	if (evbuffer_add(buffer, data, len) == 0)
		evhttp_send_reply_chunk(x->request, buffer);
	evbuffer_free(buffer);
	if (evbuffer_get_length(bufferevent_get_output(out)) > OUTPUT_MOST)
		shutdown(x->fd, SHUT_RDWR); /* evhttp sees it as the caller's going */
}

void http_reply_end(struct http_exchange *x)
{
	if (x->lost)
		return;
	end(x);
	expect_silence(x, false);
	if (x->request)
		evhttp_send_reply_end(x->request);
	exchange_free(x);
}
