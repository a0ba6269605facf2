/* SPDX-License-Identifier: Apache-2.0 */
#include "node/overlay_plan.h"

#include "node/net.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

void overlay_tables_deinit(struct overlay_tables *t)
{
	for (int kind = 0; kind < OVERLAY_KINDS; kind++)
		free(t->of[kind].items);
	*t = (struct overlay_tables) { 0 };
}

int overlay_table_add(struct overlay_table *t, uint64_t key, uint64_t value)
{
	enum { FIRST = 64 };
	/* Room is doubled whenever the number is a power of two. */
	if (t->count == 0 || (t->count >= FIRST && (t->count & (t->count - 1)) == 0)) {
		size_t room = t->count ? t->count * 2 : FIRST;
		struct overlay_pair *more = realloc(t->items, room * sizeof(*more));
		if (!more)
			return -ENOMEM;
		t->items = more;
	}
	t->items[t->count++] = (struct overlay_pair) { key, value };
	return 0;
}

uint32_t overlay_number(const char *address)
{
	struct in_addr in;
	return address && inet_pton(AF_INET, address, &in) == 1 ? ntohl(in.s_addr) : 0;
}

uint64_t overlay_mac(uint32_t address)
{
	return (uint64_t)0x02e5 << 32 | address;
}

/* --- checking ----------------------------------------------------------------------- */

static int compare(const void *a, const void *b)
{
	const struct overlay_pair *x = a;
	const struct overlay_pair *y = b;
	if (x->key != y->key)
		return x->key < y->key ? -1 : 1;
	return x->value < y->value ? -1 : x->value > y->value;
}

static void sort(struct overlay_table *t)
{
	if (t->count)
		qsort(t->items, t->count, sizeof(*t->items), compare);
}

static const struct overlay_pair *find(const struct overlay_table *t, uint64_t key)
{
	size_t low = 0;
	size_t high = t->count;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (t->items[middle].key < key)
			low = middle + 1;
		else
			high = middle;
	}
	return low < t->count && t->items[low].key == key ? &t->items[low] : NULL;
}

static const struct overlay_pair *first_twice(const struct overlay_table *sorted)
{
	for (size_t i = 1; i < sorted->count; i++)
		if (sorted->items[i].key == sorted->items[i - 1].key)
			return &sorted->items[i];
	return NULL;
}

static int check_peers(const struct config *config, const struct overlay_state *state,
		       struct overlay_table *known, struct error *e)
{
	int r = 0;
	for (size_t i = 0; r == 0 && i < state->peer_count; i++) {
		const struct overlay_peer *p = &state->peers[i];
		if (!net_contains(config->network.overlay, p->overlay) ||
		    strcmp(p->overlay, state->overlay) == 0)
			return error_set(e, EINVAL,
					 "peers[%zu].overlay: \"%s\" is no other host's of %s", i,
					 p->overlay, config->network.overlay);
		if (!overlay_number(p->underlay))
			return error_set(e, EINVAL,
					 "peers[%zu].underlay: \"%s\" is not an IPv4 address", i,
					 p->underlay);
		r = overlay_table_add(known, overlay_number(p->overlay), 0);
	}
	sort(known);
	if (first_twice(known))
		return error_set(e, EINVAL, "peers: two have one overlay address");
	return r < 0 ? error_set(e, -r, "out of memory") : 0;
}

/* Only to what is a session's or the hub's host's: nothing else may be diverted. */
static int check_routes(const struct config *config, const struct overlay_state *state,
			struct error *e)
{
	struct overlay_table all = { 0 };
	for (size_t i = 0; i < state->route_count; i++) {
		const struct overlay_route *r = &state->routes[i];
		if (!net_contains(config->network.pool, r->address) &&
		    strcmp(r->address, config->network.host_address) != 0)
			return error_set(e, EINVAL, "routes[%zu].address: \"%s\" is not in %s", i,
					 r->address, config->network.pool);
		if (!overlay_number(r->via))
			return error_set(e, EINVAL, "routes[%zu].via: \"%s\" is no IPv4 address", i,
					 r->via);
	}
	for (size_t i = 0; i < state->route_count; i++)
		if (overlay_table_add(&all, overlay_number(state->routes[i].address), i) < 0) {
			free(all.items);
			return error_set(e, ENOMEM, "out of memory");
		}
	sort(&all);
	const struct overlay_pair *twice = first_twice(&all);
	int r = twice ? error_set(e, EINVAL, "routes[%zu].address: %s is there twice",
				  (size_t)twice->value, state->routes[twice->value].address)
		      : 0;
	free(all.items);
	return r;
}

