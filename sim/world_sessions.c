/* SPDX-License-Identifier: Apache-2.0 */
/* The life of a session, by policies/lifecycle.h; what it waits for takes as long as the way's
 * steps do. */
#include "sim/world_private.h"

#include <stdlib.h>
#include <string.h>

#define GIB ((int64_t)1 << 30)
/* Requests to the store: docs/performance.md for a wake; a checkpoint puts packs and a manifest. */
enum { KEPT_BEHIND_NEWEST = 2 };

static int64_t by_size(int64_t fixed_ms, int64_t gib_ms, int64_t bytes)
{
	return fixed_ms + (int64_t)((double)gib_ms * (double)bytes / (double)GIB);
}

uint32_t session_number(const struct world *w, const struct sim_session *s)
{
	return (uint32_t)(s - w->sessions);
}

int64_t session_checkpoint_ms(const struct sim_session *s)
{
	return s->now.checkpoint ? s->again_ms : s->first_ms;
}

static void ends_in(struct world *w, const struct sim_session *s, int64_t ms)
{
	world_at(w, w->now + ms, ON_EFFECT_END, session_number(w, s), s->epoch);
}

/* --- state ----------------------------------------------------------------------------------- */

void session_freeze(struct world *w, struct sim_session *s)
{
	work_pause(w, s);
	s->frozen_ms = work_done(w, s);
}

static void carry_out(struct world *w, struct sim_session *s, enum session_action action)
{
	const struct step_times *t = &w->strategy->times;
	switch (action) {
	case ACTION_START:
		ends_in(w, s, t->start_ms);
		return;
	case ACTION_RESTORE:
		w->gets += PRICES_GETS_OF_WAKE;
		ends_in(w, s, by_size(t->wake_ms, t->wake_gib_ms, s->memory_bytes));
		return;
	case ACTION_HIBERNATE:
		session_freeze(w, s);
		ends_in(w, s, session_checkpoint_ms(s));
		return;
	case ACTION_SNAPSHOT:
		s->frozen_ms = work_done(w, s);
		ends_in(w, s, session_checkpoint_ms(s));
		return;
	case ACTION_MIGRATE:
		ends_in(w, s, s->move_ms);
		return;
	case ACTION_STOP:
		machine_leave(w, s);
		session_change(w, s, EVENT_EFFECT_DONE);
		return;
	case ACTION_FENCE:
		machine_leave(w, s);
		ends_in(w, s, w->setup->lease_ms);
		return;
	default:
		return;
	}
}

void session_change(struct world *w, struct sim_session *s, enum session_event event)
{
	struct session_step step = lifecycle_step(&s->now, event);
	s->now.wish = step.wish;
	if (step.verdict != STEP_TAKEN)
		return;
	s->now.state = step.next;
	s->now.generation = step.newest;
	s->now.checkpoint = step.checkpoint;
	s->epoch++;
	s->state_at = w->now;
	protect_note(w, s);
	carry_out(w, s, step.action);
}

/* --- checkpoints ----------------------------------------------------------------------------- */

static void store(struct world *w, struct sim_session *s, int64_t bytes)
{
	w->stored_bytes += (double)(bytes - s->stored_bytes);
	s->stored_bytes = bytes;
}

void session_durable(struct world *w, struct sim_session *s)
{
	const struct step_times *t = &w->strategy->times;
	int64_t full = (int64_t)((double)s->memory_bytes * t->stored_share);
	int64_t more = (int64_t)((double)full * t->changed_share);
	int64_t bytes = s->full_bytes ? s->stored_bytes - s->full_bytes + more : 0;
	if (bytes > KEPT_BEHIND_NEWEST * more)
		bytes = KEPT_BEHIND_NEWEST * more;
	s->full_bytes = full;
	store(w, s, full + bytes);
	w->puts += PRICES_PUTS_OF_CHECKPOINT;
	s->saved_ms = s->frozen_ms;
	s->before_at = s->frozen_at;
	s->frozen_at = s->saving ? s->saving_at : s->state_at;
	protect_note(w, s);
}

/* --- somebody wants it ------------------------------------------------------------------------ */

