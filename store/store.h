/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_STORE_STORE_H
#define ELSA_STORE_STORE_H

/*
 * Checkpoints in object storage: small sealed pieces under one manifest. A
 * checkpoint exists from the moment its manifest does, which is put last and
 * only if absent, so of two writers of one generation one wins and the other is
 * told (-EEXIST).
 *
 *	s/SESSION/key-MASTER               the session's data key, wrapped by a master key
 *	s/SESSION/GENERATION/manifest      what there is; authenticated
 *	s/SESSION/GENERATION/WRITER-N      packs of sealed frames
 *	s/SESSION/GENERATION/WRITER.mark   that writer is at work, and where
 *	s/SESSION/GENERATION/aside         set aside by a fresh start
 *
 * It holds files and memories. A memory is pages of an address space; pages
 * that are as in the session's newest checkpoint are not stored again: the new
 * one names the frames of the older one's packs. docs/store.md has the format.
 *
 * Blocking; thread-safe on one store. Callers own what they are given.
 */

#include "base/error.h"
#include "cloud/object.h"

#include <stdbool.h>
#include <stdint.h>

enum {
	STORE_PAGE = 4096,
	STORE_FRAME_PAGES = 16, /* most pages in a frame */
	STORE_FRAME_BYTES = STORE_PAGE * STORE_FRAME_PAGES,
};

struct store;

enum store_verify { STORE_VERIFY_SAMPLE, STORE_VERIFY_ALL };

/* Borrowed while store_open() runs. */
struct store_options {
	const char *url; /* cloud/object.h */
	/* The master key, from the first of these that is set. */
	const char *const *key_command; /* its standard output is the key */
	const char *key_env;            /* environment variable */
	const char *key_file; /* made when the file is missing and the store holds no session */
	const char *const *old_key_files; /* for reading what was written before a rotation */
	const char *cache_dir;            /* for pieces of remote packs; NULL: none */
	uint64_t cache_bytes;
};
int store_open(const struct store_options *options, struct store **store, struct error *e);
void *store_close(struct store *store); /* returns NULL */

/* What a checkpoint says about itself. Strings are owned: store_meta_deinit(). */
struct store_meta {
	char session[17];
	int64_t generation;
	int64_t created_at;
	int64_t memory_bytes;
	/* Filled in by the store: */
	int64_t basis;        /* the generation whose frames it also names; 0: none */
	int64_t stored_bytes; /* its own objects, without what it shares */
	int64_t shared_bytes; /* frames of older packs that it names */
	int64_t objects;      /* its own packs */
	bool aside;
	char *user, *server;
	char *cpu;  /* CPU features it was running with */
	char *criu; /* version that wrote it */
	char *kernel;
	char *spec; /* JSON of the session, as its node had it; sealed: NULL in listings */
};
void store_meta_deinit(struct store_meta *meta);

/* --- writing ---------------------------------------------------------------------- */

/*
 * Everything that is put in is squeezed, sealed and sent at once, on threads of
 * the store, in bounded memory; a call blocks while they are behind. The first
 * failure is returned by every call after it. After a failed commit nothing of
 * the generation exists, unless the store has failed just when its manifest was
 * put: if that is there all the same, it is whole, as good as a snapshot. free()
 * removes what is left, and after a crash gc does.
 */
struct store_write;
int store_write_begin(struct store *store, const char *session, int64_t generation,
		      struct store_write **write, struct error *e);

/* A file from `fd`, from its present offset to its end (a pipe will do). Files and memories may be
 * put in from several threads. */
int store_write_file(struct store_write *write, const char *name, uint32_t mode, int fd,
		     struct error *e);
/* All regular files below `dir` as PREFIX/their names; anything but files and directories is an
 * error. */
int store_write_tree(struct store_write *write, const char *prefix, const char *dir,
		     struct error *e);

/* Pages that will be wanted first after a restore: they are stored close together. `pages` are
 * addresses, ascending, copied. Before the memory of that name is begun. */
int store_write_hot(struct store_write *write, const char *memory, const uint64_t *pages,
		    size_t count, struct error *e);

