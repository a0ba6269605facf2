/* SPDX-License-Identifier: Apache-2.0 */
/* Notices that somebody makes up for a node, to see what happens. The node checks what is asked,
 * keeps it and takes it back; here it is only passed on and recorded. */
#include "controller/api.h"

#include "base/cleanup.h"
#include "base/names.h"
#include "controller/node.h"
#include "controller/record.h"

#include <errno.h>

enum { ASK_MS = 10000 };

/* NULL and answered when there is none. */
static struct node *find_node(struct http_exchange *x, struct controller *c, const json_t *body)
{
	struct error e = ERROR_INIT;
	const char *name = json_string_value(json_object_get(body, "node"));
	struct node *node = name ? nodes_find(c, name) : NULL;
	if (node)
		return node;
	if (name) {
		error_set(&e, ENOENT, "there is no node \"%s\"", name);
		error_remedy(&e, 0, "see 'elsa node list' for those there are");
	} else {
		error_set(&e, EINVAL, "node: expected a name");
	}
	http_reply_error(x, &e);
	return NULL;
}

/* What the node has now is soon known here, too. */
static void done(struct http_exchange *x, struct controller *c, const struct http_reply *reply)
{
	cleanup_json json_t *body = http_exchange_json(x);
	struct node *node = body ? find_node(x, c, body) : NULL;
	(void)reply;
	if (!node)
		return;
	node_look_soon(node);
	http_reply_json(x, 200, json_pack("{s:s}", "node", node_name(node)));
}

static void note(struct http_exchange *x, struct controller *c, const json_t *body,
		 const struct node *node, const char *what)
{
	const char *kind = json_string_value(json_object_get(body, "kind"));
	char detail[160];
	snprintf(detail, sizeof(detail), "%.100s%s%.40s", node_name(node), kind ? ": " : "",
		 kind ? kind : "");
	record_note(c,
		    &(struct record) { .who = api_asker(x, body), .what = what, .detail = detail });
}

static json_t *asked_for(struct http_exchange *x, const json_t *body)
{
	json_t *to = json_object();
	json_object_set(to, "kind", json_object_get(body, "kind"));
	if (json_object_get(body, "in_ms"))
		json_object_set(to, "in_ms", json_object_get(body, "in_ms"));
	json_object_set_new(to, "who", json_string(api_asker(x, body)));
	return to;
}

void api_post_node_drill(struct http_exchange *x, void *arg)
{
	struct controller *c = arg;
	cleanup_json json_t *body = http_exchange_json(x);
	struct node *node = body ? find_node(x, c, body) : NULL;
	if (!node)
		return;
	cleanup_json json_t *asked = asked_for(x, body);
	note(x, c, body, node, "drill");
	api_ask_node(x, node, "POST", "/v1/drill", asked, ASK_MS, done);
}

void api_post_node_drill_cancel(struct http_exchange *x, void *arg)
{
	struct controller *c = arg;
	cleanup_json json_t *body = http_exchange_json(x);
	struct node *node = body ? find_node(x, c, body) : NULL;
	if (!node)
		return;
	note(x, c, body, node, "drill-cancelled");
	api_ask_node(x, node, "DELETE", "/v1/drill", NULL, ASK_MS, done);
}
