/* SPDX-License-Identifier: Apache-2.0 */
#include "base/cleanup.h"
#include "policies/lifecycle.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define GENERATION 7

/* usable: 0 no, 1 yes, 2 the same for both */
static const struct {
	enum session_state state;
	int usable;
	enum session_event event;
	enum step_verdict verdict;
	enum session_state next;
	enum session_action action;
	int64_t generation;
	bool aside; /* when there is a usable checkpoint */
	const char *why;
} cases[] = {
	/* wanted */
	{ SESSION_STOPPED, 2, EVENT_START, STEP_TAKEN, SESSION_STARTING, ACTION_START, 7, true,
	  "start" },
	{ SESSION_STOPPED, 2, EVENT_START_FRESH, STEP_TAKEN, SESSION_STARTING, ACTION_START, 7,
	  true, "start" },
	{ SESSION_HIBERNATED, 1, EVENT_START, STEP_TAKEN, SESSION_RESTORING, ACTION_RESTORE, 7,
	  false, "restore" },
	{ SESSION_HIBERNATED, 0, EVENT_START, STEP_CONFLICT, SESSION_HIBERNATED, ACTION_NONE, 7,
	  false, "no-usable-checkpoint" },
	{ SESSION_HIBERNATED, 2, EVENT_START_FRESH, STEP_TAKEN, SESSION_STARTING, ACTION_START, 7,
	  true, "start" },
	{ SESSION_FAILED, 1, EVENT_START, STEP_TAKEN, SESSION_RESTORING, ACTION_RESTORE, 7, false,
	  "restore" },
	{ SESSION_FAILED, 0, EVENT_START, STEP_TAKEN, SESSION_STARTING, ACTION_START, 7, false,
	  "start" },
	{ SESSION_FAILED, 2, EVENT_START_FRESH, STEP_TAKEN, SESSION_STARTING, ACTION_START, 7, true,
	  "start" },
	{ SESSION_LOST, 0, EVENT_START, STEP_TAKEN, SESSION_STARTING, ACTION_START, 7, false,
	  "start" },
	{ SESSION_LOST, 2, EVENT_START_FRESH, STEP_TAKEN, SESSION_STARTING, ACTION_START, 7, true,
	  "start" },
	{ SESSION_STARTING, 2, EVENT_START, STEP_JOIN, SESSION_STARTING, ACTION_NONE, 7, false,
	  "under-way" },
	{ SESSION_RESTORING, 2, EVENT_START, STEP_JOIN, SESSION_RESTORING, ACTION_NONE, 7, false,
	  "under-way" },
	{ SESSION_RUNNING, 2, EVENT_START, STEP_JOIN, SESSION_RUNNING, ACTION_NONE, 7, false,
	  "already" },
	{ SESSION_CHECKPOINTING, 2, EVENT_START, STEP_CONFLICT, SESSION_CHECKPOINTING, ACTION_NONE,
	  7, false, "checkpointing" },
	{ SESSION_RUNNING, 2, EVENT_START_FRESH, STEP_CONFLICT, SESSION_RUNNING, ACTION_NONE, 7,
	  false, "running" },
	{ SESSION_STOPPING, 2, EVENT_START, STEP_CONFLICT, SESSION_STOPPING, ACTION_NONE, 7, false,
	  "stopping" },

	/* to sleep */
	{ SESSION_RUNNING, 2, EVENT_HIBERNATE, STEP_TAKEN, SESSION_CHECKPOINTING, ACTION_HIBERNATE,
	  8, false, "hibernate" },
	{ SESSION_DOZING, 2, EVENT_HIBERNATE, STEP_TAKEN, SESSION_CHECKPOINTING, ACTION_HIBERNATE,
	  8, false, "hibernate" },
	{ SESSION_CHECKPOINTING, 2, EVENT_HIBERNATE, STEP_JOIN, SESSION_CHECKPOINTING, ACTION_NONE,
	  7, false, "under-way" },
	{ SESSION_HIBERNATED, 2, EVENT_HIBERNATE, STEP_JOIN, SESSION_HIBERNATED, ACTION_NONE, 7,
	  false, "already" },
	{ SESSION_STARTING, 2, EVENT_HIBERNATE, STEP_CONFLICT, SESSION_STARTING, ACTION_NONE, 7,
	  false, "starting" },
	{ SESSION_RESTORING, 2, EVENT_HIBERNATE, STEP_CONFLICT, SESSION_RESTORING, ACTION_NONE, 7,
	  false, "restoring" },
	{ SESSION_FAILED, 1, EVENT_HIBERNATE, STEP_JOIN, SESSION_FAILED, ACTION_NONE, 7, false,
	  "already" },
	{ SESSION_FAILED, 0, EVENT_HIBERNATE, STEP_CONFLICT, SESSION_FAILED, ACTION_NONE, 7, false,
	  "not-running" },
	{ SESSION_CHECKPOINTING, 2, EVENT_EFFECT_DONE, STEP_TAKEN, SESSION_HIBERNATED, ACTION_NONE,
	  8, false, "done" },
	{ SESSION_CHECKPOINTING, 2, EVENT_EFFECT_REFUSED, STEP_TAKEN, SESSION_RUNNING, ACTION_NONE,
	  7, false, "refused" },
	{ SESSION_CHECKPOINTING, 1, EVENT_EFFECT_FAILED, STEP_TAKEN, SESSION_HIBERNATED,
	  ACTION_NONE, 7, false, "processes-gone-older-checkpoint" },
	{ SESSION_CHECKPOINTING, 0, EVENT_EFFECT_FAILED, STEP_TAKEN, SESSION_LOST, ACTION_NONE, 7,
	  false, "processes-gone" },
	{ SESSION_CHECKPOINTING, 2, EVENT_EXITED, STEP_IGNORE, SESSION_CHECKPOINTING, ACTION_NONE,
	  7, false, "effect-under-way" },
	{ SESSION_CHECKPOINTING, 2, EVENT_NODE_REBOOTED, STEP_IGNORE, SESSION_CHECKPOINTING,
	  ACTION_NONE, 7, false, "effect-under-way" },

	/* a checkpoint of what goes on */
	{ SESSION_RUNNING, 2, EVENT_SNAPSHOT, STEP_TAKEN, SESSION_SNAPSHOTTING, ACTION_SNAPSHOT, 8,
	  false, "snapshot" },
	{ SESSION_HIBERNATED, 1, EVENT_SNAPSHOT, STEP_JOIN, SESSION_HIBERNATED, ACTION_NONE, 7,
	  false, "already" },
	{ SESSION_HIBERNATED, 0, EVENT_SNAPSHOT, STEP_CONFLICT, SESSION_HIBERNATED, ACTION_NONE, 7,
	  false, "no-usable-checkpoint" },
	{ SESSION_RESTORING, 2, EVENT_SNAPSHOT, STEP_CONFLICT, SESSION_RESTORING, ACTION_NONE, 7,
	  false, "restoring" },
	{ SESSION_CHECKPOINTING, 2, EVENT_SNAPSHOT, STEP_CONFLICT, SESSION_CHECKPOINTING,
	  ACTION_NONE, 7, false, "checkpointing" },
	{ SESSION_FAILED, 2, EVENT_SNAPSHOT, STEP_CONFLICT, SESSION_FAILED, ACTION_NONE, 7, false,
	  "not-running" },
	{ SESSION_SNAPSHOTTING, 2, EVENT_SNAPSHOT, STEP_JOIN, SESSION_SNAPSHOTTING, ACTION_NONE, 7,
	  false, "under-way" },
	{ SESSION_SNAPSHOTTING, 2, EVENT_START, STEP_JOIN, SESSION_SNAPSHOTTING, ACTION_NONE, 7,
	  false, "already" },
	{ SESSION_SNAPSHOTTING, 2, EVENT_START_FRESH, STEP_CONFLICT, SESSION_SNAPSHOTTING,
	  ACTION_NONE, 7, false, "running" },
	{ SESSION_SNAPSHOTTING, 2, EVENT_HIBERNATE, STEP_CONFLICT, SESSION_SNAPSHOTTING,
	  ACTION_NONE, 7, false, "snapshotting" },
	{ SESSION_SNAPSHOTTING, 2, EVENT_STOP, STEP_CONFLICT, SESSION_SNAPSHOTTING, ACTION_NONE, 7,
	  false, "snapshotting" },
	{ SESSION_SNAPSHOTTING, 2, EVENT_FORGET, STEP_TAKEN, SESSION_FORGETTING, ACTION_FORGET, 8,
	  false, "forget" },
	{ SESSION_SNAPSHOTTING, 2, EVENT_EFFECT_DONE, STEP_TAKEN, SESSION_RUNNING, ACTION_NONE, 8,
	  false, "done" },
	{ SESSION_SNAPSHOTTING, 2, EVENT_EFFECT_REFUSED, STEP_TAKEN, SESSION_RUNNING, ACTION_NONE,
	  7, false, "refused" },
	{ SESSION_SNAPSHOTTING, 2, EVENT_EFFECT_FAILED, STEP_TAKEN, SESSION_RUNNING, ACTION_NONE, 7,
	  false, "snapshot-failed" },
	{ SESSION_SNAPSHOTTING, 2, EVENT_EXITED, STEP_IGNORE, SESSION_SNAPSHOTTING, ACTION_NONE, 7,
	  false, "effect-under-way" },

	/* the end */
	{ SESSION_RUNNING, 2, EVENT_STOP, STEP_TAKEN, SESSION_STOPPING, ACTION_STOP, 7, false,
	  "stop" },
	{ SESSION_STARTING, 2, EVENT_STOP, STEP_TAKEN, SESSION_STOPPING, ACTION_STOP, 7, false,
	  "stop" },
	{ SESSION_CHECKPOINTING, 2, EVENT_STOP, STEP_CONFLICT, SESSION_CHECKPOINTING, ACTION_NONE,
	  7, false, "checkpointing" },
	{ SESSION_HIBERNATED, 2, EVENT_STOP, STEP_TAKEN, SESSION_STOPPED, ACTION_NONE, 7, true,
	  "stopped-for-good" },
	{ SESSION_STOPPED, 2, EVENT_STOP, STEP_JOIN, SESSION_STOPPED, ACTION_NONE, 7, false,
	  "already" },
	{ SESSION_STOPPING, 2, EVENT_EFFECT_DONE, STEP_TAKEN, SESSION_STOPPED, ACTION_NONE, 7, true,
	  "done" },
	{ SESSION_STOPPING, 2, EVENT_EFFECT_REFUSED, STEP_TAKEN, SESSION_RUNNING, ACTION_NONE, 7,
	  false, "refused" },
	{ SESSION_CHECKPOINTING, 2, EVENT_FORGET, STEP_TAKEN, SESSION_FORGETTING, ACTION_FORGET, 8,
	  false, "forget" },
	{ SESSION_FORGETTING, 2, EVENT_EFFECT_DONE, STEP_TAKEN, SESSION_STOPPED, ACTION_NONE, 7,
	  false, "done" },
	{ SESSION_FORGETTING, 2, EVENT_EFFECT_FAILED, STEP_TAKEN, SESSION_FAILED, ACTION_NONE, 7,
	  true, "forget-failed" },

	/* from elsewhere */
	{ SESSION_STOPPED, 1, EVENT_IMPORTED, STEP_TAKEN, SESSION_HIBERNATED, ACTION_NONE, 7, false,
	  "imported" },
	{ SESSION_STOPPED, 0, EVENT_IMPORTED, STEP_IGNORE, SESSION_STOPPED, ACTION_NONE, 7, false,
	  "stale" },
	{ SESSION_RUNNING, 2, EVENT_IMPORTED, STEP_IGNORE, SESSION_RUNNING, ACTION_NONE, 7, false,
	  "stale" },
	{ SESSION_FAILED, 2, EVENT_IMPORTED, STEP_IGNORE, SESSION_FAILED, ACTION_NONE, 7, false,
	  "stale" },

	/* verdicts and accidents */
	{ SESSION_STARTING, 2, EVENT_EFFECT_DONE, STEP_TAKEN, SESSION_RUNNING, ACTION_NONE, 7,
	  false, "done" },
	{ SESSION_STARTING, 2, EVENT_EFFECT_FAILED, STEP_TAKEN, SESSION_FAILED, ACTION_NONE, 7,
	  false, "start-failed" },
	{ SESSION_RESTORING, 2, EVENT_EFFECT_DONE, STEP_TAKEN, SESSION_RUNNING, ACTION_NONE, 7,
	  false, "done" },
	{ SESSION_RESTORING, 2, EVENT_EFFECT_FAILED, STEP_TAKEN, SESSION_FAILED, ACTION_NONE, 7,
	  false, "restore-failed" },
	{ SESSION_RUNNING, 2, EVENT_EXITED, STEP_TAKEN, SESSION_STOPPED, ACTION_NONE, 7, false,
	  "exited" },
	{ SESSION_RUNNING, 1, EVENT_NODE_REBOOTED, STEP_TAKEN, SESSION_HIBERNATED, ACTION_NONE, 7,
	  false, "node-rebooted-older-checkpoint" },
	{ SESSION_RUNNING, 0, EVENT_NODE_REBOOTED, STEP_TAKEN, SESSION_LOST, ACTION_NONE, 7, false,
	  "node-rebooted" },
	{ SESSION_RESTORING, 2, EVENT_NODE_REBOOTED, STEP_IGNORE, SESSION_RESTORING, ACTION_NONE, 7,
	  false, "effect-under-way" },
	{ SESSION_HIBERNATED, 2, EVENT_NODE_REBOOTED, STEP_IGNORE, SESSION_HIBERNATED, ACTION_NONE,
	  7, false, "stale" },
	{ SESSION_RUNNING, 2, EVENT_EFFECT_FAILED, STEP_IGNORE, SESSION_RUNNING, ACTION_NONE, 7,
	  false, "stale" },
};

