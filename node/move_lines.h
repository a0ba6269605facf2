/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_NODE_MOVE_LINES_H
#define ELSA_NODE_MOVE_LINES_H

/*
 * Connections to the node that has a session's memory: some for single frames,
 * which somebody waits for, and some for what nobody waits for. They are made
 * ahead, before that session stands still, or when they are needed, and again
 * when they break. A line is one thread's from take to give; else thread-safe.
 */

#include "node/move_conn.h"

enum move_line_kind { MOVE_LINE_FAULTS, MOVE_LINE_BULK, MOVE_LINE_KINDS };
enum { MOVE_LINES_EACH = 4, MOVE_LINES = MOVE_LINE_KINDS * MOVE_LINES_EACH };

struct move_line {
	size_t number;          /* below MOVE_LINES */
	struct move_conn *conn; /* NULL: not yet, or no more */
	unsigned owed;          /* answers to come that nobody waits for any more */
	struct buf body;        /* of what came last */
	bool taken;             /* under the lock */
};

struct move_lines_options {
	const char *departure, *session;
	const char *node, *at;                               /* where it is */
	struct move_tls *(*tls)(void *arg, struct error *e); /* a new one, with the certificate that
							      * counts now */
	/* That node has said that nothing of it is there for us (`said`), or could not be reached
	 * for `patience_ms` by who needed it: the session may never have all its memory. Each once,
	 * on any thread. */
	void (*gone)(void *arg, bool said);
	int64_t patience_ms;
	void *arg;
	void (*drop)(void *arg); /* nobody has it any more: also when there will be no lines */
};

struct move_lines;
int move_lines_new(const struct move_lines_options *options, struct move_lines **lines,
		   struct error *e);
void *move_lines_free(struct move_lines *lines); /* none is taken; returns NULL */
const char *move_lines_node(const struct move_lines *lines);

/* All of them, side by side. What comes to nothing is done again when it is needed. */
void move_lines_connect(struct move_lines *lines);

/* Waits for one that is free, a connected one if there is. */
struct move_line *move_lines_take(struct move_lines *lines, enum move_line_kind kind);
void move_lines_give(struct move_lines *lines, struct move_line *line);

/* Unless it is. Where nobody answers not each caller tries: of the others the last failure is
 * that of this one, too. */
int move_line_connect(struct move_lines *lines, struct move_line *line, struct error *e);
void move_line_close(struct move_line *line);

/* What the other node has said of a question: returns r. */
int move_lines_heard(struct move_lines *lines, int r, const struct error *why);

#endif
