/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_CONTROLLER_RESCUE_H
#define ELSA_CONTROLLER_RESCUE_H

/*
 * Sessions that came near their memory's limit (policies/rescue.h): what their
 * node has given them more is recorded, so that they keep it when they wake; and
 * who stands still for want of memory is taken to a node that has it: as it is,
 * or else by a checkpoint, woken where and when there is room. One thread.
 */

#include "controller/sessions.h"

/* What its node saw of it just now. */
void rescue_seen(struct session *s, const struct session_status *status);

#endif
