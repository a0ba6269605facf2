/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_POLICIES_LIFECYCLE_H
#define ELSA_POLICIES_LIFECYCLE_H

/*
 * The life of a session as a state machine, total over state x event. Pure:
 * no clock, socket, file or random number. The daemon and the simulator run
 * this same code. Thread-safe.
 *
 * What the shell around it keeps to:
 * - The effect of a transient state is asked again, with the same id, after every restart of a
 * daemon or node until its verdict is known; only the verdict of the state's own effect becomes an
 *   EVENT_EFFECT_*. Stop and forget replace an effect that is under way: the older one leaves the
 *   record in the same transaction and its late verdict is dropped. A node works off the effects of
 *   one session one after the other.
 * - Stop ends a session for good: of a hibernated one it sets the checkpoint aside.
 * - A stopped session that was forgotten has no record any more: the shell deletes it.
 * - A session that migrates is its source's until the effect, which the target does, says
 * otherwise; what came to nothing after the session was given away is fenced, and then the source
 * asked to take it up again: EVENT_TAKEN_BACK, or EVENT_FENCED when nothing is left there
 *   (docs/migration.md).
 * - A session that is asleep is its node's as one that runs is: whoever else is to have it, or to
 * answer for it, comes behind a release or a fence. Its node tells that it has woken it. With
 *   WISH_ANSWER it stays so, with WISH_AWAKE it is to be woken, with another it is to be released;
 * hibernated with WISH_ANSWER it is to be answered for. The shell sees to these.
 * - A session's node is lost when nothing can run there any more (docs/nodes.md). A fence is then
 *   asked of other nodes, over and over, until one of them has done it: EVENT_FENCED. With that
 * event, with EVENT_TAKEN_BACK and with EVENT_EVACUATED, *now says what was told: the newest number
 * and checkpoint in the store.
 */

#include <stdbool.h>
#include <stdint.h>

enum session_state {
	SESSION_STOPPED = 0, /* ended by the user, or not yet begun; nothing runs */
	SESSION_STARTING,    /* a new process tree is being made */
	SESSION_RUNNING,
	SESSION_DOZING,        /* frozen in place, memory swapped out locally */
	SESSION_CHECKPOINTING, /* frozen, its image on the way to the store */
	SESSION_SNAPSHOTTING,  /* the same, but it runs on: frozen for a moment only */
	SESSION_HIBERNATED,    /* no process anywhere, checkpoint in the store */
	SESSION_RESTORING,
	SESSION_MIGRATING,  /* it runs, here or there: another node is taking it over */
	SESSION_STOPPING,   /* its processes are being ended */
	SESSION_FORGETTING, /* ... and its checkpoints deleted */
	SESSION_FAILED,     /* could not be started or restored; reason says what to do */
	SESSION_LOST,       /* processes gone, no checkpoint: must never happen by our doing */
	SESSION_FENCING,    /* its node is lost; what the store has of it is being made final */
	SESSION_ASLEEP,     /* hibernated, and its node answers at its address: it wakes it when
			     * somebody comes, without asking */
	SESSION_ANSWERING,  /* hibernated, and a node is about to answer at its address */
	SESSION_RELEASING,  /* asleep, and its node is about not to answer any more */
	SESSION_FREEZING,   /* about to doze */
	SESSION_THAWING,    /* it dozed, and is about to run */
	SESSION_STATE_COUNT
};

