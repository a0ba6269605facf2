/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_CLOUD_S3_DIGEST_H
#define ELSA_CLOUD_S3_DIGEST_H

/*
 * By what the server sees that a body has arrived as it was sent.
 *
 * A small body is hashed: SHA-256 is signed, and S3 checks and keeps it. A
 * large one is a pack of a checkpoint, every frame of which the store has
 * sealed and authenticates again when it reads it: signing the hash of all of
 * it would cost more than all the rest of sending it. Its signature covers a
 * CRC-32 instead (of the Castagnoli kind for Google), at many GB/s, which finds
 * what breaks on the way: Amazon S3, Ceph, MinIO and Swift check
 * x-amz-checksum-crc32, Google checks x-goog-hash. No I/O; thread-safe.
 */

#include "cloud/sigv4.h"

#include <stdbool.h>
#include <stdint.h>

enum { S3_HASHED_MOST = 1 << 20 };

struct s3_digest {
	char payload[SIGV4_HEX_SIZE]; /* for x-amz-content-sha256 */
	const char *name;             /* the header that holds the digest ... */
	char value[64];               /* ... and what it says */
	bool crc;                     /* not SHA-256 */
};

/* 0, -ENOMEM. */
int s3_digest_make(const void *data, size_t len, bool google, struct s3_digest *d);

uint32_t s3_crc32(const void *data, size_t len);  /* of IEEE 802.3, as zlib's */
uint32_t s3_crc32c(const void *data, size_t len); /* Castagnoli's, as iSCSI's */

#endif
