/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_NODE_RESCUE_NOTICES_H
#define ELSA_NODE_RESCUE_NOTICES_H

/*
 * The kernel's word that a session has come near its memory's limit, or waits at
 * it. It says that there is something to look at and not what: all are looked at,
 * soon, however many words come. On the loop.
 */

#include "node/cgroup.h"
#include "node/node.h"
#include "node/session.h"
#include "policies/rescue.h"

struct rescue_notices;

/* `look` is called from the loop, `arg` is its own. */
int rescue_notices_new(struct node *node, void (*look)(void *arg), void *arg,
		       struct rescue_notices **to, struct error *e);
void rescue_notices_free(struct rescue_notices *n); /* NULL is fine */

/* Of one that is looked at with that limit from now on. Nothing when it is heard of already. */
int rescue_notices_hear(const struct rescue_notices *n, struct session *s,
			const struct cgroup *cgroup, int64_t limit,
			const struct rescue_rules *rules, struct error *e);

#endif
