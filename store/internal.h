/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_STORE_INTERNAL_H
#define ELSA_STORE_INTERNAL_H

/* What the files of store/ share with each other and with nobody else. */

#include "base/cleanup.h"
#include "store/manifest.h"
#include "store/store.h"

#include <sys/stat.h>

struct store {
	struct object_store *objects;
};

#define STORE_MANIFEST "manifest.json"
#define STORE_ASIDE    "aside"

/* "s/SESSION/GENERATION/rest", allocated; -EINVAL when these are no session and generation. */
int store_key(const char *session, int64_t generation, const char *rest, char **key,
	      struct error *e);

/* Reads "s/SESSION/GENERATION/rest" apart; false if it is not of that form. `rest` points into key.
 */
bool store_key_split(const char *key, char session[17], int64_t *generation, const char **rest);

/* -ENOENT, or -EBADMSG saying which manifest is wrong and how. Fills in meta->aside. */
int store_manifest_read(struct store *store, const char *session, int64_t generation,
			struct manifest *m, struct error *e);

/* The key of one of a checkpoint's files, allocated. */
int store_object_key(const struct manifest *m, const struct manifest_file *file, char **key,
		     struct error *e);

/* A writer's directory is STAGING/SESSION-GENERATION-ID, and locked for as long as its process has
 * it open; so a directory that can be locked was left by a crash. */
char *store_staging_name(const char *session, int64_t generation, const char *id);
bool store_staging_split(const char *name, char session[17], int64_t *generation);
bool store_staging_locked(const char *path);

/* Regular files below `dir`, at any depth and in no order; `name` is relative. Files that go away
 * meanwhile are left out, and anything but files and directories is an error where `strict`. */
struct walk_file {
	const char *name, *path;
	struct stat st;
};
int store_walk(const char *dir, bool strict, int (*each)(const struct walk_file *file, void *arg),
	       void *arg, struct error *e);

/* Every object is there and as long as the manifest says. Cheap: reads none of them. */
int store_verify_sizes(struct object_store *objects, const struct manifest *m, struct error *e);

/* Compares objects with the manifest: all sizes, and all chunks or a few taken at random. */
int store_verify_objects(struct object_store *objects, const struct manifest *m,
			 enum store_verify how,
			 void (*progress)(uint64_t done, uint64_t total, void *arg), void *arg,
			 struct error *e);

DEFINE_CLEANUP(struct store_read *, store_read_free)
DEFINE_CLEANUP(struct store_write *, store_write_free)

#endif
