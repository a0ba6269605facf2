/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_STORE_PAGE_CIPHER_H
#define ELSA_STORE_PAGE_CIPHER_H

/*
 * Pages in a file of this machine's own, for nobody to read but this program while it runs: as a
 * disk is enciphered (AES-256-XTS), each page by its number, with a random key that is never told.
 * Nothing tells that a page was changed: who reads it has other means for that. Thread-safe.
 */

#include "base/error.h"

#include <stddef.h>
#include <stdint.h>

struct page_cipher;

int page_cipher_new(struct page_cipher **cipher, struct error *e);
void *page_cipher_free(struct page_cipher *cipher); /* returns NULL; the key is gone */

/* `count` pages of 4096 bytes from number `first` on; `to` may be `from`. -EIO. */
int page_cipher_seal(const struct page_cipher *cipher, uint64_t first, const void *from,
		     size_t count, void *to);
int page_cipher_open(const struct page_cipher *cipher, uint64_t first, const void *from,
		     size_t count, void *to);

#endif
