/* SPDX-License-Identifier: Apache-2.0 */
#include "base/cleanup.h"
#include "policies/lifecycle.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/lifecycle_checks.h"

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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_random_lives),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
