/* SPDX-License-Identifier: Apache-2.0 */
#include "base/cleanup.h"
#include "policies/lifecycle.h"
#include "tests/unit/lifecycle_cases.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

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

/* News of which *now says what was told. */
static bool tells(enum session_event event)
{
	return event == EVENT_FENCED || event == EVENT_EVACUATED || event == EVENT_TAKEN_BACK;
}

static void check_numbers(const struct session_now *now, enum session_event event,
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
static bool was_hibernated(enum session_state state)
{
	return state == SESSION_ASLEEP || state == SESSION_ANSWERING || state == SESSION_RELEASING;
}

/* What must hold of every step, whatever came before. */
static void check_step(const struct session_now *now, enum session_event event,
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

/*
 * A world to walk at random: nodes that do what they are told, badly at times, get lost and come
 * back, and a record that is kept by the steps alone. Checked after every step: the record never
 * claims less than the truth, and nothing runs twice.
 */
struct world {
	struct session_now record;
	enum session_action pending;
	int64_t pending_generation;
	bool processes;    /* run where elsad can reach them */
	bool answered;     /* it sleeps there, and its node may wake it at any moment */
	bool woken;        /* ... and has */
	bool held;         /* stand still on a node that is lost */
	bool held_is_home; /* nothing of the session was begun elsewhere since */
	int64_t held_next; /* the number that node would write next */
	int64_t top;       /* newest number in the store, of a checkpoint or a fence */
	int64_t committed; /* newest checkpoint there */
	bool usable;       /* ... and not set aside */
	bool given;        /* by another node, which stands still with it for as long */
	bool excused;      /* processes went by the user's wish or by accident */
};

static uint32_t next_random(uint32_t *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 17;
	*seed ^= *seed << 5;
	return *seed;
}

static void commit_checkpoint(struct world *w, int64_t generation)
{
	w->committed = w->top = generation;
	w->usable = true;
}

/* A start or restore: the one thing that must never be where processes are or could come back. */
static enum session_event perform_run(struct world *w, bool good, uint32_t luck)
{
	if (w->processes) { /* its node has woken it just before */
		assert_true(w->woken);
		return EVENT_EFFECT_REFUSED;
	}
	if (w->held) /* what stands still out of reach can write nothing any more */
		assert_true(w->top >= w->held_next);
	if (w->pending == ACTION_RESTORE)
		assert_true(w->usable && w->pending_generation == w->committed);
	w->held_is_home = false;
	w->processes = good;
	if (!good && w->answered && w->pending == ACTION_RESTORE)
		return EVENT_EFFECT_ASLEEP;
	w->answered = false;
	if (good)
		return EVENT_EFFECT_DONE;
	bool elsewhere = w->pending == ACTION_RESTORE && luck % 8 == 0;
	return elsewhere ? EVENT_EFFECT_ELSEWHERE : EVENT_EFFECT_FAILED;
}

static enum session_event perform_checkpoint(struct world *w, bool good, uint32_t luck)
{
	if (!w->processes)
		return EVENT_EFFECT_FAILED;
	if (!good)
		return EVENT_EFFECT_REFUSED;
	assert_true(w->pending_generation > w->top);
	commit_checkpoint(w, w->pending_generation);
	/* a session may end by itself while its snapshot is on the way */
	bool ends = w->pending == ACTION_SNAPSHOT && luck % 16 == 1;
	w->excused = w->excused || ends;
	w->processes = w->pending == ACTION_SNAPSHOT && !ends;
	w->answered = w->pending == ACTION_SLEEP && luck % 8 != 1;
	return w->answered ? EVENT_EFFECT_ASLEEP : EVENT_EFFECT_DONE;
}

static enum session_event perform_answer(struct world *w, bool good)
{
	assert_false(w->processes);
	if (w->held)
		assert_true(w->top >= w->held_next);
	w->held_is_home = false;
	w->answered = good;
	return good ? EVENT_EFFECT_DONE : EVENT_EFFECT_FAILED;
}

static enum session_event perform_release(struct world *w, bool good)
{
	if (w->processes)
		return EVENT_EFFECT_REFUSED;
	w->answered = w->answered && !good;
	return w->answered ? EVENT_EFFECT_ASLEEP : EVENT_EFFECT_DONE;
}

static enum session_event perform_freeze(const struct world *w, bool good)
{
	if (!w->processes)
		return EVENT_EFFECT_FAILED;
	return good ? EVENT_EFFECT_DONE : EVENT_EFFECT_REFUSED;
}

/* Somebody came: nobody else is asked. What is set aside it does not wake. */
static void wake_by_itself(struct world *w)
{
	if (!w->answered || !w->usable)
		return;
	assert_false(w->processes);
	w->answered = false;
	w->processes = w->woken = true;
}

/* Given away or not, and then running there or not: only in the one case does nothing run. */
static enum session_event perform_migration(struct world *w, bool good, uint32_t luck)
{
	if (!w->processes)
		return EVENT_EFFECT_FAILED;
	if (good)
		return EVENT_EFFECT_DONE;
	if (luck / 4 % 2)
		return EVENT_EFFECT_REFUSED;
	w->excused = true;
	w->processes = false;
	w->given = luck / 8 % 2;
	return EVENT_EFFECT_FAILED;
}

/* What was given away is taken back only when it is fenced, so that nothing newer can come of it.
 */
static enum session_event perform_fence(struct world *w)
{
	bool back = w->given && !w->processes;
	w->excused = true;
	w->top = (w->top > w->pending_generation ? w->top : w->pending_generation) + 1;
	w->given = false;
	if (!back)
		return EVENT_FENCED;
	if (w->held) /* on the one that it was given to */
		assert_true(w->top >= w->held_next);
	w->held_is_home = false;
	w->processes = true;
	return EVENT_TAKEN_BACK;
}

/* Does the pending effect and answers as a node would: done, failed with the session running on, or
 * failed with nothing running. */
static enum session_event perform(struct world *w, uint32_t luck)
{
	bool good = luck % 4 != 0;
	switch (w->pending) {
	case ACTION_START:
	case ACTION_RESTORE:
		return perform_run(w, good, luck);
	case ACTION_SNAPSHOT:
	case ACTION_HIBERNATE:
	case ACTION_SLEEP:
		return perform_checkpoint(w, good, luck);
	case ACTION_ANSWER:
		return perform_answer(w, good);
	case ACTION_RELEASE:
		return perform_release(w, good);
	case ACTION_DOZE:
	case ACTION_ROUSE:
		return perform_freeze(w, good);
	case ACTION_MIGRATE:
		return perform_migration(w, good, luck);
	case ACTION_FENCE:
		return perform_fence(w);
	default:
		w->excused = true;
		if (!good && w->processes)
			return EVENT_EFFECT_REFUSED;
		if (!good && w->answered)
			return EVENT_EFFECT_ASLEEP;
		w->processes = w->answered = false;
		if (w->pending == ACTION_FORGET && good)
			w->usable = false;
		return good ? EVENT_EFFECT_DONE : EVENT_EFFECT_FAILED;
	}
}

/* The node is lost, perhaps after it did what was under way, and may have put the session away. */
static enum session_event lose_node(struct world *w, uint32_t luck)
{
	if (luck % 5 == 0)
		wake_by_itself(w);
	bool held = w->processes;
	if (luck % 2 && w->pending != ACTION_NONE && w->pending != ACTION_FENCE)
		perform(w, luck / 2);
	if (w->pending == ACTION_FENCE || !session_state_has_processes(w->record.state))
		return EVENT_NODE_LOST; /* another one: nothing of this session is there */
	w->excused = true;
	w->held = (held || w->processes) && luck % 3;
	/* the one that is lost in a migration is the target, which is nobody's home yet */
	bool moving = w->record.state == SESSION_MIGRATING;
	w->given = moving && luck / 8 % 2;
	w->held_is_home = w->held && !moving;
	w->held_next = w->record.generation + 1;
	if (w->held_next <= w->top)
		w->held_next = w->top + 1;
	w->processes = w->answered = false;
	return EVENT_NODE_LOST;
}

/* A node that is lost puts away what stands still there: the store says whether it still may. */
static void evacuate_late(struct world *w)
{
	if (w->held && w->top < w->held_next)
		commit_checkpoint(w, w->held_next);
}

/* The lost node is back. What is not its own any more is ended there. */
static enum session_event return_node(struct world *w)
{
	bool own = w->held && w->held_is_home && w->record.state != SESSION_FENCING;
	if (w->record.state == SESSION_FENCING) /* the next look comes after its verdict */
		return EVENT_FOUND;
	bool taken =
		own && (w->record.state == SESSION_LOST || w->record.state == SESSION_HIBERNATED);
	w->held = false;
	w->processes = w->processes || taken;
	return taken ? EVENT_FOUND : EVENT_COUNT;
}

/* What is asked of sleep, and what its node tells of it. */
static enum session_event pick_of_sleep(struct world *w, uint32_t dice)
{
	static const enum session_event asked[] = { EVENT_SLEEP, EVENT_ANSWER, EVENT_RELEASE,
						    EVENT_DOZE };
	if (dice < 24)
		return asked[dice - 20];
	if (dice == 24)
		wake_by_itself(w);
	if (!w->processes)
		return EVENT_COUNT;
	return dice == 24 ? EVENT_WOKEN : EVENT_DOZES;
}

static enum session_event pick_event(struct world *w, uint32_t *seed)
{
	uint32_t dice = next_random(seed) % 26;
	if (w->pending != ACTION_NONE && dice < 6)
		return perform(w, next_random(seed));
	if ((dice == 6 || dice == 7) && w->pending != ACTION_FENCE) {
		if (dice == 6) /* not what does not run */
			wake_by_itself(w);
		w->excused = true;
		w->processes = w->answered = false;
		return dice == 6 ? EVENT_EXITED : EVENT_NODE_REBOOTED;
	}
	if (dice < 12)
		return dice == 8 ? EVENT_SNAPSHOT : dice % 2 ? EVENT_START : EVENT_HIBERNATE;
	if (dice == 16)
		return lose_node(w, next_random(seed));
	if (dice == 17)
		return return_node(w);
	if (dice == 18)
		evacuate_late(w);
	if (dice == 19)
		return EVENT_MIGRATE;
	if (dice >= 20)
		return pick_of_sleep(w, dice);
	return (enum session_event)(dice % 4 + EVENT_START_FRESH) % EVENT_EFFECT_DONE;
}

/* What the shell puts into *now: the record, or what the fence told. */
static struct session_now now_of(const struct world *w, enum session_event event, bool in_use)
{
	struct session_now now = w->record;
	if (event == EVENT_FENCED || event == EVENT_TAKEN_BACK) {
		now.generation = w->top;
		now.checkpoint = w->usable ? w->committed : 0;
	}
	if (event == EVENT_NODE_LOST && now.state == SESSION_RUNNING && in_use)
		now.wish = WISH_AWAKE;
	return now;
}

static void apply(struct world *w, enum session_event event, const struct session_step *s,
		  uint32_t luck)
{
	w->record.wish = s->wish;
	if (s->verdict != STEP_TAKEN)
		return;
	/* an effect that is replaced may have been done all the same; nobody hears its verdict */
	if (s->action != ACTION_NONE && w->pending != ACTION_NONE && event != EVENT_NODE_LOST &&
	    luck % 2)
		perform(w, luck / 2);
	if (s->set_aside)
		w->usable = false;
	if (w->record.state == SESSION_FORGETTING && event == EVENT_EFFECT_DONE) {
		*w = (struct world) { 0 }; /* another session comes, with another id */
		return;
	}
	w->record.state = s->next;
	w->record.checkpoint = s->checkpoint;
	w->record.generation = s->newest;
	w->pending = s->action;
	w->pending_generation = s->generation;
}

static void check_world(const struct world *w)
{
	if (w->processes)
		assert_true(session_state_has_processes(w->record.state));
	/* what could not be forgotten cannot be woken either */
	if (w->answered)
		assert_true(session_state_has_processes(w->record.state) || !w->usable);
	if (w->record.checkpoint && w->record.state != SESSION_FORGETTING)
		assert_true(w->usable && w->committed >= w->record.checkpoint);
	if (w->record.checkpoint && !session_state_has_processes(w->record.state))
		assert_true(w->committed == w->record.checkpoint);
	if (w->record.state == SESSION_LOST)
		assert_true(w->excused);
	if (w->record.state == SESSION_HIBERNATED)
		assert_true(w->usable);
	/* nothing that stands still out of reach comes into what is not fenced */
	if (w->held && !w->record.state)
		assert_true(w->top >= w->held_next);
}

static void test_random_lives(void **state)
{
	(void)state;
	for (uint32_t life = 1; life <= 500; life++) {
		uint32_t seed = life * 2654435761u;
		struct world w = { 0 };
		for (int i = 0; i < 1000; i++) {
			enum session_event event = pick_event(&w, &seed);
			struct session_now now = now_of(&w, event, next_random(&seed) % 2);
			struct session_step step = lifecycle_step(&now, event);
			check_step(&now, event, &step);
			apply(&w, event, &step, next_random(&seed));
			check_world(&w);
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
		cmocka_unit_test(test_number_without_checkpoint),
		cmocka_unit_test(test_wishes),
		cmocka_unit_test(test_fence_ends),
		cmocka_unit_test(test_requests_are_answered),
		cmocka_unit_test(test_transient_states_end),
		cmocka_unit_test(test_random_lives),
		cmocka_unit_test(test_names),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