/* A memory, extent by extent, in ascending order. `fill` is called for successive parts of an
 * extent until all its pages are there; each part is at most STORE_FILL_MOST bytes and goes to
 * memory of the store's own, so that nothing is copied. `flags` mean nothing to the store, but for
 * STORE_SOON, which is not kept: these pages are wanted before all others, and stored close
 * together. */
enum { STORE_FILL_MOST = 1 << 20 };
#define STORE_SOON (UINT32_C(1) << 31)
typedef int store_fill(void *to, size_t len, void *arg, struct error *e);
struct store_memory_write;
int store_memory_begin(struct store_write *write, const char *name, struct store_memory_write **m,
		       struct error *e);
int store_memory_extent(struct store_memory_write *m, uint64_t vaddr, uint64_t pages,
			uint32_t flags, store_fill *fill, void *arg, struct error *e);
int store_memory_end(struct store_memory_write *m, struct error *e);

/* Bytes that are durable or need not be stored, of those put in so far. From any thread. */
void store_write_progress(const struct store_write *write, uint64_t *done, uint64_t *total);

/* Waits until all is durable, puts the manifest if absent, reads back it and what `verify` asks,
 * and sees that every pack it names is there. */
int store_write_commit(struct store_write *write, struct store_meta *meta, enum store_verify verify,
		       struct error *e);
void *store_write_free(struct store_write *write); /* abandons unless committed; returns NULL */

/* --- reading ---------------------------------------------------------------------- */

/* open() reads and checks manifest and index. What is wrong anywhere is -EBADMSG with the object's
 * name; nothing wrong is ever given out. Thread-safe on one store_read. */
struct store_read;
int store_read_open(struct store *store, const char *session, int64_t generation,
		    struct store_read **read, struct error *e); /* -ENOENT */
/* To go on from: it must be the session's newest that is not set aside, or -EBUSY. Every pack that
 * it names must be there with its size. *numbers (store_numbers()): all -1 when they are not known.
 */
struct store_numbers;
int store_read_open_newest(struct store *store, const char *session, int64_t generation,
			   struct store_numbers *numbers, struct store_read **read,
			   struct error *e);
const struct store_meta *store_read_meta(const struct store_read *read);
/* The same for one more owner. */
struct store_read *store_read_share(struct store_read *read);
void *store_read_free(struct store_read *read); /* returns NULL */

/* All files below `dir` under their names but those that `skip` (may be NULL) says true for. */
int store_read_lay_out(struct store_read *read, const char *dir,
		       bool (*skip)(const char *name, void *arg), void *arg, struct error *e);
/* Their bytes together. */
uint64_t store_read_files_bytes(const struct store_read *read,
				bool (*skip)(const char *name, void *arg), void *arg);
/* One file, written to `fd` (a pipe will do). -ENOENT when the checkpoint has no such file. */
int store_read_file(struct store_read *read, const char *name, int fd, struct error *e);

struct store_extent {
	uint64_t vaddr;
	uint64_t pages;
	uint32_t flags;
};
#define STORE_ZERO UINT32_MAX /* in `frames`: a page of zeros */
struct store_memory {
	char *name;
	struct store_extent *extents; /* ascending */
	size_t extent_count;
	uint64_t pages;   /* of all extents, one after the other: */
	uint32_t *frames; /* where each page is, */
	uint8_t *slots;   /* ... and at which place there */
};
size_t store_read_memories(const struct store_read *read, const struct store_memory **list);

struct store_frame {
	uint32_t pack; /* frames of one pack that follow each other are read in one request */
	uint32_t offset;
	uint32_t stored; /* bytes in the pack */
	uint8_t pages;
	bool hot; /* of store_write_hot(), or STORE_SOON */
};
/* Ordered by pack and offset. */
size_t store_read_frames(const struct store_read *read, const struct store_frame **list);

/* Fetches the frames (ascending), with as few requests as is sensible, and calls `each` with every
 * one's pages on this thread; nonzero ends it and is returned. Tries again by itself what may pass;
 * -EAGAIN-like failures of the store after that are returned for the caller to try later. */
int store_read_pages(struct store_read *read, const uint32_t *frames, size_t count,
		     int (*each)(uint32_t frame, const void *pages, size_t len, void *arg),
		     void *arg, struct error *e);

