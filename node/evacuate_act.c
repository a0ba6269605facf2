/* SPDX-License-Identifier: Apache-2.0 */
#include "node/evacuate_private.h"

#include "base/cleanup.h"
#include "base/fs.h"
#include "base/log.h"
#include "node/depart.h"
#include "node/estimate.h"
#include "node/hold.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
	TRIES_MOST = 2,  /* of one that cannot be checkpointed */
	PAUSE_MS = 1000, /* before the next try */
};
#define EFFECT_PREFIX "evac-"

bool evacuate_is_effect(const char *id)
{
	return id && strncmp(id, EFFECT_PREFIX, strlen(EFFECT_PREFIX)) == 0;
}

bool evacuate_was_by(const struct journal *j, const char *id)
{
	char own[sizeof(EFFECT_PREFIX) + ID_SIZE + 24];
	if (!evacuate_was(j) || !j->session.id)
		return false;
	snprintf(own, sizeof(own), EFFECT_PREFIX "%s-%lld", j->session.id,
		 (long long)j->generation);
	return strcmp(own, id) == 0;
}

/* --- what is so ------------------------------------------------------------------------ */

static bool is_ending(const struct effect *ef)
{
	enum effect_kind kind = ef ? ef->request.kind : EFFECT_START;
	return kind == EFFECT_NONE || kind == EFFECT_STOP || kind == EFFECT_FORGET;
}

/* What was given to another node is that one's to save, when it has its memory. */
static bool is_here(const struct node *node, const struct session *s)
{
	return session_alive(node, s) && !session_is_given(s);
}

static enum evacuate_state state_of(const struct evacuate *ev, size_t i, const struct session *s,
				    wall_ms now)
{
	if (!s || ev->more[i].over)
		return EVACUATE_OVER;
	if (evacuate_is_away(ev, s))
		return EVACUATE_AWAY;
	if (is_ending(s->effect) || is_ending(s->queued))
		return EVACUATE_OVER;
	/* Under way, or cut short so that it is not known yet what became of it. */
	if (s->effect || s->journal.effect) {
		enum effect_kind kind = s->effect ? s->effect->request.kind : s->journal.kind;
		return kind == EFFECT_HIBERNATE ? EVACUATE_SAVING
		       : kind == EFFECT_DEPART  ? EVACUATE_MOVING
						: EVACUATE_BUSY;
	}
	if (!is_here(ev->node, s) || ev->more[i].retry_at > now)
		return EVACUATE_OVER;
	return EVACUATE_WAITING;
}

static bool is_candidate(const struct node *node, const struct session *s)
{
	return !is_ending(s->effect) && (s->effect || s->journal.effect || session_alive(node, s));
}

static bool was_saved(const struct evacuee *to)
{
	return to->state == EVACUEE_SAVED || to->state == EVACUEE_MOVED;
}

void evacuate_find_sessions(struct evacuate *ev)
{
	struct error e = ERROR_INIT;
	for (struct session *s = ev->node->sessions; s; s = s->next) {
		int i = evacuate_find(ev, s->id);
		if (!is_candidate(ev->node, s))
			continue;
		if (i < 0 && evacuate_add(ev, s->id, &e) < 0) {
			log_error("session %s cannot be evacuated: %s", s->id, e.text);
			continue;
		}
		/* It was saved, and has been let run here again. */
		if (i >= 0 && was_saved(&ev->record.sessions[i]) && !s->effect &&
		    is_here(ev->node, s)) {
			ev->record.sessions[i].state = EVACUEE_WAITING;
			journal_set(&ev->record.sessions[i].to, NULL, NULL);
			ev->more[i].tries = 0;
			ev->more[i].over = false;
			ev->more[i].retry_at = 0;
		}
	}
}

