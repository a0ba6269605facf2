/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_STORE_STORE_H
#define ELSA_STORE_STORE_H

/*
 * Checkpoints in object storage. A checkpoint is a set of files (CRIU's
 * images, the overlay's upper layer) under one manifest; it exists from the
 * moment its manifest does, which is put last and only if absent, so of two
 * writers of one generation one wins and the other is told (-EEXIST).
 *
 *	s/SESSION/GENERATION/objects...       sealed files
 *	s/SESSION/GENERATION/manifest.json    names, sizes, SHA-256 by chunk
 *	s/SESSION/GENERATION/aside            set aside by a fresh start
 *
 * Blocking; thread-safe on one store. Callers own what they are given.
 */

#include "base/error.h"
#include "cloud/object.h"

#include <stdbool.h>
#include <stdint.h>

struct store;

enum store_verify { STORE_VERIFY_SAMPLE, STORE_VERIFY_ALL };

int store_open(const char *url, struct store **store, struct error *e);
void *store_close(struct store *store); /* returns NULL */

/* What a checkpoint says about itself. Strings are owned: store_meta_deinit(). */
struct store_meta {
	char session[17];
	int64_t generation;
	int64_t created_at;
	int64_t memory_bytes;
	int64_t stored_bytes; /* filled in by the store */
	int64_t objects;      /* likewise */
	bool aside;           /* likewise */
	char *user, *server;
	char *spec; /* JSON of the session, as its node had it */
	char *cpu;  /* CPU features it was running with */
	char *criu; /* version that wrote it */
	char *kernel;
};
void store_meta_deinit(struct store_meta *meta);

/* Writing. begin gives a private directory to put files into (create them there, at any depth).
 * Files may be hashed and written back while they still grow at their end; commit() finishes that,
 * makes all durable, puts the manifest if absent and reads back what `verify` asks. After a failed
 * commit nothing of the generation exists; free() removes what is left. A crash leaves at most an
 * orphan that store_sweep() removes. */
struct store_write;
int store_write_begin(struct store *store, const char *session, int64_t generation,
		      struct store_write **write, struct error *e);
const char *store_write_dir(const struct store_write *write);
/* Bytes hashed so far of those seen so far, from any thread. */
void store_write_progress(const struct store_write *write, uint64_t *done, uint64_t *total);
int store_write_commit(struct store_write *write, struct store_meta *meta, enum store_verify verify,
		       struct error *e);
void *store_write_free(struct store_write *write); /* abandons unless committed; returns NULL */

/* Reading. open() checks the manifest; lay_out() makes a directory with all files under their names
 * (links where the backend has local files). verify() reads every chunk on all cores and names the
 * object that is missing, short or wrong (-EBADMSG); it may run while CRIU already reads the files.
 * Nothing may be let run before it returned 0. */
struct store_read;
int store_read_open(struct store *store, const char *session, int64_t generation,
		    struct store_read **read, struct error *e); /* -ENOENT */
const struct store_meta *store_read_meta(const struct store_read *read);
int store_read_lay_out(struct store_read *read, const char *dir, struct error *e);
int store_read_verify(struct store_read *read,
		      void (*progress)(uint64_t done, uint64_t total, void *arg), void *arg,
		      struct error *e);
void *store_read_free(struct store_read *read); /* returns NULL */

/* Keeping house. session NULL: all of them. Nonzero from `each` stops and is returned. */
int store_list(struct store *store, const char *session,
	       int (*each)(const struct store_meta *meta, void *arg), void *arg, struct error *e);
int store_newest(struct store *store, const char *session, int64_t *generation,
		 struct error *e); /* not set aside; -ENOENT */
int store_set_aside(struct store *store, const char *session, int64_t generation, struct error *e);
int store_remove(struct store *store, const char *session, int64_t generation,
		 struct error *e); /* manifest first; a missing one is fine */
/* Removes what crashed writers left, except of the session generations for which `live` says true.
 */
int store_sweep(struct store *store,
		bool (*live)(const char *session, int64_t generation, void *arg), void *arg,
		struct error *e);

#endif
