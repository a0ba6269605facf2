/* SPDX-License-Identifier: Apache-2.0 */
/* Requests to the node, whether it is up, and the regular look at it. What a look means for the
 * sessions is in node_look.c. */
#include "controller/node.h"

#include "base/cleanup.h"
#include "base/fs.h"
#include "base/log.h"
#include "controller/capacity.h"
#include "controller/checkpoints.h"
#include "controller/drain.h"
#include "controller/effects.h"
#include "controller/evacuations.h"
#include "controller/node_look.h"
#include "controller/nodes_api.h"
#include "controller/observe.h"
#include "controller/overlay_state.h"
#include "controller/placing.h"
#include "controller/retry.h"
#include "controller/wake.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define LOOK_TIMEOUT_MS 10000
#define LOOK_AGAIN_MS   1000 /* while it is down */

/* Asks it: on this host over the socket, on others by TLS. */
static int call(struct node *node, struct http_request *request, const char *path, http_done done,
		void *arg, struct http_call **under_way, struct error *e)
{
	struct controller *c = node->controller;
	cleanup_free char *base = NULL;
	cleanup_free char *connect_to = NULL;
	if (node->local)
		request->unix_socket = c->config->node.socket;
	int r = node->local ? 0 : node_link(c, node->name, &base, &connect_to, request, e);
	if (r < 0)
		return r;
	cleanup_free char *url = str_printf("%s%s", base ? base : "http://node", path);
	if (!url)
		return error_set(e, ENOMEM, "out of memory");
	request->url = url;
	return http_client_call(c->client, request, done, arg, under_way, e);
}

int node_call(struct node *node, const char *method, const char *path, const json_t *body,
	      int timeout_ms, http_done done, void *arg, struct http_call **under_way,
	      struct error *e)
{
	static const char *const headers[] = { "Content-Type: application/json", NULL };
	cleanup_free char *text = body ? json_dumps(body, JSON_COMPACT) : NULL;
	if (body && !text)
		return error_set(e, ENOMEM, "out of memory");
	struct http_request request = {
		.method = method,
		.headers = body ? headers : NULL,
		.body = text,
		.body_len = text ? strlen(text) : 0,
		.timeout_ms = timeout_ms,
	};
	return call(node, &request, path, done, arg, under_way, e);
}