static void note_saved(struct evacuate *ev, size_t i, const struct effect_result *result)
{
	struct evacuee *to = &ev->record.sessions[i];
	to->state = EVACUEE_SAVED;
	to->generation = result->generation;
	to->bytes = result->stored_bytes;
	to->ended_at = clock_wall() - estimate_behind_ms(result);
	if (!to->frozen_at) {
		/* The end of its processes is in that time, too. */
		wall_ms since = to->ended_at - result->frozen_us / 1000;
		to->frozen_at = since > to->begun_at ? since : to->begun_at;
	}
	evacuate_say(to, NULL);
	ev->more[i].over = true;
}

/* What depends on others may be well again in a moment; the rest is tried once more. */
static void note_failed(struct evacuate *ev, size_t i, const struct effect_result *result)
{
	struct evacuee *to = &ev->record.sessions[i];
	enum fault fault = result->fault ? fault_from_name(result->fault) : FAULT_INTERNAL;
	bool passes = fault == FAULT_UNAVAILABLE || fault == FAULT_TIMEOUT || fault == FAULT_FULL;
	to->state = EVACUEE_FAILED;
	to->ended_at = clock_wall();
	evacuate_say(to, result->text);
	ev->more[i].tries += !passes;
	ev->more[i].over = ev->more[i].tries >= TRIES_MOST;
	ev->more[i].retry_at = to->ended_at + PAUSE_MS;
}

void evacuate_let_go(struct evacuate *ev, struct session *s, struct evacuee *to)
{
	struct error e = ERROR_INIT;
	if (!hold_has(ev->node, s, HOLD_EVACUATION))
		return;
	to->frozen_at = 0;
	if (hold_drop(ev->node, s, HOLD_EVACUATION, &e) < 0)
		log_error("session %s stands still and should not: %s", s->id, e.text);
}

void evacuate_note_end(struct evacuate *ev, size_t i, const struct effect *ef)
{
	struct evacuee *to = &ev->record.sessions[i];
	if (ef->undecided || ef->request.kind != EFFECT_HIBERNATE)
		return;
	if (ef->result.state == EFFECT_DONE) {
		note_saved(ev, i, &ef->result);
	} else if (ef->interrupted) {
		to->state = EVACUEE_WAITING;
	} else {
		note_failed(ev, i, &ef->result);
		evacuate_let_go(ev, ef->session, to);
	}
}

/* --- what has become of whom nothing was heard ------------------------------------------------ */

static const struct effect_result *own_result(const struct session *s)
{
	const struct journal *j = &s->journal;
	bool own = j->result_count && evacuate_is_effect(j->results[0].id);
	return own && !j->interrupted ? &j->results[0] : NULL;
}

/* Nothing is under way: its result is there, or was taken, or it had not come to begin. */
static void settle_saving(struct evacuate *ev, size_t i, const struct session *s, bool alive)
{
	struct evacuee *to = &ev->record.sessions[i];
	const struct effect_result *result = s ? own_result(s) : NULL;
	if (result && result->state == EFFECT_DONE) {
		note_saved(ev, i, result);
	} else if (result && to->state == EVACUEE_SAVING) {
		note_failed(ev, i, result);
	} else if (alive) {
		to->state = EVACUEE_WAITING;
	} else {
		to->state = EVACUEE_SAVED;
		ev->more[i].over = true;
	}
}

/* False: it has ended otherwise, and is none of ours. */
static bool settle(struct evacuate *ev, size_t i)
{
	const struct evacuee *to = &ev->record.sessions[i];
	const struct session *s = session_find(ev->node, to->session);
	bool alive = s && is_candidate(ev->node, s);
	if (ev->more[i].over || (s && (s->effect || s->journal.effect)))
		return true;
	if (to->state == EVACUEE_MOVING) {
		evacuate_settle_away(ev, i, s);
		return true;
	}
	bool put_away = s && !alive && own_result(s);
	if (to->state == EVACUEE_SAVING || put_away)
		settle_saving(ev, i, s, alive);
	else if (!alive)
		return false;
	return true;
}

