/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_STORE_COMMITTING_H
#define ELSA_STORE_COMMITTING_H

/* A checkpoint that has been written and is being committed, for store/commit*.c. */

#include "store/writing.h"

struct commit {
	struct store_write *w;
	struct store_read *made; /* as if it had been read */
	struct buf text;         /* of the index */
	size_t bare;             /* ... before its digests */
	struct buf manifest;
	char *key;  /* the manifest's */
	bool put;   /* it was, for certain */
	bool wrong; /* ... or all it stands for, is not there as it was written */
	int back;   /* what reading it back gave */
	size_t data_packs;
	struct error *e;
};

/* commit_index.c, in this order; `room` is that of the list of packs. */
int commit_list_packs(struct commit *c, size_t *room);
int commit_build_index(struct commit *c, const struct store_meta *meta);
int commit_store_index(struct commit *c, size_t *room);

#endif
