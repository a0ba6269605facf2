/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_STORE_INDEX_H
#define ELSA_STORE_INDEX_H

/*
 * What a checkpoint holds and where, as bytes: packs are in the manifest, the
 * rest is here. Stored squeezed and sealed in frames of the checkpoint's own
 * packs. Decoding trusts nothing: -EBADMSG. Pure; thread-safe.
 */

#include "base/buf.h"
#include "store/seal.h"
#include "store/store.h"

enum {
	INDEX_MAX_FILES = 100000,
	INDEX_MAX_NAME = 1024,
	INDEX_MAX_MEMORIES = 65536,
	INDEX_MAX_FRAMES = 1 << 28,
	INDEX_MAX_FRAME = 1 << 20, /* bytes of a file in one */
	INDEX_MAX_SPEC = 16 << 20,
};
#define INDEX_MAX_PAGES     (UINT64_C(1) << 32)
#define INDEX_MAX_FILE_SIZE (UINT64_C(1) << 46)

struct index_file {
	char *name;
	uint64_t size;
	uint32_t mode;
	uint32_t *frames; /* numbers of its frames, of no pages, in order */
	size_t frame_count;
	unsigned char *digests; /* SEAL_DIGEST for each frame */
};

struct index_memory {
	struct store_memory m;  /* owned */
	unsigned char *digests; /* SEAL_DIGEST for each page; those of zeros are not kept: zeros */
};

struct index_frame {
	struct store_frame at;
	uint32_t len; /* what comes out of it */
};

struct index {
	char *spec;                 /* sealed part of store_meta; may be NULL */
	struct index_frame *frames; /* by pack and offset, none over another */
	size_t frame_count;
	struct index_file *files; /* by name */
	size_t file_count;
	struct index_memory *memories; /* by name */
	size_t memory_count;
	bool bare; /* the digests are not there: they come last, and the text ended before them */
};
void index_deinit(struct index *index);

/* Appends. Order and ranges are the caller's to keep; -EINVAL when there is too much of something.
 */
int index_encode(const struct index *index, struct buf *to, struct error *e);
/* How much of the text comes before the digests, which only the next writer wants. */
size_t index_bare_len(const struct index *index);
/* `pack_count` and `pack_sizes`: what frames may lie in. */
int index_decode(const void *data, size_t len, const uint64_t *pack_sizes, size_t pack_count,
		 struct index *index, struct error *e);

/* A relative path of real names: no empty, "." or ".." parts, not too long. */
bool index_name_valid(const char *name);

#endif
