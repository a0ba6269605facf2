/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_CONTROLLER_NODE_LOOK_H
#define ELSA_CONTROLLER_NODE_LOOK_H

/* What was seen at the node, and what it means for the sessions. One thread. */

#include "controller/node.h"

#define NODE_BOOT_FACT    "node.boot_id"
#define NODE_NAME_FACT    "node.name"
#define NODE_STRANGE_MOST 64

struct node {
	bool up;
	bool checked; /* its effects and checkpoints were compared since it came up */
	char *name;
	char *boot_id;     /* as recorded; NULL: never seen */
	char *new_boot_id; /* it rebooted, and not all sessions know it yet */
	mono_us look_at;   /* when the look under way began: what is younger it cannot judge */
	struct event *timer;
	struct http_call *call;
	char strange[NODE_STRANGE_MOST][ID_SIZE]; /* sessions nobody knows, already reported */
	size_t strange_count;
};

void node_judge_info(struct controller *c, const struct node_info *info);
void node_judge_sessions(struct controller *c, const struct session_status_list *list);
void node_judge_effects(struct controller *c, const json_t *body);

#endif
