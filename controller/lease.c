/* SPDX-License-Identifier: Apache-2.0 */
#include "controller/lease.h"

#include "base/cleanup.h"
#include "base/fs.h"
#include "base/log.h"
#include "controller/capacity.h"
#include "controller/effects.h"
#include "controller/idle.h"
#include "controller/node.h"
#include "controller/nodes_api.h"
#include "controller/nodes_change.h"
#include "controller/placing.h"
#include "controller/record.h"
#include "controller/remains.h"
#include "controller/retry.h"
#include "controller/rows.h"
#include "controller/sessions.h"
#include "controller/wake.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TICK_LEAST_MS 50
#define TICK_MOST_MS  1000
#define LEASE_MOST_MS (3600 * 1000) /* of the option */

/* The longest lease that may be held somewhere, for the next elsad: its own nodes.lease may be
 * shorter. */
#define LONGEST_FACT "lease.longest_ms"

struct leases {
	struct event *timer;
	int64_t assumed_ms; /* what a node may hold that was granted to before we started */
	int64_t recorded_ms;
	mono_us began_at;
};

/* --- how long ----------------------------------------------------------------------------------
 */

static int record_longest(struct controller *c, int64_t ms, struct error *e)
{
	char text[32];
	if (ms == c->leases->recorded_ms)
		return 0;
	snprintf(text, sizeof(text), "%lld", (long long)ms);
	int r = db_fact_set(c->db, LONGEST_FACT, text, e);
	if (r == 0)
		c->leases->recorded_ms = ms;
	return r;
}

static int64_t read_longest(struct controller *c)
{
	cleanup_free char *text = NULL;
	if (db_fact_get(c->db, LONGEST_FACT, &text, NULL) < 0)
		return 0;
	long long ms = strtoll(text, NULL, 10);
	return ms < 0 || ms > LEASE_MOST_MS ? LEASE_MOST_MS : ms;
}

void lease_assume(struct node *node)
{
	const struct leases *leases = node->controller->leases;
	int64_t ms = node->controller->config->nodes.lease_ms;
	if (leases && leases->assumed_ms > ms)
		ms = leases->assumed_ms;
	node->lease_until = clock_mono() + ms * 1000;
	node->lost = false;
}

int64_t lease_left_ms(const struct node *node)
{
	if (node->local)
		return -1;
	mono_us left = node->lease_until - clock_mono();
	return node->lost || left <= 0 ? 0 : left / 1000;
}

/* --- lost --------------------------------------------------------------------------------------
 */

/* What is under way for it elsewhere goes on without its node. */
static bool waits_for(const struct session *s, const struct node *node)
{
	if (s->effect)
		return s->effect->node == node && s->effect->kind != EFFECT_FENCE;
	return s->node == node && session_is_its_nodes(s);
}

static void session_lost(struct session *s, const struct node *node)
{
	struct error e = ERROR_INIT;
	bool runs = session_has_processes(s) || s->state == SESSION_SNAPSHOTTING;
	const char *which = s->state == SESSION_MIGRATING ? "the node it moves to," : "its node";
	cleanup_free char *reason =
		str_printf("%s %s is not heard of any more", which, node_name(node));
	const struct session_change change = {
		.event = EVENT_NODE_LOST,
		.who = "lease",
		.reason = reason,
		.wish = runs && idle_in_use(s) ? WISH_AWAKE : WISH_NONE,
	};
	/* It stays as it is; the next tick says the same again. */
	if (session_apply(s, &change, NULL, &e) < 0)
		log_error("%s: that its node is lost cannot be recorded: %s", s->label, e.text);
}

static void sweep(struct node *node)
{
	struct session *next;
	for (struct session *s = sessions_first(node->controller); s; s = next) {
		next = sessions_next(s);
		if (waits_for(s, node))
			session_lost(s, node);
		else if (s->effect && s->node == node && s->state == SESSION_MIGRATING)
			effect_source_lost(s->effect);
		else if (s->effect && s->effect->node == node)
			effect_ask_elsewhere(s->effect);
	}
}

