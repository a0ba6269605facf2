/* SPDX-License-Identifier: Apache-2.0 */
/* The nodes: which there are, tokens to join, draining and removing. */
#include "controller/api.h"

#include "base/cleanup.h"
#include "base/fs.h"
#include "base/log.h"
#include "controller/consolidate.h"
#include "controller/lease.h"
#include "controller/node.h"
#include "controller/nodes_api.h"
#include "controller/nodes_change.h"
#include "controller/record.h"
#include "controller/rows.h"
#include "wire/text.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define TTL_MS      (3600 * 1000LL)
#define TTL_MOST_MS (30 * 24 * 3600 * 1000LL)
#define USES_MOST   100000

/* --- which there are ------------------------------------------------------ */

static void set_text(json_t *to, const char *name, const char *text)
{
	json_object_set_new(to, name, text && *text ? wire_text(text) : json_null());
}

static void set_info(json_t *to, const struct node_info *info)
{
	set_text(to, "version", info->version);
	set_text(to, "price", info->price);
	set_text(to, "zone", info->zone);
	set_text(to, "instance", info->instance);
	set_text(to, "instance_type", info->instance_type);
	json_object_set_new(to, "cpus", json_integer(info->cpus));
	json_object_set_new(to, "memory_bytes", json_integer(info->memory_bytes));
	json_object_set_new(to, "memory_available_bytes",
			    json_integer(info->memory_available_bytes));
}

/* What it has heard of its machine's end. */
static json_t *notices_json(const struct node_info *info)
{
	json_t *list = json_array();
	for (size_t i = 0; i < info->notice_count; i++)
		json_array_append_new(list, wire_encode(&wire_node_notice, &info->notices[i]));
	return list;
}

/* What is known of it now. `node` NULL: nothing. */
static json_t *node_json(const char *name, const struct node *node)
{
	static const struct node_info nothing;
	json_t *to = json_object();
	set_text(to, "name", name);
	json_object_set_new(to, "local", json_boolean(node && node->local));
	json_object_set_new(to, "up", json_boolean(node && node_is_usable(node)));
	json_object_set_new(to, "lost", json_boolean(node && node->lost));
	json_object_set_new(to, "leaving", json_boolean(node && node->leaving));
	json_object_set_new(to, "drained", json_boolean(node && node->drained));
	json_object_set_new(to, "lease_left_ms", json_integer(node ? lease_left_ms(node) : 0));
	set_info(to, node ? &node->info : &nothing);
	json_object_set_new(to, "notices", notices_json(node ? &node->info : &nothing));
	json_object_set_new(to, "sessions",
			    json_integer(node ? (json_int_t)node_sessions(node) : 0));
	return to;
}

static json_t *local_json(struct controller *c)
{
	const struct node *node = c->nodes->local;
	json_t *to = node_json(node_name(node), node);
	set_text(to, "state", c->config->nodes.local ? "ready" : "draining");
	return to;
}

struct listing {
	struct controller *c;
	json_t *items;
};

static int add_node(const struct db_node *row, void *arg)
{
	struct listing *l = arg;
	const struct node *node = nodes_find(l->c, row->name);
	json_t *to = node_json(row->name, node);
	set_text(to, "state", row->state);
	set_text(to, "listen", row->listen);
	set_text(to, "overlay", row->overlay);
	json_object_set_new(to, "consolidation", node ? consolidate_node_json(node) : json_null());
	json_object_set_new(to, "joined_at", json_integer(row->joined_at));
	json_object_set_new(to, "seen_at",
			    json_integer(node && node->seen_at ? node->seen_at : row->seen_at));
	return json_array_append_new(l->items, to);
}

void api_get_nodes(struct http_exchange *x, void *arg)
{
	struct controller *c = arg;
	struct error e = ERROR_INIT;
	struct listing l = { .c = c, .items = json_array() };
	json_array_append_new(l.items, local_json(c));
	if (db_node_each(c->db, add_node, &l, &e) == 0) {
		http_reply_json(x, 200, json_pack("{s:o}", "items", l.items));
		return;
	}
	json_decref(l.items);
	http_reply_error(x, &e);
}

/* --- tokens --------------------------------------------------------------- */

static bool take_number(const json_t *body, const char *name, int64_t initial, int64_t least,
			int64_t most, int64_t *to, struct error *e)
{
	const json_t *given = json_object_get(body, name);
	*to = given ? json_integer_value(given) : initial;
	if ((!given || json_is_integer(given)) && *to >= least && *to <= most)
		return true;
	error_set(e, EINVAL, "%s: expected a whole number from %lld to %lld", name,
		  (long long)least, (long long)most);
	return false;
}

