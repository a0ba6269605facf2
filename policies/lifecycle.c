/* SPDX-License-Identifier: Apache-2.0 */
#include "policies/lifecycle.h"

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
};

static const char *const event_names[EVENT_COUNT] = {
	[EVENT_START] = "start",
	[EVENT_START_FRESH] = "start-fresh",
	[EVENT_HIBERNATE] = "hibernate",
	[EVENT_SNAPSHOT] = "snapshot",
	[EVENT_STOP] = "stop",
	[EVENT_FORGET] = "forget",
	[EVENT_EFFECT_DONE] = "effect-done",
	[EVENT_EFFECT_REFUSED] = "effect-refused",
	[EVENT_EFFECT_FAILED] = "effect-failed",
	[EVENT_EXITED] = "exited",
	[EVENT_NODE_REBOOTED] = "node-rebooted",
	[EVENT_IMPORTED] = "imported",
};

static const char *const action_names[ACTION_COUNT] = {
	[ACTION_NONE] = "none",           [ACTION_START] = "start",
	[ACTION_HIBERNATE] = "hibernate", [ACTION_SNAPSHOT] = "snapshot",
	[ACTION_RESTORE] = "restore",     [ACTION_STOP] = "stop",
	[ACTION_FORGET] = "forget",
};

/* Everything that can come of an event, whatever the state. */
enum outcome {
	O_STALE = 0, /* news of something that is over: the default of every cell */
	O_VERDICT,   /* the effect under way will say what is true; the shell asks it again */

	O_ALREADY,
	O_UNDER_WAY,

	O_BUSY_STARTING,
	O_BUSY_CHECKPOINTING,
	O_BUSY_SNAPSHOTTING,
	O_BUSY_RESTORING,
	O_BUSY_MIGRATING,
	O_BUSY_STOPPING,
	O_BUSY_FORGETTING,
	O_IS_RUNNING,
	O_NOT_RUNNING,
	O_NO_CHECKPOINT,

	O_START,
	O_RESTORE,
	O_HIBERNATE,
	O_SNAPSHOT,
	O_STOP,
	O_FORGET,
	O_FORGET_NEWER,

	O_RUNNING,
	O_RAN_ALREADY,
	O_RUNS_ON,
	O_HIBERNATED,
	O_SNAPSHOT_TAKEN,
	O_SNAPSHOT_FAILED,
	O_STOPPED,
	O_ENDED,
	O_START_FAILED,
	O_RESTORE_FAILED,
	O_FORGOTTEN,
	O_FORGET_REFUSED,
	O_FORGET_FAILED,
	O_EXITED,
	O_REBOOTED_OLDER,
	O_REBOOTED_LOST,
	O_GONE_OLDER,
	O_GONE_LOST,
	O_IMPORTED,
	OUTCOME_COUNT
};

