/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_CONTROLLER_DRAIN_H
#define ELSA_CONTROLLER_DRAIN_H

/*
 * Sessions leave nodes that are drained (`elsa node drain`, or a recommendation
 * to rebalance with spot.rebalance = "evacuate"): a few at a time they are
 * hibernated, and those in use moved, or woken elsewhere at once. A node that goes
 * away sees to its sessions itself; what it leaves to us for a moment is moved. One
 * thread.
 */

#include "controller/sessions.h"

int drain_new(struct controller *c, struct error *e);
void drain_free(struct controller *c);

/* A node is to be drained, or not any more. */
void drain_soon(struct controller *c);

#endif