static int check_listening(const struct controller *c, struct error *e)
{
	if (c->nodes_api)
		return 0;
	int r = error_set(e, EINVAL, "no other hosts can join: nodes.listen is not set");
	return error_remedy(e, r,
			    "set it to \"host:port\" in the configuration of elsad and restart "
			    "that (docs/nodes.md)");
}

void api_post_node_token(struct http_exchange *x, void *arg)
{
	struct controller *c = arg;
	struct error e = ERROR_INIT;
	cleanup_json json_t *body = http_exchange_json(x);
	cleanup_free char *token = NULL;
	cleanup_free char *url = NULL;
	int64_t ttl_ms, uses;
	wall_ms expires = 0;
	if (!body)
		return;
	if (check_listening(c, &e) < 0 ||
	    !take_number(body, "ttl_ms", TTL_MS, 1, TTL_MOST_MS, &ttl_ms, &e) ||
	    !take_number(body, "uses", 1, 0, USES_MOST, &uses, &e) ||
	    tokens_make(c, ttl_ms, uses, &token, &expires, &e) < 0) {
		http_reply_error(x, &e);
		return;
	}
	url = nodes_api_url(c->config);
	record_note(c, &(struct record) { .who = api_asker(x, body), .what = "node-token" });
	http_reply_json(x, 200,
			json_pack("{s:s, s:I, s:I, s:s}", "token", token, "expires_at",
				  (json_int_t)expires, "uses", (json_int_t)uses, "url",
				  url ? url : ""));
}

/* --- draining and removing ------------------------------------------------ */

/* The row of the body's node, or answered. */
static bool find_row(struct http_exchange *x, struct controller *c, const json_t *body,
		     struct db_node *row)
{
	struct error e = ERROR_INIT;
	const char *name = json_string_value(json_object_get(body, "node"));
	if (!body)
		return false;
	if (!name) {
		error_set(&e, EINVAL, "node: expected a name");
	} else if (db_node_get(c->db, name, row, &e) == 0) {
		return true;
	} else if (c->nodes->local->name && strcmp(c->nodes->local->name, name) == 0) {
		error_clear(&e);
		error_set(&e, EBUSY, "\"%s\" is the hub's own host", name);
		error_remedy(&e, 0, "nodes.local = false keeps new sessions away from it");
	} else if (e.fault == FAULT_NOT_FOUND) {
		error_clear(&e);
		error_set(&e, ENOENT, "no node \"%s\" has joined", name);
		error_remedy(&e, 0, "see 'elsa node list' for those there are");
	}
	http_reply_error(x, &e);
	return false;
}

static void set_state(struct http_exchange *x, struct controller *c, const char *state,
		      const char *what)
{
	struct error e = ERROR_INIT;
	cleanup_json json_t *body = http_exchange_json(x);
	cleanup(db_node_deinit) struct db_node row = { 0 };
	if (!find_row(x, c, body, &row))
		return;
	if (node_set_state(c, row.name, state, api_asker(x, body), what, &e) < 0) {
		http_reply_error(x, &e);
		return;
	}
	http_reply_json(x, 200, json_pack("{s:s, s:s}", "node", row.name, "state", state));
}

void api_post_node_drain(struct http_exchange *x, void *arg)
{
	set_state(x, arg, NODE_DRAINING, "node-draining");
}

void api_post_node_undrain(struct http_exchange *x, void *arg)
{
	set_state(x, arg, NODE_READY, "node-ready");
}

static int check_removable(struct controller *c, const struct db_node *row, struct error *e)
{
	const struct node *node = nodes_find(c, row->name);
	size_t sessions = node ? node_sessions(node) : 0;
	if (sessions == 0)
		return 0;
	int r = error_set(e, EBUSY, "%zu %s on \"%s\"", sessions,
			  sessions == 1 ? "session is" : "sessions are", row->name);
	return error_remedy(e, r,
			    "hibernate them first (elsa node drain %s keeps new ones away); "
			    "--force gives up what runs there, and their last checkpoints are "
			    "what is left",
			    row->name);
}

void api_post_node_remove(struct http_exchange *x, void *arg)
{
	struct controller *c = arg;
	struct error e = ERROR_INIT;
	cleanup_json json_t *body = http_exchange_json(x);
	cleanup(db_node_deinit) struct db_node row = { 0 };
	if (!find_row(x, c, body, &row))
		return;
	bool force = json_is_true(json_object_get(body, "force"));
	int r = force ? 0 : check_removable(c, &row, &e);
	if (r == 0)
		r = node_take_off(c, row.name, api_asker(x, body), "node-removed", &e);
	if (r < 0) {
		http_reply_error(x, &e);
		return;
	}
	http_reply_json(x, 200, json_pack("{s:s}", "node", row.name));
}
