/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "io/http_server.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "io/http_exchange.h"
#include "io/http_listen.h"
#include "io/http_reaper.h"
#include "io/http_tls.h"

#include <errno.h>
#include <event2/bufferevent.h>
#include <event2/http.h>
#include <event2/listener.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum {
	BODY_DEFAULT = 4 << 20,
	HEADERS_MOST = 32 << 10,
	IDLE_DEFAULT_MS = 60000,
	REQUEST_MOST_S = 90, /* from one answer to the next request, however talkative */
	CONNECTIONS_MOST = 1000,
	TICK_S = 5,
};

struct http_server {
	struct evhttp *http;
	struct evconnlistener *listener;
	struct http_listen listen;
	struct http_watch *watch;
	struct http_tls_context *tls; /* NULL: plain */
	struct http_reaper reaper;
	struct event *tick;
	LIST_HEAD(, http_exchange) exchanges;
	struct http_server_options options; /* what it points to is ours, but for the routes */
};

/* --- who may call --------------------------------------------------------- */

/* Takes the same time wherever the two differ. */
static bool same_secret(const char *a, const char *b)
{
	size_t a_len = strlen(a);
	size_t b_len = strlen(b);
	volatile unsigned char difference = a_len != b_len;
	for (size_t i = 0; i < a_len; i++)
		difference |= (unsigned char)(a[i] ^ b[i % (b_len + 1)]);
	return difference == 0;
}

static bool has_token(const struct http_server *s, struct http_exchange *x)
{
	static const char scheme[] = "Bearer ";
	const char *given = http_exchange_header(x, "Authorization");
	if (!s->options.token || !given || strncasecmp(given, scheme, strlen(scheme)) != 0)
		return false;
	given += strlen(scheme);
	return same_secret(given + strspn(given, " "), s->options.token);
}

static bool is_allowed_uid(const struct http_server *s, uid_t uid)
{
	if (uid == 0 || uid == geteuid())
		return true;
	for (size_t i = 0; i < s->options.allowed_uid_count; i++)
		if (s->options.allowed_uids[i] == uid)
			return true;
	return false;
}

