/* SPDX-License-Identifier: Apache-2.0 */
#include "node/inhibit.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-bus.h>
#include <unistd.h>

#define LOGIND  "org.freedesktop.login1"
#define PATH    "/org/freedesktop/login1"
#define MANAGER "org.freedesktop.login1.Manager"

enum { RETRY_S = 30, DELAY_DEFAULT_MS = 5000 };

struct inhibit {
	struct event_base *base;
	void (*told)(bool begins, int64_t delay_ms, void *arg);
	void *arg;
	sd_bus *bus;
	struct event *io;
	struct event *timer; /* the bus's own, or until it is looked for again */
	int lock;
	int64_t delay_ms;
	bool begun;      /* a shutdown */
	bool known;      /* ... or not */
	bool complained; /* that there is none to talk to */
};

static void connect_bus(struct inhibit *i);
static void drive(struct inhibit *i);

/* --- what logind says -------------------------------------------------------------------- */

static void shutdown_is(struct inhibit *i, bool begins)
{
	if (i->known && begins == i->begun)
		return;
	i->known = true;
	i->begun = begins;
	i->told(begins, i->delay_ms, i->arg);
}

static int ask_lock(struct inhibit *i);

static int on_prepare(sd_bus_message *m, void *arg, sd_bus_error *error)
{
	struct inhibit *i = arg;
	int begins;
	(void)error;
	if (sd_bus_message_read(m, "b", &begins) < 0)
		return 0;
	shutdown_is(i, begins);
	if (!begins && i->lock < 0) /* let go for a shutdown that was called off */
		ask_lock(i);
	return 0;
}

static int on_lock(sd_bus_message *m, void *arg, sd_bus_error *error)
{
	struct inhibit *i = arg;
	int fd;
	(void)error;
	if (sd_bus_message_is_method_error(m, NULL)) {
		const sd_bus_error *why = sd_bus_message_get_error(m);
		if (!i->complained)
			log_info("a shutdown will not wait for sessions: logind says \"%s\"",
				 why->message ? why->message : why->name);
		i->complained = true;
		return 0;
	}
	if (sd_bus_message_read(m, "h", &fd) < 0)
		return 0;
	cleanup_close_fd(&i->lock);
	i->lock = fcntl(fd, F_DUPFD_CLOEXEC, 3); /* the message's own goes with it */
	i->complained = false;
	log_info("a shutdown of this machine will wait for its sessions, up to %d s",
		 (int)(i->delay_ms / 1000));
	return 0;
}

static int ask_lock(struct inhibit *i)
{
	return sd_bus_call_method_async(i->bus, NULL, LOGIND, PATH, MANAGER, "Inhibit", on_lock, i,
					"ssss", "shutdown", "elsa-node",
					"sessions are put away first", "delay");
}

static int on_delay(sd_bus_message *m, void *arg, sd_bus_error *error)
{
	struct inhibit *i = arg;
	uint64_t us;
	(void)error;
	if (!sd_bus_message_is_method_error(m, NULL) && sd_bus_message_read(m, "v", "t", &us) >= 0)
		i->delay_ms = us / 1000 > 86400000 ? 86400000 : (int64_t)(us / 1000);
	ask_lock(i);
	return 0;
}

/* It may have begun before we listened, or have been called off. */
static int on_preparing(sd_bus_message *m, void *arg, sd_bus_error *error)
{
	struct inhibit *i = arg;
	int begun;
	(void)error;
	if (!sd_bus_message_is_method_error(m, NULL) &&
	    sd_bus_message_read(m, "v", "b", &begun) >= 0)
		shutdown_is(i, begun);
	else if (!i->known)
		shutdown_is(i, false);
	return 0;
}

static int ask_property(struct inhibit *i, const char *name, sd_bus_message_handler_t then)
{
	return sd_bus_call_method_async(i->bus, NULL, LOGIND, PATH,
					"org.freedesktop.DBus.Properties", "Get", then, i, "ss",
					MANAGER, name);
}

/* The answers come in this order. */
static int ask_logind(struct inhibit *i)
{
	int r = ask_property(i, "InhibitDelayMaxUSec", on_delay);
	return r < 0 ? r : ask_property(i, "PreparingForShutdown", on_preparing);
}

