/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_POLICIES_EVACUATE_H
#define ELSA_POLICIES_EVACUATE_H

/*
 * A machine is about to go away: which of its sessions are saved, in which
 * order, how many at once, and what cannot be saved any more. Pure and
 * thread-safe; times are wall-clock milliseconds. Call it again whenever
 * something has ended and at `wake`: what was measured meanwhile counts.
 *
 * Which are saved, in this order:
 * 1. as many as possible are whole in the store in the end, by a checkpoint of
 *    now or an older one: who has none goes before who has a snapshot;
 * 2. as many as possible are saved as they are now;
 * 3. least work is lost: the ages of the snapshots that what is left falls back
 *    to, twice as much of who is in use.
 * Never fewer by these than shortest first would save with as many at once.
 *
 * Order: shortest first, the time that each takes divided by its weight: 4
 * without any checkpoint, else between 1 and 2 as its snapshot is younger or
 * older (10 minutes and more); twice that in use. What has failed before comes
 * behind all others. Equal ones go by id. Plain shortest first, and those without
 * a checkpoint before all, are taken instead where they save more.
 *
 * How many at once: the number by which most are saved (by the rules above), and
 * of equal ones that by which they are saved soonest. More streams share what the
 * store and the processor do in all; they help only while one alone cannot
 * use it.
 *
 * Nothing is begun that cannot end before the deadline less the margin. Once the
 * deadline has passed and the machine is still there, the rest is saved for as
 * long as it lasts.
 *
 * Who waits for a turn that would come too late if all took half as long again
 * stands still: what its user does from then on could be lost. Who will not be
 * saved, or could not be before, runs on to the end.
 *
 * Who is in use is left alone for another machine to take over while it runs, the
 * smallest first, as long as somebody may see to that (moves_until): if its memory
 * would be there in half of the time, behind that of those before it, for until
 * then it needs this machine, and nothing else has all of it. Its checkpoint keeps
 * its place in the plan, behind all others', as if it were begun when the move has
 * come to nothing and took half as long again. A move that is under way is called off
 * when its checkpoint would be too late a moment later, or its memory. What another
 * machine has is that one's to save.
 */

#include "base/clock.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Rates of 0 are not known: guesses take their place. */
struct evacuate_facts {
	wall_ms now;
	wall_ms deadline;
	int64_t margin_ms;
	int64_t store_bytes_per_s;  /* what the store takes of all streams together */
	int64_t stream_bytes_per_s; /* ... of one */
	int64_t dump_bytes_per_s;   /* resident memory gone over, in all checkpoints together */
	int64_t dump_stream_bytes_per_s; /* ... in one */
	int64_t fixed_ms;                /* of a checkpoint besides */
	int64_t move_bytes_per_s;        /* memory that follows sessions, of all together */
	wall_ms moves_until; /* who is not being moved by then will not be; 0: nobody will */
	size_t cpus;         /* one checkpoint keeps about two busy; 0: not known */
	size_t workers;      /* effects at once, those of others counted */
};

enum evacuate_state {
	EVACUATE_WAITING, /* nothing is done to it */
	EVACUATE_BUSY,    /* something is that does not save it: a snapshot, a restore */
	EVACUATE_MOVING,  /* another machine is taking it over: it is still this one's */
	EVACUATE_AWAY,    /* ... has done so, and fetches its memory */
	EVACUATE_SAVING,  /* it is being hibernated, by whomever */
	EVACUATE_OVER,    /* saved, gone, or not to be tried again */
};

/* What to do now. */
enum evacuate_what {
	EVACUATE_NOTHING, /* it is under way or over */
	EVACUATE_CHECKPOINT,
	EVACUATE_WAIT,   /* it runs until its turn */
	EVACUATE_FREEZE, /* it stands still until its turn */
	EVACUATE_LEAVE,  /* it is not saved as things are, and runs on */
	EVACUATE_MOVE,   /* it runs until another machine comes for it, or moves_until */
	EVACUATE_RECALL, /* no machine is to take it over any more */
};

