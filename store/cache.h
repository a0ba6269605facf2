/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_STORE_CACHE_H
#define ELSA_STORE_CACHE_H

/*
 * Blocks of remote packs as files in a directory, sealed as they are. Whatever
 * is wrong with it only makes things slower: what comes from here is proven when
 * it is opened. The blocks not used for longest go first. Thread-safe, and
 * several processes may share a directory.
 */

#include "cloud/object.h"

enum { CACHE_BLOCK = 256 << 10 };

struct cache;
struct cache *cache_open(const char *dir, uint64_t bytes); /* NULL: none to be had */
void *cache_free(struct cache *c);                         /* returns NULL */

/* As object_read() of an object of `size` bytes, through the cache. */
int cache_read(struct cache *c, struct object_store *objects, const char *key, uint64_t size,
	       uint64_t offset, void *to, size_t len, struct error *e);
/* What it has of that is wrong, or may be. */
void cache_drop(struct cache *c, const char *key, uint64_t offset, size_t len);

#endif
