/* SPDX-License-Identifier: Apache-2.0 */
#include "rules/rules.h"

#define PROTECT_RETRY_MOST_MS (5 * 60 * 1000)

static int64_t least(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

struct protect_rules rules_protect(const struct config *config)
{
	return (struct protect_rules) {
		.rpo_ms = config->spot.rpo_ms,
		.share = config->spot.bandwidth_share,
		.retry_ms = least(config->spot.rpo_ms, PROTECT_RETRY_MOST_MS),
		.most_at_once = 1,
	};
}

struct capacity_rules rules_capacity(const struct config *config)
{
	return (struct capacity_rules) {
		.min = config->capacity.min,
		.max = config->capacity.max,
		.spare_bytes = config->capacity.spare_bytes,
		.cooldown_ms = config->capacity.cooldown_ms,
		.start_timeout_ms = config->capacity.start_timeout_ms,
		.empty_for_ms = config->capacity.empty_for_ms,
		.settle_ms = 15000,
		.grow_interval_ms = least(config->capacity.start_timeout_ms / 60, 5000),
		.shrink_interval_ms = least(config->capacity.empty_for_ms / 20, 30000),
	};
}

struct consolidate_rules rules_consolidate(const struct config *config)
{
	return (struct consolidate_rules) {
		.steady_ms = config->consolidation.steady_ms,
		.calm_ms = config->consolidation.calm_ms,
		.patience_ms = config->consolidation.give_up_ms,
		.moves_per_hour = config->consolidation.moves_per_hour,
		.session_rest_ms = config->consolidation.rest_ms,
		.at_once = config->consolidation.moves_at_once,
		.min = config->capacity.min,
		.spare_bytes = config->capacity.spare_bytes,
		.fill = config->consolidation.fill,
	};
}

struct size_rules rules_size(const struct config *config)
{
	struct size_rules rules = size_defaults;
	rules.headroom = config->size.headroom;
	rules.slack = config->size.slack;
	rules.observed_ms = config->size.observed_ms;
	rules.settle_ms = config->size.settle_ms;
	return rules;
}

struct size_move_rules rules_size_move(const struct config *config)
{
	return (struct size_move_rules) {
		.stall_hour = config->size.stall_hour,
		.worth = SIZE_MOVE_WORTH,
		.expected_ms = config->size.expected_ms,
		.moves_per_hour = config->consolidation.moves_per_hour,
		.rest_ms = config->consolidation.rest_ms,
	};
}
