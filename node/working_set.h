/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_NODE_WORKING_SET_H
#define ELSA_NODE_WORKING_SET_H

/*
 * The pages that a session wanted first when it last woke, most wanted first,
 * as text: a line "elsa-working-set 1", then lines of a process (its pid inside),
 * an address and a number of pages that follow each other. Pure; thread-safe.
 */

#include "base/buf.h"
#include "base/error.h"

#include <stdint.h>

enum { WORKING_SET_MOST = 8192, WORKING_SET_BYTES = 1 << 19 };
#define WORKING_SET_FILE "working-set"

struct working_set_page {
	int32_t pid;
	uint64_t address;
};

/* -ENOBUFS and -ENOMEM as buf_append(). */
int working_set_encode(const struct working_set_page *list, size_t count, struct buf *to);
/* -EBADMSG. The list is allocated; at most WORKING_SET_MOST pages of it are read. */
int working_set_decode(const char *text, size_t len, struct working_set_page **list, size_t *count,
		       struct error *e);
/* DIR/working-set; -ENOENT. */
int working_set_read(const char *dir, struct working_set_page **list, size_t *count,
		     struct error *e);

#endif
