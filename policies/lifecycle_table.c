/* SPDX-License-Identifier: Apache-2.0 */
#include "policies/lifecycle_table.h"

const struct outcome_row outcomes[OUTCOME_COUNT] = {
	[O_STALE] = { STEP_IGNORE, .why = "stale" },
	[O_VERDICT] = { STEP_IGNORE, .why = "effect-under-way" },

	[O_ALREADY] = { STEP_JOIN, .why = "already" },
	[O_ALREADY_ASLEEP] = { STEP_JOIN, .why = "already", .wishing = NO_WISH },
	[O_UNDER_WAY] = { STEP_JOIN, .why = "under-way" },
	[O_WAKE_THEN] = { STEP_JOIN, .why = "under-way", .wishing = TO_WAKE },
	[O_SLEEP_THEN] = { STEP_JOIN, .why = "under-way", .wishing = TO_SLEEP },
	[O_STOP_THEN] = { STEP_JOIN, .why = "under-way", .wishing = TO_STOP },

	[O_BUSY] = { STEP_CONFLICT },
	[O_ENDING] = { STEP_CONFLICT, .why = "stopping" },
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
	[O_FENCE_SEEN] = { STEP_TAKEN, SESSION_FENCING, ACTION_FENCE, false, 0, "node-lost",
			   NOT_UNSEEN },
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
	[O_START_ELSEWHERE] = { STEP_TAKEN, SESSION_STOPPED, .why = "node-failed",
				.wishing = TO_START },
	[O_GIVEN_UP] = { STEP_TAKEN, SESSION_FAILED, .why = "no-node-left", .wishing = NO_WISH },
	[O_FORGOTTEN] = { STEP_TAKEN, SESSION_STOPPED, .why = "done" },
	[O_FORGET_REFUSED] = { STEP_TAKEN, SESSION_RUNNING, ACTION_NONE, true, 0, "forget-failed" },
	[O_FORGET_FAILED] = { STEP_TAKEN, SESSION_FAILED, ACTION_NONE, true, 0, "forget-failed" },
	[O_EXITED] = { STEP_TAKEN, SESSION_STOPPED, .why = "exited", .wishing = NOT_UNSEEN },
	[O_REBOOTED_OLDER] = { STEP_TAKEN, SESSION_HIBERNATED,
			       .why = "node-rebooted-older-checkpoint", .wishing = NOT_UNSEEN },
	[O_REBOOTED_LOST] = { STEP_TAKEN, SESSION_LOST, .why = "node-rebooted",
			      .wishing = NO_WISH },
	[O_GONE_OLDER] = { STEP_TAKEN, SESSION_HIBERNATED, .why = "processes-gone-older-checkpoint",
			   .wishing = NOT_UNSEEN },
	[O_GONE_LOST] = { STEP_TAKEN, SESSION_LOST, .why = "processes-gone", .wishing = NO_WISH },
	[O_IMPORTED] = { STEP_TAKEN, SESSION_HIBERNATED, .why = "imported" },
	[O_FENCED] = { STEP_TAKEN, SESSION_HIBERNATED, .why = "node-lost" },
	[O_FENCED_START] = { STEP_TAKEN, SESSION_STOPPED, .why = "node-lost" },
	[O_FENCED_LOST] = { STEP_TAKEN, SESSION_LOST, .why = "node-lost", .wishing = NO_WISH },
	[O_EVACUATED] = { STEP_TAKEN, SESSION_HIBERNATED, .why = "evacuated" },
	[O_FOUND] = { STEP_TAKEN, SESSION_RUNNING, .why = "node-back", .wishing = NO_WISH },
	[O_TAKEN_BACK] = { STEP_TAKEN, SESSION_RUNNING, .why = "taken-back", .wishing = NO_WISH },

	[O_SLEEP] = { STEP_TAKEN, SESSION_CHECKPOINTING, ACTION_SLEEP, false, 1, "sleep",
		      TO_ANSWER },
	[O_ASLEEP] = { STEP_TAKEN, SESSION_ASLEEP, ACTION_NONE, false, 1, "done" },
	[O_STILL_ASLEEP] = { STEP_TAKEN, SESSION_ASLEEP, .why = "restore-failed",
			     .wishing = TO_ANSWER },
	[O_NOT_STOPPED] = { STEP_TAKEN, SESSION_ASLEEP, .why = "stop-failed",
			    .wishing = TO_ANSWER },
	[O_ANSWER] = { STEP_TAKEN, SESSION_ANSWERING, ACTION_ANSWER, false, 0, "answer",
		       TO_ANSWER },
	[O_ANSWERS] = { STEP_TAKEN, SESSION_ASLEEP, .why = "done" },
	[O_NOT_ANSWERED] = { STEP_TAKEN, SESSION_HIBERNATED, .why = "answer-failed" },
	[O_RELEASE] = { STEP_TAKEN, SESSION_RELEASING, ACTION_RELEASE, false, 0, "release" },
	[O_RELEASE_SLEEP] = { STEP_TAKEN, SESSION_RELEASING, ACTION_RELEASE, false, 0, "hibernate",
			      NO_WISH },
	[O_RELEASED] = { STEP_TAKEN, SESSION_HIBERNATED, .why = "done" },
	[O_NOT_RELEASED] = { STEP_TAKEN, SESSION_ASLEEP, .why = "release-failed" },
	[O_FORGOT_ANSWERING] = { STEP_TAKEN, SESSION_HIBERNATED, .why = "node-rebooted" },
	[O_DOZE] = { STEP_TAKEN, SESSION_FREEZING, ACTION_DOZE, false, 0, "doze" },
	[O_DOZES] = { STEP_TAKEN, SESSION_DOZING, .why = "done" },
	[O_ROUSE] = { STEP_TAKEN, SESSION_THAWING, ACTION_ROUSE, false, 0, "rouse" },
	/* Nothing of it runs, perhaps: the next look at its node tells. */
	[O_DOZE_FAILED] = { STEP_TAKEN, SESSION_RUNNING, .why = "doze-failed" },
	[O_WOKEN] = { STEP_TAKEN, SESSION_RUNNING, .why = "touched", .wishing = NO_WISH },
};

