/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "node/activator_private.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fs.h"
#include "node/activator_page.h"

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <string.h>
#include <sys/socket.h>

enum {
	PART_MS = 5000,    /* for taking the last answer */
	REMIND_MS = 30000, /* somebody who still waits has come, still */
	ARRIVE_MS = 100,   /* a server that has said nothing for so long has surely accepted */
	RETRY_MS = 100,    /* between two tries to connect to the session, */
	RETRIES_MOST = 50, /* ... which has just been thawed */
	UNREACHED_RETRY_S = 5,
	AWAKE_RETRY_S = 1,
	HOLD_MS = 5000,         /* between two questions to a Hub that is away */
	HOLDS_MOST = 12,        /* browsers open few connections to a server: held for ever, polls
				 * would leave none for their user */
	UNREAD_MOST = 64 << 10, /* bytes of answers: with more, the next request waits */
	WHAT_MOST = 200,
};

static void set_timer(struct conn *c, int ms)
{
	const struct timeval in = { .tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000 };
	event_add(c->timer, &in);
}

static void count(struct conn *c, int more)
{
	c->a->connections += (size_t)more;
	c->a->all->connections += (size_t)more;
}

static void count_relayed(struct conn *c, int more)
{
	c->a->relayed += (size_t)more;
	c->a->all->relayed += (size_t)more;
}

void conn_free(struct conn *c)
{
	struct activator *a = c->a;
	TAILQ_REMOVE(&a->conns, c, link);
	if (c->arriving)
		a->arriving--;
	count(c, -1);
	if (c->relayed)
		count_relayed(c, -1);
	if (c->server)
		bufferevent_free(c->server);
	hub_forget(c->question);
	bufferevent_free(c->bev);
	event_free(c->timer);
	free(c->head);
	free(c->what);
	free(c);
	activator_settle(a);
}

/* --- the last answer ------------------------------------------------------------ */

/* Closed at once, with bytes of theirs unread, it would be reset, and the answer lost. */
static void part(struct conn *c)
{
	c->state = CONN_PARTING;
	evbuffer_drain(bufferevent_get_input(c->bev),
		       evbuffer_get_length(bufferevent_get_input(c->bev)));
	bufferevent_enable(c->bev, EV_READ);
	set_timer(c, PART_MS);
}

static void refuse(struct conn *c, const char *why, int retry_after_s)
{
	part(c);
	page_unwoken(why, retry_after_s, c->html, c->bare, bufferevent_get_output(c->bev));
}

static void say_no_more(struct conn *c)
{
	shutdown(bufferevent_getfd(c->bev), SHUT_WR);
	if (c->ended)
		conn_free(c);
}

/* --- to the session ------------------------------------------------------------- */

/* The session's server has it: the next may come. */
static void arrived(void *arg)
{
	struct conn *c = arg;
	struct activator *a = c->a;
	if (!c->arriving)
		return;
	c->arriving = false;
	a->arriving--;
	activator_settle(a);
}

static void on_relay_over(void *arg)
{
	conn_free(arg);
}

static const struct relay_events relay_events = { .answered = arrived, .over = on_relay_over };

static void retry_later(struct conn *c)
{
	if (c->server)
		bufferevent_free(c->server);
	c->server = NULL;
	if (++c->refused < RETRIES_MOST) {
		set_timer(c, RETRY_MS);
		return;
	}
	refuse(c, "It runs, but does not take connections.", UNREACHED_RETRY_S);
	arrived(c);
}

static void on_server(struct bufferevent *bev, short what, void *arg)
{
	struct conn *c = arg;
	if (!(what & BEV_EVENT_CONNECTED)) {
		retry_later(c);
		return;
	}
	c->state = CONN_RELAYING;
	set_timer(c, ARRIVE_MS);
	relay_begin(&c->relay, c->bev, bev, c->ended, &relay_events, c);
}

static void connect_server(struct conn *c)
{
	struct activator *a = c->a;
	event_del(c->timer);
	int fd = a->options.connect(a->options.arg, NULL);
	if (fd >= 0)
		c->server = bufferevent_socket_new(a->all->base, fd, BEV_OPT_CLOSE_ON_FREE);
	if (!c->server) {
		if (fd >= 0)
			evutil_closesocket(fd);
		retry_later(c);
		return;
	}
	bufferevent_setcb(c->server, NULL, NULL, on_server, c);
	/* Without an address: it has begun already. */
	if (bufferevent_socket_connect(c->server, NULL, 0) < 0)
		retry_later(c);
}

