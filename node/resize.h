/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_NODE_RESIZE_H
#define ELSA_NODE_RESIZE_H

/*
 * Other limits for a session that this node has (docs/size.md): one that is asleep gets them when
 * it wakes; one that runs gets them at once, if that is no less memory and this node has room for
 * it. On the loop.
 */

#include "node/session.h"

/* -EBUSY while something is done to it; a conflict (less than it holds, less for what runs), or
 * full: nothing has changed. */
int resize(struct node *node, struct session *s, const struct session_limits *to, struct error *e);

#endif
