/* SPDX-License-Identifier: Apache-2.0 */
/* Looking: health, sessions, operations, logs, checkpoints. */
#include "controller/api.h"

#include "base/cleanup.h"
#include "base/fs.h"
#include "controller/activity.h"
#include "controller/checkpoints.h"
#include "controller/effects.h"
#include "controller/hub.h"
#include "controller/idle.h"
#include "controller/left_behind.h"
#include "controller/node.h"
#include "controller/operations.h"
#include "controller/protect.h"
#include "controller/remains.h"
#include "controller/size.h"
#include "wire/text.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define WAIT_MOST_S     300
#define LOG_LINES       200
#define LOG_LINES_MOST  100000
#define NODE_TIMEOUT_MS 30000

static json_t *text_or_null(const char *text)
{
	return text ? wire_text(text) : json_null();
}

/* --- health ------------------------------------------------------------------------------------
 */

void api_get_health(struct http_exchange *x, void *arg)
{
	struct controller *c = arg;
	const struct error *hub_error = hub_last_error(c);
	cleanup_free char *activity_url = activity_base_url(c->config);
	bool up = nodes_for_store(c)->up;
	bool ok = up && hub_state(c) != HUB_DOWN;
	http_reply_json(x, 200,
			json_pack("{s:b, s:s, s:s, s:o, s:s, s:o, s:o, s:o, s:I}", "ok", (int)ok,
				  "version", ELSA_VERSION, "node", up ? "up" : "down", "node_name",
				  wire_text(node_name(c->nodes->local)), "hub",
				  hub_state_name(hub_state(c)), "hub_error",
				  hub_error ? wire_text(hub_error->text) : json_null(),
				  "hub_remedy",
				  hub_error && *hub_error->remedy ? wire_text(hub_error->remedy)
								  : json_null(),
				  "activity_url", wire_text(activity_url ? activity_url : ""),
				  "sessions", (json_int_t)sessions_count(c)));
}

/* --- sessions ----------------------------------------------------------------------------------
 */

static void add_seen(json_t *to, const struct session *s)
{
	const struct seen *seen = &s->seen;
	cleanup_free char *note = idle_note(s);
	json_object_set_new(to, "rss_bytes", json_integer(seen->rss_bytes));
	json_object_set_new(to, "memory_limit", json_integer(s->memory_limit));
	json_object_set_new(to, "processes", json_integer(seen->processes));
	json_object_set_new(to, "cpu_share",
			    isnan(seen->cpu_share) ? json_null() : json_real(seen->cpu_share));
	json_object_set_new(to, "last_person_activity", json_integer(idle_person_at(s)));
	json_object_set_new(to, "missing_bytes", json_integer(seen->missing_bytes));
	json_object_set_new(to, "missing_total", json_integer(seen->missing_total));
	json_object_set_new(to, "stalled_since", json_integer(seen->stalled_since));
	json_object_set_new(to, "stalled",
			    text_or_null(seen->stalled_since ? seen->stalled : NULL));
	json_object_set_new(to, "note", text_or_null(note));
}

/* What will become of it by itself. */
static void add_outlook(json_t *to, const struct session *s)
{
	enum session_wish wish = (enum session_wish)s->row.wish;
	bool waking = (s->state == SESSION_HIBERNATED || s->state == SESSION_STOPPED) &&
		      (wish == WISH_AWAKE || wish == WISH_START);
	json_object_set_new(to, "checkpoint", json_integer(s->row.checkpoint));
	json_object_set_new(to, "left_behind", left_behind_json(s));
	bool unseen = s->state == SESSION_ASLEEP || wish == WISH_ANSWER;
	bool runs = !s->row.slept_at || s->state == SESSION_RUNNING;
	json_object_set_new(to, "waking", json_boolean(waking));
	json_object_set_new(to, "unseen", json_boolean(unseen));
	json_object_set_new(to, "slept_at", json_integer(runs ? 0 : s->row.slept_at));
	json_object_set_new(to, "touched_at", json_integer(s->asleep.touched_at));
	json_object_set_new(to, "unwoken", text_or_null(s->asleep.unwoken));
	json_object_set_new(to, "moving_to",
			    text_or_null(s->state == SESSION_MIGRATING && s->effect
						 ? node_name(s->effect->node)
						 : NULL));
	const struct remains *r = s->state == SESSION_RUNNING ? remains_of(s) : NULL;
	json_object_set_new(to, "memory_from", text_or_null(r ? node_name(r->source) : NULL));
	json_object_set_new(to, "may_return",
			    json_boolean(s->state == SESSION_LOST && !node_in_reach(s->node)));
}

