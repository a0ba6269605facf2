/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_NODE_DOZE_H
#define ELSA_NODE_DOZE_H

/*
 * Sessions that doze (docs/wake.md): they stand still for HOLD_DOZE, with their
 * memory paged out (node/doze_out.h) to a swap area (node/doze_area.h), until
 * somebody comes. What is done to one that dozes leaves it dozing, unless that
 * lets it run or ends it.
 */

#include "node/effect.h"

/* On the loop, at the start: finds out whether sessions can doze here. */
void doze_init(struct node *node);
/* ... when all sessions are recovered: what was made for an earlier configuration makes way. */
void doze_tidy(struct node *node);
void doze_deinit(struct node *node); /* idempotent */
/* What GET /v1/node tells of it. */
int doze_fill(const struct node *node, struct node_info *info, struct error *e);

/* Thread-safe. */
bool doze_is_dozing(struct node *node, const struct session *s);

/* On the loop, after a restart of this program: one that dozes is answered for again, and runs if
 * somebody came meanwhile. */
void doze_recover(struct node *node, struct session *s);

/* On the loop: somebody came for it. It runs from here on, or as soon as the effect under way lets
 * it and nothing else holds it. One that does not doze is fine. `what`: for the log. */
void doze_touched(struct node *node, struct session *s, const char *what);

/* For steps. Out: -ENOSPC when less than half could go, -EBUSY when somebody came meanwhile, or to
 * end it. Again: what something like a dump has brought back, of one that dozes; best effort. */
int doze_page_out(struct effect *ef, struct error *e);
void doze_page_out_again(struct effect *ef);
/* It is about to have no processes: whoever waits for one that dozes is told so, unless it is
 * answered for from here on as one that sleeps. */
void doze_is_over(struct effect *ef);

#endif
