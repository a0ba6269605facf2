/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_NODE_IMAGES_H
#define ELSA_NODE_IMAGES_H

/*
 * What CRIU's images say about files in the session's home. The home is not
 * part of the checkpoint: it lives on while the session sleeps, and a restore
 * can be tried more than once. CRIU counts on neither:
 *
 * - For an open file that lost its name but has another one left, a dump makes
 *   a link "link_remap.N" beside it, and a restore removes that. The next
 *   restore of the same checkpoint would fail for want of it, so the content is
 *   kept in the checkpoint, too, and put back where it is missing.
 * - A snapshot may be restored long after the session has gone on and removed a
 *   file that was open then, such as a database's journal. So what is open for
 *   writing and small is kept likewise. What is large must be there.
 * - A file that was deleted while open is made anew for a moment, beside where it was; what a CRIU
 *   that was killed in that moment has left makes the next one fail, and is removed.
 * - A restore refuses when the size of an open file has changed. In a home that
 *   is common and harmless (a second server appends to the same history), but
 *   for programs and libraries, which must be the very ones that run. So sizes
 *   of all but ELF files in the home are taken out of the images.
 *
 * Both from files.img, a list of protobuf messages (images/fdinfo.proto and
 * regfile.proto of CRIU). The home belongs to the user: nothing in it is
 * followed that leads out of it.
 */

#include "base/buf.h"
#include "base/error.h"
#include "wire/messages.h"

#include <stdbool.h>
#include <stdint.h>

/* One regular file of files.img. */
struct image_file {
	char path[4096]; /* inside, without the leading slash */
	uint32_t mode;   /* st_mode; 0: not known */
	uint32_t flags;  /* of open(2) */
};

/* Calls `each` for every regular file; where it returns 1 the size is left out of the copy appended
 * to `to` (may be NULL). A negative return ends it. -EBADMSG when this is no files.img. Pure. */
int images_files(const void *data, size_t len,
		 int (*each)(const struct image_file *file, void *arg), void *arg, struct buf *to,
		 struct error *e);

/* After a dump into DIR/criu: keeps what the home must have at a restore in DIR/remap, and notes in
 * the file `links` where in the home CRIU has put it. */
int images_keep(const char *dir, const struct session_spec *spec, const char *links,
		struct error *e);

/* Whether CRIU has made links for deleted files, wherever those were. */
int images_have_links(const char *dir, bool *any, struct error *e);

/* Before images_prepare() on a node that may yet give up the restore, with the session going on
 * where it was: notes in the file `links` what may be put back into the home. */
int images_note_links(const char *dir, const struct session_spec *spec, const char *links,
		      struct error *e);

/* The session begins anew, and nobody will restore what put those links into the home: a later dump
 * would find their names taken. Missing ones, and a missing `links`, are fine. */
int images_drop_links(const char *links, const struct session_spec *spec, struct error *e);

/* Before a restore from DIR, laid out: puts that back where it is missing, and makes the images fit
 * a home that lived on. */
int images_prepare(const char *dir, const struct session_spec *spec, struct error *e);

#endif
