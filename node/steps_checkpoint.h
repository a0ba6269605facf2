/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_NODE_STEPS_CHECKPOINT_H
#define ELSA_NODE_STEPS_CHECKPOINT_H

/*
 * What hibernation and snapshot have in common: everything up to the commit, and
 * the old generations after it. Private to node/steps_*.c.
 */

#include "node/effect.h"

/* It runs here, and the generation asked for is above all that is known. */
int checkpoint_check(struct effect *ef, struct error *e);
/* Everything about the store that can be done before the session stands still. */
int checkpoint_begin(struct effect *ef, struct error *e);
int checkpoint_drop(struct effect *ef, struct error *e);

int checkpoint_freeze(struct effect *ef, struct error *e);
int checkpoint_thaw(struct effect *ef, struct error *e);
int checkpoint_hold(struct effect *ef, struct error *e);
int checkpoint_release(struct effect *ef, struct error *e);

/* Memory goes into the store, the rest to a directory of ours; CRIU holds the processes from here
 * on. */
int checkpoint_dump(struct effect *ef, struct error *e);
int checkpoint_abandon_dump(struct effect *ef, struct error *e);
/* The session's own layer of files, which CRIU has put links into. */
int checkpoint_layers(struct effect *ef, struct error *e);
/* What CRIU has written, for which nothing needs to stand still. */
int checkpoint_images(struct effect *ef, struct error *e);

int checkpoint_commit(struct effect *ef, struct error *e);
/* After a crash: whether the checkpoint that the journal was about to commit is there: 1, 0, or
 * -EAGAIN. A store that does not answer is no answer. */
int checkpoint_is_committed(struct effect *ef, struct error *e);

/* Ends the journal's old time: the session's newest checkpoint is this one. */
void checkpoint_note_generation(struct effect *ef);
/* How long it stood still, up to now. */
void checkpoint_note_frozen(struct effect *ef);
/* For those that end the session's processes: the moment of truth is behind us, from here on the
 * session is the checkpoint; what is left of it; and which of that is to be done after a crash. */
int checkpoint_let_go(struct effect *ef, struct error *e);
int checkpoint_teardown(struct effect *ef, struct error *e);
int checkpoint_resume(struct effect *ef, size_t at, struct error *e);

/* CRIU's directories of this effect. */
int checkpoint_tidy(struct effect *ef, struct error *e);
int checkpoint_retention(struct effect *ef, struct error *e);

#endif
