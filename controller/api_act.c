/* SPDX-License-Identifier: Apache-2.0 */
/* Acting: start, hibernate, snapshot, migrate, stop, forget, resume, keep-awake, a pass of the
 * policy. */
#include "controller/api.h"

#include "base/cleanup.h"
#include "base/log.h"
#include "controller/asleep.h"
#include "controller/budgets.h"
#include "controller/effects.h"
#include "controller/hub.h"
#include "controller/idle.h"
#include "controller/migrate.h"
#include "controller/nodes.h"
#include "controller/operations.h"
#include "controller/placing.h"
#include "controller/size.h"
#include "controller/spec.h"
#include "controller/wake.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define WHO_MOST        200 /* bytes of who and why that are kept */
#define SNAPSHOT_WAIT_S 60

/* Who asks, in words of the caller or by where the question came from. */
struct asker {
	const char *who, *why;
};

static bool short_text(const char *text)
{
	return text && *text && strlen(text) <= WHO_MOST;
}

const char *api_asker(struct http_exchange *x, const json_t *body)
{
	const char *who = json_string_value(json_object_get(body, "who"));
	return short_text(who) ? who : http_exchange_peer(x);
}

static struct asker asker_of(struct http_exchange *x, const json_t *body, const char *why)
{
	const char *said = json_string_value(json_object_get(body, "why"));
	return (struct asker) {
		.who = api_asker(x, body),
		.why = short_text(said) ? said : why,
	};
}

static void reply_accepted(struct http_exchange *x, const struct operation *op)
{
	http_reply_json(x, 202, api_operation_json(op));
}

/* What the step came to, for the caller: the operation that was begun or joined. */
static void reply_step(struct http_exchange *x, struct session *s, const struct session_step *step,
		       enum effect_kind kind, const struct asker *asker)
{
	bool runs_on = s->state == SESSION_SNAPSHOTTING || s->state == SESSION_MIGRATING;
	/* A start of what is being snapshotted: it runs, and need not wait for that. */
	if (s->effect && step->verdict == STEP_JOIN && runs_on && kind == EFFECT_START) {
		json_t *already = operation_already_json(s, kind, asker->who, asker->why);
		json_object_set_new(already, "session", api_session_json(s, true));
		http_reply_json(x, 202, already);
		return;
	}
	/* What is so already, or was done by the record alone (a stop of what sleeps). */
	if (!s->effect && (step->verdict != STEP_TAKEN || step->action == ACTION_NONE))
		operation_settled(s, kind, asker->who, asker->why);
	reply_accepted(x, s->operation);
}

static void apply_and_reply(struct http_exchange *x, struct session *s,
			    const struct session_change *change, enum effect_kind kind)
{
	struct error e = ERROR_INIT;
	struct session_step step;
	const struct asker asker = { .who = change->who, .why = change->why };
	bool is_new = !s->person;
	if (session_apply(s, change, &step, &e) < 0) {
		if (is_new)
			session_free(s);
		http_reply_error(x, &e);
		return;
	}
	reply_step(x, s, &step, kind, &asker);
}

/* The node for a start or restore, if the event means one; false: there is none, and answered: with
 * the operation that waits for it, or why there is none. */
static bool find_place(struct http_exchange *x, struct session *s, const json_t *body,
		       const struct start_request *request, struct session_change *change)
{
	struct session_now now = session_now(s);
	enum session_action action = lifecycle_step(&now, change->event).action;
	bool restore = action == ACTION_RESTORE;
	struct error e = ERROR_INIT;
	if (action != ACTION_START && !restore)
		return true;
	struct placing what = restore ? placing_of(s, true) : spec_placing(s, request);
	int r = restore ? 0 : budgets_check_start(s, request->groups, &what.spot, &e);
	bool refused = r < 0;
	if (r == 0)
		r = placing_choose(s, &what, &change->node, &e);
	if (r == 0)
		return true;
	const struct wake_start start = {
		.event = change->event,
		.kind = effect_kind_of(action),
		.who = change->who,
		.why = change->why,
		.body = body,
		.asking = r == -EINPROGRESS,
	};
	if (!refused && wake_start_later(s, &start, &e)) {
		reply_accepted(x, s->operation);
		return false;
	}
	if (!s->person)
		session_free(s);
	http_reply_error(x, &e);
	return false;
}

/* The start itself is what is answered. */
static void size_chosen(struct session *s, enum size_when when, void *arg)
{
	(void)s;
	(void)when;
	(void)arg;
}

/* Of one that is there already: it is woken with it. A new one gets it with its spec. */
static int choose_size(struct controller *c, const struct start_request *request, const char *who,
		       struct error *e)
{
	struct session *s = sessions_find(c, request->user, request->server);
	int r = request->size ? size_check(c, request->size, e) : 0;
	if (r < 0 || !request->size || !s || !s->row.created_at)
		return r;
	return size_choose(s, request->size, who, size_chosen, NULL, e);
}