#define ONE(outcome)       { (outcome), (outcome) }
#define TWO(without, with) { (without), (with) }

/*
 * State x event; a cell that is not written is unsaid()'s. The cells that need a word:
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
 * - A dozing session is awake as soon as its node sees something for it; who starts it cannot know
 * whether that will come. A snapshot of it leaves it dozing, which its node tells afterwards.
 * - Asleep is its node's, although nothing runs: until that one is asked, or fenced, it may wake
 * the session at any moment. So what would be at once for a hibernated one is an effect here. A
 * restore is its node's too; for another one it is released first, with the wish to be awake.
 * - Releasing, and the node says that it runs: somebody came just before. It runs.
 * - Answering is for comfort: that it failed leaves the session hibernated, and nothing is lost.
 * - Nobody is to see that it sleeps, but for one thing: what is left of it is older than what its
 * user saw last. Then that is told, as for a session that ran.
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
 * woken on another node. A start likewise: there is nothing of it, as before, and it is started on
 * another; nothing need be fenced, since its node knows that it has nothing. One that found none
 * that is left to try has failed.
 * - Evacuated with an effect under way: the effect knows; the news stays to be told after it.
 */
const struct cell cells[SESSION_STATE_COUNT][EVENT_COUNT] = {
	[SESSION_STOPPED] = {
		[EVENT_START] = ONE(O_START),
		[EVENT_START_FRESH] = ONE(O_START),
		[EVENT_HIBERNATE] = ONE(O_NOT_RUNNING),
		[EVENT_SNAPSHOT] = ONE(O_NOT_RUNNING),
		[EVENT_MIGRATE] = ONE(O_NOTHING_TO_MOVE),
		[EVENT_STOP] = ONE(O_ALREADY_ASLEEP),
		[EVENT_FORGET] = ONE(O_FORGET),
		[EVENT_IMPORTED] = TWO(O_STALE, O_IMPORTED),
		[EVENT_GIVEN_UP] = ONE(O_GIVEN_UP),
		[EVENT_SLEEP] = ONE(O_NOT_RUNNING),
		[EVENT_DOZE] = ONE(O_NOT_RUNNING),
	},
	[SESSION_STARTING] = {
		[EVENT_START] = ONE(O_UNDER_WAY),
		[EVENT_START_FRESH] = ONE(O_UNDER_WAY),
		[EVENT_STOP] = ONE(O_STOP),
		[EVENT_FORGET] = ONE(O_FORGET),
		[EVENT_EFFECT_DONE] = ONE(O_RUNNING),
		[EVENT_EFFECT_REFUSED] = ONE(O_RAN_ALREADY),
		[EVENT_EFFECT_FAILED] = ONE(O_START_FAILED),
		[EVENT_EFFECT_ELSEWHERE] = ONE(O_START_ELSEWHERE),
		[EVENT_NODE_LOST] = ONE(O_FENCE_START),
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
		[EVENT_SLEEP] = ONE(O_SLEEP),
		[EVENT_DOZE] = ONE(O_DOZE),
		[EVENT_DOZES] = ONE(O_DOZES),
	},
	[SESSION_DOZING] = {
		[EVENT_START] = ONE(O_ROUSE),
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
		[EVENT_SLEEP] = ONE(O_SLEEP),
		[EVENT_DOZE] = ONE(O_ALREADY),
		[EVENT_WOKEN] = ONE(O_WOKEN),
	},
	[SESSION_CHECKPOINTING] = {
		[EVENT_HIBERNATE] = ONE(O_SLEEP_THEN),
		[EVENT_FORGET] = ONE(O_FORGET_NEWER),
		[EVENT_EFFECT_DONE] = ONE(O_HIBERNATED),
		[EVENT_EFFECT_REFUSED] = ONE(O_RUNS_ON),
		[EVENT_EFFECT_FAILED] = TWO(O_GONE_LOST, O_GONE_OLDER),
		[EVENT_NODE_LOST] = ONE(O_FENCE_SEEN),
		[EVENT_SLEEP] = ONE(O_SLEEP_THEN),
		[EVENT_EFFECT_ASLEEP] = ONE(O_ASLEEP),
	},
	[SESSION_SNAPSHOTTING] = {
		[EVENT_START] = ONE(O_ALREADY),
		[EVENT_START_FRESH] = ONE(O_IS_RUNNING),
		[EVENT_SNAPSHOT] = ONE(O_UNDER_WAY),
		[EVENT_FORGET] = ONE(O_FORGET_NEWER),
		[EVENT_EFFECT_DONE] = ONE(O_SNAPSHOT_TAKEN),
		[EVENT_EFFECT_REFUSED] = ONE(O_RUNS_ON),
		[EVENT_EFFECT_FAILED] = ONE(O_SNAPSHOT_FAILED),
		[EVENT_NODE_LOST] = ONE(O_FENCE),
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
		[EVENT_SLEEP] = ONE(O_ALREADY_ASLEEP),
		[EVENT_ANSWER] = TWO(O_NO_CHECKPOINT, O_ANSWER),
		[EVENT_RELEASE] = ONE(O_ALREADY),
		[EVENT_DOZE] = ONE(O_ALREADY),
	},
	[SESSION_RESTORING] = {
		[EVENT_START] = ONE(O_UNDER_WAY),
		[EVENT_STOP] = ONE(O_STOP),
		[EVENT_FORGET] = ONE(O_FORGET),
		[EVENT_EFFECT_DONE] = ONE(O_RUNNING),
		[EVENT_EFFECT_REFUSED] = ONE(O_RAN_ALREADY),
		[EVENT_EFFECT_FAILED] = ONE(O_RESTORE_FAILED),
		[EVENT_EFFECT_ELSEWHERE] = TWO(O_RESTORE_FAILED, O_ELSEWHERE),
		[EVENT_NODE_LOST] = ONE(O_FENCE_WAKE),
		[EVENT_EFFECT_ASLEEP] = ONE(O_STILL_ASLEEP),
	},
	[SESSION_MIGRATING] = {
		[EVENT_START] = ONE(O_ALREADY),
		[EVENT_START_FRESH] = ONE(O_IS_RUNNING),
		[EVENT_MIGRATE] = ONE(O_UNDER_WAY),
		[EVENT_EFFECT_DONE] = ONE(O_RUNNING),
		[EVENT_EFFECT_REFUSED] = ONE(O_RUNS_ON),
		[EVENT_EFFECT_FAILED] = ONE(O_FENCE_FAILED),
		[EVENT_NODE_LOST] = ONE(O_FENCE_WAKE),
	},
	[SESSION_STOPPING] = {
		[EVENT_STOP] = ONE(O_UNDER_WAY),
		[EVENT_FORGET] = ONE(O_FORGET),
		[EVENT_EFFECT_DONE] = ONE(O_STOPPED),
		[EVENT_EFFECT_REFUSED] = ONE(O_RUNS_ON),
		[EVENT_EFFECT_FAILED] = ONE(O_STOPPED),
		[EVENT_NODE_LOST] = ONE(O_FENCE_STOP),
		[EVENT_EFFECT_ASLEEP] = ONE(O_NOT_STOPPED),
	},
	[SESSION_FORGETTING] = {
		[EVENT_STOP] = ONE(O_UNDER_WAY),
		[EVENT_FORGET] = ONE(O_UNDER_WAY),
		[EVENT_EFFECT_DONE] = ONE(O_FORGOTTEN),
		[EVENT_EFFECT_REFUSED] = ONE(O_FORGET_REFUSED),
		[EVENT_EFFECT_FAILED] = ONE(O_FORGET_FAILED),
		[EVENT_NODE_LOST] = ONE(O_FORGET_AGAIN),
		[EVENT_EFFECT_ASLEEP] = ONE(O_FORGET_FAILED),
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
		[EVENT_SLEEP] = TWO(O_NOT_RUNNING, O_ALREADY),
		[EVENT_DOZE] = ONE(O_NOT_RUNNING),
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
		[EVENT_SLEEP] = ONE(O_NOT_RUNNING),
		[EVENT_DOZE] = ONE(O_NOT_RUNNING),
	},
	[SESSION_FENCING] = {
		[EVENT_START] = ONE(O_WAKE_THEN),
		[EVENT_HIBERNATE] = ONE(O_SLEEP_THEN),
		[EVENT_STOP] = ONE(O_STOP_THEN),
		[EVENT_FORGET] = ONE(O_FORGET_NEWER),
		[EVENT_NODE_LOST] = ONE(O_VERDICT),
		[EVENT_FENCED] = TWO(O_FENCED_LOST, O_FENCED),
		[EVENT_FOUND] = ONE(O_VERDICT),
		[EVENT_TAKEN_BACK] = ONE(O_TAKEN_BACK),
		[EVENT_SLEEP] = ONE(O_SLEEP_THEN),
	},
	[SESSION_ASLEEP] = {
		[EVENT_START] = TWO(O_NO_CHECKPOINT, O_RESTORE),
		[EVENT_START_FRESH] = ONE(O_START),
		[EVENT_HIBERNATE] = ONE(O_RELEASE_SLEEP),
		[EVENT_SNAPSHOT] = TWO(O_NO_CHECKPOINT, O_ALREADY),
		[EVENT_MIGRATE] = ONE(O_NOTHING_TO_MOVE),
		[EVENT_STOP] = ONE(O_STOP),
		[EVENT_FORGET] = ONE(O_FORGET),
		[EVENT_EXITED] = ONE(O_EXITED),
		[EVENT_NODE_REBOOTED] = ONE(O_FORGOT_ANSWERING),
		[EVENT_NODE_LOST] = ONE(O_FENCE),
		[EVENT_EVACUATED] = ONE(O_EVACUATED),
		[EVENT_SLEEP] = ONE(O_ALREADY_ASLEEP),
		[EVENT_ANSWER] = ONE(O_ALREADY),
		[EVENT_RELEASE] = ONE(O_RELEASE),
		[EVENT_DOZE] = ONE(O_ALREADY),
		[EVENT_WOKEN] = ONE(O_WOKEN),
		[EVENT_DOZES] = ONE(O_DOZES),
	},
	[SESSION_ANSWERING] = {
		[EVENT_START] = ONE(O_WAKE_THEN),
		[EVENT_HIBERNATE] = ONE(O_SLEEP_THEN),
		[EVENT_SNAPSHOT] = TWO(O_NO_CHECKPOINT, O_ALREADY),
		[EVENT_MIGRATE] = ONE(O_NOTHING_TO_MOVE),
		[EVENT_STOP] = ONE(O_STOP),
		[EVENT_FORGET] = ONE(O_FORGET),
		[EVENT_EFFECT_DONE] = ONE(O_ANSWERS),
		[EVENT_EFFECT_REFUSED] = ONE(O_RAN_ALREADY),
		[EVENT_EFFECT_FAILED] = ONE(O_NOT_ANSWERED),
		[EVENT_NODE_LOST] = ONE(O_FENCE),
		[EVENT_SLEEP] = ONE(O_UNDER_WAY),
		[EVENT_ANSWER] = ONE(O_UNDER_WAY),
		[EVENT_DOZE] = ONE(O_ALREADY),
	},
	[SESSION_RELEASING] = {
		[EVENT_START] = ONE(O_WAKE_THEN),
		[EVENT_HIBERNATE] = ONE(O_SLEEP_THEN),
		[EVENT_SNAPSHOT] = TWO(O_NO_CHECKPOINT, O_ALREADY),
		[EVENT_MIGRATE] = ONE(O_NOTHING_TO_MOVE),
		[EVENT_STOP] = ONE(O_STOP),
		[EVENT_FORGET] = ONE(O_FORGET),
		[EVENT_EFFECT_DONE] = ONE(O_RELEASED),
		[EVENT_EFFECT_REFUSED] = ONE(O_RAN_ALREADY),
		[EVENT_EFFECT_FAILED] = ONE(O_NOT_RELEASED),
		[EVENT_NODE_LOST] = ONE(O_FENCE),
		[EVENT_RELEASE] = ONE(O_UNDER_WAY),
		[EVENT_EFFECT_ASLEEP] = ONE(O_NOT_RELEASED),
	},
	[SESSION_FREEZING] = {
		[EVENT_START] = ONE(O_WAKE_THEN),
		[EVENT_START_FRESH] = ONE(O_IS_RUNNING),
		[EVENT_STOP] = ONE(O_STOP),
		[EVENT_FORGET] = ONE(O_FORGET),
		[EVENT_EFFECT_DONE] = ONE(O_DOZES),
		[EVENT_EFFECT_REFUSED] = ONE(O_RUNS_ON),
		[EVENT_EFFECT_FAILED] = ONE(O_DOZE_FAILED),
		[EVENT_NODE_LOST] = ONE(O_FENCE),
		[EVENT_DOZE] = ONE(O_UNDER_WAY),
	},
	[SESSION_THAWING] = {
		[EVENT_START] = ONE(O_UNDER_WAY),
		[EVENT_START_FRESH] = ONE(O_IS_RUNNING),
		[EVENT_STOP] = ONE(O_STOP),
		[EVENT_FORGET] = ONE(O_FORGET),
		[EVENT_EFFECT_DONE] = ONE(O_RUNNING),
		[EVENT_EFFECT_REFUSED] = ONE(O_RAN_ALREADY),
		[EVENT_EFFECT_FAILED] = ONE(O_DOZE_FAILED),
		[EVENT_NODE_LOST] = ONE(O_FENCE_WAKE),
	},
};

enum outcome unsaid(enum session_state state, enum session_event event)
{
	if (!session_state_is_transient(state))
		return O_STALE;
	switch (event) {
	case EVENT_START:
	case EVENT_START_FRESH:
	case EVENT_HIBERNATE:
	case EVENT_SNAPSHOT:
	case EVENT_MIGRATE:
	case EVENT_STOP:
	case EVENT_FORGET:
	case EVENT_SLEEP:
	case EVENT_ANSWER:
	case EVENT_RELEASE:
	case EVENT_DOZE:
		return O_BUSY;
	case EVENT_EXITED:
	case EVENT_NODE_REBOOTED:
	case EVENT_EVACUATED:
	case EVENT_WOKEN:
	case EVENT_DOZES:
		return O_VERDICT;
	default:
		return O_STALE;
	}
}
