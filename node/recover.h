/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_NODE_RECOVER_H
#define ELSA_NODE_RECOVER_H

/*
 * After a start of this program: what its predecessor was killed in is finished
 * or undone, sessions that run are watched again, those that do not are noted
 * as ended, and what belongs to no session is removed. Loop only.
 */

#include "base/error.h"
#include "node/node.h"

/* Before anything is served. Only what cannot be read at all is an error; the rest is worked off by
 * the pool. */
int recover_all(struct node *node, struct error *e);

/* Again, for what could not be decided: the store did not answer. Call it now and then. */
void recover_undecided(struct node *node);

#endif
