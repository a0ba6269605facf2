/* SPDX-License-Identifier: Apache-2.0 */
#include "base/cleanup.h"
#include "policies/lifecycle.h"
#include "tests/unit/lifecycle_cases.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/lifecycle_checks.h"

static void check_case(size_t i, bool usable)
{
	struct session_now now = { cases[i].state, GENERATION, usable ? GENERATION : 0 };
	struct session_step step = lifecycle_step(&now, cases[i].event);
	bool aside = cases[i].aside && usable;

	if (step.verdict != cases[i].verdict || step.next != cases[i].next ||
	    step.action != cases[i].action || step.generation != cases[i].generation ||
	    step.set_aside != aside || strcmp(step.why, cases[i].why) != 0)
		fail_msg("%s + %s (checkpoint %d): verdict %d, %s, %s %d, aside %d, why %s",
			 session_state_name(now.state), session_event_name(cases[i].event), usable,
			 step.verdict, session_state_name(step.next),
			 session_action_name(step.action), (int)step.generation, step.set_aside,
			 step.why);
}

static void test_cases(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		if (cases[i].usable != 0)
			check_case(i, true);
		if (cases[i].usable != 1)
			check_case(i, false);
	}
}

static bool same_step(const struct session_step *a, const struct session_step *b)
{
	return a->verdict == b->verdict && a->next == b->next && a->action == b->action &&
	       a->generation == b->generation && a->newest == b->newest &&
	       a->checkpoint == b->checkpoint && a->wish == b->wish &&
	       a->set_aside == b->set_aside && a->why == b->why;
}

static void check_total(int s, int e, int64_t checkpoint, int wish)
{
	struct session_now now = { (enum session_state)s, GENERATION, checkpoint,
				   (enum session_wish)wish };
	struct session_step a = lifecycle_step(&now, (enum session_event)e);
	struct session_step b = lifecycle_step(&now, (enum session_event)e);
	assert_true(same_step(&a, &b));
	if (s >= 0 && s < SESSION_STATE_COUNT)
		check_step(&now, (enum session_event)e, &a);
	else
		assert_int_equal(a.verdict, STEP_IGNORE);
}

static void test_total(void **state)
{
	(void)state;
	/* none, the newest number, and one that is older than the newest number used */
	static const int64_t checkpoints[] = { 0, GENERATION, GENERATION - 2 };
	for (int s = -1; s <= SESSION_STATE_COUNT; s++)
		for (int e = -1; e <= EVENT_COUNT; e++)
			for (size_t c = 0; c < ARRAY_SIZE(checkpoints); c++)
				for (int wish = 0; wish < WISH_COUNT; wish++)
					check_total(s, e, checkpoints[c], wish);
}

/* A fence takes a number that no checkpoint has: what is restored afterwards is older than it, what
 * is written next is newer. */
static void test_number_without_checkpoint(void **state)
{
	(void)state;
	struct session_now now = { SESSION_HIBERNATED, 9, 7, WISH_NONE };
	struct session_step step = lifecycle_step(&now, EVENT_START);
	assert_int_equal(step.action, ACTION_RESTORE);
	assert_true(step.generation == 7 && step.newest == 9 && step.checkpoint == 7);
	now.state = SESSION_RESTORING;
	step = lifecycle_step(&now, EVENT_EFFECT_DONE);
	assert_true(step.newest == 9 && step.checkpoint == 7);
	now.state = SESSION_RUNNING;
	step = lifecycle_step(&now, EVENT_HIBERNATE);
	assert_true(step.generation == 10 && step.newest == 9 && step.checkpoint == 7);
	now.state = SESSION_CHECKPOINTING;
	step = lifecycle_step(&now, EVENT_EFFECT_DONE);
	assert_true(step.newest == 10 && step.checkpoint == 10);
	step = lifecycle_step(&now, EVENT_EFFECT_REFUSED);
	assert_true(step.newest == 9 && step.checkpoint == 7);
}

