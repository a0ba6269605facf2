/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_NODE_SESSION_H
#define ELSA_NODE_SESSION_H

/*
 * The sessions this node knows: those with processes, those that ended by
 * themselves, those with an effect under way or a result not yet acknowledged.
 * Under node->lock, except: the strings and numbers in `journal` are written
 * (under the lock) and saved by the worker of the effect under way and, when
 * there is none, by the loop; the same thread may read them without the lock.
 */

#include "base/clock.h"
#include "base/id.h"
#include "node/journal.h"
#include "node/node.h"

#include <event2/event.h>
#include <stdbool.h>

struct effect;
struct arrival;
struct asleep;

struct session {
	struct session *next;
	char id[ID_SIZE];
	struct journal journal;
	struct effect *effect;   /* under way, or NULL */
	struct effect *queued;   /* begins when that one has ended */
	struct arrival *arrival; /* node/arrival.h: brings what is missing of its memory, or NULL */
	bool taking_up;      /* ... is being made after a crash, or its source told of its end */
	char *arrival_stall; /* ... cannot be made: why, and since when */
	int64_t arrival_stalled_since;
	char *wanted; /* what was asked for in vain while it was asleep: lines for the next record
		       */
	bool source_empty;      /* ... the node it came from says that it has nothing of it */
	bool memory_lost;       /* ... so nobody has the rest: it ends */
	bool source_gone;       /* ... the node it is about to come from has given up: so may we */
	unsigned held;          /* node/hold.h's, under its lock: why it stands still, as bits */
	bool freezer_owned;     /* ... an effect freezes and thaws it */
	struct asleep *asleep;  /* node/asleep.h: it is answered for; NULL; the loop's to change */
	wall_ms touched_at;     /* ... and somebody came for it; 0 */
	char *unwoken;          /* ... and this node may not wake it: why; NULL */
	struct doze_kept *kept; /* what stays in memory when it dozes; NULL: nothing is known */
	/* The loop's: */
	struct {
		int64_t used;
		mono_us at;     /* when that was so; 0: never looked */
		double growth;  /* bytes a second, smoothed */
		int64_t wanted; /* held for want of so much; 0: it is not */
		mono_us until;  /* ... until then at most; 0: that began before us */
		mono_us again;  /* it was let go on without help, and is not held before that */
		mono_us raised; /* when its limit was */
		uint64_t heard; /* the group whose notices come, and the limit for which */
		int64_t heard_limit;
	} memory; /* node/rescue.h */
	int pidfd;
	struct event *watch;
};

/* NULL when there is none. */
struct session *session_find(struct node *node, const char *id);

/* Adds one; its journal is empty. NULL when out of memory. */
struct session *session_add(struct node *node, const char *id);

/* A spec that does for taking down what has this id, when nothing else is known: the id says what
 * there is, the rest is only well-formed. `id` is borrowed; nothing to free. */
struct session_spec session_spec_of(char *id);

/* On the loop. Takes it out of the table; nothing may be under way. */
void session_remove(struct node *node, struct session *s);
void session_remove_all(struct node *node);

/* Nothing is known of it that somebody may still want to hear: it may be removed. */
bool session_is_over(const struct session *s);

/* Its init lives, on this boot. */
bool session_alive(const struct node *node, const struct session *s);

/* On the loop: calls `ended` once when its init ends; at once when it has. Watching one that is
 * watched already is fine. */
int session_watch(struct node *node, struct session *s, void (*ended)(struct session *s, void *arg),
		  void *arg, struct error *e);
void session_unwatch(struct session *s);

/* As the API shows it; release with wire_free(). Not under the lock: it takes it. */
int session_status(struct node *node, struct session *s, struct session_status *status,
		   struct error *e);

/* Its standard output, the last `lines` lines: of the running session, or what was kept of the last
 * run. -ENOENT when there is none. */
int session_log(struct node *node, const char *id, int lines, char **text, struct error *e);

/* Keeps the end of its log beyond its sandbox. Best effort. */
void session_keep_log(const struct node *node, const struct sandbox *sb);

#endif
