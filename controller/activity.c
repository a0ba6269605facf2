/* SPDX-License-Identifier: Apache-2.0 */
#include "controller/activity.h"

#include "base/cleanup.h"
#include "base/fs.h"
#include "base/log.h"
#include "controller/hub.h"
#include "controller/retry.h"
#include "controller/self.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define REPORT_MOST    ((size_t)64 * 1024)
#define RETRY_FIRST_MS 2000
#define RETRY_MOST_MS  60000

struct activity {
	struct http_server *server;
	struct event *timer; /* until reports that the Hub did not take are sent again */
	int failures;        /* in a row */
	struct event *listen_timer;
};

char *activity_base_url(const struct config *config)
{
	const char *url = config->controller.public_activity_url;
	if (!*config->controller.activity_listen)
		return NULL;
	if (*url)
		return str_printf("%s%s", url, url[strlen(url) - 1] == '/' ? "" : "/");
	return str_printf("http://%s/", config->controller.activity_listen);
}

/* --- what a report says ------------------------------------------------------------------------
 */

static bool parse_time(const json_t *value, wall_ms now, wall_ms *at)
{
	const char *text = json_string_value(value);
	if (!text || clock_parse(text, at) < 0)
		return false;
	if (*at > now)
		*at = now;
	return true;
}

int activity_parse(const char *body, size_t len, const char *server, wall_ms now, wall_ms *at)
{
	cleanup_json json_t *report = json_loadb(body, len, 0, NULL);
	const json_t *servers = json_object_get(report, "servers");
	const json_t *entry = json_object_get(servers, server);
	*at = 0;
	if (!json_is_object(report) || (servers && !json_is_object(servers)))
		return -EINVAL;
	if (entry)
		return parse_time(json_object_get(entry, "last_activity"), now, at) ? 0 : -EINVAL;
	if (json_object_size(servers)) /* of the user's other servers only */
		return 0;
	return parse_time(json_object_get(report, "last_activity"), now, at) ? 0 : -EINVAL;
}

/* --- handing on --------------------------------------------------------------------------------
 */

struct delivery {
	struct controller *c;
	char session[ID_SIZE];
	uint64_t number;
};

static void send_later(struct activity *activity)
{
	int64_t delay = retry_delay_ms(activity->failures++, RETRY_FIRST_MS, RETRY_MOST_MS);
	const struct timeval time = retry_timeval(delay);
	if (!event_pending(activity->timer, EV_TIMEOUT, NULL))
		event_add(activity->timer, &time);
}

static void delivered(const struct http_reply *reply, void *arg)
{
	struct delivery *delivery = arg;
	struct controller *c = delivery->c;
	struct session *s = sessions_by_id(c, delivery->session);
	bool again = reply->status == 0 || reply->status == 429 || reply->status >= 500;
	if (again && s && s->report)
		send_later(c->activity);
	if (!again) {
		c->activity->failures = 0;
		if (reply->status >= 300 && s)
			log_debug("%s: the Hub answered %d to its report of activity", s->label,
				  reply->status);
	}
	if (!again && s && s->report_number == delivery->number) {
		free(s->report);
		s->report = NULL;
	}
	free(delivery);
}

static void send_report(struct session *s)
{
	struct delivery *delivery = malloc(sizeof(*delivery));
	if (!delivery)
		return;
	delivery->c = s->controller;
	delivery->number = s->report_number;
	memcpy(delivery->session, s->row.id, ID_SIZE);
	if (hub_send_activity(s, s->report, delivered, delivery, NULL) < 0)
		free(delivery);
}

static void send_kept(evutil_socket_t fd, short what, void *arg)
{
	struct controller *c = arg;
	(void)fd;
	(void)what;
	for (struct session *s = sessions_first(c); s; s = sessions_next(s))
		if (s->report)
			send_report(s);
}

/* --- the webhook -------------------------------------------------------------------------------
 */

static const char *bearer(struct http_exchange *x)
{
	const char *header = http_exchange_header(x, "Authorization");
	if (header && strncasecmp(header, "token ", 6) == 0)
		return header + 6;
	if (header && strncasecmp(header, "bearer ", 7) == 0)
		return header + 7;
	return NULL;
}

