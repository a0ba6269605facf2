/* SPDX-License-Identifier: Apache-2.0 */
/* Who may sleep: policies/idle.h asked about one session at the moments that it names itself. */
#include "sim/world_private.h"

#include <stdlib.h>

#define AGAIN_MS 1000 /* a snapshot of it is being taken */

static bool is_asleep(const struct sim_session *s)
{
	return s->unseen && s->now.state == SESSION_HIBERNATED;
}

static struct idle_facts facts_of(const struct world *w, const struct sim_session *s)
{
	bool busy = work_busy(w, s);
	return (struct idle_facts) {
		.user = "",
		.server = "",
		.started_at = s->started_at,
		.created_at = s->created_at,
		.kernel_activity_at = busy ? w->now : s->busy_until,
		.request_at = s->request_at,
		.server_seen = true,
		.kernel_busy = busy,
		.busy_since = busy ? w->now : 0,
		.memory_bytes = s->memory_bytes,
		.tier = is_asleep(s) ? IDLE_ASLEEP : IDLE_AWAKE,
		.slept_at = s->slept_at,
		.person_at = s->request_at,
	};
}

static struct idle_decision decide(const struct world *w, const struct sim_session *s,
				   int under_way)
{
	struct idle_facts facts = facts_of(w, s);
	struct idle_decision decision = { 0 };
	idle_decide(&w->idle, &facts, 1, under_way, w->now, &decision);
	return decision;
}

bool session_in_use(const struct world *w, const struct sim_session *s)
{
	return !decide(w, s, 0).hibernate;
}

void idle_arm(struct world *w, struct sim_session *s, wall_ms at)
{
	if (at < w->now)
		at = w->now;
	/* One that is asleep is looked at in a day, and may be awake long before: the sooner
	 * counts. */
	if ((s->look_at && s->look_at <= at) || w->strategy->idle == IDLE_ACTION_NONE)
		return;
	s->look_at = at;
	world_at(w, at, ON_IDLE_LOOK, session_number(w, s), 0);
}

static void kill_session(struct world *w, struct sim_session *s)
{
	struct sim_result *r = &w->result;
	r->culled++;
	r->sessions_lost += work_done(w, s) > 0;
	work_lose(w, s);
	s->slept = true;
	session_change(w, s, EVENT_STOP);
	r->evicted_lost += s->evicted;
	s->evicted = false;
}

void idle_put_to_sleep(struct world *w, struct sim_session *s)
{
	s->unseen = false;
	s->slept_at = w->now;
	session_change(w, s, EVENT_HIBERNATE);
	w->under_way += s->now.state == SESSION_CHECKPOINTING;
}

static void put_away(struct world *w, struct sim_session *s, const struct idle_decision *d)
{
	if (w->strategy->idle == IDLE_ACTION_KILL) {
		kill_session(w, s);
		return;
	}
	idle_put_to_sleep(w, s);
	s->unseen = w->strategy->unseen && d->to == IDLE_ASLEEP;
}

/* Its machine is emptied. */
void idle_put_away(struct world *w, struct sim_session *s)
{
	struct idle_decision d = decide(w, s, 0);
	if (d.hibernate)
		put_away(w, s, &d);
}

static void wait_for_slot(struct world *w, struct sim_session *s)
{
	if (w->sleepy_count == w->sleepy_size) {
		size_t size = w->sleepy_size ? w->sleepy_size * 2 : 64;
		uint32_t *list = reallocarray(w->sleepy, size, sizeof(*list));
		if (!list) {
			world_failed(w);
			return;
		}
		w->sleepy = list;
		w->sleepy_size = size;
	}
	w->sleepy[w->sleepy_count++] = session_number(w, s);
	s->sleepy = true;
}

/* Of a machine that goes away, its evacuation decides. */
static bool may_sleep(const struct world *w, const struct sim_session *s)
{
	return s->now.state == SESSION_RUNNING && !machine_of(w, s)->doomed;
}

static void follow(struct world *w, struct sim_session *s, const struct idle_decision *d)
{
	if (d->hibernate)
		put_away(w, s, d);
	else if (d->reason == IDLE_KERNEL_BUSY)
		idle_arm(w, s, s->busy_until);
	else if (d->next_at)
		idle_arm(w, s, d->next_at);
	else if (d->reason == IDLE_CONCURRENCY)
		wait_for_slot(w, s);
}

/* Asleep for long: from now on its user has to start it. */
static void look_at_asleep(struct world *w, struct sim_session *s)
{
	struct idle_decision d = decide(w, s, 0);
	if (d.to == IDLE_STOPPED)
		s->unseen = false;
	else if (d.next_at)
		idle_arm(w, s, d.next_at);
}

void idle_look(struct world *w, struct sim_session *s)
{
	if (s->look_at != w->now)
		return; /* a sooner one took its place */
	s->look_at = 0;
	if (is_asleep(s))
		look_at_asleep(w, s);
	if (s->now.state == SESSION_SNAPSHOTTING)
		idle_arm(w, s, w->now + AGAIN_MS);
	if (s->sleepy || !may_sleep(w, s))
		return;
	struct idle_decision d = decide(w, s, w->under_way);
	follow(w, s, &d);
}

/* All that wait are decided about together, so that the policy says whose turn it is. */
void idle_slot_free(struct world *w)
{
	size_t count = w->sleepy_count;
	w->under_way--;
	if (!count)
		return;
	size_t facts_size = count * sizeof(struct idle_facts);
	size_t decisions_size = count * sizeof(struct idle_decision);
	char *room = world_scratch(w, facts_size + decisions_size + count * sizeof(uint32_t));
	if (!room)
		return;
	struct idle_facts *facts = (void *)room;
	struct idle_decision *decisions = (void *)(room + facts_size);
	uint32_t *numbers = (void *)(room + facts_size + decisions_size);
	size_t n = 0;
	for (size_t i = 0; i < count; i++) {
		struct sim_session *s = &w->sessions[w->sleepy[i]];
		s->sleepy = false;
		if (s->now.state == SESSION_SNAPSHOTTING)
			idle_arm(w, s, w->now + AGAIN_MS);
		if (!may_sleep(w, s))
			continue;
		numbers[n] = w->sleepy[i];
		facts[n++] = facts_of(w, s);
	}
	w->sleepy_count = 0;
	idle_decide(&w->idle, facts, n, w->under_way, w->now, decisions);
	for (size_t i = 0; i < n; i++)
		follow(w, &w->sessions[numbers[i]], &decisions[i]);
}
