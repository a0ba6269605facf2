/* SPDX-License-Identifier: Apache-2.0 */
/* session_apply(): the one way in which a session's state changes. */
#include "controller/apply_private.h"

#include "base/log.h"
#include "controller/asleep.h"
#include "controller/checkpoints.h"
#include "controller/node.h"
#include "controller/overlay_state.h"
#include "controller/rows.h"
#include "controller/size.h"
#include "controller/usage.h"
#include "controller/wake.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static void draft_deinit(struct draft *d)
{
	db_session_deinit(&d->row);
	db_effect_deinit(&d->effect);
	db_checkpoint_deinit(&d->checkpoint);
	free(d->outcome);
	json_decref(d->inputs);
}

/* The effect that ended has put a checkpoint into the store. */
static bool checkpointed(const struct draft *d)
{
	const struct effect *ended = d->change->ended;
	return ended &&
	       (d->change->event == EVENT_EFFECT_DONE || d->change->event == EVENT_EFFECT_ASLEEP) &&
	       effect_writes(ended->kind) && d->step.newest > ended->session->row.generation;
}

/* It runs for its user all the while, and what was seen of it stays true. */
static bool runs_on(enum session_state state)
{
	return state == SESSION_SNAPSHOTTING || state == SESSION_MIGRATING ||
	       state == SESSION_FREEZING || state == SESSION_THAWING;
}

static bool writes_checkpoint(enum session_state state)
{
	return state == SESSION_CHECKPOINTING || state == SESSION_SNAPSHOTTING;
}

static void settle_checkpoint(struct session *s, const struct draft *d)
{
	if (d->step.set_aside) {
		session_take_checkpoint(s, NULL);
		if (d->aside)
			checkpoints_tell_aside(s->controller, s->row.id, d->aside);
	} else if (!d->row.checkpoint) {
		session_take_checkpoint(s, NULL);
	} else if (d->checkpoint.generation) {
		session_take_checkpoint(s, &d->checkpoint);
	}
}

/* Makes memory what the database now is. */
static void settle(struct session *s, struct draft *d)
{
	const struct session_change *change = d->change;
	enum session_state before = s->state;
	db_session_deinit(&s->row);
	s->row = d->row;
	d->row = (struct db_session) { .checkpoint = s->row.checkpoint };
	if (!s->person)
		sessions_insert(s);
	session_take_spec(s);
	const struct node *at = s->heading ? s->heading : s->node;
	bool moved = at != d->home || session_state_has_processes(before) !=
					      session_state_has_processes(d->step.next);
	s->node = d->home;
	s->heading = NULL;
	s->state = d->step.next;
	if (moved)
		overlay_changed(s->controller);
	s->overlay_revision = overlay_revision(s->controller);
	s->settled_at = clock_mono();
	if (before == SESSION_MIGRATING)
		s->move_failed_at = change->event == EVENT_EFFECT_DONE ? 0 : s->settled_at;
	if (!runs_on(before) && !runs_on(s->state))
		s->idle.known = false;
	if (!session_has_processes(s) && !writes_checkpoint(s->state) && !runs_on(s->state))
		s->seen = (struct seen) { .cpu_share = NAN };
	if (d->checkpointed && d->told)
		usage_changed(s, change->result->stored_bytes);
	settle_checkpoint(s, d);
	if (before == SESSION_FREEZING && s->state == SESSION_RUNNING)
		s->idle.doze_refused_at = s->row.changed_at;
	asleep_settled(s, before);
	size_settled(s);
	log_info("%s: %s -> %s (%s by %s)%s%s", s->label, session_state_name(before),
		 session_state_name(s->state), session_event_name(change->event), change->who,
		 change->reason ? ": " : "", change->reason ? change->reason : "");
}

/* The effect that ended goes, the one that was decided begins. */
static void settle_effect(struct session *s, struct draft *d)
{
	char replaced[ID_SIZE] = "";
	struct node *replaced_node = s->effect ? s->effect->node : NULL;
	if (s->effect && (d->change->ended || d->effect.kind)) {
		if (!d->change->ended)
			memcpy(replaced, s->effect->row.id, ID_SIZE);
		effect_drop(s->effect);
	}
	struct operation *op = s->operation;
	if (d->gone) /* who waits for its end must not be shown what is no more */
		operation_orphan(s);
	if (d->outcome && op)
		operation_end(op, d->outcome);
	if (apply_goes_on(d) && op)
		operation_step(op, "another-node");
	if (d->effect.kind) {
		enum effect_kind kind = effect_kind_of(d->step.action);
		const struct operation *waiting = apply_waiting_for(s, kind);
		operation_begin(s, waiting ? waiting->id : d->effect.id, kind, d->effect.who,
				d->effect.why);
		effect_begin(s, &d->effect, replaced, replaced_node);
	}
	remains_settle(s->controller, &d->remains);
	if (d->gone)
		sessions_remove(s);
}

/* Who is to do it: a session's own node, but where that is lost or is yet to be chosen. What is
 * asleep is its node's. */
static struct node *node_for(struct session *s, const struct session_change *change,
			     enum session_action action)
{
	bool elsewhere = action == ACTION_START || action == ACTION_RESTORE ||
			 action == ACTION_MIGRATE || action == ACTION_ANSWER;
	if (elsewhere && change->node && s->state != SESSION_ASLEEP)
		return change->node;
	if (action == ACTION_FENCE || (action == ACTION_FORGET && !node_in_reach(s->node)))
		return nodes_for_store(s->controller);
	return s->node;
}

