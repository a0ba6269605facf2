/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_CONTROLLER_CHECKPOINTS_H
#define ELSA_CONTROLLER_CHECKPOINTS_H

/*
 * The record of checkpoints against what is in the store. The store's word
 * adds to the record; it takes away only what is older than the newest one
 * there, for a store that is not mounted looks like an empty one. One thread.
 */

#include "controller/sessions.h"

#include <jansson.h>

/* Asks the node for the checkpoints of one session (NULL: of all) and sets the record right. */
void checkpoints_compare(struct controller *c, const struct session *s);

/* Tells the node of one that is set aside; told again at the next start if it does not arrive. */
void checkpoints_tell_aside(struct controller *c, const char *session, int64_t generation);

/* From the record; [] on failure. */
json_t *checkpoints_json(struct session *s);
json_t *checkpoint_info_json(const struct session *s, const struct checkpoint_info *info);

#endif
