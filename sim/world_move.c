/* SPDX-License-Identifier: Apache-2.0 */
/* Sessions in use that leave a machine which goes away while they run: one at a time of each
 * machine, over its one link. Until all its memory is elsewhere a session counts as where it was.
 */
#include "sim/world_private.h"

#include "policies/place.h"

bool move_under_way(const struct world *w, const struct machine *m)
{
	for (size_t i = 0; i < m->count; i++)
		if (w->sessions[m->sessions[i]].now.state == SESSION_MIGRATING)
			return true;
	return false;
}

/* The room that was kept for it. */
static void give_up_room(struct world *w, struct sim_session *s)
{
	struct machine *to = s->moving_to == NONE ? NULL : w->machines[s->moving_to];
	s->moving_to = NONE;
	if (!to)
		return;
	to->arriving--;
	machine_resized(w, to, -s->moving_bytes);
}

void move_begin(struct world *w, struct sim_session *s, struct machine *to, int64_t takes_ms)
{
	s->moving_to = to->number;
	s->moving_bytes = session_room(w, s);
	s->move_ms = takes_ms;
	to->arriving++;
	to->empty_since = 0;
	machine_resized(w, to, s->moving_bytes);
	session_change(w, s, EVENT_MIGRATE);
}

bool move_try(struct world *w, struct sim_session *s, int64_t takes_ms)
{
	const struct place_request request = { .memory_bytes = session_room(w, s),
					       .local_allowed = true };
	if (move_under_way(w, machine_of(w, s)))
		return true;
	int i = place(&request, w->nodes, w->live_count, NULL);
	if (i < 0) {
		s->stays = s->machine + 1;
		return false;
	}
	move_begin(w, s, w->machines[w->live[i]], takes_ms);
	return true;
}

void move_recall(struct world *w, struct sim_session *s)
{
	give_up_room(w, s);
	s->stays = s->machine + 1;
	session_change(w, s, EVENT_EFFECT_REFUSED);
	size_recalled(w, s);
}

void move_lost(struct world *w, struct sim_session *s)
{
	give_up_room(w, s);
	size_recalled(w, s);
}

void move_ended(struct world *w, struct sim_session *s)
{
	struct machine *from = machine_of(w, s);
	struct machine *to = s->moving_to == NONE ? NULL : w->machines[s->moving_to];
	if (!to || to->doomed) {
		move_recall(w, s);
	} else {
		give_up_room(w, s);
		machine_leave(w, s);
		machine_put(w, to, s);
		session_change(w, s, EVENT_EFFECT_DONE);
		if (!size_moved(w, s)) {
			w->result.moved += from->doomed;
			w->result.emptied_moved += !from->doomed;
		}
		w->result.evicted_saved += s->evicted;
		s->evicted = false;
		idle_arm(w, s, w->now);
		protect_look(w, to);
		size_ended(w, s);
	}
	if (s->to_stop)
		session_stop(w, s);
	else if (!from->doomed)
		idle_arm(w, s, w->now);
	if (from->doomed)
		evict_look(w, from);
	else
		consolidate_soon(w, 0);
}
