/* SPDX-License-Identifier: Apache-2.0 */
#include "controller/node_look.h"

#include "base/cleanup.h"
#include "base/fs.h"
#include "base/log.h"
#include "controller/asleep.h"
#include "controller/checkpoints.h"
#include "controller/effects.h"
#include "controller/give_way.h"
#include "controller/idle.h"
#include "controller/observe.h"
#include "controller/record.h"
#include "controller/remains.h"
#include "controller/rescue.h"
#include "controller/rows.h"
#include "controller/wake.h"

#include <stdlib.h>
#include <string.h>

#define MISSING_MOST 2  /* looks in a row without a session before it counts as gone */
#define STRANGE_MOST 64 /* sessions of a node that nobody knows and that are reported */

void node_judge_info(struct node *node, const struct node_info *info)
{
	node_take_name(node, info->name);
	if (!node->boot_id) {
		node_take_boot(node, info->boot_id);
	} else if (strcmp(node->boot_id, info->boot_id) != 0) {
		if (!node->new_boot_id)
			log_warning("%s was rebooted", node_name(node));
		replace_text(&node->new_boot_id, info->boot_id);
	}
}

/* --- sessions ----------------------------------------------------------------------------------
 */

static void apply_gone(struct session *s, enum session_event event, const char *why,
		       const char *reason)
{
	struct error e = ERROR_INIT;
	const struct session_change change = {
		.event = event,
		.who = "node",
		.why = why,
		.reason = reason,
		.wish = event == EVENT_NODE_LOST && idle_in_use(s) ? WISH_AWAKE : WISH_NONE,
	};
	/* It stays as it is in memory and in the database; the next look says the same again. */
	if (session_apply(s, &change, NULL, &e) < 0)
		log_error("%s: that its processes are gone cannot be recorded: %s", s->label,
			  e.text);
}

static void session_gone(struct session *s, const struct session_status *status)
{
	const char *how = status && status->ended ? status->ended : "gone";
	cleanup_free char *reason = NULL;
	/* The node's word for it outlives the look at which it came up again: a session with an
	 * effect under way was not judged then. */
	if (s->node->new_boot_id || strcmp(how, "rebooted") == 0) {
		/* What another host wrote of it last, and may have written unasked, a fence tells.
		 */
		apply_gone(s, s->node->local ? EVENT_NODE_REBOOTED : EVENT_NODE_LOST, NULL,
			   "its node was rebooted while it was running");
		return;
	}
	/* Where it came from has nothing of it any more, unless it says something else: a fence
	 * asks. */
	if (strcmp(how, "memory-lost") == 0) {
		remains_memory_lost(s);
		return;
	}
	if (!status || !status->ended) {
		if (++s->seen.missing < MISSING_MOST)
			return;
		reason = str_printf("its processes are gone and the node does not know why");
	} else if (strcmp(how, "exited") == 0) {
		reason = str_printf("its processes ended by themselves");
	} else {
		reason = str_printf("its processes ended by themselves (%s)", how);
	}
	apply_gone(s, EVENT_EXITED, how, reason);
}

/* Recorded as not running, and runs. Nothing is done about it but to say it: whatever we would kill
 * might be the only copy. */
static void session_unexpected(struct session *s, const struct node *node)
{
	if (s->seen.missing)
		return;
	s->seen.missing = 1;
	log_error("%s: it is recorded as %s, but %s runs it", s->label,
		  session_state_name(s->state), node_name(node));
	record_note(s->controller,
		    &(struct record) {
			    .session = s,
			    .who = "node",
			    .what = "unexpected",
			    .why = session_state_name(s->state),
			    .detail = "the node runs it although it is not recorded as running" });
}

/* --- after a node was lost, or put its sessions away -------------------------------------------
 */

static bool was_evacuated(const struct session_status *status)
{
	return status && status->ended && strcmp(status->ended, "evacuated") == 0 &&
	       status->generation > 0;
}

/* The name of such a hibernation is known: see node/evacuate.h. */
static void acknowledge_evacuated(struct node *node, const struct session *s, int64_t generation)
{
	cleanup_free char *id = str_printf("evac-%s-%lld", s->row.id, (long long)generation);
	if (id)
		effect_acknowledge(node, id, EFFECT_NONE);
}

