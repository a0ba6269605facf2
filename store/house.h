/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_STORE_HOUSE_H
#define ELSA_STORE_HOUSE_H

/* Listings of what is in a store, shared by store/house.c and store/sweep.c. */

#include "store/internal.h"

/* A generation of which there are objects, whether it exists or not. */
struct generation {
	char session[17];
	int64_t number;
	bool manifest, aside;
};

struct generations {
	struct generation *list;
	size_t count, room;
};
void generations_deinit(struct generations *g);

/* By session and number; session NULL: all. */
int store_generations(struct store *store, const char *session, struct generations *g,
		      struct error *e);

struct keys {
	char **list;
	size_t count, room;
};
void keys_deinit(struct keys *keys);

/* All objects of a generation. */
int store_keys(struct store *store, const char *session, int64_t generation, struct keys *keys,
	       struct error *e);

#endif
