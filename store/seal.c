/* SPDX-License-Identifier: Apache-2.0 */
#include "store/seal.h"

#include "base/cleanup.h"

#include <errno.h>
#include <limits.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <openssl/rand.h>
#include <pthread.h>
#include <string.h>

enum { NONCE = 12 };

struct sealer {
	EVP_CIPHER_CTX *seal, *open, *digest;
};

DEFINE_CLEANUP(EVP_CIPHER_CTX *, EVP_CIPHER_CTX_free)
DEFINE_CLEANUP(struct sealer *, sealer_free)

/* Looking an algorithm up takes longer than sealing a page with it, so it is done once; they last
 * as long as the process. */
static struct {
	pthread_once_t once;
	EVP_CIPHER *gcm;
	EVP_KDF *hkdf;
	EVP_MD *sha256;
} algorithms = { .once = PTHREAD_ONCE_INIT };

static void fetch_algorithms(void)
{
	algorithms.gcm = EVP_CIPHER_fetch(NULL, "AES-256-GCM", NULL);
	algorithms.hkdf = EVP_KDF_fetch(NULL, "HKDF", NULL);
	algorithms.sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
}

static bool have_algorithms(void)
{
	return pthread_once(&algorithms.once, fetch_algorithms) == 0 && algorithms.gcm &&
	       algorithms.hkdf && algorithms.sha256;
}

static int broken(struct error *e, const char *what)
{
	return error_set(e, EIO, "libcrypto cannot %s", what);
}

int seal_random(void *to, size_t len, struct error *e)
{
	if (len > INT_MAX || RAND_priv_bytes(to, (int)len) != 1)
		return broken(e, "give random bytes");
	return 0;
}

void seal_key_name(const struct seal_key *master, char name[SEAL_NAME])
{
	static const char prefix[] = "elsa master key";
	static const char digits[] = "0123456789abcdef";
	unsigned char text[sizeof(prefix) + SEAL_KEY];
	unsigned char digest[EVP_MAX_MD_SIZE] = { 0 };
	memcpy(text, prefix, sizeof(prefix));
	memcpy(text + sizeof(prefix), master->bytes, SEAL_KEY);
	/* A process without SHA-256 seals nothing either, so its name does no harm. */
	if (have_algorithms())
		EVP_Digest(text, sizeof(text), digest, NULL, algorithms.sha256, NULL);
	OPENSSL_cleanse(text, sizeof(text));
	for (size_t i = 0; i < SEAL_NAME - 1; i++)
		name[i] = digits[digest[i / 2] >> (i % 2 ? 0 : 4) & 15];
	name[SEAL_NAME - 1] = '\0';
}

int seal_derive(const struct seal_key *key, const char *purpose, struct seal_key *to,
		struct error *e)
{
	static char salt[] = "elsa checkpoint";
	EVP_KDF_CTX *ctx = have_algorithms() ? EVP_KDF_CTX_new(algorithms.hkdf) : NULL;
	OSSL_PARAM params[] = {
		OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, (char *)"SHA256", 0),
		OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, (void *)key->bytes, SEAL_KEY),
		OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SALT, salt, sizeof(salt) - 1),
		OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO, (void *)purpose,
						  strlen(purpose)),
		OSSL_PARAM_construct_end(),
	};
	bool done = ctx && EVP_KDF_derive(ctx, to->bytes, SEAL_KEY, params) == 1;
	EVP_KDF_CTX_free(ctx);
	return done ? 0 : broken(e, "derive a key with HKDF");
}

/* Does the key schedule; a nonce is set later. */
static EVP_CIPHER_CTX *cipher_new(const struct seal_key *key, bool seal)
{
	cleanup(EVP_CIPHER_CTX_freep) EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
	if (!ctx || !have_algorithms() ||
	    EVP_CipherInit_ex2(ctx, algorithms.gcm, key->bytes, NULL, seal, NULL) != 1)
		return NULL;
	return steal_ptr(&ctx);
}

int sealer_new(const struct seal_key *key, struct sealer **sealer, struct error *e)
{
	struct seal_key digest_key;
	*sealer = NULL;
	cleanup(sealer_freep) struct sealer *s = calloc(1, sizeof(*s));
	if (!s)
		return error_set(e, ENOMEM, "out of memory");
	int r = seal_derive(key, "digest", &digest_key, e);
	if (r < 0)
		return r;
	s->seal = cipher_new(key, true);
	s->open = cipher_new(key, false);
	s->digest = cipher_new(&digest_key, true);
	OPENSSL_cleanse(&digest_key, sizeof(digest_key));
	if (!s->seal || !s->open || !s->digest)
		return broken(e, "set up AES-256-GCM");
	*sealer = steal_ptr(&s);
	return 0;
}

void *sealer_free(struct sealer *s)
{
	if (!s)
		return NULL;
	EVP_CIPHER_CTX_free(s->seal);
	EVP_CIPHER_CTX_free(s->open);
	EVP_CIPHER_CTX_free(s->digest);
	free(s);
	return NULL;
}

static bool gcm_seal(EVP_CIPHER_CTX *ctx, const unsigned char nonce[NONCE], const void *aad,
		     size_t aad_len, const void *data, size_t len, unsigned char *to)
{
	int n = 0;
	return aad_len <= INT_MAX && len <= INT_MAX &&
	       EVP_EncryptInit_ex2(ctx, NULL, NULL, nonce, NULL) == 1 &&
	       (aad_len == 0 || EVP_EncryptUpdate(ctx, NULL, &n, aad, (int)aad_len) == 1) &&
	       (len == 0 || EVP_EncryptUpdate(ctx, to, &n, data, (int)len) == 1) &&
	       EVP_EncryptFinal_ex(ctx, to + len, &n) == 1 &&
	       EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_GET_TAG, SEAL_TAG, to + len) == 1;
}