json_t *api_session_json(struct session *s, bool secrets)
{
	const struct db_session *row = &s->row;
	json_t *shown = json_pack(
		"{s:s, s:o, s:o, s:s, s:o, s:I, s:o, s:o, s:I, s:I, s:I, s:I, s:b, s:I}", "id",
		row->id, "user", wire_text(row->user), "server", wire_text(row->server), "state",
		session_state_name(s->state), "reason", text_or_null(row->reason), "generation",
		(json_int_t)row->generation, "node", text_or_null(row->node), "address",
		text_or_null(row->address), "port", (json_int_t)s->port, "started_at",
		(json_int_t)row->started_at, "changed_at", (json_int_t)row->changed_at,
		"checkpoint_bytes", (json_int_t)s->checkpoint_bytes, "checkpoint_usable",
		(int)(row->checkpoint != 0), "keep_awake_until", (json_int_t)row->keep_awake_until);
	add_seen(shown, s);
	add_outlook(shown, s);
	json_object_set_new(shown, "operation",
			    s->operation ? operation_json(s->operation) : json_null());
	if (secrets) {
		json_t *spawner =
			row->spawner ? json_loads(row->spawner, JSON_DECODE_ANY, NULL) : NULL;
		json_object_set_new(shown, "api_token", text_or_null(row->api_token));
		json_object_set_new(shown, "spawner", spawner ? spawner : json_null());
	}
	return shown;
}

void api_get_sessions(struct http_exchange *x, void *arg)
{
	struct controller *c = arg;
	json_t *list = json_array();
	size_t count = 0;
	cleanup_free struct person **persons = sessions_persons(c, &count);
	struct session *s;
	for (size_t i = 0; i < count; i++)
		TAILQ_FOREACH(s, &persons[i]->sessions, by_person)
	json_array_append_new(list, api_session_json(s, false));
	http_reply_json(x, 200, json_pack("{s:o}", "sessions", list));
}

void api_get_session(struct http_exchange *x, void *arg)
{
	struct session *s = api_query_session(x, arg);
	if (!s)
		return;
	cleanup_free char *explain = idle_explain(s);
	json_t *shown = api_session_json(s, true);
	json_object_set_new(shown, "checkpoints", checkpoints_json(s));
	json_object_set_new(shown, "explain", text_or_null(explain));
	json_object_set_new(shown, "protection", protect_json(s));
	json_object_set_new(shown, "size", size_json(arg, s, s->row.user, s->row.server));
	http_reply_json(x, 200, shown);
}

/* --- operations --------------------------------------------------------------------------------
 */

json_t *api_operation_json(const struct operation *op)
{
	json_t *shown = operation_json(op);
	json_object_set_new(shown, "session",
			    op->session ? api_session_json(op->session, true) : json_null());
	return shown;
}

void api_reply_operation(struct http_exchange *x, struct operation *op)
{
	http_reply_json(x, 200, api_operation_json(op));
}

void api_get_operation(struct http_exchange *x, void *arg)
{
	const char *id = http_exchange_query(x, "id");
	struct operation *op = id ? operation_find(arg, id) : NULL;
	int64_t wait;
	if (!api_query_number(x, "wait", 0, WAIT_MOST_S, &wait))
		return;
	if (!op)
		api_reply_fault(
			x, FAULT_NOT_FOUND, "there is no such operation",
			"old ones are forgotten, and all but a session's last with a restart of "
			"elsad: ask for the session");
	else
		operation_wait(op, x, (int)wait);
}

/* --- what the node knows -----------------------------------------------------------------------
 */

static void reply_log(struct http_exchange *x, struct controller *c, const struct http_reply *reply)
{
	(void)c;
	http_reply_text(x, 200, "text/plain; charset=utf-8", reply->body, reply->body_len);
}

void api_get_log(struct http_exchange *x, void *arg)
{
	int64_t lines;
	if (!api_query_number(x, "lines", LOG_LINES, LOG_LINES_MOST, &lines))
		return;
	struct session *s = api_query_session(x, arg);
	if (!s)
		return;
	cleanup_free char *path =
		str_printf("/v1/sessions/%s/log?lines=%lld", s->row.id, (long long)lines);
	api_ask_node(x, s->node, "GET", path, NULL, NODE_TIMEOUT_MS, reply_log);
}

static void reply_checkpoints(struct http_exchange *x, struct controller *c,
			      const struct http_reply *reply)
{
	struct checkpoint_list list = { 0 };
	struct error e = ERROR_INIT;
	if (wire_decode_text(&wire_checkpoint_list, reply->body, reply->body_len, &list, &e) < 0) {
		http_reply_error(x, &e);
		return;
	}
	json_t *shown = json_array();
	for (size_t i = 0; i < list.count; i++)
		json_array_append_new(shown,
				      checkpoint_info_json(sessions_by_id(c, list.items[i].session),
							   &list.items[i]));
	wire_free(&wire_checkpoint_list, &list);
	http_reply_json(x, 200, json_pack("{s:o}", "checkpoints", shown));
}

void api_get_checkpoints(struct http_exchange *x, void *arg)
{
	const char *user = http_exchange_query(x, "user");
	const char *fences = http_exchange_query(x, "fences");
	bool taken = fences && strcmp(fences, "yes") == 0;
	cleanup_free char *path = NULL;
	if (user) {
		struct session *s = api_query_session(x, arg);
		if (!s)
			return;
		path = str_printf("/v1/checkpoints?session=%s%s", s->row.id,
				  taken ? "&fences=yes" : "");
	} else {
		path = strdup(taken ? "/v1/checkpoints?fences=yes" : "/v1/checkpoints");
	}
	api_ask_node(x, nodes_for_store(arg), "GET", path, NULL, NODE_TIMEOUT_MS,
		     reply_checkpoints);
}
