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
	[SESSION_FENCING] = "fencing",
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
};

static const char *const action_names[ACTION_COUNT] = {
	[ACTION_NONE] = "none",           [ACTION_START] = "start",
	[ACTION_HIBERNATE] = "hibernate", [ACTION_SNAPSHOT] = "snapshot",
	[ACTION_RESTORE] = "restore",     [ACTION_STOP] = "stop",
	[ACTION_FORGET] = "forget",       [ACTION_FENCE] = "fence",
	[ACTION_MIGRATE] = "migrate",
};

/* Everything that can come of an event, whatever the state. */
enum outcome {
	O_STALE = 0, /* news of something that is over: the default of every cell */
	O_VERDICT,   /* the effect under way will say what is true; the shell asks it again */

	O_ALREADY,
	O_ALREADY_ASLEEP,
	O_UNDER_WAY,
	O_WAKE_THEN,
	O_SLEEP_THEN,
	O_STOP_THEN,

	O_BUSY_STARTING,
	O_BUSY_CHECKPOINTING,
	O_BUSY_SNAPSHOTTING,
	O_BUSY_RESTORING,
	O_BUSY_MIGRATING,
	O_BUSY_STOPPING,
	O_BUSY_FORGETTING,
	O_BUSY_FENCING,
	O_IS_RUNNING,
	O_NOT_RUNNING,
	O_NOTHING_TO_MOVE,
	O_NO_CHECKPOINT,

	O_START,
	O_RESTORE,
	O_HIBERNATE,
	O_SNAPSHOT,
	O_MIGRATE,
	O_STOP,
	O_FORGET,
	O_FORGET_NEWER,
	O_FORGET_AGAIN,
	O_FENCE,
	O_FENCE_START,
	O_FENCE_WAKE,
	O_FENCE_STOP,
	O_FENCE_FAILED,

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
	O_ELSEWHERE,
	O_GIVEN_UP,
	O_FORGOTTEN,
	O_FORGET_REFUSED,
	O_FORGET_FAILED,
	O_EXITED,
	O_REBOOTED_OLDER,
	O_REBOOTED_LOST,
	O_GONE_OLDER,
	O_GONE_LOST,
	O_IMPORTED,
	O_FENCED,
	O_FENCED_START,
	O_FENCED_LOST,
	O_EVACUATED,
	O_FOUND,
	O_TAKEN_BACK,
	OUTCOME_COUNT
};

/* What an outcome does to the wish. */
enum wishing { KEEP = 0, NO_WISH, TO_SLEEP, TO_WAKE, TO_START, TO_STOP };

