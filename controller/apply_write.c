/* SPDX-License-Identifier: Apache-2.0 */
/* A step's transaction: session, checkpoint, effect, account and event, or none of it. */
#include "controller/apply_private.h"

#include "controller/give_way.h"
#include "controller/idle.h"
#include "controller/ledger.h"
#include "controller/nodes.h"
#include "controller/record.h"
#include "controller/rows.h"
#include "controller/steps.h"
#include "prices/prices.h"

#include <string.h>

/* The end that an effect was asked for. */
static bool is_done(enum session_event event)
{
	return event == EVENT_EFFECT_DONE || event == EVENT_EFFECT_ASLEEP || event == EVENT_FENCED;
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

bool apply_goes_on(const struct draft *d)
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
	apply_draft_row(s, d);
	apply_draft_effect(s, d);
	if (change->ended && operation_goes_on(s, change->ended->kind))
		d->outcome = NULL;
	else if (change->ended && change->result && !apply_goes_on(d))
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

int apply_commit(struct session *s, struct draft *d, struct error *e)
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
