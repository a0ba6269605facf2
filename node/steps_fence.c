/* SPDX-License-Identifier: Apache-2.0 */
#include "node/effect.h"

#include "base/cleanup.h"
#include "wire/messages.h"

/*
 * Before a session is restored elsewhere: what its old node may be about to
 * commit is either there already, or never will be (docs/store.md). Nothing of
 * the session is needed here, and nothing is known of it afterwards.
 */
static int take(struct effect *ef, struct error *e)
{
	struct store *store;
	int64_t taken = 0, newest = 0;
	cleanup_free char *name = node_name(ef->node);
	int r = name ? node_store(ef->node, &store, e) : error_set(e, ENOMEM, "out of memory");
	if (r == 0)
		r = store_take(store, ef->session->id, ef->request.generation, name, &taken,
			       &newest, e);
	if (r < 0)
		return r;
	pthread_mutex_lock(&ef->node->lock);
	ef->result.generation = taken;
	ef->result.checkpoint = newest;
	pthread_mutex_unlock(&ef->node->lock);
	return 0;
}

/* Again after a crash it takes a newer number, which is as good. */
static int from_the_start(struct effect *ef, size_t at, struct error *e)
{
	(void)e;
	(void)ef;
	(void)at;
	return 0;
}

static const struct step steps[] = {
	{ .name = "take", .run = take, .must = true },
};

const struct plan plan_fence = {
	.name = "fence",
	.steps = steps,
	.count = ARRAY_SIZE(steps),
	.resume = from_the_start,
};