static void check_case(size_t i, bool usable)
{
	struct session_now now = { cases[i].state, GENERATION, usable };
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

/* What must hold of every step, whatever came before. */
static void check_step(const struct session_now *now, enum session_event event,
		       const struct session_step *s)
{
	assert_non_null(s->why);
	assert_true(s->why[0]);
	assert_in_range(s->next, 0, SESSION_STATE_COUNT - 1);
	assert_true(s->generation >= now->generation);
	if (s->verdict != STEP_TAKEN) {
		assert_int_equal(s->next, now->state);
		assert_int_equal(s->action, ACTION_NONE);
		assert_int_equal(s->generation, now->generation);
		assert_false(s->set_aside);
	} else {
		/* an effect is under way exactly while a state waits for it */
		assert_int_equal(session_state_is_transient(s->next), s->action != ACTION_NONE);
	}
	if (s->action == ACTION_START || s->action == ACTION_RESTORE)
		assert_false(session_state_has_processes(now->state));
	if (s->action == ACTION_START)
		assert_int_equal(s->set_aside, now->checkpoint_usable);
	if (s->action == ACTION_RESTORE) {
		assert_true(now->checkpoint_usable);
		assert_int_equal(s->generation, now->generation);
	}
	if (s->action == ACTION_HIBERNATE || s->action == ACTION_SNAPSHOT)
		assert_int_equal(s->generation, now->generation + 1);
	if (s->set_aside)
		assert_true(now->checkpoint_usable);
	if (s->next == SESSION_HIBERNATED && now->state != SESSION_HIBERNATED)
		assert_true(now->checkpoint_usable || event == EVENT_EFFECT_DONE);
	if (s->next == SESSION_LOST && now->state != SESSION_LOST)
		assert_true(!now->checkpoint_usable &&
			    (event == EVENT_NODE_REBOOTED || event == EVENT_EFFECT_FAILED));
	/* only the user, a committed checkpoint or bad news ever lets processes go */
	if (session_state_has_processes(now->state) && !session_state_has_processes(s->next))
		assert_true(event >= EVENT_EFFECT_DONE);
}

static void test_total(void **state)
{
	(void)state;
	for (int s = -1; s <= SESSION_STATE_COUNT; s++) {
		for (int e = -1; e <= EVENT_COUNT; e++) {
			for (int usable = 0; usable <= 1; usable++) {
				struct session_now now = { (enum session_state)s, GENERATION,
							   usable };
				struct session_step a = lifecycle_step(&now, (enum session_event)e);
				struct session_step b = lifecycle_step(&now, (enum session_event)e);
				assert_true(a.verdict == b.verdict && a.next == b.next &&
					    a.action == b.action && a.generation == b.generation &&
					    a.set_aside == b.set_aside && a.why == b.why);
				if (s >= 0 && s < SESSION_STATE_COUNT)
					check_step(&now, (enum session_event)e, &a);
				else
					assert_int_equal(a.verdict, STEP_IGNORE);
			}
		}
	}
}

/* Every request of a person gets an answer: taken, joined or a conflict, never nothing. */
static void test_requests_are_answered(void **state)
{
	(void)state;
	for (int s = 0; s < SESSION_STATE_COUNT; s++) {
		for (int e = EVENT_START; e <= EVENT_FORGET; e++) {
			struct session_now now = { (enum session_state)s, GENERATION, true };
			assert_int_not_equal(lifecycle_step(&now, (enum session_event)e).verdict,
					     STEP_IGNORE);
		}
	}
}

/* Whatever an effect says, its state ends; anything else said meanwhile leaves it waiting or begins
 * another effect. */
static void test_transient_states_end(void **state)
{
	(void)state;
	for (int s = 0; s < SESSION_STATE_COUNT; s++) {
		struct session_now now = { (enum session_state)s, GENERATION, true };
		if (!session_state_is_transient(now.state))
			continue;
		for (int e = EVENT_EFFECT_DONE; e <= EVENT_EFFECT_FAILED; e++) {
			struct session_step step = lifecycle_step(&now, (enum session_event)e);
			assert_int_equal(step.verdict, STEP_TAKEN);
			assert_false(session_state_is_transient(step.next));
		}
		assert_int_equal(lifecycle_step(&now, EVENT_EXITED).verdict, STEP_IGNORE);
		assert_int_equal(lifecycle_step(&now, EVENT_NODE_REBOOTED).verdict, STEP_IGNORE);
	}
}

/*
 * A world to walk at random: a node that does what it is told, badly at times, and a record that is
 * kept by the steps alone. Checked after every step: the record never claims less than the truth.
 */
struct world {
	struct session_now record;
	enum session_action pending;
	int64_t pending_generation;
	bool processes;
	int64_t committed; /* newest generation in the store */
	bool usable;       /* ... and not set aside */
	bool excused;      /* processes went by the user's wish or by accident */
};

static uint32_t next_random(uint32_t *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 17;
	*seed ^= *seed << 5;
	return *seed;
}

/* Does the pending effect and answers as a node would: done, failed with the session running on, or
 * failed with nothing running. */
static enum session_event perform(struct world *w, uint32_t luck)
{
	bool good = luck % 4 != 0;
	switch (w->pending) {
	case ACTION_START:
	case ACTION_RESTORE:
		assert_false(w->processes);
		if (w->pending == ACTION_RESTORE)
			assert_true(w->usable && w->pending_generation == w->committed);
		w->processes = good;
		return good ? EVENT_EFFECT_DONE : EVENT_EFFECT_FAILED;
	case ACTION_SNAPSHOT:
	case ACTION_HIBERNATE:
		if (!w->processes)
			return EVENT_EFFECT_FAILED;
		if (!good)
			return EVENT_EFFECT_REFUSED;
		assert_true(w->pending_generation > w->committed);
		w->committed = w->pending_generation;
		w->usable = true;
		/* a session may end by itself while its snapshot is on the way */
		bool ends = w->pending == ACTION_SNAPSHOT && luck % 16 == 1;
		w->excused = w->excused || ends;
		w->processes = w->pending == ACTION_SNAPSHOT && !ends;
		return EVENT_EFFECT_DONE;
	default:
		w->excused = true;
		if (!good && w->processes)
			return EVENT_EFFECT_REFUSED;
		w->processes = false;
		if (w->pending == ACTION_FORGET && good)
			w->usable = false;
		return good ? EVENT_EFFECT_DONE : EVENT_EFFECT_FAILED;
	}
}

static enum session_event pick_event(struct world *w, uint32_t *seed)
{
	uint32_t dice = next_random(seed) % 16;
	if (w->pending != ACTION_NONE && dice < 6)
		return perform(w, next_random(seed));
	if (dice == 6 || dice == 7) {
		w->excused = true;
		w->processes = false;
		return dice == 6 ? EVENT_EXITED : EVENT_NODE_REBOOTED;
	}
	if (dice < 12)
		return dice == 8 ? EVENT_SNAPSHOT : dice % 2 ? EVENT_START : EVENT_HIBERNATE;
	return (enum session_event)(dice - 12 + EVENT_START_FRESH) % EVENT_EFFECT_DONE;
}

static void apply(struct world *w, enum session_event event, const struct session_step *s,
		  uint32_t luck)
{
	if (s->verdict != STEP_TAKEN)
		return;
	/* an effect that is replaced may have been done all the same; nobody hears its verdict */
	if (s->action != ACTION_NONE && w->pending != ACTION_NONE && luck % 2)
		perform(w, luck / 2);
	if (s->set_aside)
		w->usable = false;
	bool forgotten = w->record.state == SESSION_FORGETTING && event == EVENT_EFFECT_DONE;
	bool written = event == EVENT_EFFECT_DONE && (w->record.state == SESSION_CHECKPOINTING ||
						      w->record.state == SESSION_SNAPSHOTTING);
	w->record.state = s->next;
	w->record.checkpoint_usable =
		(w->record.checkpoint_usable || written) && !s->set_aside && !forgotten;
	if (s->action == ACTION_NONE || s->action == ACTION_FORGET)
		w->record.generation = s->generation;
	w->pending = s->action;
	w->pending_generation = s->generation;
}

static void check_world(const struct world *w)
{
	if (w->processes)
		assert_true(session_state_has_processes(w->record.state));
	if (w->record.checkpoint_usable && w->record.state != SESSION_FORGETTING)
		assert_true(w->usable && w->committed == w->record.generation);
	if (w->record.state == SESSION_LOST)
		assert_true(w->excused);
	if (w->record.state == SESSION_HIBERNATED)
		assert_true(w->usable);
}

static void test_random_lives(void **state)
{
	(void)state;
	for (uint32_t life = 1; life <= 500; life++) {
		uint32_t seed = life * 2654435761u;
		struct world w = { 0 };
		for (int i = 0; i < 1000; i++) {
			struct session_now before = w.record;
			enum session_event event = pick_event(&w, &seed);
			struct session_step step = lifecycle_step(&before, event);
			check_step(&before, event, &step);
			apply(&w, event, &step, next_random(&seed));
			check_world(&w);
			assert_true(w.record.generation >= before.generation);
		}
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
		cmocka_unit_test(test_requests_are_answered),
		cmocka_unit_test(test_transient_states_end),
		cmocka_unit_test(test_random_lives),
		cmocka_unit_test(test_names),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
