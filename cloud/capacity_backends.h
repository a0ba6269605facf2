/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_CLOUD_CAPACITY_BACKENDS_H
#define ELSA_CLOUD_CAPACITY_BACKENDS_H

/* Who gives machines, for cloud/capacity*.c alone. */

#include "cloud/capacity.h"

struct capacity_backend {
	const char *name;
	int (*open)(const struct cloud_options *options, struct cloud_capacity **capacity,
		    struct error *e);
	void (*free)(struct cloud_capacity *c);
	int (*check_pool)(const char *pool, struct error *e); /* NULL: any name will do */
	int (*describe)(struct cloud_capacity *c, const char *pool, struct cloud_pool *state,
			struct error *e);
	int (*grow)(struct cloud_capacity *c, const char *pool, const struct cloud_growth *growth,
		    struct error *e);
	int (*lower)(struct cloud_capacity *c, const char *pool, int64_t desired,
		     struct error *e); /* NULL: never said that it can */
	int (*shrink)(struct cloud_capacity *c, const char *pool,
		      const struct cloud_instance *instance, struct error *e);
};

struct cloud_capacity {
	const struct capacity_backend *backend;
};

extern const struct capacity_backend capacity_autoscaling, capacity_fleet, capacity_gcp,
	capacity_command;

/* A new one at the end of the pool's, all empty; NULL when out of memory. */
struct cloud_instance *cloud_pool_add(struct cloud_pool *pool);

/* Of copies: `text` NULL gives NULL. 0 or -ENOMEM. */
int cloud_copy(char **to, const char *text);

#endif
