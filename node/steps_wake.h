/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_NODE_STEPS_WAKE_H
#define ELSA_NODE_STEPS_WAKE_H

/* What a restore and a migration have in common: images of CRIU's become a session here. Private to
 * node/steps_*.c. */

#include "node/steps.h"

/* Whether this node can run what ran with those features of a processor, written by that CRIU. */
int wake_check(struct effect *ef, const char *cpu, const char *criu, struct error *e);

/* A limit of its memory is at least so many bytes. Its node may have given it more (node/rescue.h)
 * than is on record; what is on record beyond that it is to have here. False: nothing changes. */
bool wake_raise_limit(struct effect *ef, int64_t bytes);

int wake_prepare(struct effect *ef, struct error *e);

/* ef->laid_out: a directory for so many bytes of images, behind steps_drop_images(); *criu,
 * allocated, is CRIU's part. */
int wake_make_images_dir(struct effect *ef, uint64_t bytes, char **criu, struct error *e);

/* Has CRIU loaded for what wake_restore() will ask of it; steps_unload() takes it back. */
int wake_load(struct effect *ef, struct error *e);

/* CRIU, from ef->laid_out, and what takes that back. Without an arrival memory is in the images. */
int wake_restore(struct effect *ef, struct error *e);
int wake_kill_restored(struct effect *ef, struct error *e);
int wake_stop_listening(struct effect *ef, struct error *e);

int wake_release(struct effect *ef, struct error *e);
int wake_tidy(struct effect *ef, struct error *e);

#endif
