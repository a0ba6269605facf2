/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_CLOUD_OBJECT_H
#define ELSA_CLOUD_OBJECT_H

/*
 * Object storage: names to bytes, whole or by range, with a conditional put
 * that makes a commit. Backends fill in the vtable; store/ uses nothing else.
 *
 * Keys are '/'-separated, of [A-Za-z0-9._-], no empty, "." or ".." parts.
 * Everything blocks its thread and is thread-safe on one object_store.
 * A put that returned 0 is durable and readable at once by everybody.
 */

#include "base/buf.h"
#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>

struct object_store;

struct object_stat {
	uint64_t size;
	int64_t modified_at; /* wall-clock milliseconds */
};

struct object_backend {
	const char *name;
	/* if_absent: -EEXIST when the key is there already, atomically. */
	int (*put)(struct object_store *s, const char *key, const void *data, size_t len,
		bool if_absent, struct error *e);
	/* Takes the file over (it may be renamed away); it must not be written to any more. */
	int (*put_file)(struct object_store *s, const char *key, const char *path, struct error *e);
	/* Exactly `len` bytes from `offset`; shorter objects are -EBADMSG, missing ones -ENOENT. */
	int (*read)(struct object_store *s, const char *key, uint64_t offset, void *to, size_t len,
		struct error *e);
	int (*stat)(struct object_store *s, const char *key, struct object_stat *st, struct error *e);
	/* Keys with the prefix, in order; nonzero from `each` stops and is returned. */
	int (*list)(struct object_store *s, const char *prefix,
		int (*each)(const char *key, const struct object_stat *st, void *arg), void *arg,
		struct error *e);
	int (*remove)(struct object_store *s, const char *key, struct error *e); /* missing is fine */
	/* A path where the object can be opened for reading right now, allocated; NULL op or -ENOTSUP
	 * where there is none (then it must be read). */
	int (*local_path)(struct object_store *s, const char *key, char **path, struct error *e);
	/* A directory on the same file system, for files that put_file() will take; allocated. */
	int (*staging)(struct object_store *s, char **path, struct error *e);
	void (*free)(struct object_store *s);
};

struct object_store {
	const struct object_backend *backend;
};

/* By URL: "file:///var/lib/elsa/store". The s3:// and gs:// backends join here. */
int object_store_open(const char *url, struct object_store **store, struct error *e);
void *object_store_free(struct object_store *store); /* returns NULL */

bool object_key_valid(const char *key);

#endif