static const struct {
	enum session_state state;
	enum session_wish wish;
	enum session_event event;
	enum session_wish after;
} wishes[] = {
	/* what was under way when the node was lost is gone on with */
	{ SESSION_STARTING, WISH_NONE, EVENT_NODE_LOST, WISH_START },
	{ SESSION_RESTORING, WISH_NONE, EVENT_NODE_LOST, WISH_AWAKE },
	{ SESSION_STOPPING, WISH_NONE, EVENT_NODE_LOST, WISH_STOPPED },
	{ SESSION_CHECKPOINTING, WISH_NONE, EVENT_NODE_LOST, WISH_NONE },
	{ SESSION_CHECKPOINTING, WISH_AWAKE, EVENT_NODE_LOST, WISH_AWAKE },
	{ SESSION_MIGRATING, WISH_NONE, EVENT_NODE_LOST, WISH_AWAKE },
	{ SESSION_MIGRATING, WISH_NONE, EVENT_EFFECT_FAILED, WISH_AWAKE },
	{ SESSION_RUNNING, WISH_AWAKE, EVENT_NODE_LOST, WISH_AWAKE },
	{ SESSION_RUNNING, WISH_NONE, EVENT_NODE_LOST, WISH_NONE },
	{ SESSION_RUNNING, WISH_AWAKE, EVENT_EVACUATED, WISH_AWAKE },
	{ SESSION_RUNNING, WISH_AWAKE, EVENT_HIBERNATE, WISH_AWAKE },
	/* and changed by who asks for something meanwhile */
	{ SESSION_FENCING, WISH_AWAKE, EVENT_HIBERNATE, WISH_NONE },
	{ SESSION_FENCING, WISH_START, EVENT_HIBERNATE, WISH_NONE },
	{ SESSION_FENCING, WISH_STOPPED, EVENT_HIBERNATE, WISH_STOPPED },
	{ SESSION_FENCING, WISH_NONE, EVENT_START, WISH_AWAKE },
	{ SESSION_FENCING, WISH_START, EVENT_START, WISH_START },
	{ SESSION_FENCING, WISH_AWAKE, EVENT_STOP, WISH_STOPPED },
	{ SESSION_FENCING, WISH_AWAKE, EVENT_FORGET, WISH_NONE },
	{ SESSION_CHECKPOINTING, WISH_AWAKE, EVENT_HIBERNATE, WISH_NONE },
	{ SESSION_HIBERNATED, WISH_AWAKE, EVENT_HIBERNATE, WISH_NONE },
	{ SESSION_HIBERNATED, WISH_AWAKE, EVENT_STOP, WISH_NONE },
	{ SESSION_HIBERNATED, WISH_AWAKE, EVENT_MIGRATE, WISH_AWAKE },
	{ SESSION_STOPPED, WISH_START, EVENT_STOP, WISH_NONE },
	{ SESSION_STOPPED, WISH_START, EVENT_HIBERNATE, WISH_NONE },
	/* it holds until it runs, or cannot */
	{ SESSION_FENCING, WISH_AWAKE, EVENT_FENCED, WISH_AWAKE },
	{ SESSION_FENCING, WISH_STOPPED, EVENT_FENCED, WISH_NONE },
	{ SESSION_FENCING, WISH_AWAKE, EVENT_TAKEN_BACK, WISH_NONE },
	{ SESSION_HIBERNATED, WISH_AWAKE, EVENT_START, WISH_AWAKE },
	{ SESSION_HIBERNATED, WISH_AWAKE, EVENT_FOUND, WISH_NONE },
	{ SESSION_RESTORING, WISH_NONE, EVENT_EFFECT_ELSEWHERE, WISH_AWAKE },
	{ SESSION_RESTORING, WISH_AWAKE, EVENT_EFFECT_ELSEWHERE, WISH_AWAKE },
	{ SESSION_HIBERNATED, WISH_AWAKE, EVENT_GIVEN_UP, WISH_NONE },
	{ SESSION_STARTING, WISH_NONE, EVENT_EFFECT_ELSEWHERE, WISH_START },
	{ SESSION_STARTING, WISH_START, EVENT_EFFECT_ELSEWHERE, WISH_START },
	{ SESSION_STOPPED, WISH_START, EVENT_START, WISH_START },
	{ SESSION_STOPPED, WISH_START, EVENT_GIVEN_UP, WISH_NONE },
	{ SESSION_STARTING, WISH_START, EVENT_EFFECT_FAILED, WISH_NONE },
	{ SESSION_RESTORING, WISH_AWAKE, EVENT_EFFECT_DONE, WISH_NONE },
	{ SESSION_RESTORING, WISH_AWAKE, EVENT_EFFECT_FAILED, WISH_NONE },
	{ SESSION_STARTING, WISH_START, EVENT_EFFECT_DONE, WISH_NONE },
	/* nobody is to see that it sleeps, until somebody comes or wants it seen */
	{ SESSION_RUNNING, WISH_NONE, EVENT_SLEEP, WISH_ANSWER },
	{ SESSION_DOZING, WISH_NONE, EVENT_SLEEP, WISH_ANSWER },
	{ SESSION_CHECKPOINTING, WISH_ANSWER, EVENT_EFFECT_ASLEEP, WISH_ANSWER },
	{ SESSION_CHECKPOINTING, WISH_ANSWER, EVENT_EFFECT_DONE, WISH_ANSWER },
	{ SESSION_CHECKPOINTING, WISH_ANSWER, EVENT_EFFECT_REFUSED, WISH_NONE },
	{ SESSION_CHECKPOINTING, WISH_ANSWER, EVENT_HIBERNATE, WISH_NONE },
	{ SESSION_ASLEEP, WISH_ANSWER, EVENT_HIBERNATE, WISH_NONE },
	{ SESSION_ASLEEP, WISH_ANSWER, EVENT_RELEASE, WISH_ANSWER },
	{ SESSION_ASLEEP, WISH_AWAKE, EVENT_RELEASE, WISH_AWAKE },
	{ SESSION_ASLEEP, WISH_ANSWER, EVENT_NODE_LOST, WISH_ANSWER },
	{ SESSION_ASLEEP, WISH_AWAKE, EVENT_NODE_LOST, WISH_AWAKE },
	{ SESSION_ASLEEP, WISH_ANSWER, EVENT_NODE_REBOOTED, WISH_ANSWER },
	{ SESSION_ASLEEP, WISH_ANSWER, EVENT_WOKEN, WISH_NONE },
	{ SESSION_ASLEEP, WISH_ANSWER, EVENT_EXITED, WISH_NONE },
	{ SESSION_FENCING, WISH_ANSWER, EVENT_FENCED, WISH_ANSWER },
	{ SESSION_FENCING, WISH_ANSWER, EVENT_START, WISH_AWAKE },
	{ SESSION_RELEASING, WISH_ANSWER, EVENT_START, WISH_AWAKE },
	{ SESSION_RELEASING, WISH_ANSWER, EVENT_EFFECT_DONE, WISH_ANSWER },
	{ SESSION_HIBERNATED, WISH_ANSWER, EVENT_HIBERNATE, WISH_NONE },
	{ SESSION_HIBERNATED, WISH_ANSWER, EVENT_ANSWER, WISH_ANSWER },
	{ SESSION_ANSWERING, WISH_ANSWER, EVENT_EFFECT_DONE, WISH_ANSWER },
	{ SESSION_ANSWERING, WISH_ANSWER, EVENT_EFFECT_FAILED, WISH_ANSWER },
	{ SESSION_ANSWERING, WISH_ANSWER, EVENT_HIBERNATE, WISH_NONE },
	{ SESSION_RESTORING, WISH_AWAKE, EVENT_EFFECT_ASLEEP, WISH_AWAKE },
	{ SESSION_RESTORING, WISH_NONE, EVENT_EFFECT_ASLEEP, WISH_ANSWER },
	/* but an older past is told */
	{ SESSION_CHECKPOINTING, WISH_ANSWER, EVENT_NODE_LOST, WISH_NONE },
	{ SESSION_CHECKPOINTING, WISH_ANSWER, EVENT_EFFECT_FAILED, WISH_NONE },
};

