/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_STORE_MANIFEST_H
#define ELSA_STORE_MANIFEST_H

/*
 * A checkpoint's manifest, as bytes. Two lines of JSON: the first names the
 * format, its version and the HMAC of the second under the session's manifest
 * key; the second is readable without any key, so that a store can be listed and
 * cleaned by whoever keeps it. Decoding trusts nothing (-EBADMSG). Pure;
 * thread-safe.
 */

#include "base/buf.h"
#include "base/error.h"
#include "store/seal.h"
#include "store/store.h"

#define MANIFEST_VERSION 2

enum {
	MANIFEST_MAX_BYTES = 8 << 20,
	MANIFEST_MAX_PACKS = 1 << 17,
	MANIFEST_MAX_PIECES = 1 << 16,
	MANIFEST_MAX_PIECE = 16 << 20, /* what comes out of a piece of the index */
};

struct manifest_pack {
	int64_t generation; /* this one's, or an older one's */
	char writer[17];    /* base/id.h */
	uint32_t number;    /* of that writer's packs: part of its frames' nonces */
	uint64_t size;
};

/* Where a piece of the index is. */
struct manifest_piece {
	uint32_t pack; /* in packs[] */
	uint32_t offset, stored;
	uint32_t len; /* what comes out of it */
};

struct manifest {
	struct store_meta meta; /* without spec */
	char writer[17];
	struct manifest_pack *packs;
	size_t pack_count;
	struct manifest_piece *index; /* pieces in order */
	size_t index_count;
};
void manifest_deinit(struct manifest *m);

int manifest_encode(const struct manifest *m, const struct seal_key *mac_key, struct buf *to,
		    struct error *e);
/* mac_key NULL: read, but not proven. */
int manifest_decode(const char *data, size_t len, const struct seal_key *mac_key,
		    struct manifest *m, struct error *e);

#endif