static const struct {
	enum step_verdict verdict;
	enum session_state next; /* for STEP_TAKEN */
	enum session_action action;
	bool set_aside;  /* the present checkpoint, if it is usable */
	int generations; /* how many newer than the newest checkpoint */
	const char *why;
} outcomes[OUTCOME_COUNT] = {
	[O_STALE] = { STEP_IGNORE, .why = "stale" },
	[O_VERDICT] = { STEP_IGNORE, .why = "effect-under-way" },

	[O_ALREADY] = { STEP_JOIN, .why = "already" },
	[O_UNDER_WAY] = { STEP_JOIN, .why = "under-way" },

	[O_BUSY_STARTING] = { STEP_CONFLICT, .why = "starting" },
	[O_BUSY_CHECKPOINTING] = { STEP_CONFLICT, .why = "checkpointing" },
	[O_BUSY_SNAPSHOTTING] = { STEP_CONFLICT, .why = "snapshotting" },
	[O_BUSY_RESTORING] = { STEP_CONFLICT, .why = "restoring" },
	[O_BUSY_MIGRATING] = { STEP_CONFLICT, .why = "migrating" },
	[O_BUSY_STOPPING] = { STEP_CONFLICT, .why = "stopping" },
	[O_BUSY_FORGETTING] = { STEP_CONFLICT, .why = "forgetting" },
	[O_IS_RUNNING] = { STEP_CONFLICT, .why = "running" },
	[O_NOT_RUNNING] = { STEP_CONFLICT, .why = "not-running" },
	[O_NO_CHECKPOINT] = { STEP_CONFLICT, .why = "no-usable-checkpoint" },

	[O_START] = { STEP_TAKEN, SESSION_STARTING, ACTION_START, true, 0, "start" },
	[O_RESTORE] = { STEP_TAKEN, SESSION_RESTORING, ACTION_RESTORE, false, 0, "restore" },
	[O_HIBERNATE] = { STEP_TAKEN, SESSION_CHECKPOINTING, ACTION_HIBERNATE, false, 1,
			  "hibernate" },
	[O_SNAPSHOT] = { STEP_TAKEN, SESSION_SNAPSHOTTING, ACTION_SNAPSHOT, false, 1, "snapshot" },
	[O_STOP] = { STEP_TAKEN, SESSION_STOPPING, ACTION_STOP, false, 0, "stop" },
	[O_FORGET] = { STEP_TAKEN, SESSION_FORGETTING, ACTION_FORGET, false, 0, "forget" },
	[O_FORGET_NEWER] = { STEP_TAKEN, SESSION_FORGETTING, ACTION_FORGET, false, 1, "forget" },

	[O_RUNNING] = { STEP_TAKEN, SESSION_RUNNING, .why = "done" },
	[O_RAN_ALREADY] = { STEP_TAKEN, SESSION_RUNNING, .why = "ran-already" },
	[O_RUNS_ON] = { STEP_TAKEN, SESSION_RUNNING, .why = "refused" },
	[O_HIBERNATED] = { STEP_TAKEN, SESSION_HIBERNATED, ACTION_NONE, false, 1, "done" },
	[O_SNAPSHOT_TAKEN] = { STEP_TAKEN, SESSION_RUNNING, ACTION_NONE, false, 1, "done" },
	[O_SNAPSHOT_FAILED] = { STEP_TAKEN, SESSION_RUNNING, .why = "snapshot-failed" },
	[O_STOPPED] = { STEP_TAKEN, SESSION_STOPPED, ACTION_NONE, true, 0, "done" },
	[O_ENDED] = { STEP_TAKEN, SESSION_STOPPED, ACTION_NONE, true, 0, "stopped-for-good" },
	[O_START_FAILED] = { STEP_TAKEN, SESSION_FAILED, .why = "start-failed" },
	[O_RESTORE_FAILED] = { STEP_TAKEN, SESSION_FAILED, .why = "restore-failed" },
	[O_FORGOTTEN] = { STEP_TAKEN, SESSION_STOPPED, .why = "done" },
	[O_FORGET_REFUSED] = { STEP_TAKEN, SESSION_RUNNING, ACTION_NONE, true, 0, "forget-failed" },
	[O_FORGET_FAILED] = { STEP_TAKEN, SESSION_FAILED, ACTION_NONE, true, 0, "forget-failed" },
	[O_EXITED] = { STEP_TAKEN, SESSION_STOPPED, .why = "exited" },
	[O_REBOOTED_OLDER] = { STEP_TAKEN, SESSION_HIBERNATED,
			       .why = "node-rebooted-older-checkpoint" },
	[O_REBOOTED_LOST] = { STEP_TAKEN, SESSION_LOST, .why = "node-rebooted" },
	[O_GONE_OLDER] = { STEP_TAKEN, SESSION_HIBERNATED,
			   .why = "processes-gone-older-checkpoint" },
	[O_IMPORTED] = { STEP_TAKEN, SESSION_HIBERNATED, .why = "imported" },
	[O_GONE_LOST] = { STEP_TAKEN, SESSION_LOST, .why = "processes-gone" },
};

/* What comes of an event without and with a usable checkpoint. */
struct cell {
	unsigned char without, with;
};

#define ONE(outcome)       { (outcome), (outcome) }
#define TWO(without, with) { (without), (with) }

