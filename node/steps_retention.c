/* SPDX-License-Identifier: Apache-2.0 */
#include "node/evacuate.h"
#include "node/steps_checkpoint.h"

#include "policies/retention.h"

#include <errno.h>
#include <stdlib.h>

struct generations {
	struct retained *items;
	size_t count;
};

static int note_generation(const struct store_meta *meta, void *arg)
{
	struct generations *g = arg;
	struct retained *more = realloc(g->items, (g->count + 1) * sizeof(*more));
	if (!more)
		return -ENOMEM;
	g->items = more;
	g->items[g->count++] = (struct retained) {
		.generation = meta->generation,
		.created_at = meta->created_at,
		.bytes = meta->stored_bytes,
		.aside = meta->aside,
	};
	return 0;
}

/* What cannot be read is not counted and not removed: a person decides. */
static int leave_damaged(const char *session, int64_t generation, const struct error *why,
			 void *arg)
{
	(void)session;
	(void)generation;
	(void)why;
	(void)arg;
	return 0;
}

int checkpoint_retention(struct effect *ef, struct error *e)
{
	if (evacuate_under_way(ef->node))
		return 0; /* others wait for their turn */
	struct store *store;
	struct generations g = { 0 };
	const struct config *c = ef->node->config;
	const struct retention_rules rules = { c->store.keep, c->store.keep_age_ms,
					       c->store.keep_bytes };
	const char *id = ef->session->id;
	int r = node_store(ef->node, &store, e);
	if (r == 0)
		r = store_list(store, id, note_generation, leave_damaged, &g, e);
	if (r == 0)
		retention_decide(&rules, g.items, g.count, clock_wall());
	for (size_t i = g.count; r == 0 && i > 0; i--)
		if (g.items[i - 1].remove)
			r = store_remove(store, id, g.items[i - 1].generation, e);
	free(g.items);
	return r;
}
