/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_STORE_MANIFEST_H
#define ELSA_STORE_MANIFEST_H

/*
 * What a checkpoint consists of, as bytes. Two lines of JSON: the first names
 * the format and the SHA-256 of the second, which is
 *
 *	{"session", "generation", ..., "chunk": bytes per digest, "files": [
 *		{"name", "object", "size", "mode", "sha256": ["64 digits", ...]}]}
 *
 * Decoding trusts nothing: what is missing, unknown, out of range or would
 * leave the directory is an error (-EBADMSG). Pure; thread-safe.
 */

#include "base/buf.h"
#include "base/error.h"
#include "store/store.h"

#include <stdint.h>

#define MANIFEST_VERSION 1

enum {
	DIGEST_SIZE = 32,
	MANIFEST_MAX_BYTES = 64 << 20,
	MANIFEST_MAX_FILES = 100000,
	MANIFEST_MAX_NAME = 1024,
	MANIFEST_MIN_CHUNK = 4 << 10,
	MANIFEST_MAX_CHUNK = 64 << 20,
};
#define MANIFEST_MAX_FILE_SIZE (UINT64_C(1) << 46)

struct manifest_file {
	char *name;   /* in the checkpoint's directory */
	char *object; /* below the checkpoint's keys */
	uint64_t size;
	uint32_t mode;
	unsigned char *digests; /* DIGEST_SIZE for each chunk, the last of which may be short */
	size_t chunks;
};

struct manifest {
	struct store_meta meta;
	uint64_t chunk;
	struct manifest_file *files;
	size_t count;
};

int manifest_encode(const struct manifest *m, struct buf *to, struct error *e);
int manifest_decode(const char *data, size_t len, struct manifest *m, struct error *e);
void manifest_deinit(struct manifest *m);

size_t manifest_chunks(uint64_t size, uint64_t chunk);
/* Bytes of the file's chunk `i`. */
size_t manifest_chunk_size(const struct manifest_file *file, uint64_t chunk, size_t i);

/* A relative path of real names: no empty, "." or ".." parts, not too long. */
bool manifest_name_valid(const char *name);

#endif