static bool has_moved(const struct session_change *change)
{
	const struct effect *ended = change->ended;
	return ended && ended->kind == EFFECT_MIGRATE && change->event == EVENT_EFFECT_DONE;
}

/* Where it is after the step. */
static struct node *home_after(struct session *s, const struct draft *d)
{
	const struct session_change *change = d->change;
	const struct effect *ended = change->ended;
	if (d->step.action == ACTION_START || d->step.action == ACTION_RESTORE ||
	    d->step.action == ACTION_ANSWER)
		return d->node;
	if (has_moved(change))
		return ended->node;
	if (change->event == EVENT_TAKEN_BACK)
		return remains_of(s)->source;
	return change->event == EVENT_FOUND && change->node ? change->node : s->node;
}

static int take_step(struct session *s, const struct session_change *change,
		     const struct session_now *now, const struct session_step *step,
		     struct error *e)
{
	struct draft d = {
		.change = change, .step = *step, .told = now->checkpoint, .now = clock_wall()
	};
	d.node = node_for(s, change, step->action);
	d.home = home_after(s, &d);
	d.row = session_copy_row(&s->row);
	d.checkpointed = checkpointed(&d);
	d.gone = change->ended && change->ended->kind == EFFECT_FORGET &&
		 change->event == EVENT_EFFECT_DONE;
	int r = apply_commit(s, &d, e);
	if (r == 0) {
		if (has_moved(change))
			size_moved(s->controller, change->result);
		settle(s, &d);
		settle_effect(s, &d);
	}
	draft_deinit(&d);
	return r;
}

static int refuse(const struct session *s, const struct session_change *change,
		  const struct session_step *step, struct error *e)
{
	int r = error_fault(e, FAULT_CONFLICT, "%s is %s: %s is not possible now (%s)", s->label,
			    session_state_name(s->state), session_event_name(change->event),
			    step->why);
	if (session_state_is_transient(s->state))
		return error_remedy(e, r, "ask again when that is done");
	if (strcmp(step->why, "no-usable-checkpoint") == 0)
		return error_remedy(e, r,
				    "its record is not whole: see its checkpoints and events, or "
				    "start it fresh");
	return r;
}

struct session_now session_now(const struct session *s)
{
	return (struct session_now) {
		.state = s->state,
		.generation = s->row.generation,
		.checkpoint = s->row.checkpoint,
		.wish = (enum session_wish)s->row.wish,
	};
}

/* What is told of the store is not what the record knew. */
static void take_told(const struct session *s, const struct session_change *change,
		      struct session_now *now)
{
	bool fenced = change->event == EVENT_FENCED || change->event == EVENT_TAKEN_BACK;
	int64_t checkpoint = fenced ? change->result->checkpoint : change->checkpoint;
	int64_t newest = fenced ? change->result->generation : checkpoint;
	if (newest > now->generation)
		now->generation = newest;
	if (checkpoint > now->generation)
		now->generation = checkpoint;
	now->checkpoint = checkpoint && !rows_is_aside(s->controller->db, s->row.id, checkpoint)
				  ? checkpoint
				  : 0;
}

/* Nothing but, perhaps, what is wanted of it when what is under way has ended. */
static int keep_wish(struct session *s, const struct session_change *change,
		     const struct session_step *step, struct error *e)
{
	int r = 0;
	if ((int64_t)step->wish != s->row.wish && s->person)
		r = session_set_wish(s, step->wish, e);
	if (r < 0)
		return r;
	return step->verdict == STEP_CONFLICT ? refuse(s, change, step, e) : 0;
}

/* News that comes too late: nothing waits for the effect any more. */
static int forget_ended(struct session *s, const struct session_change *change, struct error *e)
{
	if (!change->ended)
		return 0;
	int r = db_effect_delete(s->controller->db, change->ended->row.id, e);
	if (r == 0)
		effect_drop(change->ended);
	return r;
}

/* What is asleep is woken elsewhere when its node has let go of it. */
static bool is_to_let_go(const struct session *s, const struct session_change *change)
{
	return s->state == SESSION_ASLEEP && change->event == EVENT_START && change->node &&
	       change->node != s->node;
}

int session_apply(struct session *s, const struct session_change *wanted, struct session_step *step,
		  struct error *e)
{
	struct session_now now = session_now(s);
	struct session_change released = *wanted;
	const struct session_change *change = wanted;
	if (is_to_let_go(s, wanted)) {
		released.event = EVENT_RELEASE;
		released.wish = WISH_AWAKE;
		change = &released;
	}
	if (change->event == EVENT_HIBERNATE || change->event == EVENT_STOP ||
	    change->event == EVENT_FORGET)
		wake_forget_start(s);
	if (change->event == EVENT_FENCED || change->event == EVENT_EVACUATED ||
	    change->event == EVENT_TAKEN_BACK)
		take_told(s, change, &now);
	if (change->wish)
		now.wish = change->wish;
	struct session_step decided = lifecycle_step(&now, change->event);
	if (step)
		*step = decided;
	switch (decided.verdict) {
	case STEP_TAKEN:
		return take_step(s, change, &now, &decided, e);
	case STEP_IGNORE:
		return forget_ended(s, change, e);
	default:
		return keep_wish(s, change, &decided, e);
	}
}
