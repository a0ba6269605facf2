/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_STORE_SIGNED_H
#define ELSA_STORE_SIGNED_H

/*
 * Two lines of JSON: the first names the format, its version and the HMAC of the
 * second. So are manifests and fences. Pure; thread-safe.
 */

#include "base/buf.h"
#include "base/error.h"
#include "store/seal.h"

#include <stdbool.h>

struct signed_format {
	const char *name;
	int version;
	const char *what; /* in "it is not a ..." */
};

/* `body` is one line, without its end. */
int signed_encode(const struct signed_format *format, const struct buf *body,
		  const struct seal_key *mac_key, struct buf *to, struct error *e);
/* The body is in `data`. -EBADMSG; mac_key NULL: not proven. */
int signed_decode(const struct signed_format *format, const char *data, size_t len,
		  const struct seal_key *mac_key, const char **body, size_t *body_len,
		  struct error *e);
/* Whether the first line says that it is of this format, whatever else is wrong. */
bool signed_is(const struct signed_format *format, const char *data, size_t len);

#endif
