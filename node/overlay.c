/* SPDX-License-Identifier: Apache-2.0 */
#include "node/overlay.h"

#include "base/cleanup.h"
#include "base/fs.h"
#include "node/overlay_link.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { STATE_MOST = 32 << 20, RULES_MOST = 1 << 20 };

static bool is_none(const struct overlay_state *state)
{
	return !state->overlay || !state->overlay[0];
}

static struct overlay_state take(struct overlay_state *state)
{
	struct overlay_state taken = *state;
	*state = (struct overlay_state) { 0 };
	return taken;
}

/* --- kept over a restart ------------------------------------------------------------------ */

static char *state_path(const struct config *config)
{
	return fs_join(config->node.run_dir, "overlay.json");
}

static int keep(const struct config *config, const struct overlay_state *state, struct error *e)
{
	cleanup_free char *path = state_path(config);
	cleanup_json json_t *json = wire_encode(&wire_overlay_state, state);
	cleanup_free char *text = json ? json_dumps(json, JSON_COMPACT) : NULL;
	if (!path || !text)
		return error_set(e, ENOMEM, "out of memory");
	return fs_replace_soon(path, text, strlen(text), 0600, e);
}

static int forget(const struct config *config, struct error *e)
{
	cleanup_free char *path = state_path(config);
	if (!path)
		return error_set(e, ENOMEM, "out of memory");
	if (unlink(path) < 0 && errno != ENOENT)
		return error_errno(e, "cannot remove %s", path);
	return 0;
}

/* --- putting it into effect ----------------------------------------------------------------- */

/* Of "10.0.0.5:8444"; 0 when that is every address, or none. */
static uint32_t host_of(const char *listen)
{
	struct net_destination d;
	if (!listen || net_parse_destination(listen, &d) < 0)
		return 0;
	*strchr(d.network, '/') = '\0';
	return overlay_number(d.network);
}

/* Whom elsad sees this host by: the one who has its address, or any. */
static const struct overlay_peer *hub_of(const struct config *config,
					 const struct overlay_state *state)
{
	const char *via = NULL;
	for (size_t i = 0; i < state->route_count; i++)
		if (strcmp(state->routes[i].address, config->network.host_address) == 0)
			via = state->routes[i].via;
	for (size_t i = 0; via && i < state->peer_count; i++)
		if (strcmp(state->peers[i].overlay, via) == 0)
			return &state->peers[i];
	return &state->peers[0];
}

/* As elsad tells it to the others, who take packets from nowhere else: what is configured, or where
 * it is spoken to, or from where it is reached. */
static int find_underlay(const struct config *config, const struct overlay_state *state,
			 uint32_t *to, struct error *e)
{
	bool joined = net_is_joined(config);
	*to = overlay_number(joined ? config->node.address : config->nodes.address);
	if (!*to)
		*to = host_of(joined ? config->node.listen : config->nodes.listen);
	if (*to)
		return 0;
	return overlay_link_source(overlay_number(hub_of(config, state)->underlay), to, e);
}

static int describe(const struct config *config, const struct overlay_state *state,
		    struct overlay_device *d, struct error *e)
{
	*d = (struct overlay_device) { .address = overlay_number(state->overlay),
				       .id = (uint32_t)config->network.overlay_id,
				       .port = (uint16_t)config->network.overlay_port };
	net_overlay_interface(config, d->name);
	int r = find_underlay(config, state, &d->underlay, e);
	if (r == 0)
		r = overlay_link_mtu(d->underlay, &d->mtu, e);
	if (r < 0)
		return error_remedy(e, r, "Set %s to this host's address, as others reach it.",
				    net_is_joined(config) ? "node.address" : "nodes.address");
	/* Sessions have NET_MTU; where less fits through, their packets are answered with what does
	 * (path MTU discovery). */
	d->mtu = d->mtu < NET_MTU + OVERLAY_OVERHEAD ? d->mtu - OVERLAY_OVERHEAD : NET_MTU;
	return 0;
}

static int guard(const struct config *config, const struct overlay_state *state, struct error *e)
{
	cleanup_buf struct buf rules = BUF_INIT(RULES_MOST);
	int r = overlay_guard_rules(config, state, &rules, e);
	return r == 0 ? net_load_rules(buf_text(&rules), e) : r;
}

static bool same_peers(const struct overlay_state *a, const struct overlay_state *b)
{
	bool same = a->peer_count == b->peer_count;
	for (size_t i = 0; same && i < a->peer_count; i++)
		same = strcmp(a->peers[i].underlay, b->peers[i].underlay) == 0;
	return same;
}

static int take_down(const struct config *config, struct error *e)
{
	static const struct overlay_state none = { 0 };
	char name[NET_INTERFACE_SIZE];
	net_overlay_interface(config, name);
	int r = overlay_link_delete(name, e);
	return r == 0 ? guard(config, &none, e) : r;
}

static int apply(const struct config *config, const struct overlay_state *now,
		 const struct overlay_state *state, struct error *e)
{
	cleanup_overlay_tables struct overlay_tables want = { 0 };
	struct overlay_device d;
	/* Nobody to speak to. */
	if (state->peer_count == 0)
		return take_down(config, e);
	int r = describe(config, state, &d, e);
	if (r == 0)
		r = overlay_wanted(config, state, &want, e);
	if (r == 0 && !same_peers(now, state))
		r = guard(config, state, e);
	return r == 0 ? overlay_link_set(&d, &want, e) : r;
}

int overlay_set(const struct config *config, struct overlay_state *now, struct overlay_state *state,
		struct error *e)
{
	int r = overlay_check(config, state, e);
	/* Kept first: a restart goes on with what was begun. */
	if (r == 0)
		r = is_none(state) ? forget(config, e) : keep(config, state, e);
	if (r < 0)
		return error_wrap(e, r, "overlay");
	r = apply(config, now, state, e);
	/* After half of it nothing is known for sure: the next one begins from the start. */
	wire_free(&wire_overlay_state, now);
	if (r < 0)
		return error_wrap(e, r, "overlay");
	*now = take(state);
	return 0;
}

int overlay_restore(const struct config *config, struct overlay_state *now, struct error *e)
{
	cleanup_free char *path = state_path(config);
	cleanup_buf struct buf text = BUF_INIT(STATE_MOST);
	struct overlay_state state = { 0 };
	if (!path)
		return error_set(e, ENOMEM, "out of memory");
	int r = fs_read(path, &text, e);
	if (r == -ENOENT)
		return 0;
	if (r == 0)
		r = wire_decode_text(&wire_overlay_state, buf_text(&text), text.len, &state, e);
	if (r == 0)
		r = overlay_set(config, now, &state, e);
	wire_free(&wire_overlay_state, &state);
	return r;
}

int overlay_teardown(const struct config *config, struct error *e)
{
	int r = forget(config, e);
	return r == 0 ? take_down(config, e) : r;
}

int overlay_try(struct error *e)
{
	static const struct overlay_device d = { .name = "elsavx-try",
						 .address = 0x7f000002,
						 .underlay = 0x7f000001,
						 .mtu = NET_MTU,
						 .id = 1,
						 .port = 4789 };
	struct overlay_tables want = { 0 };
	int r = overlay_link_set(&d, &want, e);
	return r == 0 ? overlay_link_delete(d.name, e) : r;
}
