/* SPDX-License-Identifier: Apache-2.0 */
/* Requests to the node, whether it is up, and the regular look at it. What a look means for the
 * sessions is in node_look.c. */
#include "controller/node.h"

#include "base/cleanup.h"
#include "base/fs.h"
#include "base/log.h"
#include "controller/checkpoints.h"
#include "controller/effects.h"
#include "controller/node_look.h"
#include "controller/observe.h"
#include "controller/retry.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define LOOK_TIMEOUT_MS 10000
#define LOOK_AGAIN_MS   1000 /* while it is down */

int node_call(struct controller *c, const char *method, const char *path, const json_t *body,
	      int timeout_ms, http_done done, void *arg, struct http_call **call, struct error *e)
{
	static const char *const headers[] = { "Content-Type: application/json", NULL };
	cleanup_free char *url = str_printf("http://node%s", path);
	cleanup_free char *text = body ? json_dumps(body, JSON_COMPACT) : NULL;
	if (!url || (body && !text))
		return error_set(e, ENOMEM, "out of memory");
	const struct http_request request = {
		.method = method,
		.url = url,
		.unix_socket = c->config->node.socket,
		.headers = body ? headers : NULL,
		.body = text,
		.body_len = text ? strlen(text) : 0,
		.timeout_ms = timeout_ms,
	};
	return http_client_call(c->client, &request, done, arg, call, e);
}

int node_send(struct controller *c, const char *path, const char *data, size_t len, int timeout_ms,
	      http_done done, void *arg, struct error *e)
{
	static const char *const headers[] = { "Content-Type: application/octet-stream", NULL };
	cleanup_free char *url = str_printf("http://node%s", path);
	if (!url)
		return error_set(e, ENOMEM, "out of memory");
	const struct http_request request = {
		.method = "POST",
		.url = url,
		.unix_socket = c->config->node.socket,
		.headers = headers,
		.body = data,
		.body_len = len,
		.timeout_ms = timeout_ms,
	};
	return http_client_call(c->client, &request, done, arg, NULL, e);
}

void node_error(const struct http_reply *reply, struct error *e)
{
	*e = ERROR_INIT;
	if (reply->status == 0) {
		*e = reply->error;
		if (e->fault == FAULT_NONE)
			e->fault = FAULT_UNAVAILABLE;
		error_wrap(e, 0, "elsa-node does not answer");
		error_remedy(e, 0,
			     "is elsa-node running? see its log (systemctl status elsa-node)");
		return;
	}
	if (reply->status >= 200 && reply->status < 300)
		return;
	cleanup_json json_t *body = json_loads(reply->body ? reply->body : "", 0, NULL);
	wire_decode_error(body, reply->status, e);
	if (e->fault == FAULT_DENIED)
		error_remedy(e, 0, "node.allowed_user must be the account that elsad runs as");
}

void node_heard(struct controller *c, const struct http_reply *reply)
{
	struct node *node = c->node;
	bool up = reply->status != 0;
	/* A slow answer to one question does not mean that there is nobody. */
	if (up == node->up || (!up && reply->error.fault == FAULT_TIMEOUT))
		return;
	node->up = up;
	if (up) {
		log_info("elsa-node answers");
		node->checked = false;
		node_look_soon(c);
	} else {
		log_warning("elsa-node does not answer: %s", reply->error.text);
	}
}

bool node_up(const struct controller *c)
{
	return c->node->up;
}

const char *node_name(const struct controller *c)
{
	return c->node->name ? c->node->name : "node";
}

/* --- the regular look --------------------------------------------------------------------------
 */

static void look_later(struct controller *c)
{
	int64_t delay = c->node->up ? c->config->controller.observe_ms : LOOK_AGAIN_MS;
	const struct timeval time = retry_timeval(delay);
	event_add(c->node->timer, &time);
}

void node_look_soon(struct controller *c)
{
	const struct timeval now = { 0 };
	if (!c->node->call)
		event_add(c->node->timer, &now);
}

static void got_effects(const struct http_reply *reply, void *arg)
{
	struct controller *c = arg;
	node_heard(c, reply);
	if (reply->status != 200)
		return;
	cleanup_json json_t *body = json_loads(reply->body, 0, NULL);
	node_judge_effects(c, body);
}

/* Once for every time it comes up: what only a crash or a lost answer can have put out of step. */
static void check_once(struct controller *c)
{
	if (c->node->checked)
		return;
	c->node->checked = true;
	node_call(c, "GET", "/v1/effects", NULL, LOOK_TIMEOUT_MS, got_effects, c, NULL, NULL);
	checkpoints_compare(c, NULL);
}

static void got_sessions(const struct http_reply *reply, void *arg)
{
	struct controller *c = arg;
	struct session_status_list list = { 0 };
	struct error e = ERROR_INIT;
	c->node->call = NULL;
	node_heard(c, reply);
	node_error(reply, &e);
	if (e.fault == FAULT_NONE)
		wire_decode_text(&wire_session_status_list, reply->body, reply->body_len, &list,
				 &e);
	if (e.fault == FAULT_NONE) {
		node_judge_sessions(c, &list);
		check_once(c);
		observe_servers(c);
	} else if (reply->status) {
		log_warning("the node's list of sessions cannot be used: %s", e.text);
	}
	wire_free(&wire_session_status_list, &list);
	look_later(c);
}

static void got_info(const struct http_reply *reply, void *arg)
{
	struct controller *c = arg;
	struct node_info info = { 0 };
	struct error e = ERROR_INIT;
	c->node->call = NULL;
	node_heard(c, reply);
	node_error(reply, &e);
	if (e.fault == FAULT_NONE)
		wire_decode_text(&wire_node_info, reply->body, reply->body_len, &info, &e);
	if (e.fault == FAULT_NONE) {
		node_judge_info(c, &info);
		node_call(c, "GET", "/v1/sessions", NULL, LOOK_TIMEOUT_MS, got_sessions, c,
			  &c->node->call, &e);
	} else if (reply->status) {
		log_warning("elsa-node's answer cannot be used: %s", e.text);
	}
	wire_free(&wire_node_info, &info);
	if (!c->node->call)
		look_later(c);
}

static void look(evutil_socket_t fd, short what, void *arg)
{
	struct controller *c = arg;
	(void)fd;
	(void)what;
	if (c->node->call)
		return;
	c->node->look_at = clock_mono();
	if (node_call(c, "GET", "/v1/node", NULL, LOOK_TIMEOUT_MS, got_info, c, &c->node->call,
		      NULL) < 0)
		look_later(c);
}

int node_new(struct controller *c, struct error *e)
{
	c->node = calloc(1, sizeof(*c->node));
	if (!c->node)
		return error_set(e, ENOMEM, "out of memory");
	c->node->timer = evtimer_new(c->base, look, c);
	if (!c->node->timer)
		return error_set(e, ENOMEM, "out of memory");
	db_fact_get(c->db, NODE_BOOT_FACT, &c->node->boot_id, NULL);
	db_fact_get(c->db, NODE_NAME_FACT, &c->node->name, NULL);
	node_look_soon(c);
	return 0;
}

void node_free(struct controller *c)
{
	if (!c->node)
		return;
	if (c->node->timer)
		event_free(c->node->timer);
	free(c->node->name);
	free(c->node->boot_id);
	free(c->node->new_boot_id);
	free(c->node);
	c->node = NULL;
}
