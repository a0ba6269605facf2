/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_STORE_DIGEST_H
#define ELSA_STORE_DIGEST_H

/*
 * SHA-256 of parts of files and objects, read in slices that stay in the
 * processor's cache. Thread-safe.
 */

#include "cloud/object.h"
#include "store/manifest.h"

/* Of `len` bytes at `offset`; -EBADMSG when the file or object is shorter. `name` is for errors. */
int digest_fd(int fd, const char *name, uint64_t offset, size_t len, unsigned char to[DIGEST_SIZE],
	      struct error *e);
int digest_object(struct object_store *s, const char *key, uint64_t offset, size_t len,
		  unsigned char to[DIGEST_SIZE], struct error *e);
int digest_bytes(const void *data, size_t len, unsigned char to[DIGEST_SIZE]);

#define DIGEST_TEXT_SIZE (2 * DIGEST_SIZE + 1)
void digest_format(const unsigned char digest[DIGEST_SIZE], char to[DIGEST_TEXT_SIZE]);
int digest_parse(const char *text, unsigned char to[DIGEST_SIZE]); /* 0 or -EINVAL */

#endif