/* Where there are too many, it need but come once more: then it is led to the session directly. */
void conn_connect(struct conn *c)
{
	if (c->a->all->relayed >= c->a->all->limits.all_relayed) {
		refuse(c, "It runs again.", AWAKE_RETRY_S);
		return;
	}
	c->relayed = true;
	count_relayed(c, 1);
	c->state = CONN_CONNECTING;
	c->arriving = true;
	c->a->arriving++;
	connect_server(c);
}

/* --- requests ------------------------------------------------------------------- */

/* "GET /user/ada/lab": what is behind the "?" may be a secret. */
static char *describe(const struct request_head *head, const char *data)
{
	struct text target = request_head_target(head, data);
	const char *query = memchr(target.at, '?', target.len);
	size_t len = query ? (size_t)(query - target.at) : target.len;
	return str_printf("%s %.*s", request_head_method(head),
			  (int)(len > WHAT_MOST ? WHAT_MOST : len), target.at);
}

static void touch(struct conn *c)
{
	struct activator *a = c->a;
	set_timer(c, REMIND_MS);
	/* It may wake, fail or free us all. */
	a->options.touched(a->options.arg, c->what ? c->what : "a request");
}

static void wait_for_session(struct conn *c, const char *data)
{
	c->what = describe(c->head, data);
	free(c->head);
	c->head = NULL;
	c->state = CONN_WAITING;
	touch(c);
}

/* A poll that nobody is woken for. */
static void hold(struct conn *c)
{
	if (++c->held <= HOLDS_MOST) {
		c->state = CONN_HOLDING;
		set_timer(c, HOLD_MS);
		return;
	}
	part(c);
	page_unanswered(c->bare, bufferevent_get_output(c->bev));
}

static void read_requests(struct conn *c);

static void on_verdict(enum hub_verdict verdict, void *arg)
{
	struct conn *c = arg;
	c->question = NULL;
	c->state = CONN_READING;
	if (verdict == HUB_AWAY)
		hold(c);
	else
		read_requests(c);
}

static void ask_hub(struct conn *c, const struct credentials *who)
{
	const struct hub_session session = request_hub_session(c->a);
	c->question = hub_ask(c->a->all->hub, &session, who, on_verdict, c);
	if (!c->question) {
		hold(c);
		return;
	}
	c->state = CONN_ASKING;
	event_del(c->timer);
}

/* With as much as may be: the kernel keeps the rest. */
static void read_no_more(struct conn *c)
{
	if (evbuffer_get_length(bufferevent_get_input(c->bev)) >= HEAD_MOST)
		bufferevent_disable(c->bev, EV_READ);
}

/* The request is done with; the next may be there already. */
static void next_request(struct conn *c)
{
	if (!c->ended)
		bufferevent_enable(c->bev, EV_READ);
	evbuffer_drain(bufferevent_get_input(c->bev), c->head->len);
	free(c->head);
	c->head = NULL;
	c->held = 0;
	set_timer(c, c->a->all->limits.head_ms);
}

/* True: on with the next one. */
static bool take_request(struct conn *c, const char *data)
{
	struct credentials who;
	c->html = text_contains(request_head_field(c->head, data, "Accept", 0), "text/html");
	c->bare = strcmp(request_head_method(c->head), "HEAD") == 0;
	enum request_outcome outcome =
		request_handle(c->a, c->head, data, &who, bufferevent_get_output(c->bev));
	if (outcome == REQUEST_ANSWERED)
		next_request(c);
	else if (outcome == REQUEST_LAST)
		part(c);
	else if (outcome == REQUEST_UNKNOWN)
		ask_hub(c, &who);
	else if (outcome == REQUEST_HELD)
		hold(c);
	else
		wait_for_session(c, data);
	return outcome == REQUEST_ANSWERED;
}

static bool begin_head(struct conn *c)
{
	if (!c->head) {
		c->head = malloc(sizeof(*c->head));
		if (c->head)
			request_head_init(c->head);
	}
	return c->head != NULL;
}

static size_t unread_answers(const struct conn *c)
{
	return evbuffer_get_length(bufferevent_get_output(c->bev));
}

/* In vain, when it has ended its sending. */
static bool wait_for_more(struct conn *c)
{
	if (c->ended && unread_answers(c))
		part(c);
	else if (c->ended)
		conn_free(c);
	return false;
}

