/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_CLOUD_OBJECT_H
#define ELSA_CLOUD_OBJECT_H

/*
 * Object storage: names to bytes, whole or by range, with a conditional put
 * that makes a commit. Backends fill in the vtable; store/ uses nothing else.
 *
 * Keys are '/'-separated, of [A-Za-z0-9._-], at most OBJECT_KEY_MAX long, with
 * no empty parts and none that begins with ".". Everything blocks its thread
 * and is thread-safe on one object_store. A put that returned 0 is durable and
 * readable at once by everybody.
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

/* A file that becomes an object. */
struct object_file {
	const char *key, *path;
};

#define OBJECT_KEY_MAX 512

/* What a backend does; keys are valid when they get here. Others call the functions below. */
struct object_backend {
	const char *name;
	int (*put)(struct object_store *s, const char *key, const void *data, size_t len,
		   bool if_absent, struct error *e);
	int (*put_files)(struct object_store *s, const struct object_file *files, size_t count,
			 struct error *e);
	int (*read)(struct object_store *s, const char *key, uint64_t offset, void *to, size_t len,
		    struct error *e);
	int (*stat)(struct object_store *s, const char *key, struct object_stat *st,
		    struct error *e);
	int (*list)(struct object_store *s, const char *prefix,
		    int (*each)(const char *key, const struct object_stat *st, void *arg),
		    void *arg, struct error *e);
	int (*remove)(struct object_store *s, const char *key, struct error *e);
	int (*local_path)(struct object_store *s, const char *key, char **path, struct error *e);
	int (*staging)(struct object_store *s, char **path, struct error *e);
	void (*free)(struct object_store *s);
};

struct object_store {
	const struct object_backend *backend;
};

/* By URL: "file:///var/lib/elsa/store", "s3://BUCKET/PREFIX" and "gs://..." (cloud/s3_url.h), or
 * "memory:" for tests. */
int object_store_open(const char *url, struct object_store **store, struct error *e);
void *object_store_free(struct object_store *store); /* returns NULL */

bool object_key_valid(const char *key);

/* if_absent: -EEXIST when the key is there already, atomically. */
int object_put(struct object_store *s, const char *key, const void *data, size_t len,
	       bool if_absent, struct error *e);
/* Takes files over (they may be renamed away); they must not be written to any more, and their
 * contents must have been fsynced: only their new names are made durable here, all at once. After a
 * failure some of the objects may exist. */
int object_put_files(struct object_store *s, const struct object_file *files, size_t count,
		     struct error *e);
/* Exactly `len` bytes from `offset`; shorter objects are -EBADMSG, missing ones -ENOENT. */
int object_read(struct object_store *s, const char *key, uint64_t offset, void *to, size_t len,
		struct error *e);
/* Appends the whole object; -EBADMSG when it is larger than to->cap, -ENOENT. */
int object_read_all(struct object_store *s, const char *key, struct buf *to, struct error *e);
int object_stat(struct object_store *s, const char *key, struct object_stat *st,
		struct error *e); /* -ENOENT */
/* Keys with the prefix, which is "" or ends in '/', in strcmp() order; nonzero from `each` stops
 * and is returned. Keys that come or go meanwhile may or may not be among them. */
int object_list(struct object_store *s, const char *prefix,
		int (*each)(const char *key, const struct object_stat *st, void *arg), void *arg,
		struct error *e);
int object_remove(struct object_store *s, const char *key, struct error *e); /* missing is fine */
/* A path where the object can be opened for reading right now, allocated; -ENOTSUP where there is
 * none (then it must be read). */
int object_local_path(struct object_store *s, const char *key, char **path, struct error *e);
/* A directory, allocated, in which to make files for object_put_files(); -ENOTSUP. What is called
 * OBJECT_STAGING_TEMP... in it is the backend's own. */
int object_staging(struct object_store *s, char **path, struct error *e);

#define OBJECT_STAGING_TEMP "put-"

#endif
