/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_STORE_INTERNAL_H
#define ELSA_STORE_INTERNAL_H

/* What the files of store/ share with each other and with nobody else. */

#include "base/cleanup.h"
#include "store/index.h"
#include "store/key.h"
#include "store/manifest.h"
#include "store/store.h"

#include <pthread.h>
#include <sys/stat.h>

enum {
	STORE_PACK_BYTES = 16 << 20,      /* most that a pack of ours grows to */
	STORE_PACK_MOST = 64 << 20,       /* most that one from elsewhere may have */
	STORE_FILE_FRAME = 256 << 10,     /* bytes of a file in a frame */
	STORE_PIECE = 1 << 20,            /* bytes of the index in a frame */
	STORE_REQUESTS = 8,               /* at once, where each of them takes its time */
	STORE_MARK_MS = 24 * 3600 * 1000, /* a writer's mark is believed for so long */
};

struct cache;

/* A writer of this process, at work. */
struct store_writer {
	struct store_writer *next;
	char id[17];
};

struct store {
	struct object_store *objects;
	struct keyring *keys;
	struct cache *cache; /* NULL: none */
	bool local;          /* a request takes no time worth mentioning */
	char id[17];         /* of this store_open(), in the marks of its writers */
	pthread_mutex_t lock;
	struct store_writer *writers;
};

int store_oom(struct error *e); /* -ENOMEM */
#ifdef __clang_analyzer__       /* see base/error.h */
#define store_oom(e) error_is_negative(store_oom(e))
#endif

/* That an object is missing is damage too, once something names it. */
int store_damage(struct error *e, int r);

/* --- names of objects ------------------------------------------------------------- */

#define STORE_MANIFEST "manifest"
#define STORE_ASIDE    "aside"
#define STORE_SWEEP    "sweep-"
#define STORE_FORGET   "forget-"

enum store_kind {
	STORE_OTHER,
	STORE_KIND_MANIFEST,
	STORE_KIND_ASIDE,
	STORE_KIND_PACK,
	STORE_KIND_MARK,
	STORE_KIND_KEY,
	STORE_KIND_SWEEP,
	STORE_KIND_FORGET,
};

struct store_object {
	enum store_kind kind;
	char session[17];
	int64_t generation; /* -1: of none */
	char writer[17];    /* of packs and marks; who sweeps */
	uint32_t number;    /* of packs */
	struct object_stat st;
	char *key; /* owned where it is in a list */
};

/* "s/SESSION/GENERATION/rest", allocated; -EINVAL when these are no session and generation. */
int store_key(const char *session, int64_t generation, const char *rest, char **key,
	      struct error *e);
int store_pack_key(const char *session, const struct manifest_pack *pack, char **key,
		   struct error *e);
/* Reads a key apart, all but st and key. A key that we would have written otherwise is
 * STORE_OTHER. */
void store_key_parse(const char *key, struct store_object *object);

/* --- what is there ---------------------------------------------------------------- */

struct store_scan {
	struct store_object *list; /* by session, generation, key */
	size_t count, room;
};
/* session NULL: all of them. generation -1: all of them. */
int store_scan(struct store *store, const char *session, int64_t generation,
	       struct store_scan *scan, struct error *e);
void store_scan_deinit(struct store_scan *scan);
/* NULL: not there. `writer` NULL: anybody's. */
const struct store_object *store_scan_find(const struct store_scan *scan, const char *session,
					   int64_t generation, enum store_kind kind,
					   const char *writer, uint32_t number);
/* What it says of a session, all of whose generations are in it. */
int store_numbers_in(struct store *store, const struct store_scan *scan, const char *session,
		     struct store_numbers *numbers, struct error *e);

/* Reads, and with `mac_key` proves, a manifest. -ENOENT, or -EBADMSG saying which manifest is
 * wrong and how. */
int store_manifest_read(struct store *store, const char *session, int64_t generation,
			const struct seal_key *mac_key, struct manifest *m, struct error *e);
/* The same with its text; `key` for what is said of it. */
int store_manifest_decode(const char *key, const struct buf *text, const struct seal_key *mac_key,
			  const char *session, int64_t generation, struct manifest *m,
			  struct error *e);
/* What lies there is a fence: returns -code (ENOENT, EEXIST) in its words, or -EBADMSG. */
int store_tell_fence(const char *key, const struct buf *text, const struct seal_key *mac_key,
		     const char *session, int64_t generation, int code, struct error *e);
/* 1 when a manifest's object is a fence instead, 0 when not, or not there any more. */
int store_is_fence(struct store *store, const struct store_object *object, struct error *e);
/* -EEXIST, saying what lies there: a manifest, or a fence. */
int store_refuse_taken(struct store *store, const char *session, int64_t generation,
		       struct error *e);
/* All packs that it names are there and have their sizes; what `found` (may be NULL) does not say
 * the store is asked. */
int store_check_packs(struct store *store, const struct manifest *m, const struct store_scan *found,
		      struct error *e);

/* --- keys ------------------------------------------------------------------------- */

struct store_keys {
	struct seal_key data, mac, digest;
};
int store_keys_get(struct store *store, const char *session, bool make, struct store_keys *keys,
		   struct error *e);
/* What a writer's frames are sealed with. */
int store_writer_key(const struct store_keys *keys, const char *session, int64_t generation,
		     const char *writer, struct seal_key *key, struct error *e);

/* --- marks of writers ------------------------------------------------------------- */

/* Enlists it with a new id, and puts the mark. */
int store_mark(struct store *store, const char *session, int64_t generation, struct store_writer *w,
	       struct error *e);
/* Idempotent; delists it. A mark that cannot be removed is found to be dead later. */
void store_unmark(struct store *store, const char *session, int64_t generation,
		  struct store_writer *w);
/* Delists it; its mark stays, and is found to be dead later. */
void store_leave_mark(struct store *store, struct store_writer *w);
/* Whether the process that put a mark, or a sweep's, may still be at work. */
int store_mark_live(struct store *store, const struct store_object *mark, bool *result,
		    struct error *e);
/* Fails when the session's key may be about to be removed. After a mark of one's own. */
int store_check_forgotten(struct store *store, const struct store_scan *scan, struct error *e);
/* Says that objects, or (STORE_KIND_FORGET) also the key, of the session are about to be removed.
 */
int store_announce(struct store *store, const char *session, enum store_kind kind,
		   struct store_writer *w, struct error *e);
void store_announce_end(struct store *store, const char *session, enum store_kind kind,
			struct store_writer *w);

/* Removes what no manifest of the session names and no writer at work needs (gc.c). */
int store_sweep(struct store *store, const char *session, struct store_gc *gc, struct error *e);

/* Regular files below `dir`, at any depth and in no order; `name` is relative. Files that go away
 * meanwhile are left out, and anything but files and directories is an error where `strict`. */
struct walk_file {
	const char *name, *path;
	struct stat st;
};
int store_walk(const char *dir, bool strict, int (*each)(const struct walk_file *file, void *arg),
	       void *arg, struct error *e);

DEFINE_CLEANUP(struct store_read *, store_read_free)
DEFINE_CLEANUP(struct store_write *, store_write_free)

#endif
