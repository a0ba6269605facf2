/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_NODE_NOTICES_H
#define ELSA_NODE_NOTICES_H

/*
 * What will become of this machine, as far as anybody says: its cloud, a file,
 * a command, systemd's logind, a drill. The list of present notices outlives
 * this program within the same boot (RUN_DIR/notices.json): the same notice has
 * the same id and the same time after a restart.
 *
 * All on the loop's thread.
 */

#include "node/node.h"

struct notices;

/* Begins to listen. Never fails for want of a cloud, a bus or a file. */
int notices_new(struct node *node, struct error *e);
void notices_free(struct node *node);         /* idempotent */
size_t notices_load(const struct node *node); /* threads at work for it */

/* Copies of those present; to be released with wire_free() of what they become part of. */
int notices_get(const struct node *node, struct node_notice **items, size_t *count,
		struct error *e);

/* Fills in cloud, instance, instance_type, zone, price and notices. */
int notices_fill(const struct node *node, struct node_info *info, struct error *e);

/* A notice that somebody made up. Asked again it takes the place of the one before. `in_ms` from
 * now. -EINVAL for no kind. */
int notices_drill(struct node *node, enum notice_kind kind, int64_t in_ms, const char *who,
		  struct error *e);
int notices_drill_cancel(struct node *node, struct error *e); /* -ENOENT */

/* All of this node is put away: whoever waits for that may go on. logind is told that the machine
 * may go down, Azure (by a joined node) that it may take it. */
void notices_settled(struct node *node);

#endif
