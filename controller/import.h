/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_CONTROLLER_IMPORT_H
#define ELSA_CONTROLLER_IMPORT_H

/*
 * What an imported checkpoint is to the record: a newer one of a session that
 * is known, an older one of it, or a session that was unknown here, which then
 * can be woken like any other. One thread.
 */

#include "controller/sessions.h"

struct import_outcome {
	bool resumable;  /* the next start wakes it */
	char text[1024]; /* what came of it, for people */
};

void import_take(struct controller *c, const struct store_task *task, const char *who,
		 struct import_outcome *to);

#endif