void api_post_start(struct http_exchange *x, void *arg)
{
	struct controller *c = arg;
	struct start_request request;
	struct error e = ERROR_INIT;
	cleanup_json json_t *body = http_exchange_json(x);
	if (!body)
		return;
	const struct asker asker = asker_of(x, body, "start");
	if (start_request_parse(body, &request, &e) < 0 ||
	    choose_size(c, &request, asker.who, &e) < 0) {
		http_reply_error(x, &e);
		return;
	}
	struct session *s = sessions_find(c, request.user, request.server);
	if (!s)
		s = session_new(c, request.user, request.server);
	if (!s) {
		api_reply_fault(x, FAULT_FULL, "out of memory", NULL);
		return;
	}
	struct session_change change = {
		.event = request.fresh ? EVENT_START_FRESH : EVENT_START,
		.who = asker.who,
		.why = asker.why,
		.prepare = spec_prepare,
		.arg = &request,
	};
	if (wake_is_waiting(s))
		reply_accepted(x, s->operation);
	else if (find_place(x, s, body, &request, &change))
		apply_and_reply(x, s, &change, EFFECT_START);
}

static void ask_hub(struct http_exchange *x, struct session *s, const struct asker *asker)
{
	const struct session_now now = session_now(s);
	/* The Hub is asked only for what could be done now. */
	struct session_step step = lifecycle_step(&now, EVENT_HIBERNATE);
	if (step.verdict != STEP_TAKEN) {
		const struct session_change change = { .event = EVENT_HIBERNATE,
						       .who = asker->who,
						       .why = asker->why };
		apply_and_reply(x, s, &change, EFFECT_HIBERNATE);
		return;
	}
	hub_stop_server(s, asker->who, asker->why);
	reply_accepted(x, s->operation);
}

/* Snapshots and moves come by themselves and are over in a moment: who wants something else of the
 * session need not know of them. True: the question is put again when this one has ended. */
static bool wait_for_it(struct http_exchange *x, struct session *s, waiter_answer again)
{
	struct controller *c = s->controller;
	int64_t since_us = clock_mono() - s->settled_at;
	bool runs_on = s->state == SESSION_SNAPSHOTTING || s->state == SESSION_MIGRATING;
	if (!runs_on || !s->effect || !s->operation || since_us > SNAPSHOT_WAIT_S * 1000000LL)
		return false;
	waiters_add(&s->operation->waiters, c->base, x, SNAPSHOT_WAIT_S, again, c);
	return true;
}

void api_post_hibernate(struct http_exchange *x, void *arg)
{
	cleanup_json json_t *body = http_exchange_json(x);
	struct session *s = body ? api_body_session(x, arg, body) : NULL;
	if (!s || wait_for_it(x, s, api_post_hibernate))
		return;
	const struct asker asker = asker_of(x, body, "asked");
	bool unseen = json_is_true(json_object_get(body, "transparent"));
	if (!unseen && json_is_true(json_object_get(body, "through_hub"))) {
		ask_hub(x, s, &asker);
		return;
	}
	const struct session_change change = { .event = unseen ? EVENT_SLEEP : EVENT_HIBERNATE,
					       .who = asker.who,
					       .why = asker.why };
	apply_and_reply(x, s, &change, unseen ? EFFECT_SLEEP : EFFECT_HIBERNATE);
}

static void ask_for(struct http_exchange *x, struct session *s, const json_t *body,
		    enum session_event event, enum effect_kind kind)
{
	const struct asker asker = asker_of(x, body, "asked");
	const struct session_change change = { .event = event, .who = asker.who, .why = asker.why };
	apply_and_reply(x, s, &change, kind);
}

void api_post_snapshot(struct http_exchange *x, void *arg)
{
	cleanup_json json_t *body = http_exchange_json(x);
	struct session *s = body ? api_body_session(x, arg, body) : NULL;
	if (!s)
		return;
	/* That is as good, and a snapshot would only be in the way of it. */
	if (operation_waiting(s, EFFECT_HIBERNATE)) {
		api_reply_fault(
			x, FAULT_CONFLICT,
			"the session is about to be hibernated: its checkpoint comes with that",
			"ask again when that is done");
		return;
	}
	ask_for(x, s, body, EVENT_SNAPSHOT, EFFECT_SNAPSHOT);
}

void api_post_stop(struct http_exchange *x, void *arg)
{
	cleanup_json json_t *body = http_exchange_json(x);
	struct session *s = body ? api_body_session(x, arg, body) : NULL;
	if (s && !wait_for_it(x, s, api_post_stop))
		ask_for(x, s, body, EVENT_STOP, EFFECT_STOP);
}