int node_send(struct node *node, const char *path, const char *data, size_t len, int timeout_ms,
	      http_done done, void *arg, struct error *e)
{
	static const char *const headers[] = { "Content-Type: application/octet-stream", NULL };
	struct http_request request = {
		.method = "POST",
		.headers = headers,
		.body = data,
		.body_len = len,
		.timeout_ms = timeout_ms,
	};
	return call(node, &request, path, done, arg, NULL, e);
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

void node_heard(struct node *node, const struct http_reply *reply)
{
	bool up = reply->status != 0;
	/* A slow answer to one question does not mean that there is nobody. */
	if (up == node->up || (!up && reply->error.fault == FAULT_TIMEOUT))
		return;
	node->up = up;
	if (up) {
		log_info("%s answers", node_name(node));
		node->checked = false;
		overlay_tell_again(node);
		node_look_soon(node);
	} else {
		log_warning("%s does not answer: %s", node_name(node), reply->error.text);
	}
}

const char *node_name(const struct node *node)
{
	return node->name ? node->name : "node";
}

/* --- the regular look --------------------------------------------------------------------------
 */

static void look_later(struct node *node)
{
	int64_t delay = node->up ? node->controller->config->controller.observe_ms : LOOK_AGAIN_MS;
	const struct timeval time = retry_timeval(node->look_again && node->up ? 0 : delay);
	event_add(node->timer, &time);
}

void node_look_soon(struct node *node)
{
	const struct timeval now = { 0 };
	node->look_again = node->call;
	if (!node->call)
		event_add(node->timer, &now);
}

static void got_effects(const struct http_reply *reply, void *arg)
{
	struct node *node = arg;
	node_heard(node, reply);
	if (reply->status != 200)
		return;
	cleanup_json json_t *body = json_loads(reply->body, 0, NULL);
	node_judge_effects(node, body);
}

/* Once for every time it comes up: what only a crash or a lost answer can have put out of step. */
static void check_once(struct node *node)
{
	/* A look that began before it was back says nothing about what it holds. */
	if (node->checked || node->look_at < node->back_at)
		return;
	node->checked = true;
	node_call(node, "GET", "/v1/effects", NULL, LOOK_TIMEOUT_MS, got_effects, node, NULL, NULL);
	checkpoints_compare(node->controller, NULL);
}

static void got_sessions(const struct http_reply *reply, void *arg)
{
	struct node *node = arg;
	struct session_status_list list = { 0 };
	struct error e = ERROR_INIT;
	node->call = NULL;
	node_heard(node, reply);
	node_error(reply, &e);
	if (e.fault == FAULT_NONE)
		wire_decode_text(&wire_session_status_list, reply->body, reply->body_len, &list,
				 &e);
	if (e.fault == FAULT_NONE) {
		node_judge_sessions(node, &list);
		check_once(node);
		drain_soon(node->controller);
		wake_soon(node->controller);
		observe_servers(node->controller);
	} else if (reply->status) {
		log_warning("%s: its list of sessions cannot be used: %s", node_name(node), e.text);
	}
	wire_free(&wire_session_status_list, &list);
	look_later(node);
}

static void take_info(struct node *node, struct node_info *info)
{
	const char *before = node->info.underlay ? node->info.underlay : "";
	const char *after = info->underlay ? info->underlay : "";
	bool moved = strcmp(before, after) != 0;
	wire_free(&wire_node_info, &node->info);
	node->info = *info;
	*info = (struct node_info) { 0 };
	if (moved)
		overlay_changed(node->controller);
}

static void got_info(const struct http_reply *reply, void *arg)
{
	struct node *node = arg;
	struct node_info info = { 0 };
	struct error e = ERROR_INIT;
	node->call = NULL;
	node_heard(node, reply);
	node_error(reply, &e);
	if (e.fault == FAULT_NONE)
		wire_decode_text(&wire_node_info, reply->body, reply->body_len, &info, &e);
	if (e.fault == FAULT_NONE) {
		node_judge_info(node, &info);
		evacuations_look(node, &info);
		bool doomed = placing_is_doomed(node);
		take_info(node, &info);
		if (placing_is_doomed(node) != doomed)
			capacity_changed(node->controller);
		node->images_asked = node->images_in_question;
		node_call(node, "GET", "/v1/sessions", NULL, LOOK_TIMEOUT_MS, got_sessions, node,
			  &node->call, &e);
	} else if (reply->status) {
		log_warning("%s: its answer cannot be used: %s", node_name(node), e.text);
	}
	wire_free(&wire_node_info, &info);
	if (e.fault != FAULT_NONE)
		evacuations_missed(node);
	if (!node->call)
		look_later(node);
}

/* Among several nodes each is asked which root file systems it has. */
static int ask_info(struct node *node)
{
	struct nodes *nodes = node->controller->nodes;
	const struct node_question question = { .images = nodes->images };
	bool several = nodes_next(nodes->local) && nodes->image_count;
	cleanup_json json_t *body = several ? wire_encode(&wire_node_question, &question) : NULL;
	node->images_in_question = body ? nodes->image_count : 0;
	return node_call(node, body ? "POST" : "GET", "/v1/node", body, LOOK_TIMEOUT_MS, got_info,
			 node, &node->call, NULL);
}

static void look(evutil_socket_t fd, short what, void *arg)
{
	struct node *node = arg;
	(void)fd;
	(void)what;
	if (node->call)
		return;
	if (!node->local && !node->joined)
		return; /* nobody is there to be asked */
	node->look_at = clock_mono();
	node->look_again = false;
	if (ask_info(node) < 0)
		look_later(node);
}

struct event *node_look_timer(struct node *node)
{
	return evtimer_new(node->controller->base, look, node);
}
