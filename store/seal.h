/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_STORE_SEAL_H
#define ELSA_STORE_SEAL_H

/*
 * Keys and what is done with them; bytes in, bytes out. Thread-safe.
 *
 *	master key        the operator's, 32 bytes; named by the start of a SHA-256 of it
 *	data key          random, one for each session; kept wrapped by a master key
 *	writer key        HKDF of the data key and "SESSION GENERATION WRITER PURPOSE"
 *
 * A frame is AES-256-GCM under its writer's key with its place (pack, offset) as
 * the nonce: no place is written twice, and a frame that was moved, swapped or
 * taken from another session, generation or writer does not open.
 */

#include "base/error.h"

#include <stdint.h>

enum {
	SEAL_KEY = 32,
	SEAL_TAG = 16,
	SEAL_DIGEST = 12, /* of a page */
	SEAL_WRAPPED = 12 + SEAL_KEY + SEAL_TAG,
	SEAL_NAME = 17, /* of a master key, as text */
};

struct seal_key {
	unsigned char bytes[SEAL_KEY];
};

int seal_random(void *to, size_t len, struct error *e);
/* Public, and says nothing of the key. */
void seal_key_name(const struct seal_key *master, char name[SEAL_NAME]);

/* `label` (the session's id) is bound in: a key wrapped for one session does not open for another.
 * unwrap: -EKEYREJECTED. */
int seal_wrap(const struct seal_key *master, const char *label, const struct seal_key *key,
	      unsigned char to[SEAL_WRAPPED], struct error *e);
int seal_unwrap(const struct seal_key *master, const char *label,
		const unsigned char wrapped[SEAL_WRAPPED], struct seal_key *key, struct error *e);

int seal_derive(const struct seal_key *key, const char *purpose, struct seal_key *to,
		struct error *e);

/* A cipher context is one thread's; the key schedule is done once. */
struct sealer;
int sealer_new(const struct seal_key *key, struct sealer **sealer, struct error *e);
void *sealer_free(struct sealer *sealer); /* returns NULL */
/* `to` has room for len + SEAL_TAG. */
int seal_frame(struct sealer *s, uint32_t pack, uint64_t offset, const void *data, size_t len,
	       void *to, struct error *e);
/* `len` with the tag; `to` may be `data`. -EBADMSG. */
int open_frame(struct sealer *s, uint32_t pack, uint64_t offset, const void *data, size_t len,
	       void *to, struct error *e);
/* A keyed digest (GMAC) by which a page is known to be as before, in whatever generation and by
 * whatever writer it was put: so the sealer is made from a key derived for the whole session, never
 * from a writer's. Never leaves sealed bytes, for the nonce is always the same. -EIO. */
int seal_digest(struct sealer *s, const void *data, size_t len, unsigned char to[SEAL_DIGEST]);
/* The whole of it. */
int seal_tag(struct sealer *s, const void *data, size_t len, unsigned char to[SEAL_TAG]);

/* HMAC-SHA-256, for the manifest. */
int seal_mac(const struct seal_key *key, const void *data, size_t len, unsigned char to[32],
	     struct error *e);

#endif
