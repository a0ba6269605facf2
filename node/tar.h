/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_NODE_TAR_H
#define ELSA_NODE_TAR_H

/*
 * tar as a child process, with the archive in a file or going through a pipe
 * whose other end is ours. Blocking; thread-safe.
 */

#include "base/error.h"

/* Of an overlay's upper layer: extended attributes, without those that name inodes of the file
 * systems where it was made (an overlay with an index is not mounted over that elsewhere), ACLs,
 * owners by number, holes. NULL-terminated. */
extern const char *const tar_layer[];
/* Of a layer that changes meanwhile: a file may come half old and half new, or not at all. */
extern const char *const tar_live[];

struct tar;

/* `args`: "-C", a directory, what is in it to be packed, and so on; NULL-terminated, as `how`. The
 * archive comes out of *from. */
int tar_pack(const char *const *how, const char *const *args, int timeout_ms, struct tar **tar,
	     int *from, struct error *e);
/* Into the directory `to`. The archive goes into *into. */
int tar_unpack(const char *const *how, const char *to, int timeout_ms, struct tar **tar, int *into,
	       struct error *e);
/* When our end is closed: waits, and frees it. `result`: what came of the other side of the pipe;
 * what is returned is that or, when tar failed first, tar's. */
int tar_end(struct tar *tar, int result, struct error *e);

/* The same with a file. */
int tar_pack_file(const char *const *how, const char *const *args, const char *file, int timeout_ms,
		  struct error *e);
int tar_unpack_file(const char *const *how, const char *to, const char *file, int timeout_ms,
		    struct error *e);

#endif
