/* SPDX-License-Identifier: Apache-2.0 */
/* What the steps of a session mean for what is elsewhere of it. */
#include "controller/remains.h"

#include "controller/node.h"

#include <string.h>

/* Nothing of it is to come back any more from where it once left. */
static bool ends(const struct session *s, const struct remains_news *news)
{
	enum session_state next = news->step->next;
	enum session_action action = news->step->action;
	const struct remains *r = remains_of(s);
	/* Nothing of it is to go on, and nothing can be forgotten where it stands still for another
	 * node. */
	bool forgotten = action == ACTION_FORGET && s->state == SESSION_FENCING;
	if (action == ACTION_START || action == ACTION_RESTORE || forgotten || news->gone)
		return true;
	if (session_state_has_processes(next))
		return false;
	/* Who has it may only be out of reach, with what is newer than all else. */
	bool may_return = r && !node_in_reach(r->source) && news->change->event == EVENT_FENCED;
	return next == SESSION_STOPPED || !may_return;
}

struct remains_step remains_step_of(const struct session *s, const struct remains_news *news)
{
	const struct session_change *change = news->change;
	struct remains_step step = { .settles = remains_any(s), .to = REMAINS_OVER };
	struct remains *needed = remains_of(s);
	if (news->step->action == ACTION_MIGRATE) {
		step.settles = NULL;
		step.begins = (struct db_departure) {
			.source = (char *)node_name(s->node),
			.target = (char *)node_name(news->target),
			.generation = s->row.generation,
			.created_at = news->now,
		};
		memcpy(step.begins.id, news->effect, ID_SIZE);
		memcpy(step.begins.session, s->row.id, ID_SIZE);
	} else if (needed && change->event == EVENT_TAKEN_BACK) {
		step.settles = needed;
		step.gone = true;
	} else if (needed &&
		   (change->event == EVENT_FOUND ||
		    (s->state == SESSION_MIGRATING && change->event == EVENT_EFFECT_REFUSED))) {
		step.settles = needed;
		step.to = REMAINS_BACK;
	} else if (!ends(s, news)) {
		step.settles = NULL;
	}
	return step;
}
