/* SPDX-License-Identifier: Apache-2.0 */
#include "controller/explain.h"

#include "base/cleanup.h"
#include "controller/api.h"
#include "controller/budgets.h"
#include "controller/consolidate.h"
#include "controller/effects.h"
#include "controller/idle.h"
#include "controller/nodes.h"
#include "controller/protect.h"
#include "controller/size.h"
#include "wire/text.h"

#include <string.h>

#define EVENTS_READ  200 /* of the user's; other servers have some of them */
#define EVENTS_SHOWN 10

/* --- what has been -------------------------------------------------------------------------------
 */

struct story {
	const struct session *s;
	json_t *events;
};

static int take_event(const struct db_event *event, void *arg)
{
	struct story *story = arg;
	if (event->session && strcmp(event->session, story->s->row.id) == 0)
		json_array_append_new(story->events, api_event_json(event));
	return json_array_size(story->events) == EVENTS_SHOWN;
}

/* --- what will be --------------------------------------------------------------------------------
 */

static void add(json_t *next, const char *what, wall_ms at, const char *why, const char *text)
{
	json_array_append_new(next, json_pack("{s:s, s:o, s:s, s:s}", "what", what, "at",
					      at ? json_integer(at) : json_null(), "why", why,
					      "text", text));
}

static void add_idle(const struct session *s, json_t *next)
{
	struct idle_decision then;
	wall_ms at = idle_foresee(s, &then);
	if (!at)
		return;
	static const char *const steps[] = { "wake", "doze", "sleep", "hibernate" };
	if (then.to != idle_tier_of(s))
		add(next, steps[then.to], at, idle_reason_name(then.reason),
		    "if nobody uses it until then");
	else
		add(next, "look", at, idle_reason_name(then.reason), idle_reason_text(then.reason));
}

static void add_notices(const struct session *s, json_t *next)
{
	const struct node_info *info = &s->node->info;
	for (size_t i = 0; i < info->notice_count; i++) {
		const struct node_notice *n = &info->notices[i];
		add(next, notice_kind_names[n->kind], n->at, "notice",
		    "its machine was told so; it is put into the store before");
	}
}

static json_t *next_json(struct session *s)
{
	json_t *next = json_array();
	if (s->effect)
		add(next, effect_kind_names[s->effect->kind], s->effect->row.created_at,
		    "under-way", "it is being done since then");
	if (session_is_its_nodes(s))
		add_idle(s, next);
	if (s->protect.known && s->protect.due_at)
		add(next, "snapshot", s->protect.due_at, protect_reason_name(s->protect.reason),
		    "so that its machine can go away without a word");
	if (session_state_has_processes(s->state) && consolidate_empties(s->node))
		add(next, s->state == SESSION_RUNNING ? "move" : "leave", 0, "consolidation",
		    "its node is being emptied, so that its machine can be given back");
	if (session_state_has_processes(s->state))
		add_notices(s, next);
	else if (s->row.wish == WISH_AWAKE || s->row.wish == WISH_START)
		add(next, "wake", 0, "wish",
		    s->waiting ? s->waiting : "as soon as a machine has room");
	else if (s->row.checkpoint)
		add(next, "wake", 0, "asked", "when its user comes back, or somebody asks");
	size_foresee(s, next);
	return next;
}

json_t *explain_json(struct session *s, struct error *e)
{
	struct story story = { .s = s, .events = json_array() };
	int r = db_event_each(s->controller->db, 0, s->row.user, EVENTS_READ, take_event, &story,
			      e);
	if (r < 0) {
		json_decref(story.events);
		return NULL;
	}
	cleanup_free char *text = idle_explain(s);
	return json_pack("{s:o, s:o, s:s, s:o, s:I, s:o, s:o, s:o, s:o, s:o, s:o}", "user",
			 wire_text(s->row.user), "server", wire_text(s->row.server), "state",
			 session_state_name(s->state), "reason",
			 s->row.reason ? wire_text(s->row.reason) : json_null(), "since",
			 (json_int_t)s->row.changed_at, "explain",
			 text ? wire_text(text) : json_null(), "decision", idle_now_json(s), "size",
			 size_json(s->controller, s, s->row.user, s->row.server), "next",
			 next_json(s), "budgets", budgets_json(s->controller, s), "events",
			 story.events);
}
