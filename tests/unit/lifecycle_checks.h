/* SPDX-License-Identifier: Apache-2.0 */
/* What holds of every step of a session's life. After cmocka.h. */
#ifndef ELSA_TESTS_LIFECYCLE_CHECKS_H
#define ELSA_TESTS_LIFECYCLE_CHECKS_H

#include "policies/lifecycle.h"

/* News of which *now says what was told. */
static inline bool tells(enum session_event event)
{
	return event == EVENT_FENCED || event == EVENT_EVACUATED || event == EVENT_TAKEN_BACK;
}

static inline void check_numbers(const struct session_now *now, enum session_event event,
				 const struct session_step *s)
{
	assert_true(s->newest >= now->generation);
	assert_true(s->newest <= now->generation + 1);
	assert_true(s->checkpoint <= s->newest);
	/* a checkpoint comes from an effect that wrote it and goes by being set aside, nothing else
	 */
	if (s->checkpoint > now->checkpoint)
		assert_true((event == EVENT_EFFECT_DONE || event == EVENT_EFFECT_ASLEEP) &&
			    s->checkpoint == s->newest);
	if (s->checkpoint < now->checkpoint)
		assert_true(s->checkpoint == 0 && s->set_aside);
	if (s->set_aside)
		assert_true(now->checkpoint && !s->checkpoint);
	switch (s->action) {
	case ACTION_START:
		assert_int_equal(s->set_aside, now->checkpoint != 0);
		break;
	case ACTION_RESTORE:
	case ACTION_ANSWER:
		assert_true(now->checkpoint && s->generation == now->checkpoint);
		break;
	case ACTION_HIBERNATE:
	case ACTION_SLEEP:
	case ACTION_SNAPSHOT:
		assert_true(s->generation == now->generation + 1 && s->newest == now->generation);
		break;
	default:
		assert_true(s->generation == s->newest);
	}
}

/* Its checkpoint was looked at when it became so. */
static inline bool was_hibernated(enum session_state state)
{
	return state == SESSION_ASLEEP || state == SESSION_ANSWERING || state == SESSION_RELEASING;
}

/* What must hold of every step, whatever came before. */
static inline void check_step(const struct session_now *now, enum session_event event,
			      const struct session_step *s)
{
	assert_non_null(s->why);
	assert_true(s->why[0]);
	assert_in_range(s->next, 0, SESSION_STATE_COUNT - 1);
	assert_in_range(s->wish, 0, WISH_COUNT - 1);
	check_numbers(now, event, s);
	if (s->verdict != STEP_TAKEN) {
		assert_int_equal(s->next, now->state);
		assert_int_equal(s->action, ACTION_NONE);
		assert_true(s->generation == now->generation && s->newest == now->generation);
		assert_false(s->set_aside);
	} else {
		/* an effect is under way exactly while a state waits for it */
		assert_int_equal(session_state_is_transient(s->next), s->action != ACTION_NONE);
	}
	if (s->verdict == STEP_IGNORE)
		assert_int_equal(s->wish, now->wish);
	/* what is asleep is its node's to wake */
	if (s->action == ACTION_START || s->action == ACTION_RESTORE)
		assert_true(now->state == SESSION_ASLEEP ||
			    !session_state_has_processes(now->state));
	/* fenced is what may run somewhere out of reach, and nothing else */
	if (s->action == ACTION_FENCE)
		assert_true((event == EVENT_NODE_LOST && session_state_has_processes(now->state)) ||
			    (event == EVENT_EFFECT_FAILED && now->state == SESSION_MIGRATING));
	if (s->action == ACTION_MIGRATE)
		assert_true(now->state == SESSION_RUNNING && event == EVENT_MIGRATE);
	if (s->next == SESSION_HIBERNATED && now->state != SESSION_HIBERNATED)
		assert_true(now->checkpoint || event == EVENT_EFFECT_DONE || tells(event) ||
			    was_hibernated(now->state));
	if (s->next == SESSION_LOST && now->state != SESSION_LOST)
		assert_true(!now->checkpoint &&
			    (event == EVENT_NODE_REBOOTED || event == EVENT_EFFECT_FAILED ||
			     event == EVENT_FENCED));
	/* only the user, a committed checkpoint or bad news ever lets processes go */
	if (session_state_has_processes(now->state) && !session_state_has_processes(s->next))
		assert_true(event >= EVENT_EFFECT_DONE);
	/* who runs, or is lost, waits for nothing */
	if (s->verdict == STEP_TAKEN && (s->next == SESSION_RUNNING || s->next == SESSION_LOST))
		assert_true(s->wish == WISH_NONE || now->wish != WISH_NONE);
}

#endif
