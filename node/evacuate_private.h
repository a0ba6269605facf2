/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_NODE_EVACUATE_PRIVATE_H
#define ELSA_NODE_EVACUATE_PRIVATE_H

/* The parts of node/evacuate*.c, for one another. */

#include "node/evacuate.h"

/* Of a session, beside its record. */
struct evacuee_more {
	int tries;        /* that failed for a reason of its own */
	bool over;        /* nothing more is done about it */
	wall_ms retry_at; /* not before; 0 */
	bool waited;      /* it was left alone, to be moved */
	bool telling;     /* its user is being told */
	wall_ms told_deadline;
	char *told_why;
};

struct evacuate {
	struct node *node;
	struct evacuation record; /* begun_at 0: there was none */
	struct evacuee_more *more;
	struct node_notice *notices; /* present; the strings are owned */
	size_t notice_count;
	struct event *look;
	char *written; /* what the file has */
};

/* --- node/evacuate_record.c --- */

bool evacuate_is_open(const struct evacuate *ev); /* begun and not ended */
/* Index into record.sessions, or -1. */
int evacuate_find(const struct evacuate *ev, const char *id);
int evacuate_add(struct evacuate *ev, const char *id, struct error *e);
void evacuate_remove(struct evacuate *ev, size_t i);
void evacuate_drop_more(struct evacuate *ev);           /* what is beside the record of each */
void evacuate_say(struct evacuee *to, const char *why); /* NULL: nothing */

/* Of the notices that are present. 0: there are none. */
wall_ms evacuate_deadline(const struct evacuate *ev, const struct node_notice **notice);
/* 1: it is new or other than it was; 0: known. */
int evacuate_put_notice(struct evacuate *ev, const struct node_notice *notice, struct error *e);
bool evacuate_drop_notice(struct evacuate *ev, const char *id);
int evacuate_copy_notice(struct node_notice *to, const struct node_notice *from, struct error *e);

/* When it differs from what the file has. `durable`: waits for the disk. */
void evacuate_save(struct evacuate *ev, bool durable);
/* A missing file is fine. `same_boot`: whether it is of this boot. */
int evacuate_read(struct evacuate *ev, bool *same_boot, struct error *e);
void evacuate_deinit(struct evacuate *ev);

/* --- node/evacuate_note.c --- */

/* Who cannot be saved; and takes that back where it is so no more. */
void evacuate_tell_users(struct evacuate *ev);

/* --- node/evacuate_move.c --- */

/* Who is not being moved by then will not be; 0: nobody will. */
wall_ms evacuate_moves_until(const struct evacuate *ev);
bool evacuate_is_movable(const struct evacuate *ev, const char *session);
/* Another node has it, and its memory is here. */
bool evacuate_is_away(const struct evacuate *ev, const struct session *s);
void evacuate_note_away(struct evacuate *ev, const struct session *s, struct evacuee *to);
/* Finds out about one that was away; `s` NULL: nothing of it is here. */
void evacuate_settle_away(struct evacuate *ev, size_t i, const struct session *s);

/* --- node/evacuate_act.c --- */

/* Adds whoever runs here, or is about to. */
void evacuate_find_sessions(struct evacuate *ev);
/* Finds out about those of whom no end was heard; takes out who has ended otherwise. */
void evacuate_settle(struct evacuate *ev);
/* Decides for all and does it; returns when to look again, 0: when something ends. */
wall_ms evacuate_act(struct evacuate *ev, wall_ms now);
/* What was done to one of them has ended. */
void evacuate_note_end(struct evacuate *ev, size_t i, const struct effect *ef);
/* It need not stand still any more for our sake. */
void evacuate_let_go(struct evacuate *ev, struct session *s, struct evacuee *to);

#endif
