/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_CONTROLLER_STORE_TASKS_H
#define ELSA_CONTROLLER_STORE_TASKS_H

/*
 * Work on the store that a node does, as callers see it. The end of an import
 * and of a removal changes the record: elsad waits for it itself, whoever asked,
 * and callers see the end only when the record is right. Not kept over a
 * restart: the comparison with the store at the start of elsad puts it right
 * then. One thread.
 */

#include "controller/sessions.h"

#include <jansson.h>

int store_tasks_new(struct controller *c, struct error *e);
void store_tasks_free(struct controller *c);

struct node;

/* The node has begun it. */
void store_task_begun(struct node *node, const char *id, const struct store_request *request,
		      const char *who);

/* Who does it. One that is not known may be any node's: nodes_for_store(). */
struct node *store_task_node(struct controller *c, const char *id);

/* What the node says of it, as it is to be shown; new reference. */
json_t *store_task_shown(struct controller *c, const struct store_task *task);

#endif
