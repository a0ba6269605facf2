/* SPDX-License-Identifier: Apache-2.0 */
/* Sessions that leave a machine which goes away while they run: elsad, if it hears of the notice in
 * time, has other nodes come for those that are left to it (node/depart.h). */
#include "node/evacuate_private.h"

#include "node/depart.h"
#include "node/lease.h"

/* So long somebody is waited for to see to the first move, or to the next one when none is under
 * way: to hear of the notice, look at us, choose a node and ask us takes a few tenths of a second.
 * Where there is much to do elsad may be late with an answer, and is there all the same. */
#define SIGN_MS 3000

wall_ms evacuate_moves_until(const struct evacuate *ev)
{
	const struct node *node = ev->node;
	wall_ms seen_at = depart_seen_at(node), sign = ev->record.begun_at;
	if (!node->config->spot.move || !depart_port(node) || !lease_is_answered(node, SIGN_MS))
		return 0;
	return (seen_at > sign ? seen_at : sign) + SIGN_MS;
}

/* What came to nothing once goes by checkpoint. */
bool evacuate_is_movable(const struct evacuate *ev, const char *session)
{
	return depart_kept_at(ev->node, session) < ev->record.begun_at;
}

bool evacuate_is_away(const struct evacuate *ev, const struct session *s)
{
	pthread_mutex_lock(&ev->node->lock);
	bool given = session_is_given(s);
	pthread_mutex_unlock(&ev->node->lock);
	return given;
}

void evacuate_note_away(struct evacuate *ev, const struct session *s, struct evacuee *to)
{
	if (to->state == EVACUEE_MOVING)
		return;
	to->state = EVACUEE_MOVING;
	to->begun_at = clock_wall();
	to->ended_at = 0;
	to->to_move = false;
	evacuate_say(to, NULL);
	pthread_mutex_lock(&ev->node->lock);
	journal_set(&to->to, s->journal.given_to, NULL);
	pthread_mutex_unlock(&ev->node->lock);
}

/* It has come back, or nothing of it is needed here any more. */
void evacuate_settle_away(struct evacuate *ev, size_t i, const struct session *s)
{
	struct evacuee *to = &ev->record.sessions[i];
	if (s && evacuate_is_away(ev, s))
		return;
	if (s && session_alive(ev->node, s)) {
		to->state = EVACUEE_WAITING;
		to->begun_at = 0;
		journal_set(&to->to, NULL, NULL);
		return;
	}
	to->state = EVACUEE_MOVED;
	to->ended_at = clock_wall();
	ev->more[i].over = true;
}
