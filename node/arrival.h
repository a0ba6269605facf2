/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_NODE_ARRIVAL_H
#define ELSA_NODE_ARRIVAL_H

/*
 * Sessions that run before their memory is there: the page service (node/pages.h)
 * in the life of a session. The journal's `arriving` names the checkpoint that
 * the memory comes from, or says that it is another node's (`moved_from`), until
 * all of it is in. After a crash the service is taken up again for every session
 * whose journal says so; until then, and while the store or that node cannot be
 * read, such a session waits where it touches what is missing. A node that has
 * given its memory is told when all is in, and `moved_from` is kept until it knows.
 * One that says it has nothing of it any more ends the session.
 *
 * A session's service belongs to the worker of the effect under way and, when
 * there is none, to the loop; the pointer is under node->lock.
 */

#include "node/effect.h"

struct arrival;

/* On this node, by its configuration, CRIU and kernel. */
bool arrival_is_possible(const struct node *node);
/* STATE_DIR/pages/ID: the session's working set; allocated, or NULL. */
char *arrival_dir(const struct node *node, const char *id);

/* For the steps of a restore: before CRIU, what was wanted first at the last wake, when CRIU has
 * restored, and before the session is let run. */
int arrival_listen(struct effect *ef, struct error *e);
int arrival_working_set(struct effect *ef, struct error *e);
int arrival_settle(struct effect *ef, struct error *e);
void arrival_go(struct effect *ef);

/* For those of a migration: connections to the node that has its memory, while it runs there; what
 * of it is missing is told by the images of ef->laid_out. */
int arrival_connect_moved(struct effect *ef, struct error *e);
int arrival_listen_moved(struct effect *ef, struct error *e);
/* Nothing of the session is here any more. tell: the node that its memory came from may be told so,
 * unless it was. */
void arrival_forget(struct effect *ef, bool tell);

/* A step before a dump: waits until all memory is there, and takes the service up if that has not
 * been done. Gives up when the store fails for some time. */
int arrival_wait(struct effect *ef, struct error *e);

/* Its processes are dead, or nobody wants it any more. What is in the vault stays. */
void arrival_drop(struct node *node, struct session *s);

/* On the loop, with no effect under way: lets go of it when all is in. */
void arrival_tidy(struct node *node, struct session *s);
/* On the loop: begins to take it up if it should be served and is not. */
void arrival_take_up(struct node *node, struct session *s);

/* Under node->lock. */
void arrival_status(const struct node *node, const struct session *s, struct session_status *st);

#endif