enum session_event {
	EVENT_START = 0, /* somebody wants it running: start, or restore if there is a checkpoint */
	EVENT_START_FRESH, /* ... and not from the checkpoint: that one is set aside */
	EVENT_HIBERNATE,
	EVENT_SNAPSHOT, /* a checkpoint of it is wanted, and it goes on */
	EVENT_MIGRATE,  /* it is to go on on another node, and not to end meanwhile */
	EVENT_STOP,
	EVENT_FORGET,         /* the server was deleted, or its user */
	EVENT_EFFECT_DONE,    /* what the state was waiting for is done */
	EVENT_EFFECT_REFUSED, /* it failed; the session runs on, untouched (checkpoint, migration)
			       */
	EVENT_EFFECT_FAILED,  /* it failed; nothing runs (start, restore, or it ended meanwhile) */
	EVENT_EXITED,         /* the processes ended by themselves */
	EVENT_NODE_REBOOTED,  /* the node came back without them */
	EVENT_IMPORTED,   /* somebody has put its newest checkpoint into the store, to be woken from
			   */
	EVENT_NODE_LOST,  /* nothing runs on its node any more, and nobody can be asked there */
	EVENT_FENCED,     /* nothing that comes from its lost node counts any more */
	EVENT_EVACUATED,  /* its node has put it away by itself, into a newer checkpoint than known
			   */
	EVENT_FOUND,      /* its node is back and holds it, frozen, as it was */
	EVENT_TAKEN_BACK, /* fenced, and it runs again where it was given away from */
	EVENT_EFFECT_ELSEWHERE, /* it failed for its node's sake, and nothing runs there: another
				 * node may do it */
	EVENT_GIVEN_UP,         /* ... and none is left that may */
	EVENT_SLEEP,            /* as hibernate, and its node is to answer for it meanwhile */
	EVENT_EFFECT_ASLEEP, /* what the state was waiting for is done, and its node answers for it
			      */
	EVENT_ANSWER,        /* it is hibernated, but its address is to be answered */
	EVENT_RELEASE, /* its address is not to be answered any more, or by another node; it sleeps
			* on */
	EVENT_DOZE,
	EVENT_WOKEN, /* its node has woken it by itself: it runs */
	EVENT_DOZES, /* its node says that it dozes */
	EVENT_COUNT
};

/* What the shell must do. Recorded with the new state in one transaction, then done. */
enum session_action {
	ACTION_NONE = 0,
	ACTION_START,
	ACTION_HIBERNATE,
	ACTION_SNAPSHOT,
	ACTION_MIGRATE,
	ACTION_RESTORE,
	ACTION_STOP,
	ACTION_FORGET,
	ACTION_FENCE,
	ACTION_SLEEP, /* hibernate, and answer at its address from then on */
	ACTION_ANSWER,
	ACTION_RELEASE,
	ACTION_DOZE,
	ACTION_ROUSE,
	ACTION_COUNT
};

enum step_verdict {
	STEP_TAKEN = 0, /* next state and action hold */
	STEP_JOIN,      /* what is asked is under way or so already: attach to it */
	STEP_CONFLICT,  /* not from this state; `why` says so to the caller */
	STEP_IGNORE     /* stale news; nothing changes */
};

/* What is to become of a session that had to be put away, or whose node was lost. */
enum session_wish {
	WISH_NONE = 0, /* it sleeps until somebody wants it */
	WISH_AWAKE,    /* it was in use: it is woken as soon as it can be */
	WISH_START,    /* it was being started: the same, anew when nothing of it is in the store */
	WISH_STOPPED,  /* it was being ended: so it is, once its node cannot bring it back */
	WISH_ANSWER,   /* it sleeps and nobody is to see that: a node is to answer for it */
	WISH_COUNT
};

struct session_now {
	enum session_state state;
	int64_t generation; /* newest number that was used; 0: none */
	int64_t checkpoint; /* generation of the newest checkpoint in the store, if that is not set
			     * aside; 0: none */
	enum session_wish wish; /* with bad news of its node: whether it was in use */
};

struct session_step {
	enum step_verdict verdict;
	enum session_state next;
	enum session_action action;
	int64_t generation; /* the action's: the one to write (hibernate, snapshot, sleep), to run
			     * (restore, answer), or the newest that is known (the others) */
	/* After this step, for the record; the first is never below the present one: */
	int64_t newest, checkpoint;
	enum session_wish wish; /* holds whatever the verdict */
	bool set_aside;         /* mark the present checkpoint as set aside */
	const char *why; /* code for the event log, or for the caller of a conflict; static */
};

struct session_step lifecycle_step(const struct session_now *now, enum session_event event);

/* Processes may exist, running or frozen, or its node may make some at any time: nothing else may
 * be started or restored. */
bool session_state_has_processes(enum session_state state);
/* ... and their memory is in their node's. Not that of one that dozes: its pages are elsewhere. */
bool session_state_has_memory(enum session_state state);
/* Nothing of it goes on: its user has ended it, or it has failed or is lost. */
bool session_state_is_over(enum session_state state);
/* An effect is under way. */
bool session_state_is_transient(enum session_state state);

const char *session_state_name(enum session_state state);
enum session_state session_state_from_name(const char *name); /* SESSION_STATE_COUNT if unknown */
const char *session_event_name(enum session_event event);
const char *session_action_name(enum session_action action);

#endif