/*
 * State x event; a cell that is not written is O_STALE. The cells that need a word:
 *
 * - Stopped with a usable checkpoint: it was running, then the user ended it or it exited. An older
 *   past must not come back by itself, so the next start sets that checkpoint aside. Unless it was
 *   imported: then somebody wants just that.
 * - Checkpointing and the processes exited or the node rebooted: the checkpoint may have been
 *   committed just before. Only the effect, asked again, can tell; if it says that nothing runs and
 *   nothing was written, the older checkpoint is what is left.
 * - Stop while checkpointing conflicts although stop while starting or restoring does not: it would
 *   throw away the effect's answer, and with it whether this generation exists in the store.
 *   Forget replaces even that effect; it counts the generation as used up, for it may exist.
 * - Snapshotting is running to its user: start joins, and a fresh start is told that it runs. What
 *   ends the session waits as for a checkpoint and for the same reason: the caller is told to come
 *   back. Forget replaces it and counts the generation as used up.
 * - Snapshotting and nothing runs any more: a snapshot ends no process, so it was the session
 * itself or its node, and the snapshot's verdict does not say which. It counts as running until the
 * next look at its node tells: then it exited, or its node was rebooted.
 * - A snapshot of what is hibernated is there already: nothing has changed since.
 * - Hibernated without a usable checkpoint is a fault in the record. Starting anew in silence would
 *   hide it: the user must ask for a fresh start.
 * - A failed forget sets the checkpoint aside: what was to be deleted must not be restored.
 * - A dozing session is awake as soon as its node sees something for it: start has nothing to do.
 */
