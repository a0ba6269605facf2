/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "node/activator_private.h"

#include "base/cleanup.h"
#include "base/fs.h"
#include "node/activator_spec.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
	BACKLOG = 512,
	ACCEPTS_MOST = 64, /* before others of the loop have their turn */
	AGAIN_MS = 200,
	SILENT_US = 100 * 1000, /* what has come so short a time ago may not be read yet */
	ARRIVING_MOST = 16,
};

static const struct activator_limits usual_limits = {
	.connections = 1024,
	.all_connections = 4096,
	.all_relayed = 4096,
	.head_ms = 15000,
	.late_ms = 1000,
};

static int read_polls(struct activators *all, char *const *texts)
{
	size_t count = 0;
	while (texts[count])
		count++;
	all->polls = calloc(count + 1, sizeof(*all->polls));
	for (size_t i = 0; all->polls && i < count; i++)
		if (config_poll_parse(texts[i], &all->polls[all->poll_count]) == 0)
			all->poll_count++;
	return all->polls ? 0 : -ENOMEM;
}

int activators_new(struct event_base *base, const struct config *config, struct activators **all,
		   struct error *e)
{
	struct activators *made = calloc(1, sizeof(*made));
	if (!made || read_polls(made, config->wake.polls) < 0) {
		free(made);
		return error_set(e, ENOMEM, "out of memory");
	}
	made->base = base;
	made->limits = usual_limits;
	int r = hub_asker_new(base, &made->hub, e);
	if (r < 0) {
		activators_free(made);
		return r;
	}
	*all = made;
	return 0;
}

void *activators_free(struct activators *all)
{
	if (!all)
		return NULL;
	hub_asker_free(all->hub);
	free(all->polls);
	free(all);
	return NULL;
}

/* --- listening ------------------------------------------------------------------ */

static bool is_full(const struct activator *a)
{
	const struct activators *all = a->all;
	return a->connections - a->relayed >= all->limits.connections ||
	       all->connections - all->relayed >= all->limits.all_connections;
}

static struct conn *oldest_silent(const struct activator *a)
{
	mono_us late = clock_mono() - SILENT_US;
	struct conn *c;
	TAILQ_FOREACH(c, &a->conns, link)
	if (c->state == CONN_READING && c->begun < late)
		return c;
	return NULL;
}

/* Who has asked for nothing yet is nobody, and gives way to who comes; one at another session's
 * address, too, where most are. */
static struct conn *who_gives_way(const struct activator *a)
{
	const struct activator *other;
	struct conn *found = oldest_silent(a);
	if (found || a->connections - a->relayed >= a->all->limits.connections)
		return found;
	LIST_FOREACH(other, &a->all->list, link)
	{
		struct conn *c = oldest_silent(other);
		if (c && (!found || other->connections > found->a->connections))
			found = c;
	}
	return found;
}

static void set_timer(struct activator *a, int ms)
{
	const struct timeval in = { .tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000 };
	event_add(a->timer, &in);
}

/* The kernel keeps those that we cannot take yet. */
static void pause_listening(struct activator *a)
{
	a->paused = true;
	event_del(a->listener);
	if (!a->woken)
		set_timer(a, AGAIN_MS);
}

static void resume_listening(struct activator *a)
{
	if (a->paused && a->listener) {
		a->paused = false;
		event_add(a->listener, NULL);
	}
}

static void take(struct activator *a, int fd, struct conn *instead)
{
	const int on = 1;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
	if (instead)
		conn_free(instead);
	conn_begin(a, fd);
}

static void accept_some(struct activator *a, int most)
{
	while (most-- > 0) {
		struct conn *silent = is_full(a) ? who_gives_way(a) : NULL;
		if (is_full(a) && !silent) {
			pause_listening(a);
			return;
		}
		int fd = accept4(event_get_fd(a->listener), NULL, NULL,
				 SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd >= 0) {
			take(a, fd, silent);
		} else if (errno != ECONNABORTED && errno != EINTR) {
			if (errno != EAGAIN)
				pause_listening(a);
			return;
		}
	}
}

static void on_arrival(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	accept_some(arg, ACCEPTS_MOST);
}

static void stop_listening(struct activator *a)
{
	if (!a->listener)
		return;
	int fd = event_get_fd(a->listener);
	event_free(a->listener);
	a->listener = NULL;
	if (a->timer)
		event_del(a->timer);
	close(fd);
}

/* Closed before, whoever waits in the kernel still would be cut off. */
static void stop_when_all_are_taken(struct activator *a)
{
	a->busy = true;
	a->paused = false;
	accept_some(a, (int)a->all->limits.connections + 1);
	a->busy = false;
	if (a->paused)
		set_timer(a, AGAIN_MS);
	else
		stop_listening(a);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct activator *a = arg;
	(void)fd;
	(void)what;
	if (a->woken)
		stop_when_all_are_taken(a);
	activator_settle(a);
}

