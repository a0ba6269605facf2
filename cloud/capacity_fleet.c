/* SPDX-License-Identifier: Apache-2.0 */
#include "cloud/capacity_backends.h"
#include "cloud/ec2_query.h"
#include "cloud/ec2_xml.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/*
 * EC2 fleets of type instant, made from a launch template ("Amazon EC2 API
 * Reference", CreateFleet). Such a fleet launches once and is no more; what it
 * launched bears our tag, and that is the pool. A pool is called
 * "TEMPLATE:VERSION" or "TEMPLATE:VERSION:on-demand"; without that word its
 * machines are spot.
 */

#define TAG       "elsa:pool"
#define ON_DEMAND "on-demand"
enum { NAME_MOST = 160, PAGES_MOST = 100 };

static const struct ec2_service service = { "ec2", "2016-11-15" };

struct pool_name {
	char template[NAME_MOST], version[NAME_MOST];
	const char *price;
};

static int split_name(const char *pool, struct pool_name *n, struct error *e)
{
	size_t at = strcspn(pool, ":");
	const char *version = pool[at] ? pool + at + 1 : "";
	size_t len = strcspn(version, ":");
	const char *price = version[len] ? version + len + 1 : "spot";
	bool good = at && len && at < NAME_MOST && len < NAME_MOST &&
		    (strcmp(price, "spot") == 0 || strcmp(price, ON_DEMAND) == 0);
	*n = (struct pool_name) { .price = price };
	if (!good) {
		int r = error_set(e, EINVAL, "\"%s\" is no pool of provider fleet", pool);
		return error_remedy(e, r,
				    "write TEMPLATE:VERSION, or TEMPLATE:VERSION:on-demand, into "
				    "capacity.pools");
	}
	snprintf(n->template, sizeof(n->template), "%.*s", (int)at, pool);
	snprintf(n->version, sizeof(n->version), "%.*s", (int)len, version);
	return 0;
}

static int fleet_check_pool(const char *pool, struct error *e)
{
	struct pool_name name;
	return split_name(pool, &name, e);
}

static int fleet_open(const struct cloud_options *options, struct cloud_capacity **capacity,
		      struct error *e)
{
	return ec2_capacity_open(&service, options, capacity, e);
}

static int describe_page(struct cloud_capacity *c, const char *pool, struct cloud_pool *state,
			 char next[2048], struct error *e)
{
	const struct sigv4_pair what[] = { { "Filter.1.Name", "tag:" TAG },
					   { "Filter.1.Value.1", pool },
					   { "Filter.2.Name", "instance-state-name" },
					   { "Filter.2.Value.1", "pending" },
					   { "Filter.2.Value.2", "running" },
					   { "Filter.2.Value.3", "shutting-down" },
					   { *next ? "NextToken" : NULL, next },
					   { 0 } };
	struct cloud_call x = { .action = "ec2:DescribeInstances", .pool = pool };
	int r = ec2_capacity_call(c, &x, what, e);
	if (r == 0) {
		r = ec2_read_instances(buf_text(&x.answer), x.answer.len, state, next);
		if (r < 0)
			error_set(e, -r, "the list of instances cannot be read");
	}
	cloud_call_deinit(&x);
	return r;
}

static int fleet_describe(struct cloud_capacity *c, const char *pool, struct cloud_pool *state,
			  struct error *e)
{
	struct pool_name name;
	char next[2048] = "";
	int r = split_name(pool, &name, e);
	for (int page = 0; r == 0 && (page == 0 || *next); page++)
		r = page == PAGES_MOST ? error_set(e, E2BIG, "the list of instances has no end")
				       : describe_page(c, pool, state, next, e);
	for (size_t i = 0; r == 0 && i < state->instance_count; i++) {
		state->desired += state->instances[i].state != CLOUD_ENDING;
		/* Only what is not on-demand is named. */
		if (!state->instances[i].price)
			r = cloud_copy(&state->instances[i].price, ON_DEMAND);
	}
	return r;
}

static int create(struct cloud_capacity *c, const char *pool, const struct pool_name *name,
		  const struct cloud_growth *growth, struct cloud_call *x, struct error *e)
{
	bool by_id = strncmp(name->template, "lt-", 3) == 0;
	char number[24];
	snprintf(number, sizeof(number), "%lld", (long long)growth->more);
#define CONFIG "LaunchTemplateConfigs.1.LaunchTemplateSpecification."
#define TARGET "TargetCapacitySpecification."
	const struct sigv4_pair what[] = {
		{ "Type", "instant" },
		{ "ClientToken", growth->token },
		{ by_id ? CONFIG "LaunchTemplateId" : CONFIG "LaunchTemplateName", name->template },
		{ CONFIG "Version", name->version },
		{ TARGET "TotalTargetCapacity", number },
		{ TARGET "DefaultTargetCapacityType", name->price },
		{ "TagSpecification.1.ResourceType", "instance" },
		{ "TagSpecification.1.Tag.1.Key", TAG },
		{ "TagSpecification.1.Tag.1.Value", pool },
		{ strcmp(name->price, "spot") == 0 ? "SpotOptions.AllocationStrategy" : NULL,
		  "price-capacity-optimized" },
		{ 0 }
	};
	x->action = "ec2:CreateFleet";
	x->pool = pool;
	return ec2_capacity_call(c, x, what, e);
}

/* Fewer than asked for is fine: the rest is asked for again, of this pool or the next. */
static int fleet_grow(struct cloud_capacity *c, const char *pool, const struct cloud_growth *growth,
		      struct error *e)
{
	struct pool_name name;
	struct cloud_call x = { 0 };
	struct ec2_fleet fleet = { 0 };
	int r = split_name(pool, &name, e);
	if (r == 0)
		r = create(c, pool, &name, growth, &x, e);
	/* The same token with another number: it was carried out before. */
	if (r < 0 && strcmp(x.refusal.code, "IdempotentParameterMismatch") == 0) {
		error_clear(e);
		r = 0;
	} else if (r == 0) {
		r = ec2_read_fleet(buf_text(&x.answer), x.answer.len, &fleet);
		if (r < 0)
			error_set(e, -r, "what became of the fleet cannot be read");
		else if (!fleet.launched && fleet.refusal.code[0])
			r = cloud_refuse(ec2_capacity_api(c), &x, &fleet.refusal, e);
		else if (!fleet.launched)
			r = error_fault(e, FAULT_FULL, "the fleet launched nothing");
	}
	cloud_call_deinit(&x);
	return r;
}

static int fleet_shrink(struct cloud_capacity *c, const char *pool,
			const struct cloud_instance *instance, struct error *e)
{
	const struct sigv4_pair what[] = { { "InstanceId.1", instance->id }, { 0 } };
	struct cloud_call x = { .action = "ec2:TerminateInstances", .pool = pool };
	return ec2_capacity_end(c, &x, what, e);
}

const struct capacity_backend capacity_fleet = {
	.name = "fleet",
	.open = fleet_open,
	.free = ec2_capacity_free,
	.check_pool = fleet_check_pool,
	.describe = fleet_describe,
	.grow = fleet_grow,
	.shrink = fleet_shrink,
};
