/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_NODE_HOLD_H
#define ELSA_NODE_HOLD_H

/*
 * Sessions that stand still although no effect needs it: why, and until when.
 * A session is held while there is any reason, and runs again only when there
 * is none left. Several parts have reasons of their own, each takes and drops
 * its own only.
 *
 * A reason is a file, RUN_DIR/held/BOOT/ID.REASON. It outlives this program but
 * not the machine's boot, which no process outlives either, and one may be made
 * by another program (hold_note()).
 *
 * What was given to another node (node/depart.h) stands still whether or not there
 * is a reason here.
 *
 * An effect that freezes, dumps, restores or kills a session owns its freezer for
 * that time: a reason that comes meanwhile is noted, and acted on when it gives
 * the freezer back. Thread-safe, and never long: whoever must know that the last
 * process has stopped asks sandbox_frozen().
 */

#include "node/session.h"

enum hold_reason {
	HOLD_LEASE,      /* the node's lease has lapsed */
	HOLD_EVACUATION, /* it waits for its checkpoint: node/evacuate.h */
	HOLD_DOZE,       /* nobody needs it to run: node/doze.h */
	HOLD_MEMORY,     /* it needs more memory than there is here: node/rescue.h */
	HOLD_REASON_COUNT
};
extern const char *const hold_reason_names[HOLD_REASON_COUNT];

/* What goes before anything else here. */
int hold_init(struct node *node, struct error *e);

/* On the loop, or on the worker whose effect owns the freezer. Noted first, then frozen; taken
 * again is fine. When noting fails it is frozen all the same, and the error told: only a restart of
 * this program would then forget the reason. */
int hold_take(struct node *node, struct session *s, enum hold_reason why, struct error *e);
/* On the loop. One that is not there is fine. */
int hold_drop(struct node *node, struct session *s, enum hold_reason why, struct error *e);

/* ... for the effect that owns the freezer, on its worker: whether the session runs then
 * hold_settle() sees to. */
int hold_clear(struct node *node, struct session *s, enum hold_reason why, struct error *e);

bool hold_has(struct node *node, const struct session *s, enum hold_reason why);
bool hold_any(struct node *node, const struct session *s);

/* On the loop, once for each session after a start of this program: takes up what is noted. */
void hold_recover(struct node *node, struct session *s);

/* Only the note, for a program that is not this one; no session need be known. */
int hold_note(const char *run_dir, const char *boot_id, const char *id, enum hold_reason why,
	      struct error *e);

/* For effects. Own: nobody else touches the freezer from now on. Settle: gives it back, and the
 * session is frozen with a reason, thawed without. */
void hold_own(struct node *node, struct session *s);
int hold_settle(struct node *node, struct session *s, struct error *e);
/* ... gives it back as it is but for reasons that came meanwhile, which are forgotten if it has no
 * process. On the loop. */
void hold_give_back(struct node *node, struct session *s);
bool hold_is_owned(struct node *node, const struct session *s);
/* It has no process any more: nothing is left to be held. */
void hold_forget(struct node *node, struct session *s);

#endif