static void session_evacuated(struct node *node, struct session *s, int64_t generation)
{
	struct error e = ERROR_INIT;
	cleanup_free char *reason = str_printf("its machine, node %s, goes away", node_name(node));
	const struct session_change change = {
		.event = EVENT_EVACUATED,
		.who = "node",
		.reason = reason,
		.wish = session_is_its_nodes(s) ? idle_wish(s) : WISH_NONE,
		.checkpoint = generation,
	};
	struct session_step step = { .verdict = STEP_IGNORE };
	/* Of one that is recorded as running the store may have told already. */
	bool newer = generation > s->row.checkpoint ||
		     (session_is_its_nodes(s) && generation == s->row.checkpoint);
	if (newer && session_apply(s, &change, &step, &e) < 0) {
		log_error("%s: that it was evacuated cannot be recorded: %s", s->label, e.text);
		return;
	}
	acknowledge_evacuated(node, s, generation);
	if (step.verdict != STEP_TAKEN)
		return;
	node->info.evacuating = true; /* that look may have begun before it knew */
	checkpoints_compare(s->controller, s);
	wake_put_away(s);
}

/* It stands still where it was when the node was lost, and nothing of it was begun elsewhere. */
static void session_held(struct node *node, struct session *s, const struct session_status *status)
{
	struct error e = ERROR_INIT;
	const struct session_change change = { .event = EVENT_FOUND, .who = "node" };
	bool sleeps = s->state == SESSION_HIBERNATED || s->state == SESSION_LOST;
	if (status->effect || !node_in_reach(node))
		return;
	if (!sleeps)
		give_way(node, s);
	else if (session_apply(s, &change, NULL, &e) < 0)
		log_error("%s: that it is back cannot be recorded: %s", s->label, e.text);
}

static void judge_elsewhere(struct node *node, struct session *s,
			    const struct session_status *status, bool there)
{
	if (was_evacuated(status))
		acknowledge_evacuated(node, s, status->generation);
	if (s->state == SESSION_MIGRATING && s->effect && s->effect->node == node)
		return; /* it is taking it over */
	if ((there && status->held && !node->local) || (status && status->answering))
		give_way(node, s);
	else if (there && !s->effect)
		session_unexpected(s, node);
}

/* --- sleep -------------------------------------------------------------------------------------
 */

/* What its node has made of it by itself: what dozed or slept runs, what ran dozes. */
static void apply_news(struct session *s, enum session_event event)
{
	struct error e = ERROR_INIT;
	const struct session_change change = { .event = event, .who = "node" };
	if (session_apply(s, &change, NULL, &e) < 0)
		log_error("%s: that it %s cannot be recorded: %s", s->label,
			  session_event_name(event), e.text);
}

/* Nobody knows of it there. It is whole in the store, and another node can answer. */
static void asleep_forgotten(struct session *s)
{
	if (++s->seen.missing < MISSING_MOST)
		return;
	apply_gone(s, EVENT_NODE_REBOOTED, "not-answered",
		   "its node does not answer for it any more");
}

static void judge_asleep(struct session *s, const struct session_status *status, bool there)
{
	if (there) {
		apply_news(s, status->dozing ? EVENT_DOZES : EVENT_WOKEN);
	} else if (status && (status->answering || status->effect)) {
		s->seen.missing = 0;
		asleep_looked(s, status);
	} else if (status && status->ended) {
		/* It was woken, and has ended since: what it was last its user has seen. */
		apply_news(s, EVENT_WOKEN);
		if (s->state == SESSION_RUNNING)
			session_gone(s, status);
	} else {
		asleep_forgotten(s);
	}
}

static void judge_running(struct session *s, const struct session_status *status)
{
	s->seen.missing = 0;
	observe_usage(s, status);
	rescue_seen(s, status);
	if (status->dozing != (s->state == SESSION_DOZING))
		apply_news(s, status->dozing ? EVENT_DOZES : EVENT_WOKEN);
	else if (status->dozing)
		s->asleep.touched_at = status->touched_at;
}

/* --- all ---------------------------------------------------------------------------------------
 */

