/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_BASE_BUF_H
#define ELSA_BASE_BUF_H

/*
 * A growing byte buffer with a cap: input from outside can never make us
 * allocate more than we said. Always NUL-terminated past its length, so text
 * can be used as a C string. Not thread-safe.
 */

#include <stddef.h>

struct buf {
	char *data; /* owned; NULL while empty */
	size_t len;
	size_t size;
	size_t cap; /* most bytes it will hold */
};

#define BUF_INIT(most) ((struct buf) { .cap = (most) })
#define cleanup_buf    cleanup(buf_deinit)

/* 0, -ENOBUFS when the cap would be passed, -ENOMEM. On failure the buffer is unchanged. */
int buf_append(struct buf *b, const void *data, size_t len);
/* Appends `len` bytes that the caller fills in: *at, until the next call. */
int buf_extend(struct buf *b, size_t len, void **at);
int buf_printf(struct buf *b, const char *format, ...) __attribute__((format(printf, 2, 3)));

const char *buf_text(const struct buf *b); /* "" while empty */
void buf_reset(struct buf *b);             /* empty, memory kept */
char *buf_steal(struct buf *b); /* the caller frees it; never NULL unless out of memory */
void buf_deinit(struct buf *b); /* idempotent */

#endif