static void test_wishes(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(wishes); i++) {
		struct session_now now = { wishes[i].state, GENERATION, GENERATION,
					   wishes[i].wish };
		struct session_step step = lifecycle_step(&now, wishes[i].event);
		if (step.wish != wishes[i].after)
			fail_msg("%s (wish %d) + %s: wish %d, not %d",
				 session_state_name(now.state), now.wish,
				 session_event_name(wishes[i].event), step.wish, wishes[i].after);
	}
}

/* What a fence ends as, by what was wanted and what the store has. */
static void test_fence_ends(void **state)
{
	(void)state;
	static const struct {
		enum session_wish wish;
		enum session_state without, with;
	} ends[] = {
		{ WISH_NONE, SESSION_LOST, SESSION_HIBERNATED },
		{ WISH_AWAKE, SESSION_LOST, SESSION_HIBERNATED },
		{ WISH_START, SESSION_STOPPED, SESSION_HIBERNATED },
		{ WISH_STOPPED, SESSION_STOPPED, SESSION_STOPPED },
	};
	for (size_t i = 0; i < ARRAY_SIZE(ends); i++) {
		struct session_now now = { SESSION_FENCING, GENERATION, 0, ends[i].wish };
		struct session_step step = lifecycle_step(&now, EVENT_FENCED);
		assert_int_equal(step.next, ends[i].without);
		assert_true(step.newest == GENERATION && step.checkpoint == 0);
		now.checkpoint = GENERATION - 1;
		step = lifecycle_step(&now, EVENT_FENCED);
		assert_int_equal(step.next, ends[i].with);
		assert_int_equal(step.set_aside, ends[i].wish == WISH_STOPPED);
		assert_true(step.newest == GENERATION);
	}
	/* who wants it while it is being ended waits for that, as ever */
	struct session_now now = { SESSION_FENCING, GENERATION, 0, WISH_STOPPED };
	struct session_step step = lifecycle_step(&now, EVENT_START);
	assert_int_equal(step.verdict, STEP_CONFLICT);
	assert_string_equal(step.why, "stopping");
}

