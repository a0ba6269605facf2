/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_NODE_ARRIVAL_PRIVATE_H
#define ELSA_NODE_ARRIVAL_PRIVATE_H

/* What node/arrival*.c share. */

#include "node/arrival.h"
#include "node/move_ahead.h"
#include "node/move_lines.h"
#include "node/pages.h"

struct arrival {
	struct node *node;
	char id[ID_SIZE];
	char *dir;
	char *from; /* the node that has the memory; NULL: the store */
	struct pages *pages;
};

/* Where the memory of a session comes from: copies of what its journal says. */
struct arrival_place {
	int64_t generation;          /* of a checkpoint; ARRIVING_MOVED: */
	char *node, *at, *departure; /* ... another node */
};
int arrival_place_of(const struct journal *j, struct arrival_place *to, struct error *e);
void arrival_place_deinit(struct arrival_place *p); /* idempotent */

int arrival_new(struct node *node, const char *id, struct arrival **to, struct error *e);
void *arrival_free(struct arrival *a); /* NULL */
struct pages_options arrival_options(struct arrival *a);
/* Listens to CRIU, and is the session's from then on. Takes both over, also when it fails. */
int arrival_begin(struct effect *ef, struct arrival *a, struct page_source *source,
		  const struct pages_options *options, struct error *e);
int arrival_new_for(struct effect *ef, struct arrival **to, struct error *e);

/* --- node/arrival_moved.c ----------------------------------------------------------- */

/* Connections to the node that has its memory: none yet. */
int arrival_lines(struct node *node, const char *id, const struct arrival_place *place,
		  struct move_lines **lines, struct error *e);
/* The memory that another node has, by the pagemap images that were kept. ahead: what has come of
 * it already, or NULL. Takes both over, also when it fails. */
int arrival_open_moved(struct node *node, const char *id, struct move_lines *lines,
		       struct move_ahead *ahead, struct page_source *source, struct error *e);
/* On the loop: that node has nothing of it any more, which ends it if some of it is not here. */
void arrival_end_lost_soon(struct node *node, const struct session *s);
/* On the loop: all of it is here. That node is told, again and again until it answers. */
void arrival_tell_source(struct node *node, struct session *s);

#endif
