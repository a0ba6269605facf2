/* SPDX-License-Identifier: Apache-2.0 */
#include "store/page_cipher.h"

#include "base/cleanup.h"
#include "store/seal.h"

#include <errno.h>
#include <openssl/evp.h>
#include <stdbool.h>
#include <stdlib.h>

enum { PAGE = 4096, KEY = 64, TWEAK = 16 };

struct page_cipher {
	EVP_CIPHER *xts;
	unsigned char key[KEY];
};

int page_cipher_new(struct page_cipher **to, struct error *e)
{
	struct page_cipher *c = calloc(1, sizeof(*c));
	if (!c)
		return error_set(e, ENOMEM, "out of memory");
	c->xts = EVP_CIPHER_fetch(NULL, "AES-256-XTS", NULL);
	int r = c->xts ? seal_random(c->key, sizeof(c->key), e)
		       : error_set(e, EIO, "libcrypto has no AES-256-XTS");
	if (r < 0) {
		page_cipher_free(c);
		return r;
	}
	*to = c;
	return 0;
}

void *page_cipher_free(struct page_cipher *c)
{
	if (!c)
		return NULL;
	EVP_CIPHER_free(c->xts);
	OPENSSL_cleanse(c->key, sizeof(c->key));
	free(c);
	return NULL;
}

static bool run_one(EVP_CIPHER_CTX *ctx, bool seal, uint64_t number, const unsigned char *from,
		    unsigned char *to)
{
	unsigned char tweak[TWEAK] = { 0 };
	int n = 0;
	for (size_t i = 0; i < sizeof(number); i++)
		tweak[i] = (unsigned char)(number >> 8 * i);
	return EVP_CipherInit_ex2(ctx, NULL, NULL, tweak, seal, NULL) == 1 &&
	       EVP_CipherUpdate(ctx, to, &n, from, PAGE) == 1 && n == PAGE;
}

/* A context is one thread's, and soon made beside what is done with it. */
static int run(const struct page_cipher *c, bool seal, uint64_t first, const void *from,
	       size_t count, void *to)
{
	EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
	bool fine = ctx && EVP_CipherInit_ex2(ctx, c->xts, c->key, NULL, seal, NULL) == 1;
	for (size_t i = 0; fine && i < count; i++)
		fine = run_one(ctx, seal, first + i, (const unsigned char *)from + i * PAGE,
			       (unsigned char *)to + i * PAGE);
	EVP_CIPHER_CTX_free(ctx);
	return fine ? 0 : -EIO;
}

int page_cipher_seal(const struct page_cipher *c, uint64_t first, const void *from, size_t count,
		     void *to)
{
	return run(c, true, first, from, count, to);
}

int page_cipher_open(const struct page_cipher *c, uint64_t first, const void *from, size_t count,
		     void *to)
{
	return run(c, false, first, from, count, to);
}
