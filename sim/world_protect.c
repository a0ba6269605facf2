/* SPDX-License-Identifier: Apache-2.0 */
/* Snapshots of what runs on machines that may go away, as policies/protect.h says, a machine at a
 * time. */
#include "sim/world_private.h"

struct protect_facts protect_facts_of(const struct sim_session *s)
{
	bool snapshotting = s->now.state == SESSION_SNAPSHOTTING;
	return (struct protect_facts) {
		.wanted = s->now.state == SESSION_RUNNING || snapshotting,
		.under_way = snapshotting,
		.started_at = s->started_at,
		.frozen_at = s->frozen_at,
		.memory_bytes = s->memory_bytes,
		.cost_ms = session_checkpoint_ms(s),
	};
}

/* A machine's sessions lie all over the memory, and each of its looks asks for all of them. */
void protect_note(const struct world *w, const struct sim_session *s)
{
	if (w->strategy->protects && s->machine != NONE)
		machine_of(w, s)->facts[s->place] = protect_facts_of(s);
}

void protect_look(struct world *w, struct machine *m)
{
	const struct protect_node node = { 0 };
	if (!w->strategy->protects || !w->pools[m->pool].price->spot || m->doomed)
		return;
	m->protect_turn++;
	m->protect_at = 0;
	m->protect_waits = false;
	if (!m->count)
		return;
	struct protect_decision *decisions =
		world_scratch(w, m->count * sizeof(struct protect_decision));
	if (!decisions)
		return;
	wall_ms next =
		protect_decide(&w->setup->protect, &node, 1, m->facts, m->count, w->now, decisions);
	for (size_t i = 0; i < m->count; i++) {
		m->protect_waits |= decisions[i].reason == PROTECT_TURN;
		if (decisions[i].take)
			session_change(w, &w->sessions[m->sessions[i]], EVENT_SNAPSHOT);
	}
	m->protect_at = next;
	if (next)
		world_at(w, next, ON_PROTECT, m->number, m->protect_turn);
}

/* Half of all looks can be spared: when nobody waits, and the next one is in time for this session,
 * too. */
void protect_ended(struct world *w, struct machine *m, const struct sim_session *s)
{
	wall_ms due = s->frozen_at + w->setup->protect.rpo_ms - 2 * session_checkpoint_ms(s);
	if (m->protect_waits || !m->protect_at || m->protect_at > due)
		protect_look(w, m);
}