static const struct {
	enum step_verdict verdict;
	enum session_state next; /* for STEP_TAKEN */
	enum session_action action;
	bool set_aside; /* the present checkpoint, if it is usable */
	int newer;      /* numbers that are used by it, or by its action when that is done */
	const char *why;
	enum wishing wishing;
} outcomes[OUTCOME_COUNT] = {
	[O_STALE] = { STEP_IGNORE, .why = "stale" },
	[O_VERDICT] = { STEP_IGNORE, .why = "effect-under-way" },

	[O_ALREADY] = { STEP_JOIN, .why = "already" },
	[O_ALREADY_ASLEEP] = { STEP_JOIN, .why = "already", .wishing = NO_WISH },
	[O_UNDER_WAY] = { STEP_JOIN, .why = "under-way" },
	[O_WAKE_THEN] = { STEP_JOIN, .why = "under-way", .wishing = TO_WAKE },
	[O_SLEEP_THEN] = { STEP_JOIN, .why = "under-way", .wishing = TO_SLEEP },
	[O_STOP_THEN] = { STEP_JOIN, .why = "under-way", .wishing = TO_STOP },

	[O_BUSY_STARTING] = { STEP_CONFLICT, .why = "starting" },
	[O_BUSY_CHECKPOINTING] = { STEP_CONFLICT, .why = "checkpointing" },
	[O_BUSY_SNAPSHOTTING] = { STEP_CONFLICT, .why = "snapshotting" },
	[O_BUSY_RESTORING] = { STEP_CONFLICT, .why = "restoring" },
	[O_BUSY_MIGRATING] = { STEP_CONFLICT, .why = "migrating" },
	[O_BUSY_STOPPING] = { STEP_CONFLICT, .why = "stopping" },
	[O_BUSY_FORGETTING] = { STEP_CONFLICT, .why = "forgetting" },
	[O_BUSY_FENCING] = { STEP_CONFLICT, .why = "fencing" },
	[O_IS_RUNNING] = { STEP_CONFLICT, .why = "running" },
	[O_NOT_RUNNING] = { STEP_CONFLICT, .why = "not-running", .wishing = NO_WISH },
	[O_NOTHING_TO_MOVE] = { STEP_CONFLICT, .why = "not-running" },
	[O_NO_CHECKPOINT] = { STEP_CONFLICT, .why = "no-usable-checkpoint" },

	[O_START] = { STEP_TAKEN, SESSION_STARTING, ACTION_START, true, 0, "start" },
	[O_RESTORE] = { STEP_TAKEN, SESSION_RESTORING, ACTION_RESTORE, false, 0, "restore" },
	[O_HIBERNATE] = { STEP_TAKEN, SESSION_CHECKPOINTING, ACTION_HIBERNATE, false, 1,
			  "hibernate" },
	[O_SNAPSHOT] = { STEP_TAKEN, SESSION_SNAPSHOTTING, ACTION_SNAPSHOT, false, 1, "snapshot" },
	[O_MIGRATE] = { STEP_TAKEN, SESSION_MIGRATING, ACTION_MIGRATE, false, 0, "migrate" },
	[O_STOP] = { STEP_TAKEN, SESSION_STOPPING, ACTION_STOP, false, 0, "stop", NO_WISH },
	[O_FORGET] = { STEP_TAKEN, SESSION_FORGETTING, ACTION_FORGET, false, 0, "forget", NO_WISH },
	[O_FORGET_NEWER] = { STEP_TAKEN, SESSION_FORGETTING, ACTION_FORGET, false, 1, "forget",
			     NO_WISH },
	[O_FORGET_AGAIN] = { STEP_TAKEN, SESSION_FORGETTING, ACTION_FORGET, false, 1, "node-lost",
			     NO_WISH },
	[O_FENCE] = { STEP_TAKEN, SESSION_FENCING, ACTION_FENCE, false, 0, "node-lost" },
	[O_FENCE_START] = { STEP_TAKEN, SESSION_FENCING, ACTION_FENCE, false, 0, "node-lost",
			    TO_START },
	[O_FENCE_WAKE] = { STEP_TAKEN, SESSION_FENCING, ACTION_FENCE, false, 0, "node-lost",
			   TO_WAKE },
	[O_FENCE_STOP] = { STEP_TAKEN, SESSION_FENCING, ACTION_FENCE, false, 0, "node-lost",
			   TO_STOP },
	[O_FENCE_FAILED] = { STEP_TAKEN, SESSION_FENCING, ACTION_FENCE, false, 0,
			     "migration-failed", TO_WAKE },

	[O_RUNNING] = { STEP_TAKEN, SESSION_RUNNING, .why = "done", .wishing = NO_WISH },
	[O_RAN_ALREADY] = { STEP_TAKEN, SESSION_RUNNING, .why = "ran-already", .wishing = NO_WISH },
	[O_RUNS_ON] = { STEP_TAKEN, SESSION_RUNNING, .why = "refused", .wishing = NO_WISH },
	[O_HIBERNATED] = { STEP_TAKEN, SESSION_HIBERNATED, ACTION_NONE, false, 1, "done" },
	[O_SNAPSHOT_TAKEN] = { STEP_TAKEN, SESSION_RUNNING, ACTION_NONE, false, 1, "done" },
	[O_SNAPSHOT_FAILED] = { STEP_TAKEN, SESSION_RUNNING, .why = "snapshot-failed" },
	[O_STOPPED] = { STEP_TAKEN, SESSION_STOPPED, ACTION_NONE, true, 0, "done", NO_WISH },
	[O_ENDED] = { STEP_TAKEN, SESSION_STOPPED, ACTION_NONE, true, 0, "stopped-for-good",
		      NO_WISH },
	[O_START_FAILED] = { STEP_TAKEN, SESSION_FAILED, .why = "start-failed",
			     .wishing = NO_WISH },
	[O_RESTORE_FAILED] = { STEP_TAKEN, SESSION_FAILED, .why = "restore-failed",
			       .wishing = NO_WISH },
	[O_ELSEWHERE] = { STEP_TAKEN, SESSION_HIBERNATED, .why = "node-failed",
			  .wishing = TO_WAKE },
	[O_GIVEN_UP] = { STEP_TAKEN, SESSION_FAILED, .why = "no-node-left", .wishing = NO_WISH },
	[O_FORGOTTEN] = { STEP_TAKEN, SESSION_STOPPED, .why = "done" },
	[O_FORGET_REFUSED] = { STEP_TAKEN, SESSION_RUNNING, ACTION_NONE, true, 0, "forget-failed" },
	[O_FORGET_FAILED] = { STEP_TAKEN, SESSION_FAILED, ACTION_NONE, true, 0, "forget-failed" },
	[O_EXITED] = { STEP_TAKEN, SESSION_STOPPED, .why = "exited" },
	[O_REBOOTED_OLDER] = { STEP_TAKEN, SESSION_HIBERNATED,
			       .why = "node-rebooted-older-checkpoint" },
	[O_REBOOTED_LOST] = { STEP_TAKEN, SESSION_LOST, .why = "node-rebooted",
			      .wishing = NO_WISH },
	[O_GONE_OLDER] = { STEP_TAKEN, SESSION_HIBERNATED,
			   .why = "processes-gone-older-checkpoint" },
	[O_GONE_LOST] = { STEP_TAKEN, SESSION_LOST, .why = "processes-gone", .wishing = NO_WISH },
	[O_IMPORTED] = { STEP_TAKEN, SESSION_HIBERNATED, .why = "imported" },
	[O_FENCED] = { STEP_TAKEN, SESSION_HIBERNATED, .why = "node-lost" },
	[O_FENCED_START] = { STEP_TAKEN, SESSION_STOPPED, .why = "node-lost" },
	[O_FENCED_LOST] = { STEP_TAKEN, SESSION_LOST, .why = "node-lost", .wishing = NO_WISH },
	[O_EVACUATED] = { STEP_TAKEN, SESSION_HIBERNATED, .why = "evacuated" },
	[O_FOUND] = { STEP_TAKEN, SESSION_RUNNING, .why = "node-back", .wishing = NO_WISH },
	[O_TAKEN_BACK] = { STEP_TAKEN, SESSION_RUNNING, .why = "taken-back", .wishing = NO_WISH },
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
 * - The node lost while it ran, dozed or was snapshotted: the fence says what the store has of it.
 *   Checkpointing: whether the checkpoint came before the fence, too; so nothing else need be
 * known. Starting: nothing of it is in the store as yet, so after the fence it is started again;
 * that cannot be left out, for the lost node might evacuate what it has begun, under a number that
 * the new one will want. Restoring: it is hibernated again, and woken again. Stopping: its end is
 * true only when the lost node cannot put it away and bring it back. Forgetting needs no fence:
 * what a lost node might still write belongs to an id that nobody will have; another node forgets
 * it.
 * - Fencing is nothing that can be replaced but by forgetting: its verdict says which number is
 * used. Who wants it awake, asleep or ended meanwhile has that done afterwards.
 * - A lost session, or one that sleeps since its fence, may be found where it was, held. Nothing
 * else of it ran, or its node would be another: it goes on there, for that is newer than any
 * checkpoint.
 * - Migrating is running to its user, as is snapshotting; what ends the session waits for its end,
 * even forgetting, since until then two nodes have something of it. The effect is the target's:
 * that one being lost is what NODE_LOST says here; of a source that is lost the target tells. When
 *   nothing of it runs although it was given away, the fence comes before anything else, and what
 * the source still holds before any checkpoint.
 * - A restore that failed for its node's sake has ended there, undone: it sleeps again, and is
 * woken on another node. One that found none that is left to try has failed.
 * - Evacuated with an effect under way: the effect knows; the news stays to be told after it.
 */
static const struct cell cells[SESSION_STATE_COUNT][EVENT_COUNT] = {
	[SESSION_STOPPED] = {
		[EVENT_START] = ONE(O_START),
		[EVENT_START_FRESH] = ONE(O_START),
		[EVENT_HIBERNATE] = ONE(O_NOT_RUNNING),
		[EVENT_SNAPSHOT] = ONE(O_NOT_RUNNING),
		[EVENT_MIGRATE] = ONE(O_NOTHING_TO_MOVE),
		[EVENT_STOP] = ONE(O_ALREADY_ASLEEP),
		[EVENT_FORGET] = ONE(O_FORGET),
		[EVENT_IMPORTED] = TWO(O_STALE, O_IMPORTED),
	},
	[SESSION_STARTING] = {
		[EVENT_START] = ONE(O_UNDER_WAY),
		[EVENT_START_FRESH] = ONE(O_UNDER_WAY),
		[EVENT_HIBERNATE] = ONE(O_BUSY_STARTING),
		[EVENT_SNAPSHOT] = ONE(O_BUSY_STARTING),
		[EVENT_MIGRATE] = ONE(O_BUSY_STARTING),
		[EVENT_STOP] = ONE(O_STOP),
		[EVENT_FORGET] = ONE(O_FORGET),
		[EVENT_EFFECT_DONE] = ONE(O_RUNNING),
		[EVENT_EFFECT_REFUSED] = ONE(O_RAN_ALREADY),
		[EVENT_EFFECT_FAILED] = ONE(O_START_FAILED),
		[EVENT_EXITED] = ONE(O_VERDICT),
		[EVENT_NODE_REBOOTED] = ONE(O_VERDICT),
		[EVENT_NODE_LOST] = ONE(O_FENCE_START),
		[EVENT_EVACUATED] = ONE(O_VERDICT),
	},
	[SESSION_RUNNING] = {
		[EVENT_START] = ONE(O_ALREADY),
		[EVENT_START_FRESH] = ONE(O_IS_RUNNING),
		[EVENT_HIBERNATE] = ONE(O_HIBERNATE),
		[EVENT_SNAPSHOT] = ONE(O_SNAPSHOT),
		[EVENT_MIGRATE] = ONE(O_MIGRATE),
		[EVENT_STOP] = ONE(O_STOP),
		[EVENT_FORGET] = ONE(O_FORGET),
		[EVENT_EXITED] = ONE(O_EXITED),
		[EVENT_NODE_REBOOTED] = TWO(O_REBOOTED_LOST, O_REBOOTED_OLDER),
		[EVENT_NODE_LOST] = ONE(O_FENCE),
		[EVENT_EVACUATED] = ONE(O_EVACUATED),
	},
	[SESSION_DOZING] = {
		[EVENT_START] = ONE(O_ALREADY),
		[EVENT_START_FRESH] = ONE(O_IS_RUNNING),
		[EVENT_HIBERNATE] = ONE(O_HIBERNATE),
		[EVENT_SNAPSHOT] = ONE(O_SNAPSHOT),
		[EVENT_MIGRATE] = ONE(O_NOTHING_TO_MOVE),
		[EVENT_STOP] = ONE(O_STOP),
		[EVENT_FORGET] = ONE(O_FORGET),
		[EVENT_EXITED] = ONE(O_EXITED),
		[EVENT_NODE_REBOOTED] = TWO(O_REBOOTED_LOST, O_REBOOTED_OLDER),
		[EVENT_NODE_LOST] = ONE(O_FENCE),
		[EVENT_EVACUATED] = ONE(O_EVACUATED),
	},
	[SESSION_CHECKPOINTING] = {
		[EVENT_START] = ONE(O_BUSY_CHECKPOINTING),
		[EVENT_START_FRESH] = ONE(O_BUSY_CHECKPOINTING),
		[EVENT_HIBERNATE] = ONE(O_SLEEP_THEN),
		[EVENT_SNAPSHOT] = ONE(O_BUSY_CHECKPOINTING),
		[EVENT_MIGRATE] = ONE(O_BUSY_CHECKPOINTING),
		[EVENT_STOP] = ONE(O_BUSY_CHECKPOINTING),
		[EVENT_FORGET] = ONE(O_FORGET_NEWER),
		[EVENT_EFFECT_DONE] = ONE(O_HIBERNATED),
		[EVENT_EFFECT_REFUSED] = ONE(O_RUNS_ON),
		[EVENT_EFFECT_FAILED] = TWO(O_GONE_LOST, O_GONE_OLDER),
		[EVENT_EXITED] = ONE(O_VERDICT),
		[EVENT_NODE_REBOOTED] = ONE(O_VERDICT),
		[EVENT_NODE_LOST] = ONE(O_FENCE),
		[EVENT_EVACUATED] = ONE(O_VERDICT),
	},
	[SESSION_SNAPSHOTTING] = {
		[EVENT_START] = ONE(O_ALREADY),
		[EVENT_START_FRESH] = ONE(O_IS_RUNNING),
		[EVENT_HIBERNATE] = ONE(O_BUSY_SNAPSHOTTING),
		[EVENT_SNAPSHOT] = ONE(O_UNDER_WAY),
		[EVENT_MIGRATE] = ONE(O_BUSY_SNAPSHOTTING),
		[EVENT_STOP] = ONE(O_BUSY_SNAPSHOTTING),
		[EVENT_FORGET] = ONE(O_FORGET_NEWER),
		[EVENT_EFFECT_DONE] = ONE(O_SNAPSHOT_TAKEN),
		[EVENT_EFFECT_REFUSED] = ONE(O_RUNS_ON),
		[EVENT_EFFECT_FAILED] = ONE(O_SNAPSHOT_FAILED),
		[EVENT_EXITED] = ONE(O_VERDICT),
		[EVENT_NODE_REBOOTED] = ONE(O_VERDICT),
		[EVENT_NODE_LOST] = ONE(O_FENCE),
		[EVENT_EVACUATED] = ONE(O_VERDICT),
	},
	[SESSION_HIBERNATED] = {
		[EVENT_START] = TWO(O_NO_CHECKPOINT, O_RESTORE),
		[EVENT_START_FRESH] = ONE(O_START),
		[EVENT_HIBERNATE] = ONE(O_ALREADY_ASLEEP),
		[EVENT_SNAPSHOT] = TWO(O_NO_CHECKPOINT, O_ALREADY),
		[EVENT_MIGRATE] = ONE(O_NOTHING_TO_MOVE),
		[EVENT_STOP] = ONE(O_ENDED),
		[EVENT_FORGET] = ONE(O_FORGET),
		[EVENT_EVACUATED] = ONE(O_EVACUATED),
		[EVENT_FOUND] = ONE(O_FOUND),
		[EVENT_GIVEN_UP] = ONE(O_GIVEN_UP),
	},
	[SESSION_RESTORING] = {
		[EVENT_START] = ONE(O_UNDER_WAY),
		[EVENT_START_FRESH] = ONE(O_BUSY_RESTORING),
		[EVENT_HIBERNATE] = ONE(O_BUSY_RESTORING),
		[EVENT_SNAPSHOT] = ONE(O_BUSY_RESTORING),
		[EVENT_MIGRATE] = ONE(O_BUSY_RESTORING),
		[EVENT_STOP] = ONE(O_STOP),
		[EVENT_FORGET] = ONE(O_FORGET),
		[EVENT_EFFECT_DONE] = ONE(O_RUNNING),
		[EVENT_EFFECT_REFUSED] = ONE(O_RAN_ALREADY),
		[EVENT_EFFECT_FAILED] = ONE(O_RESTORE_FAILED),
		[EVENT_EFFECT_ELSEWHERE] = TWO(O_RESTORE_FAILED, O_ELSEWHERE),
		[EVENT_EXITED] = ONE(O_VERDICT),
		[EVENT_NODE_REBOOTED] = ONE(O_VERDICT),
		[EVENT_NODE_LOST] = ONE(O_FENCE_WAKE),
		[EVENT_EVACUATED] = ONE(O_VERDICT),
	},
	[SESSION_MIGRATING] = {
		[EVENT_START] = ONE(O_ALREADY),
		[EVENT_START_FRESH] = ONE(O_IS_RUNNING),
		[EVENT_HIBERNATE] = ONE(O_BUSY_MIGRATING),
		[EVENT_SNAPSHOT] = ONE(O_BUSY_MIGRATING),
		[EVENT_MIGRATE] = ONE(O_UNDER_WAY),
		[EVENT_STOP] = ONE(O_BUSY_MIGRATING),
		[EVENT_FORGET] = ONE(O_BUSY_MIGRATING),
		[EVENT_EFFECT_DONE] = ONE(O_RUNNING),
		[EVENT_EFFECT_REFUSED] = ONE(O_RUNS_ON),
		[EVENT_EFFECT_FAILED] = ONE(O_FENCE_FAILED),
		[EVENT_EXITED] = ONE(O_VERDICT),
		[EVENT_NODE_REBOOTED] = ONE(O_VERDICT),
		[EVENT_NODE_LOST] = ONE(O_FENCE_WAKE),
		[EVENT_EVACUATED] = ONE(O_VERDICT),
	},
	[SESSION_STOPPING] = {
		[EVENT_START] = ONE(O_BUSY_STOPPING),
		[EVENT_START_FRESH] = ONE(O_BUSY_STOPPING),
		[EVENT_HIBERNATE] = ONE(O_BUSY_STOPPING),
		[EVENT_SNAPSHOT] = ONE(O_BUSY_STOPPING),
		[EVENT_MIGRATE] = ONE(O_BUSY_STOPPING),
		[EVENT_STOP] = ONE(O_UNDER_WAY),
		[EVENT_FORGET] = ONE(O_FORGET),
		[EVENT_EFFECT_DONE] = ONE(O_STOPPED),
		[EVENT_EFFECT_REFUSED] = ONE(O_RUNS_ON),
		[EVENT_EFFECT_FAILED] = ONE(O_STOPPED),
		[EVENT_EXITED] = ONE(O_VERDICT),
		[EVENT_NODE_REBOOTED] = ONE(O_VERDICT),
		[EVENT_NODE_LOST] = ONE(O_FENCE_STOP),
		[EVENT_EVACUATED] = ONE(O_VERDICT),
	},
	[SESSION_FORGETTING] = {
		[EVENT_START] = ONE(O_BUSY_FORGETTING),
		[EVENT_START_FRESH] = ONE(O_BUSY_FORGETTING),
		[EVENT_HIBERNATE] = ONE(O_BUSY_FORGETTING),
		[EVENT_SNAPSHOT] = ONE(O_BUSY_FORGETTING),
		[EVENT_MIGRATE] = ONE(O_BUSY_FORGETTING),
		[EVENT_STOP] = ONE(O_UNDER_WAY),
		[EVENT_FORGET] = ONE(O_UNDER_WAY),
		[EVENT_EFFECT_DONE] = ONE(O_FORGOTTEN),
		[EVENT_EFFECT_REFUSED] = ONE(O_FORGET_REFUSED),
		[EVENT_EFFECT_FAILED] = ONE(O_FORGET_FAILED),
		[EVENT_EXITED] = ONE(O_VERDICT),
		[EVENT_NODE_REBOOTED] = ONE(O_VERDICT),
		[EVENT_NODE_LOST] = ONE(O_FORGET_AGAIN),
		[EVENT_EVACUATED] = ONE(O_VERDICT),
	},
	[SESSION_FAILED] = {
		[EVENT_START] = TWO(O_START, O_RESTORE),
		[EVENT_START_FRESH] = ONE(O_START),
		[EVENT_HIBERNATE] = TWO(O_NOT_RUNNING, O_ALREADY),
		[EVENT_SNAPSHOT] = ONE(O_NOT_RUNNING),
		[EVENT_MIGRATE] = ONE(O_NOTHING_TO_MOVE),
		[EVENT_STOP] = ONE(O_ENDED),
		[EVENT_FORGET] = ONE(O_FORGET),
		[EVENT_EVACUATED] = ONE(O_EVACUATED),
	},
	[SESSION_LOST] = {
		[EVENT_START] = TWO(O_START, O_RESTORE),
		[EVENT_START_FRESH] = ONE(O_START),
		[EVENT_HIBERNATE] = ONE(O_NOT_RUNNING),
		[EVENT_SNAPSHOT] = ONE(O_NOT_RUNNING),
		[EVENT_MIGRATE] = ONE(O_NOTHING_TO_MOVE),
		[EVENT_STOP] = ONE(O_ENDED),
		[EVENT_FORGET] = ONE(O_FORGET),
		[EVENT_EVACUATED] = ONE(O_EVACUATED),
		[EVENT_FOUND] = ONE(O_FOUND),
	},
	[SESSION_FENCING] = {
		[EVENT_START] = ONE(O_WAKE_THEN),
		[EVENT_START_FRESH] = ONE(O_BUSY_FENCING),
		[EVENT_HIBERNATE] = ONE(O_SLEEP_THEN),
		[EVENT_SNAPSHOT] = ONE(O_BUSY_FENCING),
		[EVENT_MIGRATE] = ONE(O_BUSY_FENCING),
		[EVENT_STOP] = ONE(O_STOP_THEN),
		[EVENT_FORGET] = ONE(O_FORGET_NEWER),
		[EVENT_EXITED] = ONE(O_VERDICT),
		[EVENT_NODE_REBOOTED] = ONE(O_VERDICT),
		[EVENT_NODE_LOST] = ONE(O_VERDICT),
		[EVENT_FENCED] = TWO(O_FENCED_LOST, O_FENCED),
		[EVENT_EVACUATED] = ONE(O_VERDICT),
		[EVENT_FOUND] = ONE(O_VERDICT),
		[EVENT_TAKEN_BACK] = ONE(O_TAKEN_BACK),
	},
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
	if (now->state == SESSION_FENCING && event == EVENT_START && now->wish == WISH_STOPPED)
		return O_BUSY_STOPPING;
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
	default:
		return now->wish;
	}
}

static int64_t action_generation(const struct session_now *now, enum outcome o)
{
	if (outcomes[o].action == ACTION_RESTORE)
		return now->checkpoint;
	return now->generation + outcomes[o].newer;
}

/* An action that writes a checkpoint uses up its number when it is done; one that must reckon with
 * a number that is used, and any end, at once. */
static bool uses_later(enum session_action action)
{
	return action == ACTION_HIBERNATE || action == ACTION_SNAPSHOT;
}

struct session_step lifecycle_step(const struct session_now *now, enum session_event event)
{
	enum outcome o = find_outcome(now, event);
	bool taken = outcomes[o].verdict == STEP_TAKEN;
	bool written = o == O_HIBERNATED || o == O_SNAPSHOT_TAKEN;
	struct session_step step = {
		.verdict = outcomes[o].verdict,
		.next = taken ? outcomes[o].next : now->state,
		.action = outcomes[o].action,
		.generation = action_generation(now, o),
		.newest = now->generation,
		.checkpoint = now->checkpoint,
		.wish = wish_after(now, o),
		.set_aside = outcomes[o].set_aside && now->checkpoint,
		.why = outcomes[o].why,
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
		return true;
	default:
		return false;
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
