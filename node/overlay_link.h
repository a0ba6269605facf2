/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_NODE_OVERLAY_LINK_H
#define ELSA_NODE_OVERLAY_LINK_H

/* The overlay's device and what leads over it, by netlink; see node/overlay.h. Private to
 * node/overlay*.c. */

#include "node/net.h"
#include "node/overlay_plan.h"

#include <stdint.h>

struct overlay_device {
	char name[NET_INTERFACE_SIZE];
	uint32_t address;  /* overlay address, as overlay_number() */
	uint32_t underlay; /* of this host */
	uint32_t mtu;
	uint32_t id;
	uint16_t port;
};

/* Makes it, or what of it is otherwise; then what leads over it. What is right already stays. Sorts
 * `want`. */
int overlay_link_set(const struct overlay_device *d, struct overlay_tables *want, struct error *e);

/* With it go its addresses, neighbours and routes. A missing one is fine. */
int overlay_link_delete(const char *name, struct error *e);

/* The address of this host from which `peer` is reached, and the MTU of the device that has the
 * given one. */
int overlay_link_source(uint32_t peer, uint32_t *address, struct error *e);
int overlay_link_mtu(uint32_t address, uint32_t *mtu, struct error *e);

#endif
