/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_NODE_RESCUE_H
#define ELSA_NODE_RESCUE_H

/*
 * Sessions near their memory's limit (policies/rescue.h), looked at some times a
 * second, and at once when the kernel tells of one (node/rescue_notices.h): the
 * limit is raised where this node has room. Where it has none, a session about to
 * meet its limit stands still (HOLD_MEMORY), and its status says how much it is
 * short of: elsad takes it elsewhere. Who is not helped for long goes on, whatever
 * becomes of it.
 *
 * It is a program that looks, and may come too late, be stopped or dead. So what
 * meets a limit before it is looked at waits in the kernel (CGROUP_WAITS), which
 * needs nobody; it goes on waiting while this program is away. On the loop.
 */

#include "node/effect.h"
#include "node/node.h"

int rescue_init(struct node *node, struct error *e);
void rescue_free(struct node *node);

/* Memory that can be promised to its sessions besides what their limits say; negative: too much is.
 */
int64_t rescue_room(struct node *node);

/* Whether a session that runs is as far from that limit as one is left alone. A conflict: it is
 * not. */
int rescue_check(struct node *node, struct session *s, int64_t limit, struct error *e);

/* On the worker of an effect that is about to let it run here, in a group that is new: until the
 * effect has ended nobody looks at it. */
void rescue_begin(struct effect *ef);

#endif
