/* SPDX-License-Identifier: Apache-2.0 */
#include "controller/overlay_state.h"

#include "base/cleanup.h"
#include "base/fs.h"
#include "base/log.h"
#include "controller/effects.h"
#include "controller/migrate.h"
#include "controller/node.h"
#include "controller/retry.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TIMEOUT_MS 10000
#define AGAIN_MS   1000

struct overlay {
	struct event *timer;
	uint64_t revision; /* of what is to be; a node's is that of what it acknowledged last */
	bool used;         /* there was a joined node since we started */
	char hub[INET_ADDRSTRLEN];
};

static bool is_used(struct controller *c)
{
	for (struct node *node = nodes_first(c); node; node = nodes_next(node))
		if (node->joined)
			return true;
	return false;
}

/* --- what is to be -----------------------------------------------------------------------------
 */

/* The first address of network.overlay is the hub's. */
static int hub_address(const char *pool, char to[INET_ADDRSTRLEN])
{
	char network[INET_ADDRSTRLEN];
	struct in_addr address;
	if (sscanf(pool, "%15[0-9.]", network) != 1 || inet_pton(AF_INET, network, &address) != 1)
		return -EINVAL;
	address.s_addr = htonl(ntohl(address.s_addr) + 1);
	return inet_ntop(AF_INET, &address, to, INET_ADDRSTRLEN) ? 0 : -EINVAL;
}

static const char *overlay_of(const struct node *node)
{
	return node->local ? node->controller->overlay->hub : node->overlay;
}

/* "10.0.0.5" of "10.0.0.5:8444"; NULL: no address that others could use. */
static char *host_of(const char *listen)
{
	size_t len = strcspn(listen, ":");
	struct in_addr address;
	char *host = strndup(listen, len);
	if (host && inet_pton(AF_INET, host, &address) == 1 && address.s_addr != INADDR_ANY)
		return host;
	free(host);
	return NULL;
}

char *overlay_underlay_of(const struct node *node)
{
	const struct config *config = node->controller->config;
	if (!node->local)
		return node->info.underlay ? strdup(node->info.underlay)
					   : host_of(node->listen ? node->listen : "");
	if (*config->nodes.address)
		return strdup(config->nodes.address);
	return host_of(config->nodes.listen);
}

static bool is_member(const struct node *node)
{
	return (node->local || node->joined) && overlay_of(node);
}

static int add_peers(const struct node *to, struct overlay_state *state)
{
	struct controller *c = to->controller;
	size_t most = 1;
	for (struct node *n = nodes_first(c); n; n = nodes_next(n))
		most++;
	state->peers = calloc(most, sizeof(*state->peers));
	for (struct node *n = nodes_first(c); state->peers && n; n = nodes_next(n)) {
		if (n == to || !is_member(n))
			continue;
		char *underlay = overlay_underlay_of(n);
		if (!underlay)
			continue;
		state->peers[state->peer_count++] = (struct overlay_peer) {
			.name = (char *)node_name(n),
			.underlay = underlay,
			.overlay = (char *)overlay_of(n),
		};
	}
	return state->peers ? 0 : -ENOMEM;
}

static int add_routes(const struct node *to, struct overlay_state *state)
{
	struct controller *c = to->controller;
	state->routes = calloc(sessions_count(c) + 1, sizeof(*state->routes));
	if (!state->routes)
		return -ENOMEM;
	if (!to->local)
		state->routes[state->route_count++] = (struct overlay_route) {
			.address = c->config->network.host_address,
			.via = c->overlay->hub,
		};
	for (struct session *s = sessions_first(c); s; s = sessions_next(s)) {
		/* Where it heads for, a better route comes with it; should it not come, its packets
		 * must not be told that there is none. */
		const struct node *at = s->heading && s->heading != to ? s->heading : s->node;
		if (s->row.address && at != to && is_member(at) &&
		    session_state_has_processes(s->state))
			state->routes[state->route_count++] = (struct overlay_route) {
				.address = s->row.address,
				.via = (char *)overlay_of(at),
			};
	}
	return 0;
}