static const struct cell cells[SESSION_STATE_COUNT][EVENT_COUNT] = {
	[SESSION_STOPPED] = {
		[EVENT_START] = ONE(O_START),
		[EVENT_START_FRESH] = ONE(O_START),
		[EVENT_HIBERNATE] = ONE(O_NOT_RUNNING),
		[EVENT_SNAPSHOT] = ONE(O_NOT_RUNNING),
		[EVENT_STOP] = ONE(O_ALREADY),
		[EVENT_FORGET] = ONE(O_FORGET),
		[EVENT_IMPORTED] = TWO(O_STALE, O_IMPORTED),
	},
	[SESSION_STARTING] = {
		[EVENT_START] = ONE(O_UNDER_WAY),
		[EVENT_START_FRESH] = ONE(O_UNDER_WAY),
		[EVENT_HIBERNATE] = ONE(O_BUSY_STARTING),
		[EVENT_SNAPSHOT] = ONE(O_BUSY_STARTING),
		[EVENT_STOP] = ONE(O_STOP),
		[EVENT_FORGET] = ONE(O_FORGET),
		[EVENT_EFFECT_DONE] = ONE(O_RUNNING),
		[EVENT_EFFECT_REFUSED] = ONE(O_RAN_ALREADY),
		[EVENT_EFFECT_FAILED] = ONE(O_START_FAILED),
		[EVENT_EXITED] = ONE(O_VERDICT),
		[EVENT_NODE_REBOOTED] = ONE(O_VERDICT),
	},
	[SESSION_RUNNING] = {
		[EVENT_START] = ONE(O_ALREADY),
		[EVENT_START_FRESH] = ONE(O_IS_RUNNING),
		[EVENT_HIBERNATE] = ONE(O_HIBERNATE),
		[EVENT_SNAPSHOT] = ONE(O_SNAPSHOT),
		[EVENT_STOP] = ONE(O_STOP),
		[EVENT_FORGET] = ONE(O_FORGET),
		[EVENT_EXITED] = ONE(O_EXITED),
		[EVENT_NODE_REBOOTED] = TWO(O_REBOOTED_LOST, O_REBOOTED_OLDER),
	},
	[SESSION_DOZING] = {
		[EVENT_START] = ONE(O_ALREADY),
		[EVENT_START_FRESH] = ONE(O_IS_RUNNING),
		[EVENT_HIBERNATE] = ONE(O_HIBERNATE),
		[EVENT_SNAPSHOT] = ONE(O_SNAPSHOT),
		[EVENT_STOP] = ONE(O_STOP),
		[EVENT_FORGET] = ONE(O_FORGET),
		[EVENT_EXITED] = ONE(O_EXITED),
		[EVENT_NODE_REBOOTED] = TWO(O_REBOOTED_LOST, O_REBOOTED_OLDER),
	},
	[SESSION_CHECKPOINTING] = {
		[EVENT_START] = ONE(O_BUSY_CHECKPOINTING),
		[EVENT_START_FRESH] = ONE(O_BUSY_CHECKPOINTING),
		[EVENT_HIBERNATE] = ONE(O_UNDER_WAY),
		[EVENT_SNAPSHOT] = ONE(O_BUSY_CHECKPOINTING),
		[EVENT_STOP] = ONE(O_BUSY_CHECKPOINTING),
		[EVENT_FORGET] = ONE(O_FORGET_NEWER),
		[EVENT_EFFECT_DONE] = ONE(O_HIBERNATED),
		[EVENT_EFFECT_REFUSED] = ONE(O_RUNS_ON),
		[EVENT_EFFECT_FAILED] = TWO(O_GONE_LOST, O_GONE_OLDER),
		[EVENT_EXITED] = ONE(O_VERDICT),
		[EVENT_NODE_REBOOTED] = ONE(O_VERDICT),
	},
	[SESSION_SNAPSHOTTING] = {
		[EVENT_START] = ONE(O_ALREADY),
		[EVENT_START_FRESH] = ONE(O_IS_RUNNING),
		[EVENT_HIBERNATE] = ONE(O_BUSY_SNAPSHOTTING),
		[EVENT_SNAPSHOT] = ONE(O_UNDER_WAY),
		[EVENT_STOP] = ONE(O_BUSY_SNAPSHOTTING),
		[EVENT_FORGET] = ONE(O_FORGET_NEWER),
		[EVENT_EFFECT_DONE] = ONE(O_SNAPSHOT_TAKEN),
		[EVENT_EFFECT_REFUSED] = ONE(O_RUNS_ON),
		[EVENT_EFFECT_FAILED] = ONE(O_SNAPSHOT_FAILED),
		[EVENT_EXITED] = ONE(O_VERDICT),
		[EVENT_NODE_REBOOTED] = ONE(O_VERDICT),
	},
	[SESSION_HIBERNATED] = {
		[EVENT_START] = TWO(O_NO_CHECKPOINT, O_RESTORE),
		[EVENT_START_FRESH] = ONE(O_START),
		[EVENT_HIBERNATE] = ONE(O_ALREADY),
		[EVENT_SNAPSHOT] = TWO(O_NO_CHECKPOINT, O_ALREADY),
		[EVENT_STOP] = ONE(O_ENDED),
		[EVENT_FORGET] = ONE(O_FORGET),
	},
	[SESSION_RESTORING] = {
		[EVENT_START] = ONE(O_UNDER_WAY),
		[EVENT_START_FRESH] = ONE(O_BUSY_RESTORING),
		[EVENT_HIBERNATE] = ONE(O_BUSY_RESTORING),
		[EVENT_SNAPSHOT] = ONE(O_BUSY_RESTORING),
		[EVENT_STOP] = ONE(O_STOP),
		[EVENT_FORGET] = ONE(O_FORGET),
		[EVENT_EFFECT_DONE] = ONE(O_RUNNING),
		[EVENT_EFFECT_REFUSED] = ONE(O_RAN_ALREADY),
		[EVENT_EFFECT_FAILED] = ONE(O_RESTORE_FAILED),
		[EVENT_EXITED] = ONE(O_VERDICT),
		[EVENT_NODE_REBOOTED] = ONE(O_VERDICT),
	},
	[SESSION_MIGRATING] = {
		[EVENT_START] = ONE(O_ALREADY),
		[EVENT_START_FRESH] = ONE(O_IS_RUNNING),
		[EVENT_HIBERNATE] = ONE(O_BUSY_MIGRATING),
		[EVENT_SNAPSHOT] = ONE(O_BUSY_MIGRATING),
		[EVENT_STOP] = ONE(O_BUSY_MIGRATING),
		[EVENT_FORGET] = ONE(O_FORGET),
		[EVENT_EFFECT_DONE] = ONE(O_RUNNING),
		[EVENT_EFFECT_REFUSED] = ONE(O_RUNS_ON),
		[EVENT_EFFECT_FAILED] = TWO(O_GONE_LOST, O_GONE_OLDER),
		[EVENT_EXITED] = ONE(O_VERDICT),
		[EVENT_NODE_REBOOTED] = ONE(O_VERDICT),
	},
	[SESSION_STOPPING] = {
		[EVENT_START] = ONE(O_BUSY_STOPPING),
		[EVENT_START_FRESH] = ONE(O_BUSY_STOPPING),
		[EVENT_HIBERNATE] = ONE(O_BUSY_STOPPING),
		[EVENT_SNAPSHOT] = ONE(O_BUSY_STOPPING),
		[EVENT_STOP] = ONE(O_UNDER_WAY),
		[EVENT_FORGET] = ONE(O_FORGET),
		[EVENT_EFFECT_DONE] = ONE(O_STOPPED),
		[EVENT_EFFECT_REFUSED] = ONE(O_RUNS_ON),
		[EVENT_EFFECT_FAILED] = ONE(O_STOPPED),
		[EVENT_EXITED] = ONE(O_VERDICT),
		[EVENT_NODE_REBOOTED] = ONE(O_VERDICT),
	},
	[SESSION_FORGETTING] = {
		[EVENT_START] = ONE(O_BUSY_FORGETTING),
		[EVENT_START_FRESH] = ONE(O_BUSY_FORGETTING),
		[EVENT_HIBERNATE] = ONE(O_BUSY_FORGETTING),
		[EVENT_SNAPSHOT] = ONE(O_BUSY_FORGETTING),
		[EVENT_STOP] = ONE(O_UNDER_WAY),
		[EVENT_FORGET] = ONE(O_UNDER_WAY),
		[EVENT_EFFECT_DONE] = ONE(O_FORGOTTEN),
		[EVENT_EFFECT_REFUSED] = ONE(O_FORGET_REFUSED),
		[EVENT_EFFECT_FAILED] = ONE(O_FORGET_FAILED),
		[EVENT_EXITED] = ONE(O_VERDICT),
		[EVENT_NODE_REBOOTED] = ONE(O_VERDICT),
	},
	[SESSION_FAILED] = {
		[EVENT_START] = TWO(O_START, O_RESTORE),
		[EVENT_START_FRESH] = ONE(O_START),
		[EVENT_HIBERNATE] = TWO(O_NOT_RUNNING, O_ALREADY),
		[EVENT_SNAPSHOT] = ONE(O_NOT_RUNNING),
		[EVENT_STOP] = ONE(O_ENDED),
		[EVENT_FORGET] = ONE(O_FORGET),
	},
	[SESSION_LOST] = {
		[EVENT_START] = TWO(O_START, O_RESTORE),
		[EVENT_START_FRESH] = ONE(O_START),
		[EVENT_HIBERNATE] = ONE(O_NOT_RUNNING),
		[EVENT_SNAPSHOT] = ONE(O_NOT_RUNNING),
		[EVENT_STOP] = ONE(O_ENDED),
		[EVENT_FORGET] = ONE(O_FORGET),
	},
};

static enum outcome find_outcome(const struct session_now *now, enum session_event event)
{
	if ((unsigned)now->state >= SESSION_STATE_COUNT || (unsigned)event >= EVENT_COUNT)
		return O_STALE;
	const struct cell *cell = &cells[now->state][event];
	return (enum outcome)(now->checkpoint_usable ? cell->with : cell->without);
}

struct session_step lifecycle_step(const struct session_now *now, enum session_event event)
{
	enum outcome o = find_outcome(now, event);
	bool taken = outcomes[o].verdict == STEP_TAKEN;
	return (struct session_step) {
		.verdict = outcomes[o].verdict,
		.next = taken ? outcomes[o].next : now->state,
		.action = outcomes[o].action,
		.generation = now->generation + outcomes[o].generations,
		.set_aside = outcomes[o].set_aside && now->checkpoint_usable,
		.why = outcomes[o].why,
	};
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
		return true;
	default:
		return false;
	}
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
