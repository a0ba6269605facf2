/* SPDX-License-Identifier: Apache-2.0 */
/* What a node's answer means for the session, and where one that failed goes on. */
#include "controller/effects_private.h"

#include "base/cleanup.h"
#include "base/fs.h"
#include "base/log.h"
#include "controller/budgets.h"
#include "controller/capacity.h"
#include "controller/checkpoints.h"
#include "controller/effect_text.h"
#include "controller/migrate.h"
#include "controller/node.h"
#include "controller/placing.h"
#include "controller/remains.h"
#include "controller/tried.h"
#include "controller/wake.h"
#include "policies/place.h"

#include <errno.h>
#include <string.h>

#define CLEARING_MS 500 /* until it is asked again what became of a migration */

/* --- starts and restores that fail -------------------------------------------------------------
 */

/* Nothing of it is left on its node, and it is perhaps that node's own fault. */
static bool is_of_its_node(const struct effect *effect, const struct effect_result *result)
{
	return effect_begins(effect->kind) &&
	       effect_event(effect->kind, result) == EVENT_EFFECT_FAILED &&
	       nodes_next(effect->session->controller->nodes->local) &&
	       place_elsewhere(fault_from_name(result->fault), result->step);
}

/* False: *e says why not. */
static bool is_another_left(const struct effect *effect, struct error *e)
{
	struct session *s = effect->session;
	struct placing what = placing_of(s, effect->kind == EFFECT_RESTORE);
	struct node *to = NULL;
	what.not_on = effect->node;
	if (effect->kind == EFFECT_START)
		what.spot = budgets_spot_again(s);
	if (tried_count(s->row.tried) + 1 >= TRIED_MOST) {
		error_set(e, EAGAIN, "%d nodes were tried", TRIED_MOST);
		return false;
	}
	int r = placing_choose(s, &what, &to, e);
	return r == 0 || r == -EINPROGRESS || (r == -EAGAIN && capacity_can_grow(s->controller));
}

/* Whether its failure is not the end of the wake or start. Else `told` may say more of it; its text
 * is *text's then. */
static bool goes_elsewhere(const struct effect *effect, struct effect_result *told, char **text)
{
	struct error why = ERROR_INIT;
	if (!is_of_its_node(effect, told))
		return false;
	if (is_another_left(effect, &why))
		return true;
	*text = str_printf("%s (on %s), and %s", told->text ? told->text : "no reason was given",
			   node_name(effect->node), why.text);
	if (*text)
		told->text = *text;
	return false;
}

/* --- the end of an effect ----------------------------------------------------------------------
 */

/* Another node may do it. */
static void fence_failed(struct effect *effect, const struct effect_result *result)
{
	effect->renew = true;
	effect_ask_again(effect, result->text ? result->text : "it failed");
}

static void finish(struct effect *effect, const struct effect_result *result)
{
	struct session *s = effect->session;
	struct controller *c = s->controller;
	struct node *node = effect->node;
	struct error e = ERROR_INIT;
	char session_id[ID_SIZE];
	bool failed = result->state == EFFECT_FAILED;
	bool fence = effect->kind == EFFECT_FENCE;
	struct effect_result told = *result; /* borrows its texts */
	cleanup_free char *nowhere = NULL;
	enum remains_verdict remains = fence && !failed ? remains_clear(s, result) : REMAINS_NONE;
	if (remains == REMAINS_WAIT) {
		effect_ask_soon(effect, CLEARING_MS);
		return;
	}
	bool elsewhere = failed && goes_elsewhere(effect, &told, &nowhere);
	cleanup_free char *reason = elsewhere ? effect_elsewhere_text(effect, result)
				    : failed  ? effect_failure_text(effect, &told)
				    : fence   ? effect_fence_text(effect, result, remains)
					      : NULL;
	cleanup_free char *detail = effect_migrate_text(effect, result);
	const struct session_change change = {
		.event = remains == REMAINS_TAKEN_BACK ? EVENT_TAKEN_BACK
			 : fence                       ? EVENT_FENCED
			 : elsewhere                   ? EVENT_EFFECT_ELSEWHERE
						       : effect_event(effect->kind, result),
		.who = effect->row.who,
		.why = effect->row.why,
		.reason = reason,
		.detail = detail,
		.ended = effect,
		.result = &told,
	};
	if (failed && fence) {
		fence_failed(effect, result);
		return;
	}
	memcpy(session_id, s->row.id, ID_SIZE);
	/* The node keeps the result until it is acknowledged: a full disk here loses nothing. */
	if (session_apply(s, &change, NULL, &e) < 0) {
		log_error("%s: the end of %s cannot be recorded: %s", s->label, effect->row.kind,
			  e.text);
		effect_ask_again(effect, e.text);
		return;
	}
	effect_acknowledge(node, effect->row.id, effect->kind);
	if (effect->replaced[0])
		effect_acknowledge(effect->replaced_node, effect->replaced, EFFECT_NONE);
	struct session *left = sessions_by_id(c, session_id);
	if (effect_writes(effect->kind) || fence)
		checkpoints_compare(c, left);
	if (left && fence)
		wake_put_away(left);
	wake_soon(c);
	migrate_soon(c);
}