static int admit_unix(const struct http_server *s, struct http_exchange *x, struct error *e)
{
	struct ucred peer;
	socklen_t len = sizeof(peer);
	if (getsockopt(x->fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0)
		return error_errno(e, "cannot tell who is calling");
	snprintf(x->peer, sizeof(x->peer), "uid %u", (unsigned)peer.uid);
	if (s->options.open || is_allowed_uid(s, peer.uid))
		return 0;
	return error_set(e, EACCES, "%s may not use this socket", x->peer);
}

static int admit_certified(const struct http_server *s, struct http_exchange *x, struct error *e)
{
	struct evhttp_connection *connection = evhttp_request_get_connection(x->request);
	struct http_peer peer = { 0 };
	int r = http_tls_peer(evhttp_connection_get_bufferevent(connection), &peer, e);
	if (r == 0)
		return error_set(e, EACCES, "a certificate of this cluster is needed");
	if (r > 0)
		r = s->options.admit ? s->options.admit(&peer, s->options.arg, e) : 0;
	if (r == 0)
		x->certified = peer;
	return r;
}

static void set_peer(struct http_exchange *x)
{
	char *address = NULL;
	ev_uint16_t port;
	evhttp_connection_get_peer(evhttp_request_get_connection(x->request), &address, &port);
	snprintf(x->peer, sizeof(x->peer), "%s", address ? address : "?");
}

/* The answered status, or 0 when the caller may go on. */
static int admit(const struct http_server *s, struct http_exchange *x, struct error *e)
{
	if (s->listen.path)
		return admit_unix(s, x, e) < 0 ? fault_http_status(e->fault) : 0;
	set_peer(x);
	int r = s->tls ? admit_certified(s, x, e) : -EACCES;
	if (r == 0 || s->options.open || has_token(s, x))
		return 0;
	if (s->tls)
		return fault_http_status(e->fault);
	http_reply_header(x, "WWW-Authenticate", "Bearer");
	error_set(e, EACCES, "no or wrong bearer token");
	return 401;
}

/* --- what is asked for ---------------------------------------------------- */

static const struct {
	enum evhttp_cmd_type type;
	const char *name;
} methods[] = {
	{ EVHTTP_REQ_GET, "GET" },       { EVHTTP_REQ_POST, "POST" },
	{ EVHTTP_REQ_HEAD, "HEAD" },     { EVHTTP_REQ_PUT, "PUT" },
	{ EVHTTP_REQ_DELETE, "DELETE" }, { EVHTTP_REQ_OPTIONS, "OPTIONS" },
	{ EVHTTP_REQ_TRACE, "TRACE" },   { EVHTTP_REQ_CONNECT, "CONNECT" },
	{ EVHTTP_REQ_PATCH, "PATCH" },
};

static const char *method_name(enum evhttp_cmd_type type)
{
	for (size_t i = 0; i < ARRAY_SIZE(methods); i++)
		if (methods[i].type == type)
			return methods[i].name;
	return "?";
}

static int parse_query(struct http_exchange *x, const struct evhttp_uri *uri, struct error *e)
{
	if (http_query_parse(uri ? evhttp_uri_get_query(uri) : NULL, &x->query) == 0)
		return 0;
	error_set(e, EINVAL, "the query of the address is badly encoded or too long");
	return 400;
}

/* Finds the route; 0, or the status to answer. */
static int find_route(const struct http_server *s, struct http_exchange *x,
		      const struct http_route **route, struct error *e)
{
	const struct evhttp_uri *uri = evhttp_request_get_evhttp_uri(x->request);
	const char *method = method_name(evhttp_request_get_command(x->request));
	const char *path = uri && evhttp_uri_get_path(uri) ? evhttp_uri_get_path(uri) : "";
	char allowed[128] = "";
	for (const struct http_route *r = s->options.routes; r->method; r++) {
		int match = http_route_match(r->path, path, &x->params);
		*route = r;
		if (match < 0) {
			error_set(e, EINVAL, "the path of the address is badly encoded");
			return 400;
		}
		if (match && strcmp(r->method, method) == 0)
			return parse_query(x, uri, e);
		http_params_deinit(&x->params);
		size_t len = strlen(allowed);
		if (match)
			snprintf(allowed + len, sizeof(allowed) - len, "%s%s", len ? ", " : "",
				 r->method);
	}
	if (!allowed[0]) {
		error_set(e, ENOENT, "there is nothing at %s", path);
		return 404;
	}
	http_reply_header(x, "Allow", allowed);
	error_set(e, EINVAL, "%s takes only %s", path, allowed);
	return 405;
}

static int check_request(const struct http_server *s, struct http_exchange *x,
			 const struct http_route **route, struct error *e)
{
	if (x->body_len > s->options.max_body) {
		error_set(e, EINVAL, "the body is larger than %zu bytes", s->options.max_body);
		return 413;
	}
	return find_route(s, x, route, e);
}

/* 0 and the route, or the status to answer. */
static int check(const struct http_server *s, struct http_exchange *x,
		 const struct http_route **route, struct error *e)
{
	int refused = admit(s, x, e);
	if (!refused)
		return check_request(s, x, route, e);
	/* Strangers learn no more than which routes are open. */
	bool open = s->tls && check_request(s, x, route, NULL) == 0 && (*route)->open;
	return open ? 0 : refused;
}

/* evhttp itself refuses bodies with a page of HTML, so its limit lies above ours: what is between
 * is refused in JSON. */
static size_t body_limit(const struct http_server *s)
{
	return 2U * s->options.max_body;
}

/* While it sends an answer evhttp reads on without a limit. This one still has room for the largest
 * request that may follow. */
static void limit_input(const struct http_server *s, struct evhttp_request *request)
{
	struct evhttp_connection *connection = evhttp_request_get_connection(request);
	bufferevent_setwatermark(evhttp_connection_get_bufferevent(connection), EV_READ, 0,
				 body_limit(s) + 2UL * HEADERS_MOST);
}

static struct timeval idle_time(const struct http_server *s)
{
	int ms = s->options.idle_ms ? s->options.idle_ms : IDLE_DEFAULT_MS;
	return (struct timeval) { .tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000L };
}

static void on_ended(struct http_exchange *x, void *arg)
{
	struct http_server *s = arg;
	LIST_REMOVE(x, link);
	http_reaper_answered(&s->reaper, x->fd, clock_mono());
}

/* A connection that should have had TLS: evhttp makes up for an http_tls_accept() that failed. */
static bool is_bare(const struct http_server *s, struct evhttp_request *request)
{
	struct evhttp_connection *connection = evhttp_request_get_connection(request);
	return s->tls && !http_tls_is_on(evhttp_connection_get_bufferevent(connection));
}

static void on_request(struct evhttp_request *request, void *arg)
{
	struct http_server *s = arg;
	const struct http_route *route = NULL;
	struct error e = ERROR_INIT;
	struct http_exchange *x = http_exchange_new(request, s->watch);
	if (!x || is_bare(s, request)) {
		evhttp_send_error(request, 500, NULL);
		free(x);
		return;
	}
	limit_input(s, request);
	x->idle = idle_time(s);
	x->ended = on_ended;
	x->ended_arg = s;
	LIST_INSERT_HEAD(&s->exchanges, x, link);
	int status = check(s, x, &route, &e);
	if (status)
		http_reply_status_error(x, status, &e);
	else
		route->handle(x, s->options.arg);
}

/* --- life ----------------------------------------------------------------- */

/* Out of descriptors, accept() would fail again and again: the next tick resumes. */
static void on_accept_error(struct evconnlistener *listener, void *arg)
{
	(void)arg; /* evhttp's */
	evconnlistener_disable(listener);
}

static bool is_busy(int fd, void *arg)
{
	struct http_server *s = arg;
	struct http_exchange *x;
	LIST_FOREACH(x, &s->exchanges, link)
	if (x->fd == fd)
		return true;
	return false;
}

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
	struct http_server *s = arg;
	(void)fd;
	(void)what;
	http_reaper_run(&s->reaper, clock_mono(), REQUEST_MOST_S * 1000000LL, CONNECTIONS_MOST,
			is_busy, s);
	evconnlistener_enable(s->listener);
}

