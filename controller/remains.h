/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_CONTROLLER_REMAINS_H
#define ELSA_CONTROLLER_REMAINS_H

/*
 * What a session that moves has at the node it leaves: first itself, then the
 * memory that the other node still fetches, at last something to be cleared
 * away (docs/migration.md). On record from the decision to move it until that
 * node has said that it is rid of it, or that the session is its own again:
 * both are asked over and over. One thread.
 */

#include "controller/sessions.h"

enum remains_state {
	REMAINS_NEEDED = 0, /* by the session: it is on its way, or its memory is */
	REMAINS_BACK, /* it came to nothing: the session is that node's, who is to know that */
	REMAINS_OVER, /* nobody needs it: it is to end there */
	REMAINS_STATE_COUNT
};

struct remains {
	TAILQ_ENTRY(remains) entry;
	struct controller *c;
	struct db_departure row; /* as in the database */
	enum remains_state state;
	struct node *source, *target;
	struct http_call *call; /* that node is being asked; NULL */
	int absent;             /* looks in a row at which that node had nothing of it, */
	mono_us absent_at;      /* ... and when there had been enough of them */
	bool waited_for;        /* by a fence: see remains_clear() */
	int64_t fence;          /* ... which took this number */
	enum {
		CLEARING_TARGET, /* the node that it was given to is to have nothing of it */
		CLEARING_SOURCE, /* then the other is to take it up again */
		CLEARED_BACK,    /* which it has */
		CLEARED_NOTHING, /* nothing of it is anywhere */
	} clearing;
};

int remains_new(struct controller *c, struct error *e); /* after sessions_new() */
void remains_free(struct controller *c);

/* What a session needs, or needed until it was fenced; NULL. */
struct remains *remains_of(const struct session *s);
/* The newest that is not over; NULL. */
struct remains *remains_any(const struct session *s);
/* Something that is not settled with a node that can be asked. */
bool remains_open(const struct session *s);
/* Of sessions that are elsewhere: how many need this node to stay. */
size_t remains_needed_at(const struct node *node);
/* Its lease is to name the session: what stands still there may go on again. */
bool remains_names(const struct node *node, const struct session *s);

/* For session_apply(), in its transaction and after it: what a step means for them. */
struct remains_step {
	struct db_departure begins; /* id "": none does */
	struct remains *settles;
	enum remains_state to;
	bool gone; /* that one is settled for good */
};
/* The step before it is taken, with the effect that it begins. */
struct remains_news {
	const struct session_change *change;
	const struct session_step *step;
	const char *effect; /* id */
	const struct node *target;
	bool gone; /* the session is deleted */
	wall_ms now;
};
struct remains_step remains_step_of(const struct session *s, const struct remains_news *news);
int remains_write(struct controller *c, const struct remains_step *step, struct error *e);
void remains_settle(struct controller *c, struct remains_step *step);

/* A fence of the session is done: what it was given away from, and to, is asked. */
enum remains_verdict {
	REMAINS_NONE,       /* nothing is left to go on with */
	REMAINS_WAIT,       /* the answer is not there yet; effect_ask_soon() when it is */
	REMAINS_TAKEN_BACK, /* it runs again at remains_of()->source */
};
enum remains_verdict remains_clear(struct session *s, const struct effect_result *fence);

/* At a look: the node says that what it has of the session is given away. */
void remains_seen(struct node *node, struct session *s);
/* ... of a session that is no more. */
void remains_seen_alone(struct node *node, const char *session);
/* Its node says that what it waits for is nowhere any more, or we do. */
void remains_memory_lost(struct session *s);
/* After each look at a node: what is missing there, what is over, who waits in vain for memory. */
void remains_looked(struct node *node, const struct session_status_list *list);

#endif
