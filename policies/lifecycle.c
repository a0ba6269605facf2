/* SPDX-License-Identifier: Apache-2.0 */
#include "policies/lifecycle_table.h"

#include "base/cleanup.h"
#include "base/names.h"

static const char *const state_names[SESSION_STATE_COUNT] = {
	[SESSION_STOPPED] = "stopped",
	[SESSION_STARTING] = "starting",
	[SESSION_RUNNING] = "running",
	[SESSION_DOZING] = "dozing",
	[SESSION_CHECKPOINTING] = "checkpointing",
	[SESSION_SNAPSHOTTING] = "snapshotting",
	[SESSION_HIBERNATED] = "hibernated",
	[SESSION_RESTORING] = "restoring",
	[SESSION_MIGRATING] = "migrating",
	[SESSION_STOPPING] = "stopping",
	[SESSION_FORGETTING] = "forgetting",
	[SESSION_FAILED] = "failed",
	[SESSION_LOST] = "lost",
	[SESSION_FENCING] = "fencing",
	[SESSION_ASLEEP] = "asleep",
	[SESSION_ANSWERING] = "answering",
	[SESSION_RELEASING] = "releasing",
	[SESSION_FREEZING] = "freezing",
	[SESSION_THAWING] = "thawing",
};

static const char *const event_names[EVENT_COUNT] = {
	[EVENT_START] = "start",
	[EVENT_START_FRESH] = "start-fresh",
	[EVENT_HIBERNATE] = "hibernate",
	[EVENT_SNAPSHOT] = "snapshot",
	[EVENT_MIGRATE] = "migrate",
	[EVENT_STOP] = "stop",
	[EVENT_FORGET] = "forget",
	[EVENT_EFFECT_DONE] = "effect-done",
	[EVENT_EFFECT_REFUSED] = "effect-refused",
	[EVENT_EFFECT_FAILED] = "effect-failed",
	[EVENT_EXITED] = "exited",
	[EVENT_NODE_REBOOTED] = "node-rebooted",
	[EVENT_IMPORTED] = "imported",
	[EVENT_NODE_LOST] = "node-lost",
	[EVENT_FENCED] = "fenced",
	[EVENT_EVACUATED] = "evacuated",
	[EVENT_FOUND] = "found",
	[EVENT_TAKEN_BACK] = "taken-back",
	[EVENT_EFFECT_ELSEWHERE] = "effect-elsewhere",
	[EVENT_GIVEN_UP] = "given-up",
	[EVENT_SLEEP] = "sleep",
	[EVENT_EFFECT_ASLEEP] = "effect-asleep",
	[EVENT_ANSWER] = "answer",
	[EVENT_RELEASE] = "release",
	[EVENT_DOZE] = "doze",
	[EVENT_WOKEN] = "woken",
	[EVENT_DOZES] = "dozes",
};

static const char *const action_names[ACTION_COUNT] = {
	[ACTION_NONE] = "none",           [ACTION_START] = "start",
	[ACTION_HIBERNATE] = "hibernate", [ACTION_SNAPSHOT] = "snapshot",
	[ACTION_RESTORE] = "restore",     [ACTION_STOP] = "stop",
	[ACTION_FORGET] = "forget",       [ACTION_FENCE] = "fence",
	[ACTION_MIGRATE] = "migrate",     [ACTION_SLEEP] = "sleep",
	[ACTION_ANSWER] = "answer",       [ACTION_RELEASE] = "release",
	[ACTION_DOZE] = "doze",           [ACTION_ROUSE] = "rouse",
};

/* What a fence ends as depends on what was wanted of the session when its node was lost, too. */
static enum outcome fence_outcome(const struct session_now *now, enum outcome o)
{
	if (now->wish == WISH_STOPPED)
		return O_STOPPED;
	return o == O_FENCED_LOST && now->wish == WISH_START ? O_FENCED_START : o;
}

static enum outcome find_outcome(const struct session_now *now, enum session_event event)
{
	if ((unsigned)now->state >= SESSION_STATE_COUNT || (unsigned)event >= EVENT_COUNT)
		return O_STALE;
	const struct cell *cell = &cells[now->state][event];
	enum outcome o = (enum outcome)(now->checkpoint ? cell->with : cell->without);
	if (o == O_UNSAID)
		o = unsaid(now->state, event);
	if (now->state == SESSION_FENCING && event == EVENT_START && now->wish == WISH_STOPPED)
		return O_ENDING;
	return event == EVENT_FENCED && o != O_STALE ? fence_outcome(now, o) : o;
}

