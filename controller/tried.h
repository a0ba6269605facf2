/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_CONTROLLER_TRIED_H
#define ELSA_CONTROLLER_TRIED_H

/*
 * The nodes on which a wake or a start has failed already: kept with the session's row
 * until the session runs, or nobody wants it awake. JSON of our own:
 * [{"node": "n1", "why": "...", "gone": false}, ...], oldest first. Texts that
 * are none count as empty. Pure; one thread.
 */

#include <stdbool.h>
#include <stddef.h>

#define TRIED_MOST     4 /* tries of one wake or start */
#define TRIED_WHY_SIZE 200

struct tried {
	bool failed; /* it ended there, undone, and is not to be tried again */
	bool gone;   /* the node itself was lost during it: only if there is no other */
	char why[TRIED_WHY_SIZE]; /* the last one; cut */
};

/* Allocated: `text` (NULL: none) with one more at its end; NULL when out of memory. */
char *tried_add(const char *text, const char *node, const char *why, bool gone);

struct tried tried_on(const char *text, const char *node);
size_t tried_count(const char *text);
bool tried_any_failed(const char *text);

#endif
