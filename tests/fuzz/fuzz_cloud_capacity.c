/* SPDX-License-Identifier: Apache-2.0 */
/* Answers of those who give machines: whatever they are, a pool that was read has names and bounds.
 */
#include "cloud/capacity_command.h"
#include "cloud/ec2_xml.h"
#include "cloud/gcp_json.h"
#include "tests/fuzz/fuzz.h"

#include <string.h>

static void check(struct cloud_pool *pool, int r)
{
	for (size_t i = 0; r == 0 && i < pool->instance_count; i++)
		FUZZ_CHECK(pool->instances[i].id &&
			   pool->instances[i].state < CLOUD_INSTANCE_STATE_COUNT);
	cloud_pool_deinit(pool);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *text = (const char *)data;
	struct cloud_pool pool = { 0 };
	struct cloud_refusal refusal;
	struct ec2_fleet fleet;
	struct gcp_operation operation;
	char next[2048];
	int r = ec2_read_group(text, size, &pool);
	FUZZ_CHECK(r != 0 || pool.desired >= 0);
	check(&pool, r);
	check(&pool, ec2_read_activities(text, size, &pool));
	check(&pool, ec2_read_instances(text, size, &pool, next));
	FUZZ_CHECK(memchr(next, 0, sizeof(next)));
	ec2_read_fleet(text, size, &fleet);
	ec2_read_refusal(text, size, &refusal);
	FUZZ_CHECK(memchr(refusal.code, 0, sizeof(refusal.code)));
	gcp_read_refusal(text, size, &refusal);
	r = gcp_read_group(text, size, &pool);
	FUZZ_CHECK(r != 0 || pool.desired >= 0);
	check(&pool, r);
	check(&pool, gcp_read_instances(text, size, &pool, next));
	gcp_read_operation(text, size, &operation);
	r = command_read_pool(text, size, &pool, NULL);
	FUZZ_CHECK(r != 0 || pool.desired >= 0);
	check(&pool, r);
	return 0;
}
