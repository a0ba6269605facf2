/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_PRELOAD_CRIU_H
#define ELSA_PRELOAD_CRIU_H

/*
 * elsa-criu.so, which elsa-node has loaded into each CRIU that dumps or restores a session: what of
 * it is known outside of the library. docs/criu.md says what it is for.
 */

#include <stdint.h>

#define CRIU_LIBRARY "elsa-criu.so"

/* The environment of such a CRIU. */
#define CRIU_WORK    "ELSA_WORK"    /* directory with the fifos "told" and "verdict" */
#define CRIU_FREEZER "ELSA_FREEZER" /* directory: the session's freezer cgroup */
/* "UID GID", which become its real ones: the loader does not listen to an environment where real
 * and effective ones differ before. May be missing. */
#define CRIU_IDS "ELSA_REAL_IDS"
/* A file of `struct unseen_range`, by process and ascending: memory that a CRIU which dumps is not
 * to see (node/unseen.h). May be missing. */
#define CRIU_UNSEEN "ELSA_UNSEEN"

struct unseen_range {
	uint64_t start, end; /* addresses; multiples of the page size */
	int32_t pid;         /* as elsa-node and CRIU see it */
	uint32_t reserved;
};

#endif
