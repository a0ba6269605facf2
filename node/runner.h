/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_NODE_RUNNER_H
#define ELSA_NODE_RUNNER_H

/*
 * The part of an effect that runs on a worker: journal, step, next step; or
 * back. effect_run() and effect_undo() are here; see node/effect.h.
 */

#include "node/effect.h"

/* Releases what steps keep in the effect for later ones. */
void runner_drop(struct effect *ef);

#endif
