/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_CONTROLLER_OVERLAY_STATE_H
#define ELSA_CONTROLLER_OVERLAY_STATE_H

/*
 * The overlay as each node is to have it (docs/nodes.md): made from the record
 * and told whole, each time something in it changes, and to who came up anew.
 * Nothing while no node has joined. One thread.
 */

#include "controller/sessions.h"

int overlay_new(struct controller *c, struct error *e);
void overlay_free(struct controller *c);

uint64_t overlay_revision(struct controller *c);
/* A session is about to be somewhere else, or a node has joined, is gone or was seen to be
 * elsewhere.
 */
void overlay_changed(struct controller *c);
/* It may have forgotten what it was told. */
void overlay_tell_again(struct node *node);

/* The hub's host and the session's node know where it is to be: packets find it. If not, effects
 * that wait for it are asked as soon as they do. */
bool overlay_is_ready(const struct session *s);
/* The hub's host alone. */
bool overlay_is_ready_at_hub(const struct session *s);

/* Address of a node on the network that carries the overlay; allocated, or NULL: not known. */
char *overlay_underlay_of(const struct node *node);

#endif