static void judge_session(struct node *node, struct session *s, const struct session_status *status)
{
	bool given = status && status->given_to;
	bool there = status && (status->running || status->frozen) && !given;
	if (s->settled_at >= node->look_at)
		return; /* the look began before the session was as it is */
	/* Memory of what another node has: no session, and none that is missing here. */
	if (given) {
		remains_seen(node, s);
		return;
	}
	if (s->node != node) {
		judge_elsewhere(node, s, status, there);
		return;
	}
	if (there)
		observe_waking(s, status);
	if (s->effect)
		return;
	if (was_evacuated(status) && !there) {
		session_evacuated(node, s, status->generation);
	} else if (s->state == SESSION_ASLEEP) {
		judge_asleep(s, status, there);
	} else if (session_has_processes(s)) {
		if (there)
			judge_running(s, status);
		else
			session_gone(s, status);
	} else if (status && status->answering) {
		give_way(node, s); /* it is not to be woken by anybody there */
	} else if (there && status->held && !node->local) {
		session_held(node, s, status);
	} else if (there && !session_state_is_transient(s->state)) {
		session_unexpected(s, node);
	}
}

static void report_strange(struct node *node, const char *id)
{
	for (size_t i = 0; i < node->strange_count; i++)
		if (strcmp(node->strange[i], id) == 0)
			return;
	if (!node->strange)
		node->strange = calloc(STRANGE_MOST, sizeof(*node->strange));
	if (!node->strange || node->strange_count == STRANGE_MOST || !id_valid(id))
		return;
	memcpy(node->strange[node->strange_count++], id, ID_SIZE);
	log_error("%s runs session %s, of which the database knows nothing; it is left alone",
		  node_name(node), id);
	record_note(node->controller,
		    &(struct record) {
			    .who = "node",
			    .what = "strange-session",
			    .why = id,
			    .detail = "the node runs a session of which there is no record" });
}

static void judge_unknown(struct node *node, const struct session_status *status)
{
	if (status->given_to)
		remains_seen_alone(node, status->id);
	else if ((status->running || status->frozen) && id_valid(status->id) &&
		 give_way_was_left(node->controller, status->id))
		give_way_forgotten(node, status->id);
	else if (status->running)
		report_strange(node, status->id);
}

/* Every session knows of the reboot now: only then may we forget that there was one. */
static void end_reboot(struct node *node)
{
	if (!node->new_boot_id)
		return;
	node_take_boot(node, node->new_boot_id);
	if (strcmp(node->boot_id, node->new_boot_id) == 0)
		replace_text(&node->new_boot_id, NULL);
}

void node_judge_sessions(struct node *node, const struct session_status_list *list)
{
	struct controller *c = node->controller;
	struct session *next;
	for (size_t i = 0; i < list->count; i++) {
		struct session *s = sessions_by_id(c, list->items[i].id);
		if (s)
			s->status = &list->items[i];
		else
			judge_unknown(node, &list->items[i]);
	}
	for (struct session *s = sessions_first(c); s; s = next) {
		const struct session_status *status = s->status;
		next = sessions_next(s);
		s->status = NULL;
		if (status || s->node == node)
			judge_session(node, s, status);
	}
	remains_looked(node, list);
	end_reboot(node);
}

/* --- effects -----------------------------------------------------------------------------------
 */

/* What the node still holds the result of although we have recorded it, or never asked for it. */
static void judge_effect(struct node *node, const json_t *item)
{
	const char *id = json_string_value(json_object_get(item, "id"));
	const char *state = json_string_value(json_object_get(item, "state"));
	if (!id_valid(id) || !state)
		return;
	for (struct session *s = sessions_first(node->controller); s; s = sessions_next(s))
		if (s->effect && strcmp(s->effect->row.id, id) == 0)
			return;
	if (strcmp(state, effect_state_names[EFFECT_RUNNING]) != 0)
		effect_acknowledge(node, id, EFFECT_NONE);
	else
		log_warning("%s works on effect %s, which nobody waits for", node_name(node), id);
}

void node_judge_effects(struct node *node, const json_t *body)
{
	const json_t *items = json_is_array(body) ? body : json_object_get(body, "items");
	size_t i;
	json_t *item;
	json_array_foreach (items, i, item)
		judge_effect(node, item);
}
