/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_STORE_MASTER_H
#define ELSA_STORE_MASTER_H

/*
 * A master key from where the operator keeps it. Thread-safe.
 */

#include "store/seal.h"
#include "store/store.h"

/* 32 bytes, or 64 hexadecimal digits, or base64 of 32 bytes; a newline may follow. -EINVAL. */
int master_parse(const char *text, size_t len, struct seal_key *key, struct error *e);

/* The present one. A key file that is missing is made, unless the store holds something already. */
int master_load(const struct store_options *options, struct object_store *objects,
		struct seal_key *key, struct error *e);

/* -ENOENT; -EACCES when others may read it. */
int master_load_file(const char *path, struct seal_key *key, struct error *e);

/* The master key that an object is wrapped by: what follows "key-" in its name; NULL if it is no
 * key. */
const char *master_of_object(const char *object);

#endif