/* Reads every frame on all cores and names the object that is missing, short or wrong (-EBADMSG).
 */
int store_read_verify(struct store_read *read,
		      void (*progress)(uint64_t done, uint64_t total, void *arg), void *arg,
		      struct error *e);

/* --- keeping house ------------------------------------------------------------------ */

/* session NULL: all of them. Nonzero from `each` stops and is returned. Checkpoints whose manifest
 * cannot be used are told to `damaged` (may be NULL: then that is the error). */
int store_list(struct store *store, const char *session,
	       int (*each)(const struct store_meta *meta, void *arg),
	       int (*damaged)(const char *session, int64_t generation, const struct error *why,
			      void *arg),
	       void *arg, struct error *e);
int store_newest(struct store *store, const char *session, int64_t *generation,
		 struct error *e); /* not set aside; -ENOENT */

/*
 * Fences: numbers that are taken so that no checkpoint can be stored under them. A fence lies in a
 * manifest's place, and was put there by the same conditional put. It is no checkpoint.
 *
 * store_take(): after it, whoever was writing a checkpoint of the session has either committed it
 * before or finds its number taken (-EEXIST), and what begins later finds a fence that is newer
 * than what it knows (store_numbers()). Takes all free numbers up to `at_least` + 1, or up to one
 * above the newest that is there, and at most STORE_TAKEN_MOST of them; *taken: the last one.
 * *newest: the newest checkpoint that is not set aside; 0: none. `at_least`: the newest number
 * that was ever given out. `by`: who, for people. When it fails it may have taken some numbers all
 * the same; again, it takes newer ones. docs/store.md has the argument.
 */
enum { STORE_TAKEN_MOST = 16 };
int store_take(struct store *store, const char *session, int64_t at_least, const char *by,
	       int64_t *taken, int64_t *newest, struct error *e);

struct store_numbers {
	int64_t checkpoint; /* newest that is not set aside */
	int64_t fence;      /* newest that was taken */
	int64_t used;       /* newest of all */
};
/* -1: there is none of that kind. */
int store_numbers(struct store *store, const char *session, struct store_numbers *numbers,
		  struct error *e);
/* Nonzero from `each` stops and is returned. session NULL: all of them. */
int store_list_fences(struct store *store, const char *session,
		      int (*each)(const char *session, int64_t generation, int64_t taken_at,
				  const char *by, void *arg),
		      void *arg, struct error *e);

int store_set_aside(struct store *store, const char *session, int64_t generation, struct error *e);
/* The manifest first, then what no other checkpoint names; a missing one is fine. */
int store_remove(struct store *store, const char *session, int64_t generation, struct error *e);
/* All of a session, its key last. */
int store_forget(struct store *store, const char *session, struct error *e);

/* Mark and sweep: removes what no manifest names and no writer at work needs. A writer is at work
 * when `live` says so, or for a day after its mark (another node's). */
struct store_gc {
	bool dry_run;
	bool (*live)(const char *session, int64_t generation, void *arg);
	void (*progress)(uint64_t done, uint64_t total, void *arg);
	void *arg;
	/* Out: */
	int64_t objects, bytes; /* removed, or to be removed */
	int64_t kept_objects, kept_bytes;
};
int store_gc(struct store *store, struct store_gc *gc, struct error *e);

/* A checkpoint with everything it names as one tar of sealed objects, to a file or pipe; and back.
 * The master key that wrapped it must be known where it is imported. import verifies before the
 * manifest is put; -EEXIST when the generation is there already. */
int store_export(struct store *store, const char *session, int64_t generation, int fd,
		 void (*progress)(uint64_t done, uint64_t total, void *arg), void *arg,
		 struct error *e);
int store_import(struct store *store, int fd, struct store_meta *meta,
		 void (*progress)(uint64_t done, uint64_t total, void *arg), void *arg,
		 struct error *e);

/* Wraps every session's data key anew with the present master key. Idempotent; sessions may be
 * written and read meanwhile. *count: wrapped anew. */
int store_rekey(struct store *store, int64_t *count,
		void (*progress)(uint64_t done, uint64_t total, void *arg), void *arg,
		struct error *e);

#endif
