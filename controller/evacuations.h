/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_CONTROLLER_EVACUATIONS_H
#define ELSA_CONTROLLER_EVACUATIONS_H

/*
 * What nodes that went away made of their sessions: the last evacuation of each
 * node, kept on record since the node is likely to be gone, and told once as
 * events: "put-away" (how long that took, how much was sent) or "left-behind" for
 * a session, "evacuation" for the node. What it means for the sessions' states, and
 * the event "evacuated", is node_look.c's.
 *
 * One that a node did not live to end is ended here when its deadline has passed
 * and nobody answers. One thread.
 */

#include "controller/node.h"

/* At each look, when the node has said what it is: asks it where there may be news. Before
 * node->checked is set and node->info replaced. */
void evacuations_look(struct node *node, const struct node_info *info);
/* ... when it did not answer. */
void evacuations_missed(struct node *node);

/* GET /v1/nodes/evacuation?node=NAME */
void api_get_evacuation(struct http_exchange *x, void *controller);

#endif