int overlay_check(const struct config *config, const struct overlay_state *state, struct error *e)
{
	struct overlay_table known = { 0 };
	bool none = !state->overlay || !state->overlay[0];
	if (none && (state->peer_count || state->route_count))
		return error_set(e, EINVAL, "overlay: missing, though there are peers or routes");
	if (none)
		return 0;
	if (net_contains(config->network.pool, state->overlay))
		return error_set(e, EINVAL, "network.overlay: %s is the sessions' (network.pool)",
				 state->overlay);
	if (!net_contains(config->network.overlay, state->overlay))
		return error_set(e, EINVAL, "overlay: \"%s\" is not in %s", state->overlay,
				 config->network.overlay);
	int r = check_peers(config, state, &known, e);
	if (r == 0)
		r = check_routes(config, state, e);
	free(known.items);
	return r;
}

/* --- what is wanted ----------------------------------------------------------------- */

static int want_peer(const struct overlay_peer *p, struct overlay_tables *to)
{
	uint32_t address = overlay_number(p->overlay);
	uint64_t mac = overlay_mac(address);
	int r = overlay_table_add(&to->of[OVERLAY_FDB], mac, overlay_number(p->underlay));
	if (r == 0)
		r = overlay_table_add(&to->of[OVERLAY_NEIGHBOUR], address, mac);
	return r == 0 ? overlay_table_add(&to->of[OVERLAY_ROUTE], address, 0) : r;
}

int overlay_wanted(const struct config *config, const struct overlay_state *state,
		   struct overlay_tables *to, struct error *e)
{
	/* The hub's host speaks to all sessions as they know it. */
	uint64_t source = net_is_joined(config) ? 0 : overlay_number(config->network.host_address);
	int r = 0;
	for (size_t i = 0; r == 0 && i < state->peer_count; i++)
		r = want_peer(&state->peers[i], to);
	sort(&to->of[OVERLAY_NEIGHBOUR]);
	for (size_t i = 0; r == 0 && i < state->route_count; i++) {
		uint32_t via = overlay_number(state->routes[i].via);
		if (find(&to->of[OVERLAY_NEIGHBOUR], via))
			r = overlay_table_add(&to->of[OVERLAY_ROUTE],
					      overlay_number(state->routes[i].address),
					      source << 32 | via);
	}
	return r < 0 ? error_set(e, -r, "out of memory") : 0;
}

int overlay_diff(struct overlay_table *have, struct overlay_table *want,
		 const struct overlay_changes *changes)
{
	int r = 0;
	sort(have);
	sort(want);
	for (size_t i = 0; changes->set && r == 0 && i < want->count; i++) {
		const struct overlay_pair *old = find(have, want->items[i].key);
		if (!old || old->value != want->items[i].value)
			r = changes->set(want->items[i], changes->arg);
	}
	for (size_t i = 0; changes->remove && r == 0 && i < have->count; i++)
		if (!find(want, have->items[i].key))
			r = changes->remove(have->items[i], changes->arg);
	return r;
}

/* --- the packet filter -------------------------------------------------------------- */

/* Bits 32 to 55 behind the UDP header are the network's identifier (RFC 7348): others on the same
 * port are none of ours. */
int overlay_guard_rules(const struct config *config, const struct overlay_state *state,
			struct buf *to, struct error *e)
{
	char table[NET_TABLE_SIZE];
	net_table(config, table);
	int r = buf_printf(to, "add table inet %s_overlay\ndelete table inet %s_overlay\n", table,
			   table);
	if (r == 0 && state->peer_count)
		r = buf_printf(to,
			       "table inet %s_overlay {\n"
			       "	chain input {\n"
			       "		type filter hook input priority filter - 10;\n"
			       "		udp dport %d @th,96,24 %d ip saddr != {",
			       table, (int)config->network.overlay_port,
			       (int)config->network.overlay_id);
	for (size_t i = 0; r == 0 && i < state->peer_count; i++)
		r = buf_printf(to, "%s %s", i ? "," : "", state->peers[i].underlay);
	if (r == 0 && state->peer_count)
		r = buf_printf(to, " } drop\n	}\n}\n");
	return r < 0 ? error_set(e, -r, "the packet filter's rules are too long") : 0;
}