enum evacuate_why {
	EVACUATE_IS_OVER,
	EVACUATE_UNDER_WAY,
	EVACUATE_TURN,        /* it is its turn */
	EVACUATE_LATER,       /* others go first, it is saved in time */
	EVACUATE_AT_RISK,     /* ... if they do not take longer than thought */
	EVACUATE_IS_BUSY,     /* what is done to it is awaited */
	EVACUATE_TOO_LONG,    /* alone and at once it could not be saved in time */
	EVACUATE_NO_ROOM,     /* saving it would cost others */
	EVACUATE_WINDOW_OVER, /* the margin has begun */
	EVACUATE_OVERTIME,    /* the deadline has passed, and the machine lives */
	EVACUATE_TO_MOVE,
	EVACUATE_IS_MOVING,
	EVACUATE_NO_TIME_TO_MOVE, /* it could not be saved any more if that failed later */
	EVACUATE_MEMORY_FOLLOWS,
	EVACUATE_WHY_COUNT
};
extern const char *const evacuate_why_names[EVACUATE_WHY_COUNT]; /* for people */

struct evacuate_session {
	const char *id; /* borrowed */
	enum evacuate_state state;
	wall_ms since; /* saving or busy: since then */
	int64_t resident_bytes;
	int64_t unsent_bytes; /* what the store will get; see evacuate_unsent() */
	wall_ms snapshot_at;  /* of the newest checkpoint; 0: none */
	bool in_use;
	bool frozen;  /* it stands still by an earlier EVACUATE_FREEZE */
	bool tried;   /* it could not be saved before */
	bool movable; /* another machine could take it over, and that has not failed */
	bool waited;  /* it was left alone for that before: others have been put before it */
	/* Out: */
	enum evacuate_what what;
	enum evacuate_why why;
	wall_ms ends_at; /* as estimated, by checkpoint if it is still here; 0: not saved */
	/* Scratch: */
	wall_ms starts_at;
	int64_t cost_ms, loss_ms, weight;
	bool chosen;
	bool taken;
	bool moves;
	bool last; /* in the order */
};

enum { EVACUATE_WORKERS_MOST = 64 };

/* Sorts `list` (by id) and decides for each. Returns when to call again at the latest; 0: nothing
 * waits. */
wall_ms evacuate_decide(const struct evacuate_facts *facts, struct evacuate_session *list,
			size_t count);

/* Milliseconds that a checkpoint takes with `at_once` of them under way. */
int64_t evacuate_takes(const struct evacuate_facts *facts, int64_t resident_bytes,
		       int64_t unsent_bytes, size_t at_once);

/* ... that a session takes to another machine, until all its memory is there, alone. */
int64_t evacuate_move_takes(const struct evacuate_facts *facts, int64_t resident_bytes);

/* What the next checkpoint will have to send, by what the last ones did. */
struct evacuate_history {
	wall_ms last_at;    /* 0: there was none */
	int64_t last_bytes; /* what it sent */
	wall_ms before_at;  /* of the one before; 0: that one was the first */
};
int64_t evacuate_unsent(const struct evacuate_history *h, int64_t resident_bytes, wall_ms now);

/* What was measured, smoothed. */
struct evacuate_rates {
	int64_t store_bytes_per_s, stream_bytes_per_s;
	int64_t dump_bytes_per_s, dump_stream_bytes_per_s;
	int64_t fixed_ms;
	int64_t move_bytes_per_s;
};

/* A checkpoint that has ended. */
struct evacuate_sample {
	int64_t resident_bytes;
	int64_t sent_bytes;
	int64_t took_ms;
	double at_once; /* how many were under way, in the mean over its time; >= 1 */
};
/* Takes it into account: what held it up, by what is known so far, is what it tells about. */
void evacuate_measure(struct evacuate_rates *rates, const struct evacuate_sample *sample);
/* All memory of a session is where it went, so long after it was given away. */
void evacuate_measure_move(struct evacuate_rates *rates, int64_t bytes, int64_t took_ms);

#endif