/* True: a request was answered. The connection may be gone. */
static bool read_request(struct conn *c)
{
	struct evbuffer *in = bufferevent_get_input(c->bev);
	size_t len = evbuffer_get_length(in);
	if (unread_answers(c) >= UNREAD_MOST) {
		read_no_more(c);
		return false;
	}
	if (len == 0)
		return wait_for_more(c);
	if (c->a->woken) {
		c->state = CONN_WAITING;
		activator_settle(c->a);
		return false;
	}
	if (len > HEAD_MOST)
		len = HEAD_MOST;
	const char *data = (const char *)evbuffer_pullup(in, (ev_ssize_t)len);
	int r = data && begin_head(c) ? request_head_read(c->head, data, len) : -1;
	if (r == 0)
		return wait_for_more(c);
	if (r < 0)
		conn_free(c);
	return r > 0 && take_request(c, data);
}

static void read_requests(struct conn *c)
{
	while (read_request(c))
		;
}

/* --- events --------------------------------------------------------------------- */

static void on_read(struct bufferevent *bev, void *arg)
{
	struct conn *c = arg;
	struct evbuffer *in = bufferevent_get_input(bev);
	if (c->state == CONN_READING)
		read_requests(c);
	else if (c->state == CONN_PARTING)
		evbuffer_drain(in, evbuffer_get_length(in));
	else
		read_no_more(c);
}

/* What was answered is on its way: to the next request, if that waited for this. */
static void on_sent(struct bufferevent *bev, void *arg)
{
	struct conn *c = arg;
	(void)bev;
	if (c->state == CONN_PARTING)
		say_no_more(c);
	else if (c->state == CONN_READING)
		read_requests(c);
}

/* Who has sent a request and then ended its sending may still wait for the answer. */
static void on_event(struct bufferevent *bev, short what, void *arg)
{
	struct conn *c = arg;
	(void)bev;
	c->ended = true;
	if ((what & BEV_EVENT_ERROR) || c->state == CONN_HOLDING ||
	    (c->state == CONN_PARTING && !unread_answers(c)))
		conn_free(c);
	else if (c->state == CONN_READING)
		read_requests(c);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct conn *c = arg;
	(void)fd;
	(void)what;
	switch (c->state) {
	case CONN_HOLDING:
		c->state = CONN_READING;
		read_requests(c);
		break;
	case CONN_WAITING:
		touch(c);
		break;
	case CONN_CONNECTING:
		connect_server(c);
		break;
	case CONN_RELAYING:
		arrived(c);
		break;
	case CONN_READING:
	case CONN_ASKING:
	case CONN_PARTING:
		conn_free(c);
		break;
	}
}

void conn_begin(struct activator *a, int fd)
{
	struct conn *c = calloc(1, sizeof(*c));
	struct bufferevent *bev = bufferevent_socket_new(a->all->base, fd, BEV_OPT_CLOSE_ON_FREE);
	struct event *timer = c ? evtimer_new(a->all->base, on_timer, c) : NULL;
	if (!c || !bev || !timer) {
		if (bev)
			bufferevent_free(bev);
		else
			evutil_closesocket(fd);
		if (timer)
			event_free(timer);
		free(c);
		return;
	}
	c->a = a;
	c->begun = clock_mono();
	c->bev = bev;
	c->timer = timer;
	TAILQ_INSERT_TAIL(&a->conns, c, link);
	count(c, 1);
	bufferevent_setcb(bev, on_read, on_sent, on_event, c);
	bufferevent_setwatermark(bev, EV_READ, 0, HEAD_MOST);
	bufferevent_enable(bev, EV_READ | EV_WRITE);
	set_timer(c, c->a->all->limits.head_ms);
}

void conn_woken(struct conn *c)
{
	bool polls = c->state == CONN_ASKING || c->state == CONN_HOLDING;
	bool reads =
		c->state == CONN_READING && evbuffer_get_length(bufferevent_get_input(c->bev)) > 0;
	hub_forget(c->question);
	c->question = NULL;
	if (polls || reads)
		c->state = CONN_WAITING;
	if (c->state == CONN_WAITING)
		event_del(c->timer);
}

void conn_failed(struct conn *c, const char *why, int retry_after_s)
{
	if (c->state == CONN_WAITING)
		refuse(c, why, retry_after_s);
}
