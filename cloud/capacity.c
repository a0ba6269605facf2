/* SPDX-License-Identifier: Apache-2.0 */
#include "cloud/capacity.h"

#include "base/cleanup.h"
#include "cloud/capacity_backends.h"

#include <errno.h>
#include <string.h>

const char *const cloud_instance_state_names[CLOUD_INSTANCE_STATE_COUNT] = {
	[CLOUD_PENDING] = "pending",
	[CLOUD_RUNNING] = "running",
	[CLOUD_ENDING] = "ending",
};

static const struct capacity_backend *const backends[] = { &capacity_autoscaling, &capacity_fleet,
							   &capacity_gcp, &capacity_command };

static const struct capacity_backend *find(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(backends); i++)
		if (strcmp(backends[i]->name, name) == 0)
			return backends[i];
	return NULL;
}

int cloud_capacity_open(const struct cloud_options *options, struct cloud_capacity **capacity,
			struct error *e)
{
	const struct capacity_backend *b = find(options->provider);
	if (!b)
		return error_set(e, EINVAL, "capacity.provider: there is no \"%s\"",
				 options->provider);
	int r = b->open(options, capacity, e);
	if (r == 0)
		(*capacity)->backend = b;
	return r;
}

void *cloud_capacity_free(struct cloud_capacity *c)
{
	if (c)
		c->backend->free(c);
	return NULL;
}

int cloud_capacity_check_pool(const char *provider, const char *pool, struct error *e)
{
	const struct capacity_backend *b = find(provider);
	return b && b->check_pool ? b->check_pool(pool, e) : 0;
}

int cloud_capacity_describe(struct cloud_capacity *c, const char *pool, struct cloud_pool *state,
			    struct error *e)
{
	*state = (struct cloud_pool) { 0 };
	int r = c->backend->describe(c, pool, state, e);
	if (r < 0)
		cloud_pool_deinit(state);
	return r < 0 ? error_wrap(e, r, "pool %s cannot be looked at", pool) : 0;
}

int cloud_capacity_grow(struct cloud_capacity *c, const char *pool,
			const struct cloud_growth *growth, struct error *e)
{
	int r = c->backend->grow(c, pool, growth, e);
	return r < 0 ? error_wrap(e, r, "pool %s gives no machine", pool) : 0;
}

int cloud_capacity_lower(struct cloud_capacity *c, const char *pool, int64_t desired,
			 struct error *e)
{
	int r = c->backend->lower ? c->backend->lower(c, pool, desired, e)
				  : error_set(e, ENOTSUP, "it cannot be");
	return r < 0 ? error_wrap(e, r, "pool %s cannot be lowered", pool) : 0;
}

int cloud_capacity_shrink(struct cloud_capacity *c, const char *pool,
			  const struct cloud_instance *instance, struct error *e)
{
	int r = c->backend->shrink(c, pool, instance, e);
	return r < 0 ? error_wrap(e, r, "machine %s of pool %s cannot be given back", instance->id,
				  pool)
		     : 0;
}

static void deinit_instance(struct cloud_instance *i)
{
	free(i->id);
	free(i->alias);
	free(i->zone);
	free(i->type);
	free(i->price);
	free(i->refused);
}

void cloud_pool_deinit(struct cloud_pool *pool)
{
	for (size_t i = 0; i < pool->instance_count; i++)
		deinit_instance(&pool->instances[i]);
	free(pool->instances);
	free(pool->refused);
	*pool = (struct cloud_pool) { 0 };
}

struct cloud_instance *cloud_pool_add(struct cloud_pool *pool)
{
	size_t n = pool->instance_count;
	struct cloud_instance *more = reallocarray(pool->instances, n + 1, sizeof(*more));
	if (!more)
		return NULL;
	pool->instances = more;
	pool->instance_count = n + 1;
	more[n] = (struct cloud_instance) { 0 };
	return &more[n];
}

int cloud_copy(char **to, const char *text)
{
	char *copy = text ? strdup(text) : NULL;
	if (text && !copy)
		return -ENOMEM;
	free(*to);
	*to = copy;
	return 0;
}
