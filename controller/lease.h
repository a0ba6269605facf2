/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_CONTROLLER_LEASE_H
#define ELSA_CONTROLLER_LEASE_H

/*
 * Leases of the nodes that joined (docs/nodes.md): granted by answering, and
 * counted from the answer by the monotonic clock. A node whose lease has lapsed
 * runs nothing any more: it is lost, and so are its sessions until they are
 * fenced. One thread.
 */

#include "controller/nodes.h"

int lease_new(struct controller *c, struct error *e); /* after sessions_new() and nodes_new() */
void lease_free(struct controller *c);
void lease_reload(struct controller *c);

/* It has just been granted for all we know: for one that elsad did not know before, and after
 * elsad's own start. */
void lease_assume(struct node *node);

/* Milliseconds until it lapses; 0: it has; -1: it needs none. */
int64_t lease_left_ms(const struct node *node);

/* POST /v1/nodes/lease */
void lease_asked(struct http_exchange *x, void *controller);

#endif
