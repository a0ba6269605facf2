/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_CONTROLLER_NODE_H
#define ELSA_CONTROLLER_NODE_H

/*
 * A node as elsad sees it: requests to its API, whether it answers, and a look
 * at it every controller.observe_ms: did it reboot, which sessions run there,
 * what do they use. One thread.
 */

#include "controller/nodes.h"

#include <jansson.h>

/* A request to the node. `body` is borrowed. As http_client_call(). */
int node_call(struct node *node, const char *method, const char *path, const json_t *body,
	      int timeout_ms, http_done done, void *arg, struct http_call **call, struct error *e);

/* The same with a body of bytes, copied. */
int node_send(struct node *node, const char *path, const char *data, size_t len, int timeout_ms,
	      http_done done, void *arg, struct error *e);

/* Every callback of node_call() says first what it got: whether the node is up is known from that.
 */
void node_heard(struct node *node, const struct http_reply *reply);

/* The reply as an error: FAULT_NONE for 2xx, the transport's, or what the node's body says. */
void node_error(const struct http_reply *reply, struct error *e);

const char *node_name(const struct node *node); /* "node" until it said its name */

struct event *node_look_timer(struct node *node); /* of a node that is being made */
void node_look_soon(struct node *node);

#endif
