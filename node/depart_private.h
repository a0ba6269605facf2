/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_NODE_DEPART_PRIVATE_H
#define ELSA_NODE_DEPART_PRIVATE_H

/*
 * What node/depart*.c and the steps of a departure share. A departure is spoken
 * of by three: the loop, which begins and ends effects; the worker of the effect;
 * and the threads of connections. Each says what it wants or has done in struct
 * departing, under `lock`, and wakes the others.
 *
 * `lock` and node->lock are never held together.
 */

#include "node/depart.h"
#include "node/layers_ahead.h"
#include "node/move_conn.h"

#include <pthread.h>

#define DEPART_EFFECT "move-" /* the effect's id is this and the departure's */
#define RETURN_EFFECT "back-"

enum depart_word { DEPART_NO_WORD = 0, DEPART_GIVE, DEPART_ABORT };

struct departing {
	struct departing *next;
	unsigned users; /* threads that know it */
	bool dropped;   /* out of the list: freed with its last user */
	char *id, *session, *to;
	enum departure_state state;
	struct error why; /* kept: what went wrong; granted: why it could not begin */

	/* For the loop: */
	bool asked;  /* the other node wants it */
	bool ending; /* what is left of it here is to end */
	bool returning;
	int64_t fence; /* ... and that is the newest number in the store; 0: not said */
	wall_ms kept_at;
	int64_t memory_bytes;

	/* For its effect's worker: */
	bool ahead;  /* its layer is wanted while it still runs */
	bool freeze; /* it is to stand still */
	enum depart_word word;
	unsigned controls; /* connections that speak for it */
	mono_us left_at;   /* when the last of them ended */
	mono_us heard_at;  /* when the other node last said anything */

	/* From it: */
	bool seen;                 /* its layer can be copied ahead ... */
	struct layers_seen *layer; /* ... as it was then; NULL: it is not worth it; owned */
	bool still;                /* it stands still, and its packets are held */
	bool packed;               /* ... and its layer can be asked for */
	bool ready;                /* ... and it is written down */
	struct move_skeleton skeleton;
	mono_us given_at;   /* 0: not, or before this program was started */
	mono_us arrived_at; /* all its memory was there */
};

struct departures {
	struct node *node;
	pthread_mutex_t lock;
	pthread_cond_t changed; /* by the monotonic clock */
	struct departing *list;
	wall_ms seen_at;        /* something was granted, begun or over */
	bool stopping, closing; /* depart_stop(), depart_free() */
	struct depart_listen *listen;
};

/* --- node/depart.c ----------------------------------------------------------------- */

struct departures *departures_new(struct node *node);
void *departures_free(struct departures *all); /* NULL */

/* Under the lock; NULL. */
struct departing *departing_find(struct departures *all, const char *id);
struct departing *departing_add(struct departures *all, const struct departure *what);
void departing_drop(struct departures *all, struct departing *d);
void departing_use(struct departing *d);
void departing_leave(struct departures *all, struct departing *d);
/* Waits for a change, at most so long. */
void departing_wait(struct departures *all, int ms);
void departing_wake(struct departures *all);

void departing_drop_layer(struct departing *d);
/* That there is none: -ENOENT. */
int departing_refuse(struct error *e, const char *id);

/* From any thread, not under the lock: the loop looks what is wanted. */
void depart_look_soon(struct departures *all);

/* --- node/depart_effect.c ---------------------------------------------------------- */

/* For the steps, with the departure's id. It stands still; its layer is packed, or will only be
 * later; it is written down: the other node may know. */
void depart_stands_still(struct departures *all, const char *id);
void depart_packed(struct departures *all, const char *id);
int depart_offer(struct departures *all, const char *id, const struct move_skeleton *skeleton,
		 struct error *e);
bool depart_wants_ahead(struct departures *all, const char *id);
/* Takes `layer` over, and waits until it is to stand still. */
int depart_await_freeze(struct departures *all, const char *id, struct layers_seen *layer,
			bool (*busy)(void *arg), void *arg, struct error *e);
/* Borrowed until the effect ends; NULL: nothing was copied ahead. */
const struct layers_seen *depart_layer(struct departures *all, const char *id);
/* Nobody has taken back that it is to stand still. */
int depart_check_wanted(struct departures *all, const char *id, struct error *e);
/* Waits for the other node's word. 0: it is to have it. `busy`: something else is wanted here;
 * asked now and then. */
int depart_await(struct departures *all, const char *id, bool (*busy)(void *arg), void *arg,
		 struct error *e);
/* It is noted that the other node has it. */
void depart_given(struct departures *all, const char *id);

/* --- node/depart_listen.c ---------------------------------------------------------- */

struct depart_listen;
int depart_listen_open(struct departures *all, struct depart_listen **to, struct error *e);
void *depart_listen_close(struct depart_listen *l); /* NULL; waits for its threads */
int depart_listen_port(const struct depart_listen *l);

/* --- node/depart_serve.c ----------------------------------------------------------- */

/* Answers until the connection ends or all->closing. Blocking; `conn` stays the caller's. */
void depart_serve(struct departures *all, struct move_conn *conn);

/* --- node/depart_files.c ----------------------------------------------------------- */

/* STATE_DIR/images/ID or the one in memory, whichever there is. `has`: as in MOVE_FILES. */
int depart_files_send(struct node *node, const char *session, struct move_conn *conn,
		      const struct buf *has, struct error *e);
/* What CRIU is through with of its images, while it writes others, but for what was sent before.
 * Not where there may be much, nor more than a little. */
struct depart_early {
	struct buf names; /* each ended by NUL */
	uint64_t bytes;
};
int depart_files_early(struct node *node, const char *session, struct move_conn *conn,
		       struct depart_early *so_far, struct error *e);
/* The layer of one that runs. */
int depart_files_ahead(struct node *node, const char *session, struct move_conn *conn,
		       struct error *e);
/* The layer of one that stands still, if it is packed by now. */
int depart_files_layer(struct node *node, const char *session, struct move_conn *conn,
		       struct error *e);
int depart_files_bytes(struct node *node, const char *session, int64_t *bytes, struct error *e);
#define DEPART_LAYERS "layers.tar"
#define DEPART_NAMES  "layers.names" /* node/layers_ahead.h */
#define DEPART_EARLY  "early/"       /* ... in it: what was packed while the rest is written down */

#endif