static void node_lost(struct node *node)
{
	cleanup_free char *detail = str_printf(
		"node %s did not renew its lease: nothing runs there any more", node_name(node));
	node->lost = true;
	if (!node->joined && !node_sessions(node))
		return; /* it was taken off the record, and nothing was there */
	log_warning("%s", detail ? detail : "a node is lost");
	record_note(node->controller, &(struct record) { .who = "lease",
							 .what = "node-lost",
							 .why = node_name(node),
							 .detail = detail });
}

static void tick_later(struct controller *c)
{
	int64_t ms = c->config->nodes.lease_ms / 20;
	ms = ms < TICK_LEAST_MS ? TICK_LEAST_MS : ms > TICK_MOST_MS ? TICK_MOST_MS : ms;
	const struct timeval time = retry_timeval(ms);
	event_add(c->leases->timer, &time);
}

static void tick(evutil_socket_t fd, short what, void *arg)
{
	struct controller *c = arg;
	mono_us now = clock_mono();
	(void)fd;
	(void)what;
	for (struct node *node = nodes_first(c); node; node = nodes_next(node)) {
		if (!node->local && !node->lost && node->lease_until <= now)
			node_lost(node);
		if (node->lost)
			sweep(node);
	}
	/* What was granted before our start has lapsed, or was granted anew. */
	if (c->leases->assumed_ms && now - c->leases->began_at > c->leases->assumed_ms * 1000) {
		c->leases->assumed_ms = 0;
		record_longest(c, c->config->nodes.lease_ms, NULL);
	}
	tick_later(c);
}

/* --- granting ----------------------------------------------------------------------------------
 */

/* Its processes are there, as far as the record goes, and nobody works against that. */
static bool is_own(const struct session *s, const struct node *node)
{
	/* One that moves is of two nodes, and so is what it left behind: what stands still there
	 * for their sake no lease has to hold. */
	if (remains_names(node, s))
		return true;
	if (s->state == SESSION_MIGRATING && s->effect)
		return s->effect->node == node;
	if (s->node != node || !session_state_has_processes(s->state) ||
	    s->state == SESSION_FENCING)
		return false;
	return !s->effect || s->effect->node == node;
}

static json_t *grant_json(const struct node *node, int64_t lease_ms)
{
	struct controller *c = node->controller;
	size_t count = 0;
	cleanup_free char **ids = calloc(sessions_count(c) + 1, sizeof(*ids));
	if (!ids)
		return NULL;
	for (struct session *s = sessions_first(c); s; s = sessions_next(s))
		if (is_own(s, node))
			ids[count++] = s->row.id;
	const struct lease_grant grant = { .lease_ms = lease_ms, .sessions = ids };
	return wire_encode(&wire_lease_grant, &grant);
}

static void node_back(struct node *node)
{
	log_info("%s is back", node_name(node));
	record_note(node->controller, &(struct record) { .who = "lease",
							 .what = "node-back",
							 .why = node_name(node),
							 .detail = "it renews its lease again" });
	node->lost = false;
	node->checked = false;
	node->back_at = clock_mono();
	node_look_soon(node);
}

static void take_notices(struct node *node, struct lease_request *request)
{
	struct node_info *info = &node->info;
	struct node_notice *notices = info->notices;
	size_t count = info->notice_count;
	info->notices = request->notices;
	info->notice_count = request->notice_count;
	request->notices = notices; /* freed with it */
	request->notice_count = count;
}

/* One that comes late, behind others, says what is so no more. That matters where it gives back a
 * lease which was granted anew since. */
static bool is_late(const struct node *node, const struct lease_request *request)
{
	if (!node->lease_boot)
		return false;
	if (strcmp(node->lease_boot, request->boot_id) != 0)
		return request->leaving;
	return request->asked_at < node->lease_asked_at;
}

