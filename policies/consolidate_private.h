/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_POLICIES_CONSOLIDATE_PRIVATE_H
#define ELSA_POLICIES_CONSOLIDATE_PRIVATE_H

/* Private to policies/consolidate*.c. */

#include "policies/consolidate.h"

/* Sorts the sessions, those of a node together, and counts them there. */
void consolidate_sort(struct consolidate_facts *facts);

struct consolidate_fit {
	enum consolidate_reason reason; /* READY, NO_ROOM, SPARE */
	int64_t short_bytes;
};
/* Whether the others have room for all in use on `node`; says of each where to. `begun`: up to all
 * of their memory. */
struct consolidate_fit consolidate_fit(const struct consolidate_rules *rules,
				       struct consolidate_facts *facts, size_t node, bool begun);

/* The better one to empty, of two that could be. */
size_t consolidate_better(const struct consolidate_facts *facts, size_t a, size_t b);

#endif