/* The node will not even take it up, and never will. */
static void finish_rejected(struct effect *effect, struct error *error)
{
	bool starts = effect_begins(effect->kind);
	bool sleeps = effect->kind == EFFECT_ANSWER || effect->kind == EFFECT_RELEASE;
	const struct effect_result result = {
		.id = effect->row.id,
		.state = EFFECT_FAILED,
		.fault = (char *)fault_name(error->fault),
		.text = error->text,
		.remedy = error->remedy,
		.running = !starts && !sleeps,
		.answering = effect->kind == EFFECT_RELEASE,
		.kept = effect->kind == EFFECT_MIGRATE,
	};
	finish(effect, &result);
}

/* A machine that goes away takes nothing new (503). If it never could have, what was to begin there
 * begins elsewhere. */
static bool is_turned_away(const struct effect *effect, const struct http_reply *reply)
{
	return reply->status == 503 && effect_begins(effect->kind) && !effect->unsure &&
	       !effect->node->local && placing_is_doomed(effect->node);
}

/* The same of a migration: it stays where it is. */
static bool is_never_taken(const struct effect *effect, const struct http_reply *reply)
{
	return reply->status == 503 && effect->kind == EFFECT_MIGRATE && !effect->unsure &&
	       placing_is_doomed(effect->node);
}

static void go_elsewhere(struct effect *effect)
{
	struct session *s = effect->session;
	struct error e = ERROR_INIT;
	cleanup_free char *reason = str_printf(
		"its machine, node %s, goes away and takes nothing new", node_name(effect->node));
	const struct session_change change = {
		.event = EVENT_NODE_LOST,
		.who = "node",
		.reason = reason,
	};
	if (session_apply(s, &change, NULL, &e) < 0)
		effect_ask_again(effect, e.text);
}

void effect_answered(const struct http_reply *reply, void *arg)
{
	struct effect *effect = arg;
	struct effect_result result = { 0 };
	struct error e = ERROR_INIT;
	effect->call = NULL;
	node_heard(effect->node, reply);
	node_error(reply, &e);
	/* What one node does not answer another one can do. */
	if (reply->status == 0 && effect->kind == EFFECT_FENCE)
		effect->renew = true;
	effect->unsure = effect->unsure || reply->status != 503;
	if (is_turned_away(effect, reply)) {
		go_elsewhere(effect);
	} else if (reply->status == 400 || is_never_taken(effect, reply)) {
		finish_rejected(effect, &e);
	} else if (e.fault != FAULT_NONE) {
		effect_ask_again(effect, e.text);
	} else if (wire_decode_text(&wire_effect_result, reply->body, reply->body_len, &result,
				    &e) < 0) {
		effect_ask_again(effect, e.text);
	} else if (result.state == EFFECT_RUNNING) {
		effect_ask_again(effect, "it is still at work");
	} else {
		finish(effect, &result);
	}
	wire_free(&wire_effect_result, &result);
}
