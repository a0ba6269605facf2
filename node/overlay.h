/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_NODE_OVERLAY_H
#define ELSA_NODE_OVERLAY_H

/*
 * The way to sessions on other hosts: one vxlan device per host, without
 * learning and without flooding. Who the others are and which session is where
 * is told by elsad, the whole of it each time:
 *
 *	elsavxHHHHHHHH  OVERLAY/32, hardware address net_mac(OVERLAY)
 *	fdb             net_mac(PEER) dst UNDERLAY, for each peer
 *	neighbours      PEER lladdr net_mac(PEER), permanent
 *	routes          PEER/32 scope link
 *	                SESSION/32 via PEER onlink, at OVERLAY_METRIC
 *
 * A session here has a route without a metric (node/net.h), which counts for
 * more: nobody need know whether a session that elsad says to be elsewhere has
 * just come or is about to leave, and at no moment its packets have no way.
 * What is there already stays untouched when a state is put into effect, so
 * unchanged routes never vanish; a session that moves has its route replaced in
 * one step.
 *
 * Others' packets for this device count only with a peer's source address: a
 * table of its own in the packet filter ("elsa_NAME_overlay").
 *
 * The state is kept in RUN_DIR and put into effect again at the next start.
 * Blocking; for the loop's thread.
 */

#include "base/buf.h"
#include "base/error.h"
#include "config/config.h"
#include "wire/messages.h"

#define OVERLAY_METRIC   100
#define OVERLAY_OVERHEAD 50 /* of VXLAN over IPv4 */

/* Puts it into effect. On success `state` is emptied: it lives on in `now`, which is released. */
int overlay_set(const struct config *config, struct overlay_state *now, struct overlay_state *state,
		struct error *e);

/* The last one, after a restart: `now` is to be empty, and stays so when there is none. */
int overlay_restore(const struct config *config, struct overlay_state *now, struct error *e);

int overlay_teardown(const struct config *config, struct error *e);

/* For doctor: makes such a device and takes it away, in a network namespace that is the caller's.
 */
int overlay_try(struct error *e);

#endif
