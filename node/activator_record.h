/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_NODE_ACTIVATOR_RECORD_H
#define ELSA_NODE_ACTIVATOR_RECORD_H

/*
 * Answers of a session's server, a file each in one directory, called by the
 * digest of the path they answer:
 *
 *	200 application/json
 *	api/kernels
 *	[...]
 *
 * and "wanted": paths that were asked for while it slept and were not there, so that
 * they are next time. Blocking, and short; thread-safe on different directories.
 */

#include "base/buf.h"
#include "base/error.h"

enum {
	RECORD_BODY_MOST = 256 << 10, /* of one answer; larger ones are left out */
	RECORD_MOST = 1 << 20,        /* of all */
	RECORD_WANTED_MOST = 16,
	RECORD_TYPE_SIZE = 128,
};

struct record_answer {
	int status;
	char type[RECORD_TYPE_SIZE]; /* Content-Type */
	struct buf body;             /* buf_deinit() */
};

/* `path` is poll_path()'s. -ENOENT when it is not there. */
int record_read(const char *dir, const char *path, struct record_answer *answer);
int record_write(const char *dir, const char *path, int status, const char *type, const char *body,
		 size_t len, struct error *e);

/* Best effort. */
void record_want(const char *dir, const char *path);
/* Lines. */
void record_wanted(const char *dir, struct buf *to);
void record_want_all(const char *dir, const char *lines);

#endif
