/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_NODE_VERIFIER_H
#define ELSA_NODE_VERIFIER_H

/*
 * Reads all of a checkpoint in a thread of its own and compares it with its
 * manifest, while CRIU is already restoring from it. Nothing may run before
 * verifier_wait() returned 0.
 */

#include "base/error.h"
#include "store/store.h"

#include <stdint.h>

struct verifier;

/* `read` is borrowed until verifier_free(). */
int verifier_start(struct store_read *read,
		   void (*progress)(uint64_t done, uint64_t total, void *arg), void *arg,
		   struct verifier **verifier, struct error *e);

/* Blocks until it has read all; may be called several times. */
int verifier_wait(struct verifier *verifier, struct error *e);

void *verifier_free(struct verifier *verifier); /* waits; returns NULL */

#endif
