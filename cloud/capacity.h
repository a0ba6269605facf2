/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_CLOUD_CAPACITY_H
#define ELSA_CLOUD_CAPACITY_H

/*
 * Machines from whoever gives them, in pools: groups of EC2 Auto Scaling, EC2
 * fleets made from a launch template, managed instance groups of Google's, a
 * command. What is asked and when is policies/capacity.h's.
 *
 * Everything blocks, up to a minute when a server is slow or throttles; it is
 * meant for one worker thread, and not thread-safe on one object.
 *
 * What errors mean, by their fault: FAULT_FULL, the pool has nothing to give
 * now, or may not grow (ask another one); FAULT_UNAVAILABLE and FAULT_TIMEOUT,
 * try again; FAULT_DENIED, FAULT_NOT_FOUND, FAULT_BAD_INPUT, an operator has
 * something to do, and the remedy says what.
 */

#include "base/clock.h"
#include "base/error.h"

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct cloud_options {
	const char *provider;       /* "autoscaling", "fleet", "gcp", "command" */
	const char *region;         /* of EC2; NULL or "": as the environment or the machine says */
	const char *endpoint;       /* of the API; NULL or "": the cloud's own */
	const char *const *command; /* NULL-terminated */
	const atomic_bool *stop;    /* set by another thread: do not try again. May be NULL */
	volatile pid_t *child;      /* told of the command that runs, 0 when none. May be NULL */
};

enum cloud_instance_state {
	CLOUD_PENDING = 0, /* being made */
	CLOUD_RUNNING,
	CLOUD_ENDING, /* not to be counted on */
	CLOUD_INSTANCE_STATE_COUNT
};
extern const char *const cloud_instance_state_names[CLOUD_INSTANCE_STATE_COUNT];

struct cloud_instance { /* strings are owned, and may be NULL but for `id` */
	char *id;       /* what the cloud calls it; what cloud_capacity_shrink() takes */
	char *alias;    /* another name of it: node_info.instance is one of the two */
	char *zone, *type;
	char *price;   /* "spot", "on-demand" */
	char *refused; /* why it cannot be made */
	enum cloud_instance_state state;
	wall_ms launched_at; /* 0: not said */
};

struct cloud_pool {
	int64_t desired;    /* machines it is set to have */
	int64_t most;       /* it cannot grow beyond; 0: not said */
	bool can_lower;     /* lowering `desired` to what is there ends none of its machines */
	char *refused;      /* why the last try to make a machine failed; NULL: it did not */
	wall_ms refused_at; /* 0: not said */
	struct cloud_instance *instances;
	size_t instance_count;
};

void cloud_pool_deinit(struct cloud_pool *pool); /* idempotent */

/* What a pool is asked for. Asked again in the same words it is not carried out twice. */
struct cloud_growth {
	int64_t desired;   /* machines in all */
	int64_t more;      /* than there were when this was decided */
	const char *token; /* UUID, another for each decision */
};

struct cloud_capacity;

int cloud_capacity_open(const struct cloud_options *options, struct cloud_capacity **capacity,
			struct error *e);
void *cloud_capacity_free(struct cloud_capacity *capacity); /* returns NULL */

int cloud_capacity_describe(struct cloud_capacity *c, const char *pool, struct cloud_pool *state,
			    struct error *e);
int cloud_capacity_grow(struct cloud_capacity *c, const char *pool,
			const struct cloud_growth *growth, struct error *e);
/* Take back what was asked for and has not come: only where can_lower was said. */
int cloud_capacity_lower(struct cloud_capacity *c, const char *pool, int64_t desired,
			 struct error *e);
/* End this one, and make no other in its place. One that is gone already is fine. */
int cloud_capacity_shrink(struct cloud_capacity *c, const char *pool,
			  const struct cloud_instance *instance, struct error *e);

/* Whether `pool` can be the name of one; says what is wrong with it. */
int cloud_capacity_check_pool(const char *provider, const char *pool, struct error *e);

#endif
