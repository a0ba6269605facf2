/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_STORE_PARALLEL_H
#define ELSA_STORE_PARALLEL_H

/*
 * Many independent pieces of work on several threads, one of them the
 * caller's. Thread-safe.
 */

#include "base/error.h"

#include <stddef.h>

/* One for each processor, at most 4. */
unsigned parallel_threads(void);

/* Calls each(arg, i) for every i below `count`, roughly in order. After a failure no more is begun,
 * and the first one is returned, with its *e. Where no thread can be had the caller does it all. */
int parallel(unsigned threads, size_t count, int (*each)(void *arg, size_t i, struct error *e),
	     void *arg, struct error *e);

#endif
