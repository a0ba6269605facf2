/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_CONTROLLER_NODES_CHANGE_H
#define ELSA_CONTROLLER_NODES_CHANGE_H

/* What an operator, or the asking for machines, does to a joined node's record. One thread. */

#include "controller/nodes.h"

#define NODE_READY    "ready"
#define NODE_DRAINING "draining" /* nothing new goes there */

/* Sessions that are there with their processes, are on their way there or away, or still fetch
 * their memory from there. */
size_t node_sessions(const struct node *node);

/* With an event `what`, when that changes anything; -ENOENT. */
int node_set_state(struct controller *c, const char *name, const char *state, const char *who,
		   const char *what, struct error *e);
/* Its certificate counts no more, and nothing more is asked of it. */
int node_take_off(struct controller *c, const char *name, const char *who, const char *what,
		  struct error *e);

#endif
