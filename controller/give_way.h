/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_CONTROLLER_GIVE_WAY_H
#define ELSA_CONTROLLER_GIVE_WAY_H

/*
 * What a node that was lost still holds, frozen, although it is no more its
 * own: it is ended there, and nothing of it touches the store. Asked at every
 * look until it is gone. One thread.
 */

#include "controller/sessions.h"

/* The session goes on elsewhere, or was ended. */
void give_way(struct node *node, struct session *s);

/* The same where something waits for it, and whether or not anything is there: `then` is told how
 * that ended, unless false is returned. */
typedef void (*gave_way)(struct node *node, bool ended, void *arg);
bool give_way_then(struct node *node, struct session *s, gave_way then, void *arg);

/* A session that was forgotten while its node was lost: nothing but the id is known of it. */
void give_way_forgotten(struct node *node, const char *session);
void give_way_free(struct node *node); /* when nothing is asked any more */
/* In the transaction that forgets it. */
int give_way_leave(struct session *s, struct error *e);
bool give_way_was_left(struct controller *c, const char *session);

#endif
