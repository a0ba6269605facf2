/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_STORE_GROW_H
#define ELSA_STORE_GROW_H

/*
 * Hashes files and has them written to disk while they still grow, on threads
 * of its own, so that little is left to do when their writer is finished: a
 * frozen session waits for that.
 *
 * Only files that are known to be written from front to end can be taken so:
 * CRIU's pages-*.img, once they are longer than one chunk. It seeks back in its
 * other images.
 */

#include "base/error.h"

#include <stdint.h>
#include <sys/stat.h>

enum { GROW_CHUNK = 16 << 20 };

struct grow;

int grow_start(const char *dir, struct grow **grow, struct error *e);
void grow_stop(struct grow *grow);  /* finishes the chunks in hand; idempotent */
void *grow_free(struct grow *grow); /* returns NULL */

/* Bytes hashed, and in all files when last looked. From any thread. */
void grow_progress(struct grow *grow, uint64_t *done, uint64_t *total);

/* After grow_stop(): the digests of the first *chunks chunks of this very file, allocated; NULL if
 * there are none or the file is not what was hashed. */
unsigned char *grow_take(struct grow *grow, const struct stat *st, size_t *chunks);

#endif
