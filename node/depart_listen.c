/* SPDX-License-Identifier: Apache-2.0 */
/* node.move_listen: a thread for each connection. */
#define _GNU_SOURCE
#include "node/depart_private.h"

#include "base/cleanup.h"
#include "base/log.h"
#include "io/http_listen.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
	CALLERS_MOST = 256, /* nine for each session that leaves */
	HANDSHAKE_MS = 5000,
};

struct caller {
	struct caller *next;
	struct depart_listen *of;
	pthread_t thread;
	int fd;                 /* until it has a connection */
	struct move_conn *conn; /* under the departures' lock */
	bool over;              /* likewise */
};

struct depart_listen {
	struct departures *all;
	struct http_listen socket;
	struct event *event;
	struct identity id;     /* its paths; what is there is read for each connection */
	struct caller *callers; /* the loop's */
	size_t count;
	int port;
};

/* --- a caller ---------------------------------------------------------------------- */

/* With the certificate that counts now. */
static int shake_hands(struct caller *c, struct move_tls **tls, struct move_conn **conn,
		       struct error *e)
{
	int r = move_tls_new(&c->of->id, tls, e);
	return r < 0 ? r : move_accept(*tls, steal_fd(&c->fd), HANDSHAKE_MS, conn, e);
}

static void set_conn(struct caller *c, struct move_conn *conn)
{
	struct departures *all = c->of->all;
	pthread_mutex_lock(&all->lock);
	c->conn = conn;
	if (conn && all->closing)
		move_conn_hang_up(conn);
	pthread_mutex_unlock(&all->lock);
}

static void *run(void *arg)
{
	struct caller *c = arg;
	struct departures *all = c->of->all;
	struct error e = ERROR_INIT;
	struct move_tls *tls = NULL;
	struct move_conn *conn = NULL;
	if (shake_hands(c, &tls, &conn, &e) < 0) {
		log_warning("a connection to node.move_listen: %s", e.text);
	} else {
		set_conn(c, conn);
		depart_serve(all, conn);
		set_conn(c, NULL);
		move_conn_free(conn);
	}
	if (tls)
		move_tls_free(tls);
	cleanup_close_fd(&c->fd);
	pthread_mutex_lock(&all->lock);
	c->over = true;
	pthread_mutex_unlock(&all->lock);
	return NULL;
}

/* --- all of them ------------------------------------------------------------------- */

static bool is_over(struct departures *all, const struct caller *c)
{
	pthread_mutex_lock(&all->lock);
	bool over = c->over;
	pthread_mutex_unlock(&all->lock);
	return over;
}

static void reap(struct depart_listen *l, bool all)
{
	for (struct caller **at = &l->callers; *at;) {
		struct caller *c = *at;
		if (!all && !is_over(l->all, c)) {
			at = &c->next;
			continue;
		}
		pthread_join(c->thread, NULL);
		*at = c->next;
		l->count--;
		free(c);
	}
}

static void begin_caller(struct depart_listen *l, int fd)
{
	struct caller *c = calloc(1, sizeof(*c));
	if (!c || l->count >= CALLERS_MOST) {
		log_warning("too many connections to node.move_listen: one is turned away");
		free(c);
		close(fd);
		return;
	}
	*c = (struct caller) { .of = l, .fd = fd };
	int code = pthread_create(&c->thread, NULL, run, c);
	if (code) {
		log_error("cannot start a thread for a connection: %s", strerror(code));
		close(fd);
		free(c);
		return;
	}
	c->next = l->callers;
	l->callers = c;
	l->count++;
}

static void on_caller(evutil_socket_t fd, short what, void *arg)
{
	struct depart_listen *l = arg;
	(void)what;
	reap(l, false);
	int caller = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
	if (caller >= 0)
		begin_caller(l, caller);
}

/* --- its life ---------------------------------------------------------------------- */

static int port_of(int fd)
{
	struct sockaddr_storage at = { 0 };
	socklen_t len = sizeof(at);
	if (getsockname(fd, (struct sockaddr *)&at, &len) < 0)
		return 0;
	return ntohs(at.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&at)->sin6_port
					      : ((struct sockaddr_in *)&at)->sin_port);
}

static int open_listen(struct depart_listen *l, struct error *e)
{
	struct node *node = l->all->node;
	int r = identity_init(&l->id, node->config, e);
	if (r == 0)
		r = http_listen_open(&l->socket, node->config->node.move_listen, e);
	if (r < 0)
		return r;
	l->port = port_of(l->socket.fd);
	l->event = event_new(node->base, l->socket.fd, EV_READ | EV_PERSIST, on_caller, l);
	if (!l->event || event_add(l->event, NULL) < 0)
		return error_set(e, ENOMEM, "out of memory");
	return 0;
}

int depart_listen_open(struct departures *all, struct depart_listen **to, struct error *e)
{
	struct depart_listen *l = calloc(1, sizeof(*l));
	if (!l)
		return error_set(e, ENOMEM, "out of memory");
	*l = (struct depart_listen) { .all = all, .socket = HTTP_LISTEN_INIT };
	int r = open_listen(l, e);
	if (r < 0)
		depart_listen_close(l);
	else
		*to = l;
	return r;
}

void *depart_listen_close(struct depart_listen *l)
{
	if (!l)
		return NULL;
	if (l->event)
		event_free(l->event);
	pthread_mutex_lock(&l->all->lock);
	for (struct caller *c = l->callers; c; c = c->next)
		if (c->conn)
			move_conn_hang_up(c->conn);
	pthread_mutex_unlock(&l->all->lock);
	reap(l, true);
	http_listen_deinit(&l->socket);
	identity_deinit(&l->id);
	free(l);
	return NULL;
}

int depart_listen_port(const struct depart_listen *l)
{
	return l->port;
}
