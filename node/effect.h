/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_NODE_EFFECT_H
#define ELSA_NODE_EFFECT_H

/*
 * What is done to sessions, as lists of steps. Before each step the journal
 * says durably that it is about to be done, so that after a kill at any moment
 * node/recover.c can tell, from that and from what is true, whether to finish
 * or to undo. Steps and their undoing are idempotent, and an undo works from
 * what is on disk alone: after a crash there is nothing else.
 *
 * Effects are begun and end on the loop's thread; steps run on a worker.
 */

#include "base/clock.h"
#include "node/session.h"

struct effect;
struct move_client;

struct step {
	const char *name;
	int (*run)(struct effect *ef, struct error *e);
	/* Takes it back; also when run() failed half-way or was cut off. Failing is logged. */
	int (*undo)(struct effect *ef, struct error *e);
	bool must; /* behind the commit: when it fails, the effect has failed */
};

struct plan {
	const char *name;
	const struct step *steps;
	size_t count;
	/* From this step on nothing is undone: when a step fails the rest is done all the same. */
	size_t commit;
	/* Before this step who waits for the result is told it: what is left to do is for order's
	 * sake, and nobody need wait for it. 0: at the end. */
	size_t told;
	/* What must be done and failed, behind the commit, is taken up again until it is done:
	 * nobody else would see to it. */
	bool again;
	/* After a crash before or in step `at`: the step to go on with, -1 to undo `at` and all
	 * before it, -EAGAIN when that cannot be told yet (with *e): then nothing may be touched.
	 */
	int (*resume)(struct effect *ef, size_t at, struct error *e);
};

/* By kind; EFFECT_NONE is what is done when a session ended by itself. */
const struct plan *effect_plan(enum effect_kind kind);
extern const struct plan plan_start, plan_hibernate, plan_snapshot, plan_restore, plan_stop,
	plan_forget, plan_fence, plan_migrate, plan_depart, plan_return, plan_sleep, plan_answer,
	plan_release, plan_doze, plan_rouse, plan_ended;
/* Index of the step called `name`; plan->count when there is none. */
size_t plan_step(const struct plan *plan, const char *name);

struct effect {
	struct node *node;
	struct session *session;
	const struct plan *plan;
	struct effect_request request; /* owned; `force` may be set later, under node->lock */
	struct effect_result result;   /* under node->lock; owned */
	struct sandbox sandbox;
	char *work;        /* CRIU's work directory */
	char *images;      /* CRIU's, on disk: written by a dump, laid out for a restore */
	char *images_near; /* ... laid out in memory where they are small: RUN_DIR */
	char *links;       /* where a dump has put links into the home: node/images.h */
	struct effect_waiter *waiters; /* the loop's */
	mono_us begun;
	mono_us frozen_since; /* 0: not frozen by this effect */
	unsigned lease_epoch; /* when it began */
	bool recovering;      /* after a crash */
	bool interrupted;     /* cut short by one, undone */
	bool undecided;       /* left open: not yet known whether to undo, see effect_resume();
			       * also a step that fails may say so, and see struct plan */
	bool told;            /* under node->lock: the result stands, see struct plan */
	bool acknowledged;    /* the loop's: nobody wants the result any more */

	struct { /* node/estimate.h: how much went on when it began */
		double area;
		mono_us at; /* 0: it is not counted */
	} beside;

	/* Between steps; empty after a crash. */
	struct store_write *write; /* the pointer under node->lock: see effect_look() */
	struct criu_run *loaded;   /* waits for its dump or restore */
	struct criu_run *dump;
	struct store_read *read;
	struct move_client *move; /* migrate */
	const char *laid_out;     /* one of the two */
	char *log_tail;
};

/* On the loop. Takes the request over (also when it fails). -EBUSY while something else is done to
 * that session; stop and forget then wait for its end and begin, and so does anything when that
 * one's result has been told. */
int effect_begin(struct node *node, struct effect_request *request, struct effect **effect,
		 struct error *e);

/* On the loop: one that is under way is asked for again, perhaps with more said; takes that over.
 */
void effect_asked_again(struct effect *ef, struct effect_request *request);

/* On the loop, after a crash: what the journal says was under way is finished or undone. */
int effect_recover(struct node *node, struct session *s, struct error *e);

/* On a worker: the steps from `first` on; or undoing `last` and all before it. Either ends with the
 * result in the session's journal. */
void effect_run(struct effect *ef, size_t first);
void effect_undo(struct effect *ef, size_t last);
/* Decides between the two, or leaves all as it is and sets ef->undecided. */
void effect_resume(struct effect *ef);
void *effect_free(struct effect *ef);

/* The session ended by itself: takes down what is left of it, on a worker. Loop only. */
void effect_session_ended(struct session *s, void *node);

/* Calls `done` on the loop with the result when the effect has ended. The waiter is gone then. */
struct effect_waiter;
struct effect_waiter *effect_wait(struct effect *ef,
				  void (*done)(const struct effect_result *result, void *arg),
				  void *arg);
void effect_unwait(struct effect_waiter *waiter);

/* By effect id, under way or queued; NULL. Under the lock. */
struct effect *effect_find(struct node *node, const char *id);
/* The session that keeps the result of this effect; NULL. Under the lock. */
struct session *effect_find_result(struct node *node, const char *id);

/* Brings the progress in its result up to date. Under the lock. */
void effect_look(struct effect *ef);

/* On the loop: nobody wants this result any more. One that is not known is fine; -EBUSY when there
 * is none yet. */
int effect_acknowledge(struct node *node, const char *id, struct error *e);

/* On the loop: tells all who wait for it the result. */
void effect_tell(struct effect *ef);

/* For steps: */
void effect_progress(struct effect *ef, uint64_t done, uint64_t total);
struct journal *effect_journal(struct effect *ef);
void effect_set_write(struct effect *ef, struct store_write *write); /* frees the one before */
void effect_criu_options(struct effect *ef, struct criu_options *options);
/* Session and processes as they are recorded from now on; 0 for none. */
int effect_set_processes(struct effect *ef, pid_t init, struct error *e);

#endif
