/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/strategy.h"

#include "base/cleanup.h"

#include <string.h>

#define MINUTE ((int64_t)60 * 1000)
#define MIB    ((int64_t)1 << 20)
#define GIB    1073741824.0

/* A JupyterHub server that is started anew, until it answers: an assumption, between 2 s on an idle
 * host and 15 s and more in a container. */
#define START_MS 10000

static const struct strategy strategies[STRATEGY_MOST] = {
	[STRATEGY_ALWAYS_ON] = { .name = "always-on",
				 .text = "on demand; who has come once stays",
				 .times = { .start_ms = START_MS } },
	[STRATEGY_CULL] = { .name = "cull",
			    .text = "on demand; the idle are killed",
			    .idle = IDLE_ACTION_KILL,
			    .times = { .start_ms = START_MS } },
	[STRATEGY_CULL_SPOT] = { .name = "cull-spot",
				 .text = "spot; the idle are killed",
				 .spot = true,
				 .idle = IDLE_ACTION_KILL,
				 .times = { .start_ms = START_MS } },
	[STRATEGY_PROTOTYPE] = { .name = "prototype",
				 .text = "spot; whole images, 10 s a step, one after the other",
				 .spot = true,
				 .idle = IDLE_ACTION_HIBERNATE,
				 .evacuates = true,
				 .times = { .start_ms = START_MS,
					    .wake_ms = 10000,
					    .first_ms = 10000,
					    .again_ms = 10000,
					    .stored_share = 0.41, /* bytes_typical_1gib, theirs */
					    .changed_share = 0,   /* only the newest is kept */
					    .at_once = 1 } },
	/* From docs/performance.md: wake_1gib_s3_20ms, wake_8gib against 1 GiB,
	 * frozen_typical_1gib, second_1gib, bytes_typical_1gib. A wake is from afar: it is hardly
	 * ever on the machine where the session slept in. */
	[STRATEGY_ELSA] = { .name = "elsa",
			    .text = "spot; hibernated, snapshotted, evacuated",
			    .spot = true,
			    .idle = IDLE_ACTION_HIBERNATE,
			    .unseen = true,
			    .evacuates = true,
			    .moves = true,
			    .protects = true,
			    .limits = true,
			    .times = { .start_ms = START_MS,
				       .wake_ms = 374,
				       .wake_gib_ms = 6,
				       .first_ms = 100,
				       .first_gib_ms = 1420,
				       .again_ms = 100,
				       .again_gib_ms = 400,
				       .stored_share = 0.35,
				       .changed_share = 0.05, /* an assumption */
				       .at_once = 4,
				       .move_gib_ms = 8000 /* an assumption: 1 Gbit/s */ } },
};

void sim_setup_init(struct sim_setup *setup)
{
	*setup = (struct sim_setup) {
		.seed = 1,
		.idle = { .name = "default",
			  .admins = -1,
			  .timeout_ms = 60 * MINUTE,
			  .min_uptime_ms = 2 * MINUTE,
			  .stuck_busy_ms = 12 * 60 * MINUTE,
			  .refused_retry_ms = 30 * MINUTE,
			  .transparent = true,
			  .stop_after_ms = 24 * 60 * MINUTE },
		.idle_concurrency = 2,
		.protect = { .rpo_ms = 5 * MINUTE,
			     .share = 0.25,
			     .retry_ms = MINUTE,
			     .most_at_once = 1 },
		.capacity = { .max = 100000,
			      .cooldown_ms = 2 * MINUTE,
			      .start_timeout_ms = 5 * MINUTE,
			      .empty_for_ms = 10 * MINUTE,
			      .settle_ms = 15000,
			      .grow_interval_ms = 5000,
			      .shrink_interval_ms = 30000,
			      .spare_bytes = 4096 * MIB },
		.spare_session_bytes = 13 * MIB / 2,
		.consolidate = { .steady_ms = 10 * MINUTE,
				 .calm_ms = 30 * MINUTE,
				 .patience_ms = 30 * MINUTE,
				 .moves_per_hour = 20,
				 .session_rest_ms = 60 * MINUTE,
				 .at_once = 1,
				 .fill = 0.85 },
		.reserve_bytes = 512 * MIB,
		.lease_ms = 30000,
		.margin_ms = 5000,
		.workers = 4,
	};
	memcpy(setup->strategies, strategies, sizeof(strategies));
	sim_setup_one_size(setup);
}

size_t sim_setup_ways(const struct sim_setup *setup)
{
	return setup->sizes.count ? STRATEGY_MOST : STRATEGY_COUNT;
}

void sim_setup_one_size(struct sim_setup *setup)
{
	struct strategy *way = &setup->strategies[STRATEGY_ONE_SIZE];
	*way = setup->strategies[STRATEGY_ELSA];
	way->name = "one-size";
	way->text = "as elsa, each with the limit that it began with";
	way->one_size = true;
}

static int64_t ms_of(double seconds)
{
	return seconds > 0 && seconds < 3600 ? (int64_t)(seconds * 1000 + 0.5) : 0;
}

/* A measured time is for 1 GiB. */
static void set_1gib(int64_t *fixed, const int64_t *by_gib, double seconds)
{
	int64_t left = ms_of(seconds) - *by_gib;
	*fixed = left > 0 ? left : 0;
}

static void set_by_gib(const int64_t *fixed, int64_t *by_gib, double seconds)
{
	int64_t left = ms_of(seconds) - *fixed;
	*by_gib = left > 0 ? left : 0;
}

bool sim_setup_bench(struct sim_setup *setup, const char *name, double value)
{
	struct step_times *t = &setup->strategies[STRATEGY_ELSA].times;
	static const char *const names[] = { "store.wake_1gib_s3_20ms", "store.frozen_typical_1gib",
					     "store.second_1gib", "store.bytes_typical_1gib" };
	size_t i = 0;
	while (i < ARRAY_SIZE(names) && strcmp(names[i], name) != 0)
		i++;
	if (!(value > 0))
		return false;
	switch (i) {
	case 0:
		set_1gib(&t->wake_ms, &t->wake_gib_ms, value);
		return true;
	case 1:
		set_by_gib(&t->first_ms, &t->first_gib_ms, value);
		return true;
	case 2:
		set_by_gib(&t->again_ms, &t->again_gib_ms, value);
		return true;
	case 3:
		t->stored_share = value / GIB;
		return true;
	default:
		return false;
	}
}
