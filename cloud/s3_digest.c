/* SPDX-License-Identifier: Apache-2.0 */
#include "cloud/s3_digest.h"

#include "base/cleanup.h"

#include <errno.h>
#include <isa-l/crc.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>

uint32_t s3_crc32(const void *data, size_t len)
{
	return crc32_gzip_refl(0, data, len);
}

/* ISA-L leaves the inversion before and after to its caller, and counts in int. */
uint32_t s3_crc32c(const void *data, size_t len)
{
	uint32_t crc = UINT32_MAX;
	unsigned char *p = (unsigned char *)data; /* only read */
	while (len) {
		int piece = len < (1 << 30) ? (int)len : 1 << 30;
		crc = crc32_iscsi(p, piece, crc);
		p += piece;
		len -= (size_t)piece;
	}
	return ~crc;
}

/* Base64 of the number, highest byte first. */
static void put_crc(const char *before, uint32_t crc, struct s3_digest *d)
{
	const unsigned char bytes[] = { (unsigned char)(crc >> 24), (unsigned char)(crc >> 16),
					(unsigned char)(crc >> 8), (unsigned char)crc };
	size_t len = strlen(before);
	memcpy(d->value, before, len);
	EVP_EncodeBlock((unsigned char *)d->value + len, bytes, sizeof(bytes));
}

static void make_crc(const void *data, size_t len, bool google, struct s3_digest *d)
{
	memcpy(d->payload, SIGV4_UNSIGNED, sizeof(SIGV4_UNSIGNED));
	d->crc = true;
	d->name = google ? "x-goog-hash" : "x-amz-checksum-crc32";
	if (google)
		put_crc("crc32c=", s3_crc32c(data, len), d);
	else
		put_crc("", s3_crc32(data, len), d);
}

int s3_digest_make(const void *data, size_t len, bool google, struct s3_digest *d)
{
	unsigned char sha256[32], md5[16];
	*d = (struct s3_digest) { .name = google ? "content-md5" : "x-amz-checksum-sha256" };
	if (len > S3_HASHED_MOST) {
		make_crc(data, len, google, d);
		return 0;
	}
	if (!EVP_Digest(data, len, sha256, NULL, EVP_sha256(), NULL) ||
	    (google && !EVP_Digest(data, len, md5, NULL, EVP_md5(), NULL)))
		return -ENOMEM;
	sigv4_hex(sha256, sizeof(sha256), d->payload);
	if (google)
		EVP_EncodeBlock((unsigned char *)d->value, md5, sizeof(md5));
	else
		EVP_EncodeBlock((unsigned char *)d->value, sha256, sizeof(sha256));
	return 0;
}