/* All of the user's sessions are compared, so that the time does not tell which one it is. */
static struct session *session_of_token(struct controller *c, const char *user, const char *token)
{
	struct person *person = sessions_person(c, user);
	struct session *found = NULL;
	struct session *s;
	if (person)
		TAILQ_FOREACH(s, &person->sessions, by_person)
	if (s->row.api_token && *s->row.api_token && secret_equal(token, s->row.api_token))
		found = s;
	return found;
}

static void reply_plain(struct http_exchange *x, enum fault fault, int status, const char *text)
{
	http_reply_json(x, status,
			json_pack("{s:{s:s, s:s, s:s}}", "error", "fault", fault_name(fault),
				  "text", text, "remedy", ""));
}

static void take_report(struct session *s, const char *body, wall_ms at)
{
	if (at > s->seen.hub_activity_at)
		s->seen.hub_activity_at = at;
	free(s->report);
	s->report = strdup(body);
	s->report_number++;
	if (s->report)
		send_report(s);
}

struct session *activity_session(struct http_exchange *x, struct controller *c)
{
	const char *user = http_exchange_param(x, "name");
	const char *token = bearer(x);
	struct session *s = user && token ? session_of_token(c, user, token) : NULL;
	if (!s)
		reply_plain(x, FAULT_DENIED, 401, "not the token of a session of that user");
	return s;
}

static void post_activity(struct http_exchange *x, void *arg)
{
	size_t len = 0;
	const char *body = http_exchange_body(x, &len);
	wall_ms at = 0;
	struct session *s = activity_session(x, arg);
	if (!s)
		return;
	if (!body || strlen(body) != len ||
	    activity_parse(body, len, s->row.server, clock_wall(), &at) < 0) {
		reply_plain(x, FAULT_BAD_INPUT, 400, "not a report of activity");
		return;
	}
	take_report(s, body, at);
	http_reply_json(x, 200, json_object());
}

static const struct http_route routes[] = {
	{ "POST", "/hub/api/users/{name}/activity", post_activity },
	{ "GET", "/elsa/users/{name}/sleep", self_get_sleep },
	{ "POST", "/elsa/users/{name}/sleep", self_post_sleep },
	{ "POST", "/elsa/users/{name}/keep-awake", self_post_keep_awake },
	{ 0 },
};

static int listen_here(struct controller *c, struct error *e)
{
	const struct http_server_options options = {
		.routes = routes,
		.arg = c,
		.max_body = REPORT_MOST,
		.open = true,
	};
	int r = http_server_new(c->base, c->config->controller.activity_listen, &options,
				&c->activity->server, e);
	return r < 0 ? error_wrap(e, r, "controller.activity_listen") : 0;
}

/* The address is one that elsa-node brings up, perhaps after we started. */
static void try_to_listen(evutil_socket_t fd, short what, void *arg)
{
	struct controller *c = arg;
	struct error e = ERROR_INIT;
	const struct timeval time = { .tv_sec = 1 };
	(void)fd;
	(void)what;
	if (listen_here(c, &e) == 0)
		log_info("sessions can report their activity now");
	else
		event_add(c->activity->listen_timer, &time);
}

int activity_new(struct controller *c, struct error *e)
{
	const struct timeval time = { .tv_sec = 1 };
	c->activity = calloc(1, sizeof(*c->activity));
	if (!c->activity)
		return error_set(e, ENOMEM, "out of memory");
	c->activity->timer = evtimer_new(c->base, send_kept, c);
	c->activity->listen_timer = evtimer_new(c->base, try_to_listen, c);
	if (!c->activity->timer || !c->activity->listen_timer)
		return error_set(e, ENOMEM, "out of memory");
	if (!*c->config->controller.activity_listen)
		return 0;
	int r = listen_here(c, e);
	if (r != -EADDRNOTAVAIL)
		return r;
	log_warning("%s; trying again until elsa-node has brought that address up", e->text);
	return event_add(c->activity->listen_timer, &time);
}

void activity_free(struct controller *c)
{
	if (!c->activity)
		return;
	http_server_free(c->activity->server);
	if (c->activity->timer)
		event_free(c->activity->timer);
	if (c->activity->listen_timer)
		event_free(c->activity->listen_timer);
	free(c->activity);
	c->activity = NULL;
}
