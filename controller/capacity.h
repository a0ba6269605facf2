/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_CONTROLLER_CAPACITY_H
#define ELSA_CONTROLLER_CAPACITY_H

/*
 * Machines that elsad asks a cloud for and gives back: carries out what
 * policies/capacity.h decides, by cloud/capacity.h on a thread of its own. What
 * is asked is on record before it is asked, and asked again in the same words
 * after a crash. One thread.
 *
 * A machine is given back by draining its node first, and only when that has no
 * session; when it is gone its node is taken off the record.
 */

#include "controller/nodes.h"

#include <jansson.h>

int capacity_new(struct controller *c, struct error *e); /* nothing when provider is "none" */
void capacity_free(struct controller *c);
void capacity_reload(struct controller *c);

/* Machines can be had for the asking. */
bool capacity_can_grow(const struct controller *c);

/* A session that no node has room for. */
struct capacity_want {
	const char *session; /* id */
	int64_t memory_bytes;
	const char *features; /* needed; NULL: none */
	bool in_use;          /* somebody waits for it */
	bool spot;            /* a spot machine is wanted, and no other */
	wall_ms until;        /* forgotten then, unless said again */
};

/* Said as long as it is so; also tells of `until` that has moved. False: nobody gives machines. */
bool capacity_wanted(struct controller *c, const struct capacity_want *want);
/* It has found its place, or nobody wants it any more. */
void capacity_unwanted(struct controller *c, const char *session);

/* What is being done about it, for people: "a machine of pool spot-a comes, asked for 20 s ago". ""
 * when nothing is known. */
void capacity_explain(struct controller *c, const char *session, char *to, size_t size);

/* Nodes or their sessions have changed: decide again soon. */
void capacity_changed(struct controller *c);

/* A node as a machine that may be given back. */
struct capacity_node {
	size_t pool;
	bool going; /* it is being given back */
	bool kept;  /* its pool is being asked, or gives none back for now */
};
bool capacity_node(const struct node *node, struct capacity_node *to); /* false: it is none */
bool capacity_is_short(const struct controller *c); /* sessions in use want machines */
wall_ms capacity_grown_at(const struct controller *c);

/* For controller/try.h: of each pool. */
json_t *capacity_decide_json(struct controller *c);

json_t *capacity_json(struct controller *c); /* docs/api.md, GET /v1/capacity */

#endif
