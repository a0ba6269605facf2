/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_NODE_STEPS_H
#define ELSA_NODE_STEPS_H

/* What several plans have in common. Private to node/steps_*.c. */

#include "node/effect.h"

/* Ends every process, takes everything down, and the session has no processes from here on. The end
 * of its log is kept. What does not exist is fine. */
int steps_clear(struct effect *ef, struct error *e);

int steps_kill(struct effect *ef, struct error *e);
int steps_teardown(struct effect *ef, struct error *e);

/* Ends a CRIU that was loaded ahead, by us or in an earlier life. */
int steps_unload(struct effect *ef, struct error *e);

/* CRIU's images, wherever they are. */
int steps_drop_images(struct effect *ef, struct error *e);

int steps_mount(struct effect *ef, struct error *e);
int steps_unmount(struct effect *ef, struct error *e);

/* It runs, or is about to, and whoever waited for it is connected to it. */
void steps_answers_itself(struct effect *ef);
/* Nobody is answered here for it any more; who waits is told why. Nothing of it may run. */
int steps_unanswer(struct effect *ef, const char *why, struct error *e);

/* What its server has to say to an open page while it does not run: it is asked now. One that dozes
 * was when it began to. */
int steps_record(struct effect *ef, struct error *e);
/* Of one that stands still: -EBUSY when it has been sent something that its server has not read or
 * not answered. */
int steps_check_unanswered(struct effect *ef, struct error *e);

/* -EBUSY when it runs. */
int steps_check_idle(struct effect *ef, struct error *e);

#endif
