/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_CONTROLLER_API_H
#define ELSA_CONTROLLER_API_H

/* elsad's API (docs/api.md): one table of routes, handlers that only translate. One thread. */

#include "controller/sessions.h"

#include <jansson.h>

struct node;
struct operation;

int api_new(struct controller *c, struct error *e);
void api_free(struct controller *c);

/* A new event is in the database: whoever waits for one is told soon. */
void api_wake_events(struct controller *c);

/* --- for handlers ------------------------------------------------------------------------------
 */

/* The session named by the query, or NULL and the exchange is answered. */
struct session *api_query_session(struct http_exchange *x, struct controller *c);
/* Likewise by the body's `user` and `server`. */
struct session *api_body_session(struct http_exchange *x, struct controller *c, const json_t *body);
/* A number of the query: `initial` when it is not there; false when it is none, and answered. */
bool api_query_number(struct http_exchange *x, const char *name, int64_t initial, int64_t most,
		      int64_t *to);
void api_reply_fault(struct http_exchange *x, enum fault fault, const char *text,
		     const char *remedy);
/* An answer of a node is passed on as it is: the exchange is kept until it is there. */
void api_ask_node(struct http_exchange *x, struct node *node, const char *method, const char *path,
		  const json_t *body, int timeout_ms,
		  void (*answer)(struct http_exchange *x, struct controller *c,
				 const struct http_reply *reply));

/* The same for a body of bytes, by POST. */
void api_send_node(struct http_exchange *x, struct node *node, const char *path, const char *data,
		   size_t len, int timeout_ms,
		   void (*answer)(struct http_exchange *x, struct controller *c,
				  const struct http_reply *reply));
/* Who asks, in words of the caller or by where the question came from. Borrowed. */
const char *api_asker(struct http_exchange *x, const json_t *body);

/* An event as the API shows it. */
json_t *api_event_json(const struct db_event *event);
json_t *api_session_json(struct session *s, bool secrets);
json_t *api_operation_json(const struct operation *op);
void api_reply_operation(struct http_exchange *x, struct operation *op);

/* --- the handlers ------------------------------------------------------------------------------
 */

void api_get_health(struct http_exchange *x, void *arg);
void api_get_sessions(struct http_exchange *x, void *arg);
void api_get_session(struct http_exchange *x, void *arg);
void api_get_log(struct http_exchange *x, void *arg);
void api_get_operation(struct http_exchange *x, void *arg);
void api_get_events(struct http_exchange *x, void *arg);
void api_get_checkpoints(struct http_exchange *x, void *arg);
void api_post_start(struct http_exchange *x, void *arg);
void api_post_hibernate(struct http_exchange *x, void *arg);
void api_post_snapshot(struct http_exchange *x, void *arg);
void api_post_migrate(struct http_exchange *x, void *arg);
void api_post_stop(struct http_exchange *x, void *arg);
void api_post_forget(struct http_exchange *x, void *arg);
void api_post_resume(struct http_exchange *x, void *arg);
void api_post_keep_awake(struct http_exchange *x, void *arg);
void api_get_checkpoint(struct http_exchange *x, void *arg);
void api_post_store(struct http_exchange *x, void *arg);
void api_get_store_task(struct http_exchange *x, void *arg);
void api_get_store_data(struct http_exchange *x, void *arg);
void api_post_store_data(struct http_exchange *x, void *arg);
void api_get_nodes(struct http_exchange *x, void *arg);
void api_post_node_token(struct http_exchange *x, void *arg);
void api_post_node_drain(struct http_exchange *x, void *arg);
void api_post_node_undrain(struct http_exchange *x, void *arg);
void api_post_node_remove(struct http_exchange *x, void *arg);
void api_post_node_drill(struct http_exchange *x, void *arg); /* api_drill.c */
void api_post_node_drill_cancel(struct http_exchange *x, void *arg);
void api_get_capacity(struct http_exchange *x, void *arg); /* capacity_json.c */
void api_post_policy(struct http_exchange *x, void *arg);
void api_post_policy_try(struct http_exchange *x, void *arg); /* api_explain.c */
void api_get_explain(struct http_exchange *x, void *arg);
void api_get_savings(struct http_exchange *x, void *arg); /* api_account.c */
void api_get_usage(struct http_exchange *x, void *arg);
void api_get_budgets(struct http_exchange *x, void *arg);
void api_get_metrics(struct http_exchange *x, void *arg);
void api_get_sizes(struct http_exchange *x, void *arg); /* size_json.c */
void api_post_size(struct http_exchange *x, void *arg);

/* For tests: the routes, ended by a zeroed one. */
extern const struct http_route api_routes[];

#endif