void evacuate_settle(struct evacuate *ev)
{
	for (size_t i = ev->record.session_count; i-- > 0;) {
		if (settle(ev, i))
			continue;
		log_info("session %s has ended and need not be evacuated",
			 ev->record.sessions[i].session);
		evacuate_remove(ev, i);
	}
}

/* --- what is done ---------------------------------------------------------------------------- */

static int ask_hibernation(struct evacuate *ev, struct session *s, int64_t generation,
			   struct error *e)
{
	struct effect *ef;
	struct effect_request request = {
		.id = str_printf(EFFECT_PREFIX "%s-%lld", s->id, (long long)generation),
		.kind = EFFECT_HIBERNATE,
		.generation = generation,
	};
	if (!request.id)
		return error_set(e, ENOMEM, "out of memory");
	int r = journal_copy_spec(&request.session, &s->journal.session, e);
	if (r < 0) {
		free(request.id);
		return r;
	}
	return effect_begin(ev->node, &request, &ef, e);
}

static void save_session(struct evacuate *ev, size_t i, struct session *s)
{
	struct error e = ERROR_INIT;
	struct evacuee *to = &ev->record.sessions[i];
	int64_t generation = journal_next(&s->journal);
	wall_ms now = clock_wall(); /* its worker may be faster than we are */
	if (ask_hibernation(ev, s, generation, &e) < 0) {
		log_error("session %s cannot be evacuated yet: %s", s->id, e.text);
		ev->more[i].retry_at = clock_wall() + PAUSE_MS;
		return;
	}
	to->state = EVACUEE_SAVING;
	to->begun_at = now;
	to->ended_at = 0;
	to->generation = generation;
	evacuate_say(to, NULL);
}

static void freeze(struct evacuate *ev, struct session *s, struct evacuee *to)
{
	struct error e = ERROR_INIT;
	if (hold_has(ev->node, s, HOLD_EVACUATION))
		return;
	if (hold_take(ev->node, s, HOLD_EVACUATION, &e) < 0)
		log_error("session %s should stand still until it is saved: %s", s->id, e.text);
	to->frozen_at = clock_wall();
}

static void say_left(struct evacuee *to, enum evacuate_why why, wall_ms now)
{
	char age[CLOCK_TEXT_SIZE];
	cleanup_free char *text = NULL;
	clock_format_duration(now - to->snapshot_at, age);
	text = to->snapshot_at ? str_printf("%s; its last checkpoint is %s old",
					    evacuate_why_names[why], age)
			       : str_printf("%s; it has no checkpoint", evacuate_why_names[why]);
	evacuate_say(to, text);
}

static void act_under_way(struct evacuate *ev, const struct session *s, struct evacuee *to,
			  const struct evacuate_session *d)
{
	if (d->state == EVACUATE_SAVING) {
		to->state = EVACUEE_SAVING;
		to->begun_at = to->begun_at ? to->begun_at : d->since;
	} else if (d->state == EVACUATE_AWAY) {
		evacuate_note_away(ev, s, to);
	} else if (d->state == EVACUATE_MOVING) {
		evacuate_say(to, evacuate_why_names[d->why]);
	}
}

