/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_STORE_KEY_H
#define ELSA_STORE_KEY_H

/*
 * The master key from where the operator keeps it, and the sessions' data keys
 * wrapped by it in the store. Thread-safe.
 */

#include "store/seal.h"
#include "store/store.h"

struct keyring; /* the present master key, older ones, data keys already unwrapped */

/* A key is 32 bytes, or 64 hexadecimal digits, or base64 of 32 bytes, with or without a newline. A
 * key file that others may read is refused; one that is missing is made, unless the store holds
 * something already: -ENOKEY. `objects` is borrowed until keyring_free(). */
int keyring_open(const struct store_options *options, struct object_store *objects,
		 struct keyring **keyring, struct error *e);
void *keyring_free(struct keyring *keyring); /* returns NULL */

/* The session's data key; with `make`, one is made where there is none, and it is in the store now
 * whatever is remembered. Without: -ENOENT. A wrong or lost master key is -EKEYREJECTED, with its
 * name and that of the one wanted. */
int keyring_session(struct keyring *keyring, const char *session, bool make, struct seal_key *key,
		    struct error *e);

/* Wraps it with the present master key if it is not yet, and removes what older ones wrapped; 1 if
 * it was wrapped. */
int keyring_rewrap(struct keyring *keyring, const char *session, struct error *e);
/* Forgets what it knows of a session that was removed. */
void keyring_forget(struct keyring *keyring, const char *session);

#endif
