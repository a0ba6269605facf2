/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_STORE_PACK_H
#define ELSA_STORE_PACK_H

/*
 * Packs of one writer: filled in memory by several threads at once, and put by
 * threads of their own as soon as they are full. There are PACK_BUFFERS of them
 * at most; who wants a place while all are on their way waits. Thread-safe.
 */

#include "store/internal.h"

#include <stdatomic.h>

/* The first failure of several threads. */
struct failure {
	pthread_mutex_t lock;
	atomic_int r;
	struct error error;
};
void failure_init(struct failure *f);
void failure_deinit(struct failure *f);
int failure_note(struct failure *f, int r, const struct error *e); /* returns r */
int failure_check(struct failure *f, struct error *e);             /* 0, or the first one */

/* Frames of one stream lie close together. */
enum pack_stream { PACK_COLD, PACK_HOT, PACK_STREAMS };

struct packer;
struct pack_place {
	uint32_t pack;
	uint32_t offset;
	unsigned char *to;
	struct pack *in;
};

/* `failure` is told of puts that fail, and heeded; borrowed. */
int packer_new(struct store *store, const char *session, int64_t generation, const char *writer,
	       struct failure *failure, struct packer **packer, struct error *e);
void *packer_free(struct packer *p); /* waits for puts under way; returns NULL */

/* Room for `len` bytes, at most STORE_PACK_BYTES, in one pack. What it is given must be filled and
 * said so; `raw`: bytes of a session that it stands for. */
int packer_reserve(struct packer *p, enum pack_stream stream, size_t len, struct pack_place *place,
		   struct error *e);
void packer_filled(struct packer *p, const struct pack_place *place, size_t len, uint64_t raw);

/* Puts what is open as it is; what is reserved later goes to new packs. */
void packer_close(struct packer *p);
/* Waits until all closed ones are durable, or the failure. */
int packer_wait(struct packer *p, struct error *e);

/* Raw bytes of durable packs. */
uint64_t packer_durable(struct packer *p);
size_t packer_count(struct packer *p);
/* After packer_wait(). */
uint64_t packer_size(struct packer *p, uint32_t pack);

DEFINE_CLEANUP(struct packer *, packer_free)

#endif