/* What failed keeps saying why, until it is begun anew. */
static void act(struct evacuate *ev, size_t i, struct session *s, const struct evacuate_session *d,
		wall_ms now)
{
	struct evacuee *to = &ev->record.sessions[i];
	bool failed = to->state == EVACUEE_FAILED;
	to->to_move = d->what == EVACUATE_MOVE;
	ev->more[i].waited |= to->to_move;
	if (d->state == EVACUATE_WAITING || d->state == EVACUATE_BUSY)
		to->snapshot_at = d->snapshot_at;
	switch (d->what) {
	case EVACUATE_CHECKPOINT:
		save_session(ev, i, s);
		break;
	case EVACUATE_FREEZE:
		freeze(ev, s, to);
		break;
	case EVACUATE_RECALL:
		depart_recall(ev->node, s->id);
		break;
	case EVACUATE_WAIT:
	case EVACUATE_LEAVE:
	case EVACUATE_MOVE:
		evacuate_let_go(ev, s, to);
		break;
	case EVACUATE_NOTHING:
		act_under_way(ev, s, to, d);
		return;
	}
	if (d->what == EVACUATE_CHECKPOINT || failed)
		return;
	to->state = d->what == EVACUATE_LEAVE ? EVACUEE_LEFT : EVACUEE_WAITING;
	if (d->what == EVACUATE_LEAVE)
		say_left(to, d->why, now);
	else
		evacuate_say(to, evacuate_why_names[d->why]);
}

/* Of what others do to it the journal knows since when. */
static wall_ms since_of(struct evacuate *ev, size_t i, const struct session *s)
{
	const struct evacuee *to = &ev->record.sessions[i];
	if ((to->state == EVACUEE_SAVING || to->state == EVACUEE_MOVING) && to->begun_at)
		return to->begun_at;
	pthread_mutex_lock(&ev->node->lock);
	wall_ms since = s->journal.begun_at;
	pthread_mutex_unlock(&ev->node->lock);
	return since;
}

static void fill(struct evacuate *ev, size_t i, struct session *s, wall_ms now,
		 struct evacuate_session *to)
{
	struct session_status st = { 0 };
	*to = (struct evacuate_session) { .id = ev->record.sessions[i].session,
					  .state = state_of(ev, i, s, now) };
	if (!s || to->state == EVACUATE_OVER)
		return;
	if (session_status(ev->node, s, &st, NULL) == 0)
		to->resident_bytes = st.rss_bytes + st.out_bytes + st.missing_bytes;
	wire_free(&wire_session_status, &st);
	estimate_session(ev->node, s, to);
	to->since = to->state == EVACUATE_WAITING ? 0 : since_of(ev, i, s);
	to->frozen = hold_has(ev->node, s, HOLD_EVACUATION);
	to->tried = ev->more[i].tries > 0;
	to->movable = evacuate_is_movable(ev, to->id);
	to->waited = ev->more[i].waited;
}

wall_ms evacuate_act(struct evacuate *ev, wall_ms now)
{
	const struct config *c = ev->node->config;
	const struct evacuate_rates *rates = estimate_rates(ev->node);
	size_t count = ev->record.session_count;
	cleanup_free struct evacuate_session *list = calloc(count + 1, sizeof(*list));
	const struct evacuate_facts facts = {
		.now = now,
		.deadline = evacuate_deadline(ev, NULL),
		.margin_ms = c->spot.margin_ms,
		.store_bytes_per_s = rates->store_bytes_per_s,
		.stream_bytes_per_s = rates->stream_bytes_per_s,
		.dump_bytes_per_s = rates->dump_bytes_per_s,
		.dump_stream_bytes_per_s = rates->dump_stream_bytes_per_s,
		.cpus = (size_t)sysconf(_SC_NPROCESSORS_ONLN),
		.fixed_ms = rates->fixed_ms,
		.move_bytes_per_s = rates->move_bytes_per_s,
		.moves_until = evacuate_moves_until(ev),
		.workers = (size_t)c->node.workers,
	};
	if (!list)
		return now + PAUSE_MS;
	for (size_t i = 0; i < count; i++)
		fill(ev, i, session_find(ev->node, ev->record.sessions[i].session), now, &list[i]);
	wall_ms wake = evacuate_decide(&facts, list, count);
	for (size_t k = 0; k < count; k++) {
		struct session *s = session_find(ev->node, list[k].id);
		int i = evacuate_find(ev, list[k].id);
		if (s && i >= 0)
			act(ev, (size_t)i, s, &list[k], now);
	}
	return wake;
}
