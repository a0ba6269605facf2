/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_STORE_FENCE_H
#define ELSA_STORE_FENCE_H

/*
 * What store_take() puts in a manifest's place, as bytes: so short that the size
 * alone tells most manifests from it. Decoding trusts nothing (-EBADMSG). Pure;
 * thread-safe.
 */

#include "base/buf.h"
#include "base/clock.h"
#include "base/error.h"
#include "store/seal.h"

#include <stdbool.h>

#define FENCE_VERSION 1

enum {
	FENCE_MAX_BYTES = 512,
	FENCE_BY = 65,
};

struct fence {
	char session[17];
	int64_t generation;
	char writer[17]; /* who put it, as of a manifest */
	wall_ms taken_at;
	char by[FENCE_BY]; /* for people: [A-Za-z0-9._-] */
};

/* Copies a name, with what cannot stand there replaced. */
void fence_set_by(struct fence *f, const char *by);

int fence_encode(const struct fence *f, const struct seal_key *mac_key, struct buf *to,
		 struct error *e);
/* mac_key NULL: read, but not proven. */
int fence_decode(const char *data, size_t len, const struct seal_key *mac_key, struct fence *f,
		 struct error *e);
/* Whether it says that it is one, whatever else is wrong. */
bool fence_is(const char *data, size_t len);

#endif
