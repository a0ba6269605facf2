/* SPDX-License-Identifier: Apache-2.0 */
#include "store/digest.h"

#include "base/cleanup.h"

#include <errno.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

enum { SLICE = 256 << 10 };

DEFINE_CLEANUP(EVP_MD_CTX *, EVP_MD_CTX_free)

struct source {
	int fd; /* -1: the object */
	struct object_store *store;
	const char *name; /* or key */
};

static int fail_crypto(struct error *e)
{
	return error_set(e, EIO, "libcrypto cannot compute SHA-256");
}

static EVP_MD *fetched_sha256; /* kept for the process's life */

static void fetch_sha256(void)
{
	fetched_sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
}

/* Looked up once for all threads: EVP_sha256() would make every digest do that anew. */
static const EVP_MD *sha256(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	pthread_once(&once, fetch_sha256);
	return fetched_sha256;
}

static int read_slice(const struct source *s, uint64_t offset, char *to, size_t len,
		      struct error *e)
{
	if (s->fd < 0)
		return object_read(s->store, s->name, offset, to, len, e);
	for (size_t done = 0; done < len;) {
		ssize_t n = pread(s->fd, to + done, len - done, (off_t)(offset + done));
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return error_errno(e, "cannot read %s", s->name);
		if (n == 0)
			return error_set(e, EBADMSG, "%s became shorter while it was read",
					 s->name);
		done += (size_t)n;
	}
	return 0;
}

static int digest(const struct source *s, uint64_t offset, size_t len,
		  unsigned char to[DIGEST_SIZE], struct error *e)
{
	cleanup_free char *slice = malloc(SLICE);
	cleanup(EVP_MD_CTX_freep) EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	if (!slice || !ctx)
		return error_set(e, ENOMEM, "out of memory");
	if (!sha256() || EVP_DigestInit_ex(ctx, sha256(), NULL) != 1)
		return fail_crypto(e);
	while (len) {
		size_t n = len < SLICE ? len : SLICE;
		int r = read_slice(s, offset, slice, n, e);
		if (r < 0)
			return r;
		if (EVP_DigestUpdate(ctx, slice, n) != 1)
			return fail_crypto(e);
		offset += n;
		len -= n;
	}
	return EVP_DigestFinal_ex(ctx, to, NULL) == 1 ? 0 : fail_crypto(e);
}

int digest_fd(int fd, const char *name, uint64_t offset, size_t len, unsigned char to[DIGEST_SIZE],
	      struct error *e)
{
	return digest(&(struct source) { .fd = fd, .name = name }, offset, len, to, e);
}

int digest_object(struct object_store *s, const char *key, uint64_t offset, size_t len,
		  unsigned char to[DIGEST_SIZE], struct error *e)
{
	return digest(&(struct source) { .fd = -1, .store = s, .name = key }, offset, len, to, e);
}

int digest_bytes(const void *data, size_t len, unsigned char to[DIGEST_SIZE])
{
	return sha256() && EVP_Digest(data, len, to, NULL, sha256(), NULL) == 1 ? 0 : -EIO;
}

void digest_format(const unsigned char digest[DIGEST_SIZE], char to[DIGEST_TEXT_SIZE])
{
	static const char digits[] = "0123456789abcdef";
	for (size_t i = 0; i < DIGEST_SIZE; i++) {
		to[2 * i] = digits[digest[i] >> 4];
		to[2 * i + 1] = digits[digest[i] & 15];
	}
	to[DIGEST_TEXT_SIZE - 1] = '\0';
}

static int nibble(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int digest_parse(const char *text, unsigned char to[DIGEST_SIZE])
{
	if (strnlen(text, DIGEST_TEXT_SIZE) != 2 * DIGEST_SIZE)
		return -EINVAL;
	for (size_t i = 0; i < DIGEST_SIZE; i++) {
		int high = nibble(text[2 * i]);
		int low = nibble(text[2 * i + 1]);
		if (high < 0 || low < 0)
			return -EINVAL;
		to[i] = (unsigned char)(high << 4 | low);
	}
	return 0;
}
