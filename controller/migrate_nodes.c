/* SPDX-License-Identifier: Apache-2.0 */
/* What the source of a migration and the hub's host are told on behalf of its target. */
#include "controller/migrate_private.h"

#include "base/cleanup.h"
#include "base/fs.h"
#include "base/log.h"
#include "controller/effects.h"
#include "controller/node.h"
#include "controller/overlay_state.h"
#include "controller/retry.h"
#include "controller/steps.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define GRANT_TIMEOUT_MS 10000
#define GRANT_TRIES      6 /* of a source that does not answer; then the target says what it finds */
#define AGAIN_FIRST_MS   200
#define AGAIN_MOST_MS    5000
#define ROUTES_WAIT_S    10

/* --- the grant ---------------------------------------------------------------------------------
 */

static void go_to_target(struct session *s)
{
	s->heading = s->effect->node;
	overlay_changed(s->controller);
	s->overlay_revision = overlay_revision(s->controller);
}

static bool again(struct effect *effect)
{
	if (effect->failures >= GRANT_TRIES)
		return false;
	int64_t ms = retry_delay_ms(effect->failures++, AGAIN_FIRST_MS, AGAIN_MOST_MS);
	effect_ask_soon(effect, ms);
	return true;
}

static void granted(const struct http_reply *reply, void *arg)
{
	struct effect *effect = arg;
	struct session *s = effect->session;
	struct departure now = { 0 };
	struct error e;
	effect->call = NULL;
	node_heard(s->node, reply);
	node_error(reply, &e);
	if (e.fault != FAULT_NONE)
		log_info("%s: %s does not give it away: %s", s->label, node_name(s->node), e.text);
	if (reply->status == 0 && again(effect))
		return;
	/* Killed after it was given away, we were told once where packets go, and have forgotten.
	 */
	if (e.fault == FAULT_NONE &&
	    wire_decode_text(&wire_departure, reply->body, reply->body_len, &now, NULL) == 0 &&
	    now.state == DEPARTURE_GIVEN && !s->heading)
		go_to_target(s);
	wire_free(&wire_departure, &now);
	step_reached(s->controller->base, EFFECT_MIGRATE, STEP_GRANTED);
	effect->granted = true;
	effect->failures = 0;
	effect_ask_soon(effect, 0);
}

bool migrate_grant(struct effect *effect)
{
	struct node *source = effect->session->node;
	const struct departure wanted = {
		.id = effect->row.id,
		.session = effect->session->row.id,
		.to = effect->row.node,
	};
	/* After our own start it was not looked at yet: where it is to be found is not known. */
	if (!source->info.move_port && again(effect))
		return true;
	cleanup_free char *path = str_printf("/v1/departures/%s", effect->row.id);
	cleanup_json json_t *body = wire_encode(&wire_departure, &wanted);
	return path && body &&
	       node_call(source, "PUT", path, body, GRANT_TIMEOUT_MS, granted, effect,
			 &effect->call, NULL) == 0;
}

char *migrate_from_at(const struct node *source)
{
	cleanup_free char *host = overlay_underlay_of(source);
	if (!host || !source->info.move_port)
		return NULL;
	return str_printf("%s:%lld", host, (long long)source->info.move_port);
}

/* --- routes ------------------------------------------------------------------------------------
 */

static struct session *find_moving(struct controller *c, const struct moving_request *request,
				   const char *peer, struct error *e)
{
	struct session *s = sessions_by_id(c, request->session);
	const struct effect *effect = s ? s->effect : NULL;
	if (effect && effect->kind == EFFECT_MIGRATE &&
	    strcmp(effect->row.id, request->effect) == 0 && peer &&
	    strcmp(node_name(effect->node), peer) == 0)
		return s;
	error_fault(e, FAULT_CONFLICT, "session %s does not move to %s by effect %s",
		    request->session, peer ? peer : "that node", request->effect);
	return NULL;
}

void migrate_moving(struct http_exchange *x, void *controller)
{
	struct controller *c = controller;
	struct moving_request request = { 0 };
	struct error e = ERROR_INIT;
	size_t len = 0;
	const char *body = http_exchange_body(x, &len);
	int r = wire_decode_text(&wire_moving_request, body ? body : "", len, &request, &e);
	struct session *s =
		r == 0 ? find_moving(c, &request, http_exchange_peer_name(x), &e) : NULL;
	wire_free(&wire_moving_request, &request);
	if (!s) {
		http_reply_error(x, &e);
		return;
	}
	if (s->heading != s->effect->node)
		go_to_target(s);
	if (overlay_is_ready_at_hub(s))
		http_reply_json(x, 200, json_object());
	else /* the same question again, when the hub's host was told something */
		waiters_add(&c->migrate->routes, c->base, x, ROUTES_WAIT_S, migrate_moving, c);
}

void migrate_routes_told(struct controller *c)
{
	if (c->migrate)
		waiters_wake(&c->migrate->routes);
}
