/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_STORE_SQUEEZE_H
#define ELSA_STORE_SQUEEZE_H

/*
 * Makes frames smaller where that is worth its time. The first byte of the
 * output says how: as it was; zstd; or its bytes sorted into planes (first bytes
 * of all 8-byte words, second bytes, ...), of which those that shrink are put
 * through zstd one by one and the others left: numbers have noisy low bytes and
 * dull high ones. Which way is judged from samples, and from what was better for
 * data of the same kind before: what comes out depends on what went through the
 * context. Bytes in, bytes out.
 */

#include "base/error.h"

#include <stddef.h>

/* Most that `len` bytes become. */
static inline size_t squeeze_most(size_t len)
{
	return len + 16;
}

/* A context is one thread's; about 1 MiB, more for data above 64 KiB. */
struct squeezer;
int squeezer_new(struct squeezer **squeezer, struct error *e);
void *squeezer_free(struct squeezer *squeezer); /* returns NULL */

/* `to` has room for squeeze_most(len). Returns the number of bytes. Never fails. */
size_t squeeze(struct squeezer *s, const void *data, size_t len, void *to);
/* Exactly `len` bytes come out, or -EBADMSG. */
int unsqueeze(struct squeezer *s, const void *data, size_t data_len, void *to, size_t len,
	      struct error *e);

#endif
