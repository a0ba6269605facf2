/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_CONTROLLER_SIZE_H
#define ELSA_CONTROLLER_SIZE_H

/*
 * Right size (policies/size.h, docs/size.md): a session's limits become those of the class that its
 * use, or its user, asks for. That is decided when it has fallen asleep, so that it wakes with it,
 * and when it is started afresh; what runs gets more, and less only where size.running says
 * so. Its node is told first and the record comes after: a limit that is in force and not on record
 * is found at the next look. One thread.
 */

#include "controller/sessions.h"

#include <jansson.h>

int size_new(struct controller *c, struct error *e); /* after the ledger, which has the prices */
void size_free(struct controller *c);
void size_reload(struct controller *c); /* the config or the catalogue changed */

/* Whether there is a class of that name; "" is none, and fine: it means by use. */
int size_check(struct controller *c, const char *name, struct error *e);

/* It has just come to be what it is. */
void size_settled(struct session *s);
/* Some session was moved, and it took so long. */
void size_moved(struct controller *c, const struct effect_result *result);

/* The limits of one that starts afresh, by its class in the place of those asked for. `chosen` as
 * in a request to start: NULL: as before, "": by use. */
void size_at_start(const struct session *s, const char *chosen, struct session_limits *limits);

/* What becomes of a choice. */
enum size_when {
	SIZE_NOW,   /* it has it */
	SIZE_WAKE,  /* when it wakes next */
	SIZE_START, /* when it is started afresh */
	SIZE_HELD,  /* when it holds less: until then it keeps, or gets, more */
	SIZE_FULL,  /* when it wakes next; it runs, and its node has no room for so much */
	SIZE_MOVES, /* on another node, which has that room, and where it is about to go as it runs
		     */
	SIZE_USE,   /* none: it is decided by its use */
	SIZE_WHEN_COUNT
};
/* Records the choice of its user, for good; "": there is none any more. Once it is known what
 * becomes of it `done` is called, perhaps at once; s is NULL if there is no such session any more.
 */
int size_choose(struct session *s, const char *name, const char *who,
		void (*done)(struct session *s, enum size_when when, void *arg), void *arg,
		struct error *e);

/* As the API shows them: new references. */
json_t *size_classes_json(struct controller *c);
/* Of a session, or NULL of anybody by that name; JSON's null without classes. */
json_t *size_json(struct controller *c, const struct session *s, const char *user,
		  const char *server);
/* What will be done to it: to a list of explain's. */
void size_foresee(struct session *s, json_t *next);
/* What sessions' sizes would be by their use and that config, which is borrowed, beside what is
 * decided now; nothing is done. One at a time, since what it used is read from the record: new
 * references, or nothing where it has no size. The catalogue of prices is the one that is in force.
 */
struct size_trial;
int size_trial_new(struct controller *c, struct config *config, struct size_trial **to,
		   struct error *e);
int size_try(struct size_trial *trial, const struct session *s, json_t **now, json_t **then,
	     struct error *e);
void *size_trial_free(struct size_trial *trial); /* returns NULL */
/* {class, count} of those that there are, for each its sessions. */
void size_each(struct controller *c, void (*each)(const char *name, int64_t sessions, void *arg),
	       void *arg);

#endif