static json_t *state_json(const struct node *to)
{
	struct overlay_state state = { 0 };
	json_t *body = NULL;
	int r = 0;
	if (is_used(to->controller)) {
		state.overlay = (char *)overlay_of(to);
		r = add_peers(to, &state);
		if (r == 0)
			r = add_routes(to, &state);
	}
	if (r == 0)
		body = wire_encode(&wire_overlay_state, &state);
	for (size_t i = 0; i < state.peer_count; i++)
		free(state.peers[i].underlay);
	free(state.peers);
	free(state.routes);
	return body;
}

/* --- telling -----------------------------------------------------------------------------------
 */

static void run_soon(struct controller *c, int64_t ms)
{
	const struct timeval time = retry_timeval(ms);
	if (ms == 0 || !event_pending(c->overlay->timer, EV_TIMEOUT, NULL))
		event_add(c->overlay->timer, &time);
}

static void told(const struct http_reply *reply, void *arg)
{
	struct node *node = arg;
	struct controller *c = node->controller;
	struct error e;
	node->overlay_call = NULL;
	node_heard(node, reply);
	node_error(reply, &e);
	if (e.fault != FAULT_NONE) {
		if (!node->overlay_failed)
			log_warning("%s does not take the routes: %s", node_name(node), e.text);
		node->overlay_failed = true;
		run_soon(c, AGAIN_MS);
		return;
	}
	node->overlay_failed = false;
	node->overlay_acked = node->overlay_told;
	if (node->overlay_acked < c->overlay->revision)
		run_soon(c, 0);
	effects_ask_waiting(c);
	if (node->local)
		migrate_routes_told(c);
}

static void tell(struct node *node)
{
	cleanup_json json_t *body = state_json(node);
	node->overlay_told = node->controller->overlay->revision;
	if (!body || node_call(node, "PUT", "/v1/overlay", body, TIMEOUT_MS, told, node,
			       &node->overlay_call, NULL) < 0)
		run_soon(node->controller, AGAIN_MS);
}

static void tell_all(evutil_socket_t fd, short what, void *arg)
{
	struct controller *c = arg;
	(void)fd;
	(void)what;
	for (struct node *node = nodes_first(c); node; node = nodes_next(node))
		if ((node->local || node->joined) && !node->lost && !node->overlay_call &&
		    node->overlay_acked < c->overlay->revision)
			tell(node);
}

void overlay_changed(struct controller *c)
{
	if (!c->overlay)
		return;
	bool used = is_used(c);
	if (!used && !c->overlay->used)
		return;
	c->overlay->used = used;
	c->overlay->revision++;
	run_soon(c, 0);
}

void overlay_tell_again(struct node *node)
{
	struct controller *c = node->controller;
	node->overlay_acked = 0;
	if (c->overlay && c->overlay->used)
		run_soon(c, 0);
}

uint64_t overlay_revision(struct controller *c)
{
	return c->overlay ? c->overlay->revision : 0;
}

bool overlay_is_ready(const struct session *s)
{
	const struct controller *c = s->controller;
	uint64_t wanted = s->overlay_revision;
	if (!c->overlay->used)
		return true;
	return c->nodes->local->overlay_acked >= wanted && s->node->overlay_acked >= wanted;
}

bool overlay_is_ready_at_hub(const struct session *s)
{
	const struct controller *c = s->controller;
	return !c->overlay->used || c->nodes->local->overlay_acked >= s->overlay_revision;
}

int overlay_new(struct controller *c, struct error *e)
{
	c->overlay = calloc(1, sizeof(*c->overlay));
	if (!c->overlay)
		return error_set(e, ENOMEM, "out of memory");
	c->overlay->timer = evtimer_new(c->base, tell_all, c);
	if (!c->overlay->timer)
		return error_set(e, ENOMEM, "out of memory");
	if (hub_address(c->config->network.overlay, c->overlay->hub) < 0)
		return error_set(e, EINVAL, "network.overlay: \"%s\" is no network",
				 c->config->network.overlay);
	overlay_changed(c);
	return 0;
}

void overlay_free(struct controller *c)
{
	if (!c->overlay)
		return;
	if (c->overlay->timer)
		event_free(c->overlay->timer);
	free(c->overlay);
	c->overlay = NULL;
}
