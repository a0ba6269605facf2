/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_CONTROLLER_PLACING_H
#define ELSA_CONTROLLER_PLACING_H

/*
 * On which node a session is started or woken: policies/place.h with what the
 * nodes said of themselves and what was promised to their sessions. One thread.
 */

#include "controller/sessions.h"

/* What is to be placed. Borrows its texts. */
struct placing {
	int64_t memory_bytes; /* 0: what is known of the session */
	double cpus;
	const char *features; /* that its checkpoint needs; NULL: none */
	const char *image;
	const struct node *not_on; /* it has failed there just now; NULL: none */
	/* Of one that is to leave its node: */
	const struct node *only;   /* the one it is to go to; NULL: any */
	const struct node *leaves; /* the one it is on; NULL */
	bool live;                 /* while it runs */
	const char *spot;          /* only on spot machines: why, for people; NULL: on any */
};

/* Of the session as it is: started again as it was, or woken from its checkpoint. */
struct placing placing_of(const struct session *s, bool restore);

/* With one machine that is the local node, whatever it says. Else none on which this wake has
 * failed, and one that was lost during it only before none. -EAGAIN (full): no node can take it,
 * and *e says of each why; with EINPROGRESS in place of that it may be known in a moment. */
int placing_choose(struct session *s, const struct placing *what, struct node **to,
		   struct error *e);

/* To another node than its own, `only` that or any: while it runs, or by its checkpoint. */
struct placing placing_of_move(const struct session *s, const struct node *only, bool live);

/* Memory that the session counts for on its node. */
int64_t placing_memory(const struct session *s);

/* Memory that is free for sessions on all nodes together (capacity_usable()). */
int64_t placing_free_bytes(struct controller *c);

/* Memory that each node, in their order, has for more sessions: promised to none, and measured to
 * be free; 0 where nothing may be placed. Allocated, or NULL. */
int64_t *placing_left(struct controller *c);

/* A notice says that it ends, or it puts its sessions away already. */
bool placing_is_doomed(const struct node *node);
/* Sessions are to leave it while there is time. */
bool placing_is_draining(const struct node *node);

#endif