/* logind was started (again): locks of its last life are gone. */
static int on_owner(sd_bus_message *m, void *arg, sd_bus_error *error)
{
	struct inhibit *i = arg;
	const char *name;
	const char *before;
	const char *after;
	(void)error;
	if (sd_bus_message_read(m, "sss", &name, &before, &after) >= 0 && *after)
		ask_logind(i);
	return 0;
}

/* --- the bus and the loop ------------------------------------------------------------------- */

static void disconnect(struct inhibit *i)
{
	if (i->io)
		event_free(i->io);
	i->io = NULL;
	i->bus = sd_bus_close_unref(i->bus);
	cleanup_close_fd(&i->lock);
	i->lock = -1;
}

static void lost(struct inhibit *i, int code)
{
	static const struct timeval pause = { .tv_sec = RETRY_S };
	disconnect(i);
	if (!i->complained)
		log_info("a shutdown of this machine will not wait for its sessions: there is no "
			 "system bus (%s)",
			 strerror(code));
	i->complained = true;
	if (!i->known)
		shutdown_is(i, false);
	event_add(i->timer, &pause);
}

static void on_io(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	drive(arg);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct inhibit *i = arg;
	(void)fd;
	(void)what;
	if (i->bus)
		drive(i);
	else
		connect_bus(i);
}

static int wait_for_bus(struct inhibit *i)
{
	int events = sd_bus_get_events(i->bus);
	int fd = sd_bus_get_fd(i->bus);
	uint64_t until = UINT64_MAX;
	if (events < 0 || fd < 0 || sd_bus_get_timeout(i->bus, &until) < 0)
		return -EIO;
	if (i->io)
		event_free(i->io);
	short what = (events & POLLIN ? EV_READ : 0) | (events & POLLOUT ? EV_WRITE : 0);
	i->io = event_new(i->base, fd, what, on_io, i);
	if (!i->io || event_add(i->io, NULL) < 0)
		return -ENOMEM;
	event_del(i->timer);
	if (until == UINT64_MAX)
		return 0;
	int64_t us = (int64_t)until - clock_mono();
	us = us < 0 ? 0 : us;
	const struct timeval pause = { .tv_sec = us / 1000000, .tv_usec = us % 1000000 };
	return event_add(i->timer, &pause);
}

static void drive(struct inhibit *i)
{
	int r;
	while ((r = sd_bus_process(i->bus, NULL)) > 0)
		;
	if (r == 0)
		r = wait_for_bus(i);
	if (r < 0)
		lost(i, -r);
}

static int listen_to_logind(struct inhibit *i)
{
	int r = sd_bus_match_signal_async(i->bus, NULL, LOGIND, PATH, MANAGER, "PrepareForShutdown",
					  on_prepare, NULL, i);
	if (r >= 0)
		r = sd_bus_add_match_async(i->bus, NULL,
					   "type='signal',sender='org.freedesktop.DBus',"
					   "interface='org.freedesktop.DBus',"
					   "member='NameOwnerChanged',arg0='" LOGIND "'",
					   on_owner, NULL, i);
	return r < 0 ? r : ask_logind(i);
}

static void connect_bus(struct inhibit *i)
{
	int r = sd_bus_open_system(&i->bus);
	if (r >= 0)
		r = listen_to_logind(i);
	if (r < 0)
		lost(i, -r);
	else
		drive(i);
}

/* --- life ------------------------------------------------------------------------------------- */

int inhibit_new(struct event_base *base, void (*told)(bool begins, int64_t delay_ms, void *arg),
		void *arg, struct inhibit **inhibit, struct error *e)
{
	struct inhibit *i = calloc(1, sizeof(*i));
	if (!i)
		return error_set(e, ENOMEM, "out of memory");
	i->base = base;
	i->told = told;
	i->arg = arg;
	i->lock = -1;
	i->delay_ms = DELAY_DEFAULT_MS;
	i->timer = evtimer_new(base, on_timer, i);
	if (!i->timer) {
		free(i);
		return error_set(e, ENOMEM, "out of memory");
	}
	connect_bus(i);
	*inhibit = i;
	return 0;
}

void *inhibit_free(struct inhibit *i)
{
	if (!i)
		return NULL;
	disconnect(i);
	event_free(i->timer);
	free(i);
	return NULL;
}

void inhibit_let_go(struct inhibit *i)
{
	if (!i || !i->begun)
		return;
	cleanup_close_fd(&i->lock);
	i->lock = -1;
}