static struct bufferevent *accept_tls(struct event_base *base, void *arg)
{
	struct http_server *s = arg;
	return http_tls_accept(s->tls, base);
}

static int copy_options(struct http_server *s, const struct http_server_options *from,
			struct error *e)
{
	struct http_server_options *o = &s->options;
	*o = *from;
	o->max_body = from->max_body ? from->max_body : BODY_DEFAULT;
	o->token = from->token ? strdup(from->token) : NULL;
	o->allowed_uids = NULL;
	o->tls = NULL; /* the context has it */
	if (from->allowed_uid_count) {
		uid_t *uids = calloc(from->allowed_uid_count, sizeof(*uids));
		if (uids)
			memcpy(uids, from->allowed_uids, from->allowed_uid_count * sizeof(*uids));
		o->allowed_uids = uids;
	}
	if ((from->token && !o->token) || (from->allowed_uid_count && !o->allowed_uids))
		return error_set(e, ENOMEM, "out of memory");
	return 0;
}

static int start_http(struct http_server *s, struct event_base *base, struct error *e)
{
	s->http = evhttp_new(base);
	struct evhttp_bound_socket *bound =
		s->http ? evhttp_accept_socket_with_handle(s->http, s->listen.fd) : NULL;
	if (!bound)
		return error_set(e, ENOMEM, "out of memory");
	http_reaper_init(&s->reaper, s->listen.fd);
	steal_fd(&s->listen.fd); /* evhttp's now */
	s->listener = evhttp_bound_socket_get_listener(bound);
	evconnlistener_set_error_cb(s->listener, on_accept_error);
	evhttp_set_gencb(s->http, on_request, s);
	if (s->tls)
		evhttp_set_bevcb(s->http, accept_tls, s);
	evhttp_set_allowed_methods(s->http, 0xffff); /* refused by us, in JSON */
	struct timeval idle = idle_time(s);
	evhttp_set_timeout_tv(s->http, &idle);
	evhttp_set_max_headers_size(s->http, HEADERS_MOST);
	evhttp_set_max_body_size(s->http, (ev_ssize_t)body_limit(s));
	return 0;
}

static int start_tick(struct http_server *s, struct event_base *base, struct error *e)
{
	static const struct timeval interval = { .tv_sec = TICK_S };
	s->tick = event_new(base, -1, EV_PERSIST, on_tick, s);
	if (!s->tick || event_add(s->tick, &interval) < 0)
		return error_set(e, ENOMEM, "out of memory");
	return 0;
}

int http_server_new(struct event_base *base, const char *where,
		    const struct http_server_options *options, struct http_server **server,
		    struct error *e)
{
	struct http_server *s = calloc(1, sizeof(*s));
	if (!s)
		return error_set(e, ENOMEM, "out of memory");
	s->listen = HTTP_LISTEN_INIT;
	int r = copy_options(s, options, e);
	if (r == 0)
		r = http_listen_open(&s->listen, where, e);
	if (r == 0 && !s->listen.path && !options->open && !options->tls &&
	    !(options->token && *options->token))
		r = error_set(e, EINVAL, "listening on %s needs a token", where);
	if (r == 0 && options->tls)
		r = http_tls_new(options->tls, &s->tls, e);
	if (r == 0)
		r = http_watch_new(base, &s->watch, e);
	if (r == 0)
		r = start_http(s, base, e);
	if (r == 0)
		r = start_tick(s, base, e);
	if (r < 0) {
		http_server_free(s);
		return r;
	}
	signal(SIGPIPE, SIG_IGN); /* libevent writes to connections whose peer is gone */
	*server = s;
	return 0;
}

void *http_server_free(struct http_server *server)
{
	if (!server)
		return NULL;
	while (!LIST_EMPTY(&server->exchanges))
		http_exchange_abandon(LIST_FIRST(&server->exchanges));
	if (server->tick)
		event_free(server->tick);
	if (server->http)
		evhttp_free(server->http);
	http_tls_free(server->tls);
	http_watch_free(server->watch);
	http_reaper_deinit(&server->reaper);
	http_listen_deinit(&server->listen);
	free((char *)server->options.token);
	free((uid_t *)server->options.allowed_uids);
	free(server);
	return NULL;
}

int http_server_port(const struct http_server *server)
{
	/* At the same place for both IP families. */
	const struct sockaddr_in *local = (const struct sockaddr_in *)&server->reaper.local;
	return server->listen.path ? 0 : ntohs(local->sin_port);
}