/* Every request of a person gets an answer: taken, joined or a conflict, never nothing. */
static void test_requests_are_answered(void **state)
{
	(void)state;
	for (int s = 0; s < SESSION_STATE_COUNT; s++) {
		for (int e = EVENT_START; e <= EVENT_FORGET; e++) {
			struct session_now now = { (enum session_state)s, GENERATION, GENERATION };
			assert_int_not_equal(lifecycle_step(&now, (enum session_event)e).verdict,
					     STEP_IGNORE);
		}
		const struct session_now now = { (enum session_state)s, GENERATION, GENERATION };
		assert_int_not_equal(lifecycle_step(&now, EVENT_SLEEP).verdict, STEP_IGNORE);
		assert_int_not_equal(lifecycle_step(&now, EVENT_DOZE).verdict, STEP_IGNORE);
	}
}

/* Whatever an effect says, its state ends; anything else said meanwhile leaves it waiting or begins
 * another effect. */
static void test_transient_states_end(void **state)
{
	(void)state;
	for (int s = 0; s < SESSION_STATE_COUNT; s++) {
		struct session_now now = { (enum session_state)s, GENERATION, GENERATION };
		if (!session_state_is_transient(now.state))
			continue;
		bool fenced = now.state == SESSION_FENCING;
		int first = fenced ? EVENT_FENCED : EVENT_EFFECT_DONE;
		int last = fenced ? EVENT_FENCED : EVENT_EFFECT_FAILED;
		for (int e = first; e <= last; e++) {
			struct session_step step = lifecycle_step(&now, (enum session_event)e);
			assert_int_equal(step.verdict, STEP_TAKEN);
			/* what migrated and runs nowhere is fenced first */
			bool lost = now.state == SESSION_MIGRATING && e == EVENT_EFFECT_FAILED;
			assert_int_equal(session_state_is_transient(step.next), lost);
		}
		/* ... and none waits for ever for a node that is gone */
		if (!fenced)
			assert_int_equal(lifecycle_step(&now, EVENT_NODE_LOST).verdict, STEP_TAKEN);
		assert_int_equal(lifecycle_step(&now, EVENT_EVACUATED).verdict, STEP_IGNORE);
		assert_int_equal(lifecycle_step(&now, EVENT_EXITED).verdict, STEP_IGNORE);
		assert_int_equal(lifecycle_step(&now, EVENT_NODE_REBOOTED).verdict, STEP_IGNORE);
	}
}

static void test_names(void **state)
{
	(void)state;
	for (int i = 0; i < SESSION_STATE_COUNT; i++) {
		const char *name = session_state_name((enum session_state)i);
		assert_string_not_equal(name, "?");
		assert_int_equal(session_state_from_name(name), i);
	}
	assert_int_equal(session_state_from_name("awake"), SESSION_STATE_COUNT);
	assert_int_equal(session_state_from_name(NULL), SESSION_STATE_COUNT);
	assert_string_equal(session_state_name(SESSION_STATE_COUNT), "?");
	for (int i = 0; i < EVENT_COUNT; i++)
		assert_string_not_equal(session_event_name((enum session_event)i), "?");
	for (int i = 0; i < ACTION_COUNT; i++)
		assert_string_not_equal(session_action_name((enum session_action)i), "?");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cases),
		cmocka_unit_test(test_total),
		cmocka_unit_test(test_number_without_checkpoint),
		cmocka_unit_test(test_wishes),
		cmocka_unit_test(test_fence_ends),
		cmocka_unit_test(test_requests_are_answered),
		cmocka_unit_test(test_transient_states_end),
		cmocka_unit_test(test_names),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
