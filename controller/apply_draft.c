/* SPDX-License-Identifier: Apache-2.0 */
/* What a step makes of a session's row, and the effect that it begins. */
#include "controller/apply_private.h"

#include "controller/node.h"
#include "controller/rows.h"
#include "controller/tried.h"

#include <stdlib.h>
#include <string.h>

/* It is on its way to run, perhaps by way of another node than was tried. */
static bool is_beginning(const struct session_step *step)
{
	switch (step->next) {
	case SESSION_RESTORING:
	case SESSION_FENCING:
		return true;
	case SESSION_STARTING:
	case SESSION_STOPPED:
		return step->wish == WISH_START;
	case SESSION_HIBERNATED:
	case SESSION_RELEASING:
		return step->wish == WISH_AWAKE;
	default:
		return false;
	}
}

/* What has been tried counts until it runs, or nobody wants that any more. */
static void draft_tried(const struct session *s, const struct draft *d, struct db_session *row)
{
	const struct session_change *change = d->change;
	bool began = s->state == SESSION_STARTING || s->state == SESSION_RESTORING;
	bool gone = change->event == EVENT_NODE_LOST;
	/* It may not wake it, by its own word: it comes last again. */
	bool unwoken = d->step.next == SESSION_RELEASING && s->asleep.unwoken;
	if (!is_beginning(&d->step)) {
		replace_text(&row->tried, NULL);
		return;
	}
	if (!unwoken && (!began || (!gone && change->event != EVENT_EFFECT_ELSEWHERE)))
		return;
	gone = gone || unwoken;
	const struct effect_result *result = change->result;
	const char *why = unwoken                  ? s->asleep.unwoken
			  : result && result->text ? result->text
						   : change->reason;
	char *tried = tried_add(row->tried, node_name(s->node), why ? why : "failed", gone);
	if (!tried)
		abort(); /* as replace_text() */
	free(row->tried);
	row->tried = tried;
}

/* Not that somebody came meanwhile: then it can be tried again at any time. */
static bool was_refused(const struct session_change *change)
{
	const char *fault = change->result ? change->result->fault : NULL;
	return change->event == EVENT_EFFECT_REFUSED &&
	       !(fault && fault_from_name(fault) == FAULT_CONFLICT);
}

/* Since when nothing of it runs. A snapshot of what dozes leaves it dozing. */
static wall_ms slept_since(const struct session *s, const struct draft *d)
{
	switch (d->step.next) {
	case SESSION_RUNNING:
		return s->state == SESSION_SNAPSHOTTING ? s->row.slept_at : 0;
	case SESSION_STARTING:
	case SESSION_STOPPED:
		return 0;
	case SESSION_FREEZING:
		return d->now;
	case SESSION_CHECKPOINTING:
		return s->state == SESSION_RUNNING ? d->now : s->row.slept_at;
	case SESSION_DOZING:
	case SESSION_ASLEEP:
	case SESSION_HIBERNATED:
		return s->row.slept_at ? s->row.slept_at : d->now;
	default:
		return s->row.slept_at;
	}
}

void apply_draft_row(struct session *s, struct draft *d)
{
	struct db_session *row = &d->row;
	const struct session_change *change = d->change;
	bool woken = change->event == EVENT_WOKEN || s->state == SESSION_THAWING;
	bool was_started = s->state == SESSION_STARTING || s->state == SESSION_RESTORING ||
			   (change->event == EVENT_WOKEN && s->state == SESSION_ASLEEP);
	replace_text(&row->state, session_state_name(d->step.next));
	replace_text(&row->reason, change->reason);
	replace_text(&row->node, d->home->name);
	row->changed_at = d->now;
	row->generation = d->step.newest;
	row->checkpoint = d->step.checkpoint;
	row->wish = d->step.wish;
	draft_tried(s, d, row);
	if (d->checkpointed || change->event == EVENT_EVACUATED || change->event == EVENT_FOUND)
		replace_text(&row->left_behind, NULL);
	if (d->step.next == SESSION_RUNNING && was_started)
		row->started_at = d->now;
	if (d->step.next == SESSION_RUNNING && woken)
		row->person_at = d->now;
	row->slept_at = slept_since(s, d);
	if (change->ended &&
	    (change->ended->kind == EFFECT_HIBERNATE || change->ended->kind == EFFECT_SLEEP))
		row->refused_at = was_refused(change) ? d->now : 0;
}

const struct operation *apply_waiting_for(const struct session *s, enum effect_kind kind)
{
	return operation_waiting(s, kind == EFFECT_RELEASE ? EFFECT_HIBERNATE : kind);
}

void apply_draft_effect(struct session *s, struct draft *d)
{
	enum effect_kind kind = effect_kind_of(d->step.action);
	const struct operation *waiting = apply_waiting_for(s, kind);
	const char *why = d->change->why ? d->change->why : d->step.why;
	if (kind == EFFECT_NONE)
		return;
	d->effect.generation = d->step.generation;
	d->effect.created_at = d->now;
	memcpy(d->effect.session, s->row.id, ID_SIZE);
	/* The effects of a wake or start that goes from node to node are each one of their own. */
	if (waiting && !s->row.tried)
		memcpy(d->effect.id, waiting->id, ID_SIZE);
	else
		id_new(d->effect.id);
	replace_text(&d->effect.kind, effect_kind_names[kind]);
	replace_text(&d->effect.node, d->node->name);
	replace_text(&d->effect.who, waiting ? waiting->who : d->change->who);
	replace_text(&d->effect.why, waiting ? waiting->why : why);
}
