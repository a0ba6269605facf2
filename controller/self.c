/* SPDX-License-Identifier: Apache-2.0 */
#include "controller/self.h"

#include "base/cleanup.h"
#include "controller/activity.h"
#include "controller/api.h"
#include "controller/idle.h"

#include <string.h>

#define WHO         "user"
#define EVENTS_MOST 400 /* looked through for the last sleep: it is told of while it is news */

/* --- pure part ---------------------------------------------------------------------------------
 */

static bool is_any(const char *what, const char *const *names)
{
	for (; *names; names++)
		if (strcmp(what, *names) == 0)
			return true;
	return false;
}

bool self_facts_add(struct self_facts *facts, const struct db_event *event)
{
	static const char *const asleep[] = { "hibernate", "sleep", "asleep", "evacuated", NULL };
	/* It was woken from an older checkpoint than its last moment, or is another life. */
	static const char *const not_slept[] = { "lost", "start", "restore", "stop", NULL };
	if (facts->woke_at && is_any(event->what, asleep)) {
		facts->slept_at = event->at;
		return true;
	}
	/* By its node, unseen: the event has how long it slept. */
	if (!facts->woke_at && strcmp(event->what, "woken") == 0) {
		facts->woke_at = event->at;
		facts->slept_at = event->at - event->duration_us / 1000;
		return true;
	}
	if (!facts->woke_at && strcmp(event->what, "restore") == 0) {
		facts->woke_at = event->at;
		facts->woke_in_us = event->duration_us;
		return false;
	}
	return is_any(event->what, not_slept);
}

bool self_pace_take(struct self_pace *pace, mono_us now)
{
	int64_t earned = pace->at ? (now - pace->at) / SELF_PACE_US : SELF_BURST;
	if (earned >= SELF_BURST - pace->left) {
		pace->left = SELF_BURST;
		pace->at = now;
	} else if (earned > 0) {
		pace->left += (int)earned;
		pace->at += earned * SELF_PACE_US;
	}
	if (pace->left <= 0)
		return false;
	pace->left--;
	return true;
}

wall_ms self_awake_until(int64_t for_ms, int64_t most_ms, wall_ms now)
{
	if (for_ms <= 0 || most_ms <= 0)
		return 0;
	return now + (for_ms < most_ms ? for_ms : most_ms);
}

/* --- handlers ----------------------------------------------------------------------------------
 */

/* The session that asks, if it does not ask too often; NULL: answered. */
static struct session *who_asks(struct http_exchange *x, struct controller *c)
{
	struct session *s = activity_session(x, c);
	if (!s || self_pace_take(&s->pace, clock_mono()))
		return s;
	http_reply_header(x, "Retry-After", "2");
	http_reply_json(x, 429,
			json_pack("{s:{s:s, s:s, s:s}}", "error", "fault",
				  fault_name(FAULT_UNAVAILABLE), "text", "asked too often",
				  "remedy", "ask again in a few seconds"));
	return NULL;
}

struct look {
	const struct session *session;
	struct self_facts facts;
};

static int take_event(const struct db_event *event, void *arg)
{
	struct look *look = arg;
	if (!event->session || strcmp(event->session, look->session->row.id) != 0)
		return 0;
	return self_facts_add(&look->facts, event);
}

static void reply_facts(struct http_exchange *x, struct session *s)
{
	struct controller *c = s->controller;
	struct look look = { .session = s };
	struct error e = ERROR_INIT;
	if (db_event_each(c->db, 0, s->row.user, EVENTS_MOST, take_event, &look, &e) < 0) {
		http_reply_error(x, &e);
		return;
	}
	/* A wake without the sleep before it is none. */
	if (!look.facts.slept_at)
		look.facts = (struct self_facts) { 0 };
	http_reply_json(x, 200,
			json_pack("{s:I, s:s, s:I, s:I, s:I, s:I, s:I}", "now",
				  (json_int_t)clock_wall(), "state", session_state_name(s->state),
				  "slept_at", (json_int_t)look.facts.slept_at, "woke_at",
				  (json_int_t)look.facts.woke_at, "woke_in_us",
				  (json_int_t)look.facts.woke_in_us, "keep_awake_until",
				  (json_int_t)s->row.keep_awake_until, "keep_awake_most_ms",
				  (json_int_t)c->config->idle.keep_awake_most_ms));
}

void self_get_sleep(struct http_exchange *x, void *arg)
{
	struct session *s = who_asks(x, arg);
	if (s)
		reply_facts(x, s);
}

/* A snapshot or a move is waited for by who is asked for the sleep. */
static bool can_sleep(const struct session *s)
{
	return session_has_processes(s) || s->state == SESSION_SNAPSHOTTING ||
	       s->state == SESSION_MIGRATING;
}

void self_post_sleep(struct http_exchange *x, void *arg)
{
	struct session *s = who_asks(x, arg);
	struct error e = ERROR_INIT;
	if (!s)
		return;
	if (!can_sleep(s)) {
		error_fault(&e, FAULT_CONFLICT, "the session is %s: it cannot be put to sleep now",
			    session_state_name(s->state));
		http_reply_error(x, &e);
		return;
	}
	idle_sleep_now(s, WHO, "sleep-now");
	http_reply_json(x, 202, json_object());
}

void self_post_keep_awake(struct http_exchange *x, void *arg)
{
	struct session *s = who_asks(x, arg);
	cleanup_json json_t *body = s ? http_exchange_json(x) : NULL;
	struct error e = ERROR_INIT;
	if (!body)
		return;
	int64_t most = s->controller->config->idle.keep_awake_most_ms;
	const json_t *for_ms = json_object_get(body, "for_ms");
	if (!json_is_integer(for_ms) || json_integer_value(for_ms) < 0) {
		api_reply_fault(x, FAULT_BAD_INPUT, "for_ms: expected milliseconds, or 0 to end it",
				NULL);
		return;
	}
	if (json_integer_value(for_ms) && !most) {
		api_reply_fault(x, FAULT_DENIED, "users may not keep sessions awake here",
				"ask your administrator: idle.keep_awake_most is 0");
		return;
	}
	wall_ms until = self_awake_until(json_integer_value(for_ms), most, clock_wall());
	if (session_keep_awake(s, until, WHO, &e) < 0)
		http_reply_error(x, &e);
	else
		reply_facts(x, s);
}
