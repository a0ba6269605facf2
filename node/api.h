/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_NODE_API_H
#define ELSA_NODE_API_H

/* The node's HTTP API: docs/api.md, "elsa-node". Handlers run on the loop and hand what blocks to
 * the pool. */

#include "io/http_server.h"
#include "node/node.h"

/* Opens config's node.socket and serves it until api_stop(). */
int api_start(struct node *node, struct error *e);
void api_stop(struct node *node);

/* The same API on node.listen, for elsad on another host and nobody else. */
int api_start_tls(struct node *node, const struct http_tls *files, struct error *e);
bool api_serves_tls(const struct node *node);

/* Private to node/api*.c: the handlers about checkpoints. */
void api_checkpoints(struct http_exchange *x, void *node);
void api_checkpoint_verify(struct http_exchange *x, void *node);
void api_checkpoint_aside(struct http_exchange *x, void *node);
void api_checkpoint(struct http_exchange *x, void *node);
/* ... and about the store. */
void api_store_begin(struct http_exchange *x, void *node);
void api_store_task(struct http_exchange *x, void *node);
void api_store_end(struct http_exchange *x, void *node);
void api_store_take(struct http_exchange *x, void *node);
void api_store_give(struct http_exchange *x, void *node);

/* ... and about drills. */
void api_drill(struct http_exchange *x, void *node);
void api_drill_cancel(struct http_exchange *x, void *node);

/* ... and about sessions that leave while they run. */
void api_departure_grant(struct http_exchange *x, void *node);
void api_departure(struct http_exchange *x, void *node);
void api_departure_take_back(struct http_exchange *x, void *node);
void api_departure_end(struct http_exchange *x, void *node);

/* ... and about a session's limits. */
void api_limits(struct http_exchange *x, void *node);

/* An id that effects and what else is asked for may have. */
bool api_id_valid(const char *id);

/* Answers with a struct by its table, or with a 500. */
void api_reply(struct http_exchange *x, const struct wire_struct *type, const void *value);

#endif
