/* SPDX-License-Identifier: Apache-2.0 */
/* session_apply(): the one way in which a session's state changes. */
#include "controller/sessions.h"

#include "base/cleanup.h"
#include "base/log.h"
#include "controller/asleep.h"
#include "controller/checkpoints.h"
#include "controller/effects.h"
#include "controller/give_way.h"
#include "controller/idle.h"
#include "controller/ledger.h"
#include "controller/node.h"
#include "controller/operations.h"
#include "controller/overlay_state.h"
#include "controller/record.h"
#include "controller/remains.h"
#include "controller/rows.h"
#include "controller/size.h"
#include "controller/steps.h"
#include "controller/tried.h"
#include "controller/usage.h"
#include "controller/wake.h"
#include "prices/prices.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* What one step writes, before it is true. */
struct draft {
	const struct session_change *change;
	struct session_step step;
	int64_t told; /* the newest checkpoint before it; 0: none */
	wall_ms now;
	struct db_session row;
	struct node *home;               /* where the session is to be */
	struct node *node;               /* that does the effect */
	struct db_effect effect;         /* the one that begins; kind NULL: none */
	struct db_checkpoint checkpoint; /* that is the newest one now; generation 0: as before */
	struct remains_step remains;     /* what it means for what is elsewhere of it */
	char *outcome;                   /* of the operation that ends; NULL: none */
	json_t *inputs;                  /* of the event */
	int64_t aside;                   /* generation that was set aside; 0: none */
	bool checkpointed;               /* there is a new checkpoint in the store */
	bool gone;                       /* the session itself is deleted */
};

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

