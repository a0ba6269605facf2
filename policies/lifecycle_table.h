/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_POLICIES_LIFECYCLE_TABLE_H
#define ELSA_POLICIES_LIFECYCLE_TABLE_H

/* The table behind lifecycle_step(). Private to policies/lifecycle*.c. */

#include "policies/lifecycle.h"

/* Everything that can come of an event, whatever the state. */
enum outcome {
	O_UNSAID = 0, /* the table leaves it to unsaid() */
	O_STALE,      /* news of something that is over */
	O_VERDICT,    /* the effect under way will say what is true; the shell asks it again */

	O_ALREADY,
	O_ALREADY_ASLEEP,
	O_UNDER_WAY,
	O_WAKE_THEN,
	O_SLEEP_THEN,
	O_STOP_THEN,

	O_BUSY, /* with what its state says */
	O_ENDING,

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
	O_FENCE_SEEN,
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
	O_START_ELSEWHERE,
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

	O_SLEEP,
	O_ASLEEP,
	O_STILL_ASLEEP,
	O_NOT_STOPPED,
	O_ANSWER,
	O_ANSWERS,
	O_NOT_ANSWERED,
	O_RELEASE,
	O_RELEASE_SLEEP,
	O_RELEASED,
	O_NOT_RELEASED,
	O_FORGOT_ANSWERING,
	O_DOZE,
	O_DOZES,
	O_ROUSE,
	O_WOKEN,
	O_DOZE_FAILED,
	OUTCOME_COUNT
};

/* What an outcome does to the wish. */
enum wishing { KEEP = 0, NO_WISH, TO_SLEEP, TO_WAKE, TO_START, TO_STOP, TO_ANSWER, NOT_UNSEEN };

struct outcome_row {
	enum step_verdict verdict;
	enum session_state next; /* for STEP_TAKEN */
	enum session_action action;
	bool set_aside; /* the present checkpoint, if it is usable */
	int newer;      /* numbers that are used by it, or by its action when that is done */
	const char *why;
	enum wishing wishing;
};
extern const struct outcome_row outcomes[OUTCOME_COUNT];

/* What comes of an event without and with a usable checkpoint. */
struct cell {
	unsigned char without, with;
};
extern const struct cell cells[SESSION_STATE_COUNT][EVENT_COUNT];

/* What comes of most events while an effect is under way: its verdict says what is true, and who
 * wants something else comes back. Else they are news of something that is over. */
enum outcome unsaid(enum session_state state, enum session_event event);

#endif