static enum session_wish wish_after(const struct session_now *now, enum outcome o)
{
	switch (outcomes[o].wishing) {
	case NO_WISH:
		return WISH_NONE;
	case TO_SLEEP: /* an end that was asked for stays one */
		return now->wish == WISH_STOPPED ? WISH_STOPPED : WISH_NONE;
	case TO_WAKE: /* a start that was under way stays one */
		return now->wish == WISH_START ? WISH_START : WISH_AWAKE;
	case TO_START:
		return WISH_START;
	case TO_STOP:
		return WISH_STOPPED;
	case TO_ANSWER: /* somebody who wants it has more of a claim */
		return now->wish == WISH_AWAKE ? WISH_AWAKE : WISH_ANSWER;
	case NOT_UNSEEN:
		return now->wish == WISH_ANSWER ? WISH_NONE : now->wish;
	default:
		return now->wish;
	}
}

static int64_t action_generation(const struct session_now *now, enum outcome o)
{
	if (outcomes[o].action == ACTION_RESTORE || outcomes[o].action == ACTION_ANSWER)
		return now->checkpoint;
	return now->generation + outcomes[o].newer;
}

/* An action that writes a checkpoint uses up its number when it is done; one that must reckon with
 * a number that is used, and any end, at once. */
static bool uses_later(enum session_action action)
{
	return action == ACTION_HIBERNATE || action == ACTION_SNAPSHOT || action == ACTION_SLEEP;
}

struct session_step lifecycle_step(const struct session_now *now, enum session_event event)
{
	enum outcome o = find_outcome(now, event);
	bool taken = outcomes[o].verdict == STEP_TAKEN;
	bool written = o == O_HIBERNATED || o == O_SNAPSHOT_TAKEN || o == O_ASLEEP;
	struct session_step step = {
		.verdict = outcomes[o].verdict,
		.next = taken ? outcomes[o].next : now->state,
		.action = outcomes[o].action,
		.generation = action_generation(now, o),
		.newest = now->generation,
		.checkpoint = now->checkpoint,
		.wish = wish_after(now, o),
		.set_aside = outcomes[o].set_aside && now->checkpoint,
		.why = o == O_BUSY ? state_names[now->state] : outcomes[o].why,
	};
	if (!uses_later(step.action))
		step.newest += outcomes[o].newer;
	if (written)
		step.checkpoint = step.newest;
	if (step.set_aside)
		step.checkpoint = 0;
	return step;
}

bool session_state_has_processes(enum session_state state)
{
	switch (state) {
	case SESSION_STARTING:
	case SESSION_RUNNING:
	case SESSION_DOZING:
	case SESSION_CHECKPOINTING:
	case SESSION_SNAPSHOTTING:
	case SESSION_RESTORING:
	case SESSION_MIGRATING:
	case SESSION_STOPPING:
	case SESSION_FORGETTING:
	case SESSION_FENCING:
	case SESSION_ASLEEP:
	case SESSION_ANSWERING:
	case SESSION_RELEASING:
	case SESSION_FREEZING:
	case SESSION_THAWING:
		return true;
	default:
		return false;
	}
}

bool session_state_has_memory(enum session_state state)
{
	switch (state) {
	case SESSION_DOZING:
	case SESSION_ASLEEP:
	case SESSION_ANSWERING:
	case SESSION_RELEASING:
		return false;
	default:
		return session_state_has_processes(state);
	}
}

bool session_state_is_over(enum session_state state)
{
	return state == SESSION_STOPPED || state == SESSION_FAILED || state == SESSION_LOST;
}

bool session_state_is_transient(enum session_state state)
{
	switch (state) {
	case SESSION_STARTING:
	case SESSION_CHECKPOINTING:
	case SESSION_SNAPSHOTTING:
	case SESSION_RESTORING:
	case SESSION_MIGRATING:
	case SESSION_STOPPING:
	case SESSION_FORGETTING:
	case SESSION_FENCING:
	case SESSION_ANSWERING:
	case SESSION_RELEASING:
	case SESSION_FREEZING:
	case SESSION_THAWING:
		return true;
	default:
		return false;
	}
}

const char *session_state_name(enum session_state state)
{
	return name_of(state_names, ARRAY_SIZE(state_names), (int)state);
}

enum session_state session_state_from_name(const char *name)
{
	int value = value_of(state_names, ARRAY_SIZE(state_names), name);
	return value < 0 ? SESSION_STATE_COUNT : (enum session_state)value;
}

const char *session_event_name(enum session_event event)
{
	return name_of(event_names, ARRAY_SIZE(event_names), (int)event);
}

const char *session_action_name(enum session_action action)
{
	return name_of(action_names, ARRAY_SIZE(action_names), (int)action);
}