static void take_request(struct node *node, struct lease_request *request)
{
	bool doomed = placing_is_doomed(node);
	bool news = request->news_at != node->lease_news_at;
	replace_text(&node->lease_boot, request->boot_id);
	node->lease_asked_at = request->asked_at;
	node->lease_news_at = request->news_at;
	node->leaving = request->leaving;
	take_notices(node, request);
	bool changed = placing_is_doomed(node) != doomed;
	if (changed)
		capacity_changed(node->controller);
	if (changed || news)
		node_look_soon(node); /* at what it makes of that */
}

/* It has no session, and begins none before it is granted a lease again: what is under way for it
 * here is nowhere. */
static void given_back(struct http_exchange *x, struct node *node)
{
	const struct lease_grant none = { 0 };
	http_reply_json(x, 200, wire_encode(&wire_lease_grant, &none));
	if (node->lost)
		return;
	node->lost = true;
	log_info("%s has ended, and had no sessions", node_name(node));
	record_note(
		node->controller,
		&(struct record) { .who = "lease",
				   .what = "node-leaving",
				   .why = node_name(node),
				   .detail = "elsa-node has ended there, and had no sessions" });
}

/* It may have another address since it started anew. Words that cannot be used change nothing. */
static void take_place(struct http_exchange *x, const struct node *node, const char *listen)
{
	struct controller *c = node->controller;
	if (listen && node_moved(c, node->name, listen, http_exchange_peer(x), NULL) > 0)
		nodes_reload(c, NULL);
}

static int grant(struct http_exchange *x, struct node *node, struct error *e)
{
	struct controller *c = node->controller;
	int64_t ms = c->config->nodes.lease_ms;
	/* The next elsad must know before the node does. */
	int r = ms > c->leases->recorded_ms ? record_longest(c, ms, e) : 0;
	if (r < 0)
		return r;
	if (node->lost)
		node_back(node);
	json_t *body = grant_json(node, ms);
	if (!body)
		return error_set(e, ENOMEM, "out of memory");
	http_reply_json(x, 200, body);
	node->lease_until = clock_mono() + ms * 1000;
	node->seen_at = clock_wall();
	return 0;
}

void lease_asked(struct http_exchange *x, void *controller)
{
	struct controller *c = controller;
	struct lease_request request = { 0 };
	struct error e = ERROR_INIT;
	size_t len = 0;
	const char *body = http_exchange_body(x, &len);
	const char *name = http_exchange_peer_name(x);
	struct node *node = name ? nodes_find(c, name) : NULL;
	int r = node && node->joined
			? wire_decode_text(&wire_lease_request, body ? body : "", len, &request, &e)
			: error_fault(&e, FAULT_DENIED, "no such node has joined");
	if (r == 0 && is_late(node, &request))
		r = error_fault(&e, FAULT_CONFLICT, "a later question was answered");
	bool leaves = request.leaving;
	if (r == 0) {
		take_place(x, node, request.listen);
		take_request(node, &request);
		if (leaves)
			given_back(x, node);
		else
			r = grant(x, node, &e);
	}
	wire_free(&wire_lease_request, &request);
	if (r < 0) {
		http_reply_error(x, &e);
		return;
	}
	if (!node->up && !leaves)
		node_look_soon(node);
	wake_soon(c);
}

/* --- life --------------------------------------------------------------------------------------
 */

int lease_new(struct controller *c, struct error *e)
{
	c->leases = calloc(1, sizeof(*c->leases));
	if (!c->leases)
		return error_set(e, ENOMEM, "out of memory");
	c->leases->began_at = clock_mono();
	c->leases->recorded_ms = c->leases->assumed_ms = read_longest(c);
	for (struct node *node = nodes_first(c); node; node = nodes_next(node))
		lease_assume(node);
	c->leases->timer = evtimer_new(c->base, tick, c);
	if (!c->leases->timer)
		return error_set(e, ENOMEM, "out of memory");
	tick_later(c);
	return 0;
}

void lease_free(struct controller *c)
{
	if (!c->leases)
		return;
	if (c->leases->timer)
		event_free(c->leases->timer);
	free(c->leases);
	c->leases = NULL;
}
