/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_NODE_DEPART_TALK_H
#define ELSA_NODE_DEPART_TALK_H

/* One connection of a node that fetches a session, from hello to its end: what node/depart_hello.c
 * and node/depart_serve.c share. One thread's. */

#include "node/depart_private.h"

struct depart_talk {
	struct departures *all;
	struct move_conn *conn;
	struct departing *d; /* NULL before hello */
	bool control;        /* it speaks for the session */
	struct buf body, answer;
	struct depart_memory *memory; /* opened with the first question for pages */
	void *pages;                  /* room for MOVE_PAGES_MOST */
	struct depart_ahead *ahead;   /* what of its memory was sent while it runs */
	struct sealer *sealer;        /* for digests by `key` */
	unsigned char key[MOVE_KEY];
};

/* Room for pages. */
int depart_talk_pages(struct depart_talk *t, struct error *e);

/* Takes the first message and answers it. Negative: it is none, or was refused, which the other
 * node was told. */
int depart_greet(struct depart_talk *t, struct error *e);

/* --- node/depart_pages.c: memory of what stands still ---------------------------------- */

/* Answer MOVE_PAGES and MOVE_SAME: what is asked for is in t->answer. */
int depart_pages_read(struct depart_talk *t, struct error *e);
int depart_pages_same(struct depart_talk *t, struct error *e);

/* --- node/depart_ahead.c: memory before it stands still -------------------------------- */

/* Answers MOVE_AHEAD: t->answer has the next part. Negative: there is none, and why. */
int depart_ahead_next(struct depart_talk *t, struct error *e);
void *depart_ahead_free(struct depart_ahead *a); /* returns NULL */

/* Under the lock: what there is to say of one that is not as it should be. */
int depart_say_why_not(const struct departing *d, struct error *e);

#endif