static void want(struct world *w, struct sim_session *s)
{
	if (w->wanted_count == w->wanted_size) {
		size_t size = w->wanted_size ? w->wanted_size * 2 : 64;
		uint32_t *list = reallocarray(w->wanted, size, sizeof(*list));
		if (!list) {
			world_failed(w);
			return;
		}
		w->wanted = list;
		w->wanted_size = size;
	}
	w->wanted[w->wanted_count++] = session_number(w, s);
	s->wanted = true;
}

static bool place_session(struct world *w, struct sim_session *s)
{
	const struct place_request request = { .memory_bytes = session_room(w, s),
					       .local_allowed = true };
	int i = place(&request, w->nodes, w->live_count, NULL);
	if (i < 0)
		return false;
	machine_put(w, w->machines[w->live[i]], s);
	session_change(w, s, EVENT_START);
	return true;
}

void session_wake(struct world *w, struct sim_session *s)
{
	switch (s->now.state) {
	case SESSION_FENCING:
		session_change(w, s, EVENT_START);
		return;
	case SESSION_STOPPED:
	case SESSION_HIBERNATED:
	case SESSION_FAILED:
	case SESSION_LOST:
		break;
	default:
		return; /* on its way, or it will be looked at again when it is put away */
	}
	if (s->wanted)
		return;
	size_before(w, s);
	if (place_session(w, s))
		return;
	want(w, s);
	capacity_soon(w, 2000);
}

/* There may be room for who waits, in the order in which they came. */
void wanted_retry(struct world *w)
{
	size_t kept = 0;
	for (size_t i = 0; i < w->wanted_count; i++) {
		struct sim_session *s = &w->sessions[w->wanted[i]];
		if (s->wanted && place_session(w, s))
			s->wanted = false;
		if (s->wanted)
			w->wanted[kept++] = w->wanted[i];
	}
	w->wanted_count = kept;
}

static void woken(struct sim_result *r, const struct sim_session *s, wall_ms now)
{
	tally_add(&r->wakes, now - s->asked_at);
	r->wakes_unseen += s->unseen;
}

static void came_up(struct world *w, struct sim_session *s)
{
	struct sim_result *r = &w->result;
	struct machine *m = machine_of(w, s);
	work_resume(w, s);
	s->started_at = w->now;
	if (!s->created_at)
		s->created_at = w->now;
	protect_note(w, s);
	if (s->evicted_at)
		tally_add(&r->pauses, w->now - s->evicted_at);
	else if (s->slept && s->asked_at)
		woken(r, s, w->now);
	else if (!s->slept)
		r->starts++;
	s->asked_at = s->evicted_at = s->held_at = 0;
	s->slept = s->unseen = false;
	idle_arm(w, s, w->now);
	if (m->doomed)
		evict_look(w, m);
	else
		protect_look(w, m);
}

/* --- what ends -------------------------------------------------------------------------------- */

static void fall_asleep(struct world *w, struct sim_session *s)
{
	s->slept = s->created_at != 0;
	size_asleep(w, s);
	if (s->to_stop)
		session_stop(w, s);
	else if (s->asked_at || s->evicted_at || s->now.wish != WISH_NONE || work_busy(w, s))
		session_wake(w, s);
}

static void hibernated(struct world *w, struct sim_session *s)
{
	struct machine *m = machine_of(w, s);
	w->result.hibernations++;
	session_durable(w, s);
	machine_leave(w, s);
	w->result.evicted_saved += s->evicted;
	s->evicted = false;
	if (m->doomed)
		evict_look(w, m);
	else if (m->number == w->emptying)
		consolidate_soon(w, 0);
	if (s->unseen)
		idle_arm(w, s, w->now);
	fall_asleep(w, s);
	idle_slot_free(w);
}

static void snapshotted(struct world *w, struct sim_session *s)
{
	struct machine *m = machine_of(w, s);
	w->result.snapshots++;
	session_durable(w, s);
	if (s->to_stop)
		session_stop(w, s);
	else if (m->doomed)
		evict_look(w, m);
	else
		protect_ended(w, m, s);
	size_ended(w, s);
}

/* Its machine is gone for certain; what of it is in the store is what is left. */
static void fenced(struct world *w, struct sim_session *s)
{
	struct sim_result *r = &w->result;
	int64_t lost = r->work.lost_ms;
	session_change(w, s, EVENT_FENCED);
	if (s->now.state == SESSION_LOST) {
		r->sessions_lost++;
		work_lose(w, s);
	} else if (s->now.state == SESSION_HIBERNATED) {
		work_roll_back(w, s);
	}
	r->evicted_lost += s->evicted && s->now.state == SESSION_LOST;
	r->evicted_older += s->evicted && s->now.state != SESSION_LOST && lost != r->work.lost_ms;
	r->evicted_saved += s->evicted && s->now.state != SESSION_LOST && lost == r->work.lost_ms;
	s->evicted = false;
	fall_asleep(w, s);
}