/* The end that an effect was asked for. */
static bool is_done(enum session_event event)
{
	return event == EVENT_EFFECT_DONE || event == EVENT_EFFECT_ASLEEP || event == EVENT_FENCED;
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

/* How it ended up, where that is not what was asked. */
static const char *sleep_what(const struct draft *d)
{
	if (d->step.next == SESSION_DOZING)
		return "dozing";
	if (d->change->event == EVENT_WOKEN)
		return "woken";
	if (d->change->event != EVENT_EFFECT_ASLEEP)
		return NULL;
	return d->change->ended->kind == EFFECT_SLEEP ? "asleep" : "failed";
}

static const char *event_what(const struct session *s, const struct draft *d)
{
	const struct session_change *change = d->change;
	if (change->event == EVENT_GIVEN_UP)
		return "failed";
	if (change->event == EVENT_EFFECT_ELSEWHERE && d->step.next != SESSION_FAILED)
		return "node-failed";
	if (d->step.next == SESSION_LOST)
		return "lost";
	if (sleep_what(d))
		return sleep_what(d);
	if (s->state == SESSION_MIGRATING && change->event != EVENT_EFFECT_DONE)
		return "migrate-failed";
	if (change->ended && is_done(change->event))
		return effect_kind_names[change->ended->kind];
	if (change->event == EVENT_EFFECT_REFUSED)
		return "refused";
	if (change->event == EVENT_EFFECT_FAILED)
		return "failed";
	if (d->step.action != ACTION_NONE)
		return session_state_name(d->step.next);
	return session_event_name(change->event);
}

static int write_event(struct session *s, const struct draft *d, struct error *e)
{
	const struct session_change *change = d->change;
	const struct effect_result *result = change->result;
	bool moved = change->ended && change->ended->kind == EFFECT_MIGRATE;
	bool slept = change->event == EVENT_WOKEN && s->row.slept_at;
	return record_event(s->controller,
			    &(struct record) {
				    .session = s,
				    .at = d->now,
				    .who = d->effect.who ? d->effect.who : change->who,
				    .what = event_what(s, d),
				    .why = d->effect.why
						   ? d->effect.why
						   : (change->why ? change->why : d->step.why),
				    .detail = change->detail ? change->detail : change->reason,
				    .duration_us = result  ? result->duration_us
						   : slept ? (d->now - s->row.slept_at) * 1000
							   : 0,
				    .bytes = !result ? 0
					     : moved ? result->memory_bytes
						     : result->stored_bytes,
				    .inputs = d->inputs,
			    },
			    e);
}

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

/* The fields that follow from the step alone. */
static void draft_row(struct session *s, struct draft *d)
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

/* The operation that has waited for such an effect: that somebody is to hibernate it is done by a
 * release, if it sleeps. */
static const struct operation *waiting_for(const struct session *s, enum effect_kind kind)
{
	return operation_waiting(s, kind == EFFECT_RELEASE ? EFFECT_HIBERNATE : kind);
}

static void draft_effect(struct session *s, struct draft *d)
{
	enum effect_kind kind = effect_kind_of(d->step.action);
	const struct operation *waiting = waiting_for(s, kind);
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

static int write_session(struct session *s, struct draft *d, struct error *e)
{
	struct db *db = s->controller->db;
	if (d->gone) {
		bool all = node_in_reach(s->node) && !remains_of(s);
		int left = all ? 0 : give_way_leave(s, e);
		return left < 0 ? left : rows_delete_session(db, s->row.id, e);
	}
	int r = db_session_put(db, &d->row, e);
	/* One that a node wrote without being asked. */
	if (r == 0 && d->told && d->told != s->row.checkpoint)
		r = rows_find_checkpoint(db, &d->row, d->told, d->now, &d->checkpoint, e);
	if (r == 0 && d->step.set_aside)
		r = rows_set_aside(db, s->row.id, &d->aside, e);
	if (r == 0 && d->checkpointed)
		r = rows_put_checkpoint(db, &d->row, d->change->result, d->now, e);
	if (r == 0 && d->checkpointed)
		r = rows_find_checkpoint(db, &d->row, d->row.checkpoint, d->now, &d->checkpoint, e);
	return r;
}

/* Who waits for the operation waits on: another effect will end it. */
static bool goes_on(const struct draft *d)
{
	return d->change->event == EVENT_EFFECT_ELSEWHERE && d->step.next != SESSION_FAILED;
}

static int write_effect(struct session *s, struct draft *d, struct error *e)
{
	struct db *db = s->controller->db;
	int r = 0;
	/* The one that ended, or that a newer one takes the place of. */
	if (s->effect && (d->change->ended || d->effect.kind))
		r = db_effect_delete(db, s->effect->row.id, e);
	if (r == 0 && d->effect.kind)
		r = db_effect_put(db, &d->effect, e);
	if (r == 0 && d->outcome)
		r = rows_put_outcome(db, s->row.id, d->gone ? NULL : d->outcome, e);
	return r;
}

/* Who waits for a migration whose target is lost is told so, and not of the fence that follows. */
static char *lost_outcome(const struct session *s, const struct draft *d)
{
	static char remedy[] = "see its events for what becomes of it";
	const struct effect_result lost = {
		.state = EFFECT_FAILED,
		.fault = (char *)fault_name(FAULT_UNAVAILABLE),
		.text = (char *)d->change->reason,
		.remedy = remedy,
	};
	if (s->state != SESSION_MIGRATING || !s->effect || d->change->event != EVENT_NODE_LOST)
		return NULL;
	return operation_outcome(s, EFFECT_MIGRATE, &s->effect->row, &lost);
}

/* What it costs from now on; what was known when it was decided. */
static int write_account(struct session *s, struct draft *d, struct error *e)
{
	const struct effect *ended = d->change->ended;
	bool restored = ended && ended->kind == EFFECT_RESTORE && is_done(d->change->event);
	const struct ledger_step step = {
		.row = &d->row,
		.next = d->step.next,
		.home = d->home,
		.gone = d->gone,
		.now = d->now,
		.puts = d->checkpointed ? PRICES_PUTS_OF_CHECKPOINT : 0,
		.gets = restored ? PRICES_GETS_OF_WAKE : 0,
	};
	json_t *account = NULL;
	int r = ledger_write(s, &step, &account, e);
	if (r == 0)
		d->inputs = json_pack("{s:o, s:o*}", "account", account, "idle",
				      idle_inputs_for(s, d->effect.who));
	return r;
}

static int write_draft(struct session *s, struct draft *d, struct error *e)
{
	const struct session_change *change = d->change;
	int r = 0;
	if (d->step.action == ACTION_START && change->prepare)
		r = change->prepare(s, &d->row, change->arg, e);
	draft_row(s, d);
	draft_effect(s, d);
	if (change->ended && operation_goes_on(s, change->ended->kind))
		d->outcome = NULL;
	else if (change->ended && change->result && !goes_on(d))
		d->outcome = operation_outcome(s, change->ended->kind, &change->ended->row,
					       change->result);
	else
		d->outcome = lost_outcome(s, d);
	d->remains = remains_step_of(s, &(struct remains_news) {
						.change = change,
						.step = &d->step,
						.effect = d->effect.id,
						.target = d->node,
						.gone = d->gone,
						.now = d->now,
					});
	/* What refers to a session is written after it and deleted before it. */
	if (r == 0 && d->gone)
		r = write_effect(s, d, e);
	if (r == 0)
		r = write_session(s, d, e);
	if (r == 0 && !d->gone)
		r = write_effect(s, d, e);
	if (r == 0)
		r = remains_write(s->controller, &d->remains, e);
	if (r == 0)
		r = write_account(s, d, e);
	if (r == 0)
		r = write_event(s, d, e);
	return r;
}

/* Of a restore on this host a power cut may take back what was recorded: it ends the restored
 * processes, too, and leaves the checkpoint, from which the session is restored again when that is
 * asked. So nobody who waits for a session to wake waits for a disk that is busy. */
static bool can_be_taken_back(const struct draft *d, enum effect_kind kind)
{
	return kind == EFFECT_RESTORE && !d->step.set_aside && d->home->local;
}

static int commit_draft(struct session *s, struct draft *d, struct error *e)
{
	struct controller *c = s->controller;
	const struct effect *ended = d->change->ended;
	ledger_check_clock(c);
	enum effect_kind kind = ended ? ended->kind : effect_kind_of(d->step.action);
	step_reached(c->base, kind, ended ? STEP_ANSWERED : STEP_DECIDED);
	int r = can_be_taken_back(d, kind) ? db_begin_soon(c->db, e) : db_begin(c->db, e);
	if (r < 0)
		return r;
	r = write_draft(s, d, e);
	step_reached(c->base, kind, ended ? STEP_IN_RESULT : STEP_IN_RECORD);
	if (r < 0) {
		db_rollback(c->db);
		return r;
	}
	r = db_commit(c->db, e);
	if (r == 0)
		step_reached(c->base, kind, ended ? STEP_DONE : STEP_RECORDED);
	return r;
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
	if (goes_on(d) && op)
		operation_step(op, "another-node");
	if (d->effect.kind) {
		enum effect_kind kind = effect_kind_of(d->step.action);
		const struct operation *waiting = waiting_for(s, kind);
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

/* Where it is after the step. */
static struct node *home_after(struct session *s, const struct draft *d)
{
	const struct session_change *change = d->change;
	const struct effect *ended = change->ended;
	if (d->step.action == ACTION_START || d->step.action == ACTION_RESTORE ||
	    d->step.action == ACTION_ANSWER)
		return d->node;
	if (ended && ended->kind == EFFECT_MIGRATE && change->event == EVENT_EFFECT_DONE)
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
	int r = commit_draft(s, &d, e);
	if (r == 0) {
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