/* `len` without the tag, which follows. */
static bool gcm_open(EVP_CIPHER_CTX *ctx, const unsigned char nonce[NONCE], const void *aad,
		     size_t aad_len, const unsigned char *data, size_t len, unsigned char *to)
{
	unsigned char tag[SEAL_TAG];
	int n = 0;
	memcpy(tag, data + len, SEAL_TAG);
	return aad_len <= INT_MAX && len <= INT_MAX &&
	       EVP_DecryptInit_ex2(ctx, NULL, NULL, nonce, NULL) == 1 &&
	       EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_SET_TAG, SEAL_TAG, tag) == 1 &&
	       (aad_len == 0 || EVP_DecryptUpdate(ctx, NULL, &n, aad, (int)aad_len) == 1) &&
	       (len == 0 || EVP_DecryptUpdate(ctx, to, &n, data, (int)len) == 1) &&
	       EVP_DecryptFinal_ex(ctx, tag, &n) == 1;
}

static void frame_nonce(uint32_t pack, uint64_t offset, unsigned char nonce[NONCE])
{
	uint32_t high = __builtin_bswap32(pack);
	uint64_t low = __builtin_bswap64(offset);
	memcpy(nonce, &high, sizeof(high));
	memcpy(nonce + sizeof(high), &low, sizeof(low));
}

int seal_frame(struct sealer *s, uint32_t pack, uint64_t offset, const void *data, size_t len,
	       void *to, struct error *e)
{
	unsigned char nonce[NONCE];
	frame_nonce(pack, offset, nonce);
	return gcm_seal(s->seal, nonce, NULL, 0, data, len, to) ? 0 : broken(e, "seal a frame");
}

int open_frame(struct sealer *s, uint32_t pack, uint64_t offset, const void *data, size_t len,
	       void *to, struct error *e)
{
	unsigned char nonce[NONCE];
	if (len < SEAL_TAG)
		return error_set(e, EBADMSG, "a frame is shorter than its seal");
	frame_nonce(pack, offset, nonce);
	if (gcm_open(s->open, nonce, NULL, 0, data, len - SEAL_TAG, to))
		return 0;
	/* What was deciphered before the tag proved wrong is nobody's. */
	memset(to, 0, len - SEAL_TAG);
	return error_set(e, EBADMSG,
			 "a frame's seal is broken: it was changed, or belongs elsewhere");
}

/* One nonce for all of them: under a key of its own, and with no digest ever shown, GMAC is a keyed
 * universal hash. */
int seal_tag(struct sealer *s, const void *data, size_t len, unsigned char to[SEAL_TAG])
{
	static const unsigned char nonce[NONCE];
	return gcm_seal(s->digest, nonce, data, len, NULL, 0, to) ? 0 : -EIO;
}

int seal_digest(struct sealer *s, const void *data, size_t len, unsigned char to[SEAL_DIGEST])
{
	unsigned char tag[SEAL_TAG];
	int r = seal_tag(s, data, len, tag);
	if (r == 0)
		memcpy(to, tag, SEAL_DIGEST);
	return r;
}

int seal_wrap(const struct seal_key *master, const char *label, const struct seal_key *key,
	      unsigned char to[SEAL_WRAPPED], struct error *e)
{
	struct seal_key wrapping;
	int r = seal_random(to, NONCE, e);
	if (r == 0)
		r = seal_derive(master, "wrap", &wrapping, e);
	if (r < 0)
		return r;
	cleanup(EVP_CIPHER_CTX_freep) EVP_CIPHER_CTX *ctx = cipher_new(&wrapping, true);
	OPENSSL_cleanse(&wrapping, sizeof(wrapping));
	if (!ctx || !gcm_seal(ctx, to, label, strlen(label), key->bytes, SEAL_KEY, to + NONCE))
		return broken(e, "wrap a key");
	return 0;
}

int seal_unwrap(const struct seal_key *master, const char *label,
		const unsigned char wrapped[SEAL_WRAPPED], struct seal_key *key, struct error *e)
{
	struct seal_key wrapping;
	int r = seal_derive(master, "wrap", &wrapping, e);
	if (r < 0)
		return r;
	cleanup(EVP_CIPHER_CTX_freep) EVP_CIPHER_CTX *ctx = cipher_new(&wrapping, false);
	OPENSSL_cleanse(&wrapping, sizeof(wrapping));
	if (!ctx)
		return broken(e, "unwrap a key");
	if (gcm_open(ctx, wrapped, label, strlen(label), wrapped + NONCE, SEAL_KEY, key->bytes))
		return 0;
	OPENSSL_cleanse(key, sizeof(*key));
	return error_set(e, EKEYREJECTED,
			 "a key was not wrapped by this master key for %s, or was changed", label);
}

int seal_mac(const struct seal_key *key, const void *data, size_t len, unsigned char to[32],
	     struct error *e)
{
	size_t n = 0;
	if (!EVP_Q_mac(NULL, "HMAC", NULL, "SHA256", NULL, key->bytes, SEAL_KEY, data, len, to, 32,
		       &n) ||
	    n != 32)
		return broken(e, "compute an HMAC");
	return 0;
}
