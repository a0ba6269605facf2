/* SPDX-License-Identifier: Apache-2.0 */
#include "cloud/capacity_backends.h"
#include "cloud/ec2_query.h"
#include "cloud/ec2_xml.h"

#include <errno.h>
#include <stdio.h>

/* Groups of EC2 Auto Scaling ("Amazon EC2 Auto Scaling API Reference"). The group launches by
 * itself, and goes on trying where there is no capacity: what it says of that is in its scaling
 * activities. */

static const struct ec2_service service = { "autoscaling", "2011-01-01" };

static int autoscaling_open(const struct cloud_options *options, struct cloud_capacity **capacity,
			    struct error *e)
{
	return ec2_capacity_open(&service, options, capacity, e);
}

static int64_t present(const struct cloud_pool *state)
{
	int64_t n = 0;
	for (size_t i = 0; i < state->instance_count; i++)
		n += state->instances[i].state != CLOUD_ENDING;
	return n;
}

/* Why the group launches nothing. Whoever may not ask is told by time alone: no error. */
static int ask_activities(struct cloud_capacity *c, const char *pool, struct cloud_pool *state)
{
	const struct sigv4_pair what[] = { { "AutoScalingGroupName", pool },
					   { "MaxRecords", "10" },
					   { 0 } };
	struct cloud_call x = { .action = "autoscaling:DescribeScalingActivities", .pool = pool };
	int r = ec2_capacity_call(c, &x, what, NULL);
	if (r == 0)
		r = ec2_read_activities(buf_text(&x.answer), x.answer.len, state);
	cloud_call_deinit(&x);
	return r == -ENOMEM ? r : 0;
}

static int autoscaling_describe(struct cloud_capacity *c, const char *pool,
				struct cloud_pool *state, struct error *e)
{
	const struct sigv4_pair what[] = { { "AutoScalingGroupNames.member.1", pool }, { 0 } };
	struct cloud_call x = { .action = "autoscaling:DescribeAutoScalingGroups", .pool = pool };
	int r = ec2_capacity_call(c, &x, what, e);
	if (r == 0) {
		r = ec2_read_group(buf_text(&x.answer), x.answer.len, state);
		if (r == -ENOENT) {
			error_fault(e, FAULT_NOT_FOUND, "Amazon knows no group of that name");
			error_remedy(e, r, "correct capacity.pools or capacity.region");
		} else if (r < 0) {
			error_set(e, -r, "the description of the group cannot be read");
		}
	}
	cloud_call_deinit(&x);
	return r == 0 && present(state) < state->desired ? ask_activities(c, pool, state) : r;
}

static int set_desired(struct cloud_capacity *c, const char *pool, int64_t desired, struct error *e)
{
	char number[24];
	snprintf(number, sizeof(number), "%lld", (long long)desired);
	const struct sigv4_pair what[] = { { "AutoScalingGroupName", pool },
					   { "DesiredCapacity", number },
					   { "HonorCooldown", "false" },
					   { 0 } };
	struct cloud_call x = { .action = "autoscaling:SetDesiredCapacity", .pool = pool };
	int r = ec2_capacity_call(c, &x, what, e);
	cloud_call_deinit(&x);
	return r;
}

static int autoscaling_grow(struct cloud_capacity *c, const char *pool,
			    const struct cloud_growth *growth, struct error *e)
{
	return set_desired(c, pool, growth->desired, e);
}

static int autoscaling_shrink(struct cloud_capacity *c, const char *pool,
			      const struct cloud_instance *instance, struct error *e)
{
	const struct sigv4_pair what[] = { { "InstanceId", instance->id },
					   { "ShouldDecrementDesiredCapacity", "true" },
					   { 0 } };
	/* Twice, it might lower the number twice. */
	struct cloud_call x = { .action = "autoscaling:TerminateInstanceInAutoScalingGroup",
				.pool = pool,
				.once = true };
	return ec2_capacity_end(c, &x, what, e);
}

const struct capacity_backend capacity_autoscaling = {
	.name = "autoscaling",
	.open = autoscaling_open,
	.free = ec2_capacity_free,
	.describe = autoscaling_describe,
	.grow = autoscaling_grow,
	.lower = set_desired,
	.shrink = autoscaling_shrink,
};