void api_post_forget(struct http_exchange *x, void *arg)
{
	cleanup_json json_t *body = http_exchange_json(x);
	struct session *s = body ? api_body_session(x, arg, body) : NULL;
	/* It takes the place of a snapshot, and of all else but a move. */
	if (s && (s->state != SESSION_MIGRATING || !wait_for_it(x, s, api_post_forget)))
		ask_for(x, s, body, EVENT_FORGET, EFFECT_FORGET);
}

/* The node that a move is to go to: *to NULL where none is said; false: answered. */
static bool find_target(struct http_exchange *x, struct controller *c, const json_t *body,
			struct node **to)
{
	const json_t *name = json_object_get(body, "to");
	struct error e = ERROR_INIT;
	*to = NULL;
	if (!name || json_is_null(name))
		return true;
	if (!json_is_string(name)) {
		api_reply_fault(x, FAULT_BAD_INPUT, "to: expected the name of a node", NULL);
		return false;
	}
	*to = nodes_find(c, json_string_value(name));
	if (*to && ((*to)->local || (*to)->joined))
		return true;
	error_fault(&e, FAULT_NOT_FOUND, "no node \"%s\" has joined", json_string_value(name));
	error_remedy(&e, 0, "see 'elsa node list' for those there are");
	http_reply_error(x, &e);
	return false;
}

void api_post_migrate(struct http_exchange *x, void *arg)
{
	cleanup_json json_t *body = http_exchange_json(x);
	struct session *s = body ? api_body_session(x, arg, body) : NULL;
	struct error e = ERROR_INIT;
	if (!s)
		return;
	const struct asker asker = asker_of(x, body, "asked");
	struct migrate_request request = {
		.safe = json_is_true(json_object_get(body, "safe")),
		.who = asker.who,
		.why = asker.why,
	};
	if (!find_target(x, arg, body, &request.to) ||
	    (s->state == SESSION_SNAPSHOTTING && wait_for_it(x, s, api_post_migrate)))
		return;
	if (migrate_ask(s, &request, &e) < 0)
		http_reply_error(x, &e);
	else
		reply_accepted(x, s->operation);
}

/* --- resume: the Hub starts it, as for a login -------------------------------------------------
 */

struct resume {
	struct http_exchange *x; /* NULL: its caller went away */
};

static void asker_left(void *arg)
{
	struct resume *resume = arg;
	resume->x = NULL;
}

static void resumed(const struct error *error, void *arg)
{
	struct resume *resume = arg;
	if (resume->x && error)
		http_reply_error(resume->x, error);
	else if (resume->x)
		http_reply_json(resume->x, 202, json_object());
	free(resume);
}

/* The Hub has never stopped it. */
static bool rouse(struct http_exchange *x, struct session *s, const json_t *body)
{
	const struct asker asker = asker_of(x, body, "resume");
	struct error e = ERROR_INIT;
	if (s->state != SESSION_ASLEEP && s->state != SESSION_DOZING && s->row.wish != WISH_ANSWER)
		return false;
	if (asleep_rouse(s, asker.who, asker.why, &e) < 0)
		http_reply_error(x, &e);
	else
		http_reply_json(x, 202, json_object());
	return true;
}

void api_post_resume(struct http_exchange *x, void *arg)
{
	cleanup_json json_t *body = http_exchange_json(x);
	struct session *s = body ? api_body_session(x, arg, body) : NULL;
	struct error e = ERROR_INIT;
	if (!s || rouse(x, s, body))
		return;
	struct resume *resume = calloc(1, sizeof(*resume));
	if (!resume) {
		api_reply_fault(x, FAULT_FULL, "out of memory", NULL);
		return;
	}
	resume->x = x;
	if (hub_start_server(s, resumed, resume, &e) < 0) {
		free(resume);
		http_reply_error(x, &e);
		return;
	}
	http_exchange_on_close(x, asker_left, resume);
}

/* --- the rest ----------------------------------------------------------------------------------
 */

void api_post_keep_awake(struct http_exchange *x, void *arg)
{
	cleanup_json json_t *body = http_exchange_json(x);
	struct session *s = body ? api_body_session(x, arg, body) : NULL;
	struct error e = ERROR_INIT;
	if (!s)
		return;
	const struct asker asker = asker_of(x, body, "asked");
	const json_t *until = json_object_get(body, "until");
	if (!json_is_integer(until) || json_integer_value(until) < 0) {
		api_reply_fault(x, FAULT_BAD_INPUT,
				"until: expected milliseconds since 1970, or 0 to end it", NULL);
		return;
	}
	if (session_keep_awake(s, json_integer_value(until), asker.who, &e) < 0)
		http_reply_error(x, &e);
	else
		http_reply_json(x, 200, api_session_json(s, false));
}

void api_post_policy(struct http_exchange *x, void *arg)
{
	json_t *decisions = json_array();
	idle_run(arg, decisions);
	http_reply_json(x, 200, json_pack("{s:o}", "decisions", decisions));
}
