/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_NODE_RESIZE_H
#define ELSA_NODE_RESIZE_H

/*
 * Other limits for a session that this node has (docs/size.md): one that is asleep gets them when
 * it wakes; one that runs gets them at once: more memory if this node has room for it, less only
 * while it uses, and soon will use, no more than that. On the loop.
 */

#include "node/session.h"

/* -EBUSY while something is done to it; a conflict (less than it holds, or soon will), or
 * full: nothing has changed. */
int resize(struct node *node, struct session *s, const struct session_limits *to, struct error *e);

#endif
