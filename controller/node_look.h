/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_CONTROLLER_NODE_LOOK_H
#define ELSA_CONTROLLER_NODE_LOOK_H

/* What was seen at the node, and what it means for the sessions. One thread. */

#include "controller/node.h"
#include "controller/sessions.h"

void node_judge_info(struct node *node, const struct node_info *info);
void node_judge_sessions(struct node *node, const struct session_status_list *list);
void node_judge_effects(struct node *node, const json_t *body);

#endif
