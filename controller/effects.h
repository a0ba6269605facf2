/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_CONTROLLER_EFFECTS_H
#define ELSA_CONTROLLER_EFFECTS_H

/*
 * Decided effects on their way: asks the node until it answers, however often
 * that takes, and hands the answer to session_apply(). The node knows each by
 * its id, so asking twice does nothing twice. One thread.
 */

#include "controller/sessions.h"

struct effect {
	struct session *session;
	struct db_effect row; /* as in the database */
	struct node *node;    /* that does it */
	enum effect_kind kind;
	struct http_call *call; /* under way; NULL */
	struct event *timer;    /* until it is asked again */
	int failures;           /* in a row */
	bool unsure;            /* it may have been taken up without our hearing of it */
	bool waits;             /* for its session's routes */
	bool renew;             /* a fence failed: the next question is another one, elsewhere */
	bool granted;           /* a migration: its source lets the node come for it */
	bool source_lost;       /* likewise: its source is not to be asked for it any more */
	char replaced[ID_SIZE]; /* the effect it took the place of; "" */
	struct node *replaced_node;
};

/* Takes over the row's strings and begins. The row is in the database already. `replaced`: id of
 * the effect whose place it takes, and who did that; "". */
void effect_begin(struct session *s, struct db_effect *row, const char *replaced,
		  struct node *replaced_node);

/* Takes up all effects the database knows; for the start of elsad. */
int effects_resume(struct controller *c, struct error *e);

/* It was asked of a node that cannot do it now: of another one, at once. For fences only. */
void effect_ask_elsewhere(struct effect *effect);

/* A migration's source is lost: the target is told, once. */
void effect_source_lost(struct effect *effect);

/* What its end waits for is there, or is looked for again in `ms`. */
void effect_ask_soon(struct effect *effect, int64_t ms);

/* The effect is over, or another took its place: asks nothing any more, is freed later. */
void effect_drop(struct effect *effect);

/* The result is recorded here, or belongs to nobody: the node may drop it. */
void effect_acknowledge(struct node *node, const char *id, enum effect_kind kind);

enum effect_kind effect_kind_of(enum session_action action);
bool effect_writes(enum effect_kind kind); /* a checkpoint, when it is done */

/* The routes are there, perhaps. */
void effects_ask_waiting(struct controller *c);

/* What the end of an effect means for its session. */
enum session_event effect_event(enum effect_kind kind, const struct effect_result *result);

#endif