static int start_listening(struct activator *a, int fd, struct error *e)
{
	a->timer = evtimer_new(a->all->base, on_timer, a);
	a->listener = event_new(a->all->base, fd, EV_READ | EV_PERSIST, on_arrival, a);
	if (!a->listener || !a->timer)
		return error_set(e, ENOMEM, "out of memory");
	if (listen(fd, BACKLOG) < 0 || evutil_make_socket_nonblocking(fd) < 0)
		return error_errno(e, "cannot listen for a sleeping session");
	return event_add(a->listener, NULL) == 0 ? 0 : error_set(e, ENOMEM, "out of memory");
}

/* --- life ----------------------------------------------------------------------- */

static void *destroy(struct activator *a)
{
	LIST_REMOVE(a, link);
	stop_listening(a);
	if (a->timer)
		event_free(a->timer);
	free(a->record);
	free(a->base_url);
	free(a->cookie);
	free(a->api_url);
	free(a->user);
	free(a->scopes);
	free(a);
	return NULL;
}

static bool is_set(const struct session_spec *spec, const char *name)
{
	const char *value = spec_variable(spec, name);
	return value && *value && strcmp(value, "0") != 0;
}

static char *copy_variable(const struct session_spec *spec, const char *name)
{
	const char *value = spec_variable(spec, name);
	return strdup(value ? value : "");
}

/* As jupyterhub/services/auth.py reads it. */
static int read_spec(struct activator *a, const struct session_spec *spec)
{
	const char *client = spec_variable(spec, "JUPYTERHUB_CLIENT_ID");
	bool host_prefix = is_set(spec, "JUPYTERHUB_COOKIE_HOST_PREFIX_ENABLED");
	a->base_url = spec_base_url(spec);
	a->cookie = str_printf("%s%s", host_prefix ? "__Host-" : "", client ? client : "");
	a->token_in_url = is_set(spec, "JUPYTERHUB_ALLOW_TOKEN_IN_URL");
	a->api_url = copy_variable(spec, "JUPYTERHUB_API_URL");
	a->scopes = copy_variable(spec, "JUPYTERHUB_OAUTH_ACCESS_SCOPES");
	a->user = strdup(spec->user);
	return a->base_url && a->cookie && a->api_url && a->scopes && a->user ? 0 : -ENOMEM;
}

int activator_begin(struct activators *all, const struct activator_options *options,
		    struct activator **a, struct error *e)
{
	struct activator *made = calloc(1, sizeof(*made));
	if (!made) {
		close(options->listen_fd);
		return error_set(e, ENOMEM, "out of memory");
	}
	made->all = all;
	made->options = *options;
	TAILQ_INIT(&made->conns);
	LIST_INSERT_HEAD(&all->list, made, link);
	made->record = strdup(options->record);
	int r = start_listening(made, options->listen_fd, e);
	if (r == 0 && (!made->record || read_spec(made, options->spec) < 0))
		r = error_set(e, ENOMEM, "out of memory");
	if (r < 0) {
		if (!made->listener)
			close(options->listen_fd);
		destroy(made);
		return r;
	}
	*a = made;
	return 0;
}

/* The queue in which the session's server finds its connections may be short, and one that does not
 * fit in is tried again by the kernel after seconds: so a few at a time, in the order they came. */
static void connect_next(struct activator *a)
{
	struct conn *c, *next;
	for (c = TAILQ_FIRST(&a->conns); c && a->arriving < ARRIVING_MOST; c = next) {
		next = TAILQ_NEXT(c, link);
		if (c->state == CONN_WAITING)
			conn_connect(c);
	}
}

void activator_settle(struct activator *a)
{
	if (a->busy)
		return;
	if (a->woken && !a->listener && a->connections == 0) {
		void (*over)(void *arg) = a->options.over;
		void *arg = a->options.arg;
		destroy(a);
		if (over)
			over(arg);
	} else {
		resume_listening(a);
		if (a->woken)
			connect_next(a);
	}
}

void activator_woken(struct activator *a)
{
	struct conn *next;
	a->busy = true;
	if (a->listener)
		accept_some(a, (int)a->all->limits.connections);
	if (a->woken)
		stop_listening(a);
	else
		set_timer(a, a->all->limits.late_ms);
	a->woken = true;
	for (struct conn *c = TAILQ_FIRST(&a->conns); c; c = next) {
		next = TAILQ_NEXT(c, link);
		conn_woken(c);
	}
	a->busy = false;
	activator_settle(a);
}

void activator_failed(struct activator *a, const char *why, int retry_after_s)
{
	struct conn *next;
	a->busy = true;
	for (struct conn *c = TAILQ_FIRST(&a->conns); c; c = next) {
		next = TAILQ_NEXT(c, link);
		conn_failed(c, why, retry_after_s);
	}
	a->busy = false;
	activator_settle(a);
}

void *activator_free(struct activator *a)
{
	if (!a)
		return NULL;
	a->busy = true;
	while (!TAILQ_EMPTY(&a->conns))
		conn_free(TAILQ_FIRST(&a->conns));
	return destroy(a);
}

size_t activator_connections(const struct activator *a)
{
	return a->connections;
}
