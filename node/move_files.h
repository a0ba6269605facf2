/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_NODE_MOVE_FILES_H
#define ELSA_NODE_MOVE_FILES_H

/*
 * Plain files of elsa-node's own over a move connection, in the pieces of
 * node/move_wire.h: content, holes and the time of the last change. No process
 * is started for them, which takes as long as some megabytes do. Blocking;
 * one thread each.
 */

#include "node/move_conn.h"

/* `each` for every file of the directory at `path`, if that is there: its path, and "NAME/..." */
int move_files_each(const char *path, const char *name,
		    int (*each)(const char *path, const char *name, void *arg, struct error *e),
		    void *arg, struct error *e);
/* Appends a move_piece without bytes: what a file is known by. `to`: a struct buf. */
int move_files_note(const char *path, const char *name, void *to, struct error *e);

/* --- to the other node --------------------------------------------------------------- */

struct move_sending {
	struct move_conn *conn; /* borrowed */
	const struct buf *has;  /* move_files_note() of what is left out; may be NULL */
	struct buf body;
};
#define MOVE_SENDING(c) ((struct move_sending) { .conn = (c), .body = BUF_INIT(MOVE_BODY_MOST) })
void move_sending_deinit(struct move_sending *s);

/* The file at `path`, as `name`; all files of the directory at `path`, as "NAME/...". One that is
 * not there is left out. */
int move_sending_file(struct move_sending *s, const char *path, const char *name, struct error *e);
int move_sending_dir(struct move_sending *s, const char *path, const char *name, struct error *e);
/* What has not gone yet. */
int move_sending_end(struct move_sending *s, struct error *e);

/* --- from it ------------------------------------------------------------------------- */

struct move_taking {
	int dir;                 /* of which they are put */
	int fd;                  /* of the one that is coming; -1 */
	struct move_piece piece; /* its last */
};
/* Into a directory that is there. What is in it may be replaced. */
int move_taking_begin(struct move_taking *t, const char *dir, struct error *e);
/* A body of MOVE_DATA. -EBADMSG. */
int move_taking_body(struct move_taking *t, const struct buf *body, struct error *e);
/* No more comes: -EBADMSG when one is not whole. */
int move_taking_end(const struct move_taking *t, struct error *e);
void move_taking_deinit(struct move_taking *t);

#endif
