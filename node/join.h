/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_NODE_JOIN_H
#define ELSA_NODE_JOIN_H

/*
 * Joining elsad on another host, and staying known to it: the first
 * certificate by a token (node.join_token_file), each further one by the one
 * before, and the API on node.listen, where elsad alone may call. Nothing here
 * is waited for: a node that has joined begins without elsad. On the loop.
 */

#include "node/node.h"

struct join;

/* Nothing when node.controller is not set. */
int join_start(struct node *node, struct error *e);
void join_stop(struct node *node); /* idempotent */

/* "address:port" as elsad is to reach this node; 0.0.0.0: it takes the one it sees. Allocated, or
 * NULL. */
char *join_listen(const struct config *config);

/* elsad has said that this node is none of its cluster, or no more: a new token is waited for. */
void join_refused(struct node *node);

#endif
