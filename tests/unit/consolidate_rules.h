/* SPDX-License-Identifier: Apache-2.0 */
/* The rules and the time of test_policies_consolidate*.c. */
#include "base/cleanup.h"
#include "policies/consolidate.h"

#define NOW  ((wall_ms)1700000000000)
#define HOUR ((int64_t)3600 * 1000)

static const struct consolidate_rules rules = { .steady_ms = 600000,
						.calm_ms = 1800000,
						.patience_ms = 1800000,
						.moves_per_hour = 4,
						.session_rest_ms = HOUR,
						.at_once = 1,
						.fill = 0.75 };
