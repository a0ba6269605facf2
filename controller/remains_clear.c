/* SPDX-License-Identifier: Apache-2.0 */
/* After a fence: whether what a session was given away from takes it up again. */
#include "controller/remains_private.h"

#include "base/cleanup.h"
#include "base/fs.h"
#include "base/log.h"
#include "controller/effects.h"
#include "controller/give_way.h"
#include "controller/node.h"

static void go_on(struct remains *r)
{
	struct session *s = sessions_by_id(r->c, r->row.session);
	r->waited_for = false;
	if (s && s->effect)
		effect_ask_soon(s->effect, 0);
}

/* It knows nothing of the departure: because it has taken the session back before, and we did not
 * hear of it, or because there is nothing. */
static void looked_there(const struct http_reply *reply, void *arg)
{
	struct remains *r = arg;
	struct session_status_list list = { 0 };
	struct error e;
	r->call = NULL;
	node_heard(r->source, reply);
	node_error(reply, &e);
	if (e.fault != FAULT_NONE || wire_decode_text(&wire_session_status_list, reply->body,
						      reply->body_len, &list, &e) < 0)
		return; /* the fence is asked again in a moment, and then this */
	const struct session_status *status = remains_status(&list, r->row.session);
	if (!status)
		r->clearing = CLEARED_NOTHING;
	else if (!status->given_to)
		r->clearing = CLEARED_BACK;
	wire_free(&wire_session_status_list, &list);
	if (r->clearing != CLEARING_SOURCE)
		go_on(r);
}

static void taken_back(const struct http_reply *reply, void *arg)
{
	struct remains *r = arg;
	struct error e;
	r->call = NULL;
	node_heard(r->source, reply);
	node_error(reply, &e);
	if (e.fault == FAULT_NONE) {
		r->clearing = CLEARED_BACK;
		go_on(r);
	} else if (reply->status == 404) {
		node_call(r->source, "GET", "/v1/sessions", NULL, REMAINS_TIMEOUT_MS, looked_there,
			  r, &r->call, NULL);
	} else {
		log_info("session %s is not taken back by %s yet: %s", r->row.session,
			 node_name(r->source), e.text);
	}
}

static void target_ended(struct node *node, bool ended, void *arg)
{
	struct remains *r = arg;
	if (!remains_exist(node->controller, r) || !r->waited_for)
		return;
	if (ended && r->clearing == CLEARING_TARGET)
		r->clearing = CLEARING_SOURCE;
	if (ended)
		go_on(r);
	else
		r->waited_for = false;
}

static void clear_target(struct remains *r, struct session *s)
{
	if (!node_in_reach(r->target)) {
		r->clearing = CLEARING_SOURCE;
		return;
	}
	if (!r->waited_for)
		r->waited_for = give_way_then(r->target, s, target_ended, r);
}

static void clear_source(struct remains *r)
{
	const struct take_back_request request = { .fence = r->fence };
	cleanup_free char *path = str_printf("/v1/departures/%s/take-back", r->row.id);
	cleanup_json json_t *body = wire_encode(&wire_take_back_request, &request);
	if (!node_in_reach(r->source)) {
		if (r->call)
			http_call_cancel(r->call);
		r->call = NULL;
		r->clearing = CLEARED_NOTHING;
		return;
	}
	if (!r->call && path && body)
		node_call(r->source, "POST", path, body, REMAINS_TIMEOUT_MS, taken_back, r,
			  &r->call, NULL);
}

/* What it was given away as is older than a checkpoint, or nobody wants it. */
static bool is_of_no_use(const struct remains *r, const struct session *s,
			 const struct effect_result *fence)
{
	return s->row.wish == WISH_STOPPED || fence->checkpoint > r->row.generation;
}

enum remains_verdict remains_clear(struct session *s, const struct effect_result *fence)
{
	struct remains *r = remains_of(s);
	if (!r)
		return REMAINS_NONE;
	r->fence = fence->generation;
	if (r->clearing == CLEARING_TARGET)
		clear_target(r, s);
	if (r->clearing == CLEARING_SOURCE && is_of_no_use(r, s, fence))
		r->clearing = CLEARED_NOTHING;
	if (r->clearing == CLEARING_SOURCE)
		clear_source(r);
	switch (r->clearing) {
	case CLEARED_BACK:
		return REMAINS_TAKEN_BACK;
	case CLEARED_NOTHING:
		return REMAINS_NONE;
	default:
		return REMAINS_WAIT;
	}
}
