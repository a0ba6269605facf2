/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_NODE_MOVE_CLIENT_H
#define ELSA_NODE_MOVE_CLIENT_H

/*
 * The side that a session moves to, in its talk with the node that has it
 * (docs/migration.md), and with elsad about that. Blocking; one thread at a time.
 */

#include "base/clock.h"
#include "node/move_conn.h"
#include "node/node.h"

struct move_client {
	const struct node *node;
	char *departure, *session;
	char *from, *at; /* the node that has it, and its node.move_listen */
	struct move_conn *conn;
	struct move_offer offer;       /* of the last hello */
	struct move_skeleton skeleton; /* zeroes before that is there */
	bool layer;                    /* the session's has come while that was written down */
	mono_us still_since;           /* by our clock; 0 before */
	struct moving_call *moving;    /* elsad is being told */
	struct move_ahead *ahead;      /* memory that has come already; NULL: none; owned */
	struct move_lines *lines;      /* for the rest of it; NULL: not yet, or no more; owned */
	bool open;                     /* packets reach it here */
	bool runs;                     /* and it was let run, or is held */
	bool given;                    /* to this node, which lost it since: it is nobody's */
	bool given_up;                 /* asked with force: what became of it is not known here */
};

/* Copies the texts; does not connect. */
int move_client_new(const struct node *node, const char *departure, const char *session,
		    const char *from, const char *at, struct move_client **client, struct error *e);
void *move_client_free(struct move_client *c); /* returns NULL; says nothing to anybody */

/* With this node's certificate of now. */
int move_client_tls(const struct node *node, struct move_tls **tls, struct error *e);

/* Connects unless it is connected, and fills in the offer. */
int move_client_open(struct move_client *c, struct error *e);
/* Some of its memory, while it runs there: in `body`, for move_part_read(). *took_us: by our clock.
 */
int move_client_ahead(struct move_client *c, bool squeeze, struct buf *body, int64_t *took_us,
		      struct error *e);
/* It stands still when this returns 0, since c->still_since at the latest; ... and is written down.
 */
int move_client_freeze(struct move_client *c, struct error *e);
int move_client_wait_written(struct move_client *c, struct error *e);
/* Its layer while it runs, as a tar to `fd`. `progress` may be NULL, here and below. */
int move_client_layer_ahead(struct move_client *c, int fd,
			    void (*progress)(uint64_t bytes, void *arg), void *arg,
			    struct error *e);
/* What is answered to MOVE_LAYER, MOVE_EARLY or MOVE_FILES, into a directory that is there. `has`:
 * the question's body; may be NULL. */
int move_client_files(struct move_client *c, enum move_type what, const struct buf *has,
		      const char *dir, void (*progress)(uint64_t bytes, void *arg), void *arg,
		      struct error *e);
/* 1: it is ours; 0: it is not, and why in *e; negative: that is not known, ask again. Asked on a
 * new connection if need be. */
int move_client_give(struct move_client *c, struct error *e);
/* All memory is here. Also 0 when that node knows nothing of it any more. */
int move_client_arrived(struct move_client *c, struct error *e);
/* It came to nothing here. Best effort, within seconds. */
void move_client_abort(struct move_client *c);

/* Tells elsad that packets for the session may be sent here, on a thread. wait: until it has heard,
 * not long, and best effort: what went wrong is logged. */
void move_client_say_moving(struct move_client *c);
void move_client_wait_moving(struct move_client *c);

#endif
