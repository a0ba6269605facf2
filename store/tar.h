/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_STORE_TAR_H
#define ELSA_STORE_TAR_H

/* Objects in a tar (libarchive), under their keys. One thread's. */

#include "base/error.h"

#include <stddef.h>
#include <stdint.h>

struct tar;
/* To, or from, a file or pipe; `fd` is borrowed. */
int tar_write_open(int fd, struct tar **tar, struct error *e);
int tar_read_open(int fd, struct tar **tar, struct error *e);
/* Says the end when writing; returns NULL. */
void *tar_free(struct tar *t);
int tar_write_end(struct tar *t, struct error *e);

/* An entry of `size` bytes, which then follow. */
int tar_entry(struct tar *t, const char *name, uint64_t size, struct error *e);
int tar_write(struct tar *t, const void *data, size_t len, struct error *e);

/* The next entry, until the one after it: 1; 0 at the end. Anything but a file is -EBADMSG. */
int tar_next(struct tar *t, const char **name, uint64_t *size, struct error *e);
/* Exactly `len` bytes, or -EBADMSG. */
int tar_read(struct tar *t, void *to, size_t len, struct error *e);

#endif
