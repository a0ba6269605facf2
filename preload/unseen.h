/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_PRELOAD_UNSEEN_H
#define ELSA_PRELOAD_UNSEEN_H

/*
 * Memory that a CRIU which dumps is not to see (node/unseen.h). elsa-node writes a file of these,
 * by process and ascending, and has elsa-criu.so loaded into CRIU, which leaves such memory out of
 * what the kernel says of /proc/PID/pagemap.
 */

#include <stdint.h>

#define UNSEEN_LIBRARY "elsa-criu.so"
/* The environment of such a CRIU: the file's path; and "UID GID", which become its real ones, since
 * the loader does not listen to an environment where real and effective ones differ before. */
#define UNSEEN_FILE "ELSA_UNSEEN"
#define UNSEEN_IDS  "ELSA_REAL_IDS"

struct unseen_range {
	uint64_t start, end; /* addresses; multiples of the page size */
	int32_t pid;         /* as elsa-node and CRIU see it */
	uint32_t reserved;
};

#endif
