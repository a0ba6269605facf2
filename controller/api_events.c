/* SPDX-License-Identifier: Apache-2.0 */
#include "controller/api.h"
#include "controller/events.h"
#include "controller/waiters.h"

#include "base/cleanup.h"
#include "wire/text.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define LIMIT_INITIAL 100
#define LIMIT_MOST    10000
#define WAIT_MOST_S   300

struct events {
	struct waiters waiters;
	struct event *news;
};

static void tell(evutil_socket_t fd, short what, void *arg)
{
	struct events *events = arg;
	(void)fd;
	(void)what;
	waiters_wake(&events->waiters);
}

int events_new(struct controller *c, struct events **to, struct error *e)
{
	struct events *events = calloc(1, sizeof(*events));
	if (events)
		events->news = evtimer_new(c->base, tell, events);
	if (!events || !events->news) {
		free(events);
		return error_set(e, ENOMEM, "out of memory");
	}
	TAILQ_INIT(&events->waiters);
	*to = events;
	return 0;
}

void events_free(struct events *events)
{
	if (!events)
		return;
	event_free(events->news);
	free(events);
}

void events_wake(struct events *events)
{
	const struct timeval now = { 0 };
	if (waiters_any(&events->waiters))
		event_add(events->news, &now);
}

static json_t *text_or_null(const char *text)
{
	return text ? wire_text(text) : json_null();
}

struct listing {
	json_t *events;
	const char *server; /* NULL: all */
};

json_t *api_event_json(const struct db_event *event)
{
	json_t *inputs = event->inputs ? json_loads(event->inputs, 0, NULL) : NULL;
	return json_pack("{s:I, s:I, s:o, s:o, s:o, s:o, s:o, s:o, s:I, s:I, s:o}", "id",
			 (json_int_t)event->id, "at", (json_int_t)event->at, "user",
			 text_or_null(event->user), "server", text_or_null(event->server), "who",
			 text_or_null(event->who), "what", text_or_null(event->what), "why",
			 text_or_null(event->why), "detail", text_or_null(event->detail),
			 "duration_us", (json_int_t)event->duration_us, "bytes",
			 (json_int_t)event->bytes, "inputs", inputs ? inputs : json_null());
}

static int add_event(const struct db_event *event, void *arg)
{
	struct listing *listing = arg;
	if (listing->server && (!event->server || strcmp(event->server, listing->server) != 0))
		return 0;
	json_array_append_new(listing->events, api_event_json(event));
	return 0;
}

/* The events asked for, or NULL and the exchange is answered. */
static json_t *list_events(struct http_exchange *x, struct controller *c)
{
	struct error e = ERROR_INIT;
	int64_t after;
	int64_t limit;
	const char *user = http_exchange_query(x, "user");
	struct listing listing = { .server = http_exchange_query(x, "server") };
	if (!api_query_number(x, "after", 0, INT64_MAX, &after) ||
	    !api_query_number(x, "limit", LIMIT_INITIAL, LIMIT_MOST, &limit))
		return NULL;
	listing.events = json_array();
	if (db_event_each(c->db, after, user && *user ? user : NULL, (int)limit, add_event,
			  &listing, &e) < 0) {
		json_decref(listing.events);
		http_reply_error(x, &e);
		return NULL;
	}
	return listing.events;
}

static void reply_events(struct http_exchange *x, void *arg)
{
	json_t *events = list_events(x, arg);
	if (events)
		http_reply_json(x, 200, json_pack("{s:o}", "events", events));
}

void api_get_events(struct http_exchange *x, void *arg)
{
	struct controller *c = arg;
	int64_t wait;
	if (!api_query_number(x, "wait", 0, WAIT_MOST_S, &wait))
		return;
	json_t *events = list_events(x, c);
	if (!events)
		return;
	if (json_array_size(events) == 0 && wait > 0) {
		json_decref(events);
		waiters_add(&api_events(c)->waiters, c->base, x, (int)wait, reply_events, c);
		return;
	}
	http_reply_json(x, 200, json_pack("{s:o}", "events", events));
}