void session_effect_end(struct world *w, struct sim_session *s)
{
	enum session_state was = s->now.state;
	if (was == SESSION_FENCING) {
		fenced(w, s);
		return;
	}
	if (was == SESSION_MIGRATING) {
		move_ended(w, s);
		return;
	}
	session_change(w, s, EVENT_EFFECT_DONE);
	if (was == SESSION_CHECKPOINTING) {
		hibernated(w, s);
	} else if (was == SESSION_SNAPSHOTTING) {
		snapshotted(w, s);
	} else {
		came_up(w, s);
		if (s->to_stop)
			session_stop(w, s);
	}
}

/* --- records ---------------------------------------------------------------------------------- */

static struct sim_session *get(struct world *w, uint32_t number)
{
	while (number >= w->session_size) {
		size_t size = w->session_size ? w->session_size * 2 : 1024;
		struct sim_session *list = reallocarray(w->sessions, size, sizeof(*list));
		if (!list || sizes_more(w, size) < 0) {
			w->sessions = list ? list : w->sessions;
			world_failed(w);
			return NULL;
		}
		w->sessions = list;
		w->session_size = size;
	}
	for (; w->session_count <= number; w->session_count++) {
		struct sim_session *s = &w->sessions[w->session_count];
		*s = (struct sim_session) { .machine = NONE, .moving_to = NONE };
		if (w->sizes)
			size_init(w, s);
	}
	return &w->sessions[number];
}

void session_resize(struct world *w, struct sim_session *s, int64_t bytes)
{
	const struct step_times *t = &w->strategy->times;
	int64_t before = session_room(w, s);
	if (w->sizes && s->runs)
		size_seen(w, s);
	s->memory_bytes = bytes;
	if (s->machine != NONE)
		machine_resized(w, machine_of(w, s), session_room(w, s) - before);
	s->first_ms = by_size(t->first_ms, t->first_gib_ms, bytes);
	s->again_ms = by_size(t->again_ms, t->again_gib_ms, bytes);
	protect_note(w, s);
}

static void take_memory(struct world *w, struct sim_session *s, int64_t bytes)
{
	if (bytes && w->sizes)
		size_wants(w, s, bytes);
	else if (bytes)
		session_resize(w, s, bytes);
}

/* Its user is there. */
static void person(struct world *w, struct sim_session *s)
{
	s->request_at = w->now;
	if (s->runs)
		return;
	if (!s->asked_at && !s->evicted_at)
		s->asked_at = w->now;
	session_wake(w, s);
}

void session_opened(struct world *w, const struct trace_record *record)
{
	struct sim_session *s = get(w, record->session);
	if (!s)
		return;
	take_memory(w, s, record->memory_bytes);
	person(w, s);
}

void session_busy(struct world *w, const struct trace_record *record)
{
	struct sim_session *s = &w->sessions[record->session];
	take_memory(w, s, record->memory_bytes);
	work_add(w, s, record->duration_ms);
	person(w, s);
}

/* Whoever asks for it from now on gets a new one. */
static void ended(struct world *w, struct sim_session *s)
{
	work_end(w, s);
	store(w, s, 0);
	s->full_bytes = 0;
	s->frozen_at = s->before_at = 0;
	s->to_stop = s->wanted = s->slept = s->unseen = false;
	w->result.evicted -= s->evicted;
	s->evicted = false;
	s->evicted_at = s->held_at = 0;
	s->saving = 0;
	if (s->request_at > s->stopped_at && s->asked_at)
		session_wake(w, s);
}

/* What is done to it comes to its end first where policies/lifecycle.h says so. */
void session_stop(struct world *w, struct sim_session *s)
{
	if (!s->to_stop) {
		s->stopped_at = w->now;
		s->asked_at = 0;
	}
	session_change(w, s, EVENT_STOP);
	s->to_stop = s->now.state != SESSION_STOPPED;
	if (!s->to_stop)
		ended(w, s);
}
