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
 *
 * -ENOENT, and an empty list, mean that the store itself was reached and has no
 * such object. A store that cannot be entered is another error: a directory
 * that is gone or may not be read, a bucket that is missing or refuses us.
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

#define OBJECT_KEY_MAX 512
enum { OBJECT_PUT_MAX = 64 << 20 };

/* What a backend does; keys are valid when they get here. Others call the functions below. */
struct object_backend {
	const char *name;
	bool local;
	int (*put)(struct object_store *s, const char *key, const void *data, size_t len,
		   bool if_absent, struct error *e);
	int (*read)(struct object_store *s, const char *key, uint64_t offset, void *to, size_t len,
		    struct error *e);
	/* NULL: its stat() costs little, so that is asked first. */
	int (*read_all)(struct object_store *s, const char *key, struct buf *to, struct error *e);
	int (*stat)(struct object_store *s, const char *key, struct object_stat *st,
		    struct error *e);
	int (*list)(struct object_store *s, const char *prefix,
		    int (*each)(const char *key, const struct object_stat *st, void *arg),
		    void *arg, struct error *e);
	int (*remove)(struct object_store *s, const char *key, struct error *e);
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

/* Whether reading costs no network: its objects are files or memory of this machine. */
bool object_is_local(const struct object_store *s);

/* At most OBJECT_PUT_MAX bytes (-EFBIG). if_absent: -EEXIST when the key is there already,
 * atomically. */
int object_put(struct object_store *s, const char *key, const void *data, size_t len,
	       bool if_absent, struct error *e);
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

#endif
