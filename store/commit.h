/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_STORE_COMMIT_H
#define ELSA_STORE_COMMIT_H

/* A checkpoint being written: store/write.c begins and ends it, store/commit.c makes it exist. */

#include "store/grow.h"
#include "store/internal.h"

#include <pthread.h>

struct store_write {
	struct store *store;
	char id[17]; /* part of its objects' names: no two writers share an object */
	char *dir;
	int lock;
	struct grow *grow;
	struct manifest m;             /* meta: only session and generation before commit */
	bool tried;                    /* commit was called */
	pthread_mutex_t progress_lock; /* of the next two; total is 0 until commit */
	uint64_t done, total;
};

#endif
