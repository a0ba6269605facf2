/* SPDX-License-Identifier: Apache-2.0 */
#include "base/cleanup.h"
#include "sim/rng.h"
#include "sim/use.h"
#include "sim/world_private.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/sim_kit.h"

#define MINUTE ((int64_t)60000)
#define HOUR   (60 * MINUTE)
#define DAY    (24 * HOUR)
#define MIB    ((int64_t)1 << 20)
#define GIB    ((int64_t)1 << 30)

/* --- what was used ------------------------------------------------------------------------------
 */

enum { SAMPLES = 100000 };

/* The same counted minute by minute. */
static struct size_use counted(const int64_t *minutes, size_t count, int64_t window_ms)
{
	static struct size_sample samples[SAMPLES];
	size_t n = 0;
	wall_ms now = BEGIN + (wall_ms)count * MINUTE;
	for (size_t i = 0; i < count; i++) {
		wall_ms at = BEGIN + (wall_ms)i * MINUTE;
		if (at / HOUR < (now - window_ms) / HOUR || !minutes[i])
			continue;
		samples[n++] = (struct size_sample) { .awake_ms = MINUTE,
						      .p95_bytes = minutes[i],
						      .peak_bytes = minutes[i] };
	}
	return size_use_of(samples, n);
}

/* However long the stretches are in which it is told: all is there, and the percentile lies where
 * that of the minutes does, but for hours being rolled up. */
static void test_use(void **state)
{
	static int64_t minutes[5 * 24 * 60];
	static struct size_sample samples[SAMPLES];
	(void)state;
	for (uint64_t seed = 0; seed < 20; seed++) {
		struct rng rng = rng_stream(seed, 1);
		struct use use = { 0 };
		size_t count = 1 + rng_next(&rng) % ARRAY_SIZE(minutes);
		int64_t window = DAY + (int64_t)(rng_next(&rng) % 5) * DAY;
		for (size_t i = 0; i < count;) {
			size_t length = 1 + rng_next(&rng) % (seed % 2 ? 3 : 700);
			int64_t bytes = (int64_t)(rng_next(&rng) % 4) * GIB;
			for (size_t k = i; k < i + length && k < count; k++)
				minutes[k] = bytes;
			length = i + length < count ? length : count - i;
			wall_ms from = BEGIN + (wall_ms)i * MINUTE;
			i += length;
			if (bytes)
				assert_int_equal(use_add(&use, from, BEGIN + (wall_ms)i * MINUTE,
							 bytes, window),
						 0);
			assert_true(use.size <= 4 * (size_t)(window / HOUR + 2));
			assert_true(use.piece_count <= 120);
		}
		wall_ms now = BEGIN + (wall_ms)count * MINUTE;
		assert_true(use_most(&use) <= SAMPLES);
		size_t n = use_samples(&use, now - window, samples);
		const struct size_use found = size_use_of(samples, n);
		const struct size_use real = counted(minutes, count, window);
		assert_int_equal(found.observed_ms, real.observed_ms);
		assert_int_equal(found.peak_bytes, real.peak_bytes);
		assert_true(found.p95_bytes <= real.peak_bytes);
		use_deinit(&use);
	}
}

/* Many a second, for days, take no more room than one a minute. */
static void test_use_is_bounded(void **state)
{
	struct use use = { 0 };
	struct size_sample samples[1000];
	(void)state;
	for (int64_t at = 0; at < 3 * DAY; at += 777)
		assert_int_equal(
			use_add(&use, BEGIN + at, BEGIN + at + 777, GIB + at % 1000 * MIB, DAY), 0);
	assert_true(use_most(&use) <= 24 + 2 + 120);
	size_t n = use_samples(&use, BEGIN + 2 * DAY, samples);
	const struct size_use found = size_use_of(samples, n);
	assert_true(llabs(found.observed_ms - DAY) < HOUR + 1000);
	assert_true(found.peak_bytes > GIB + 990 * MIB && found.p95_bytes < found.peak_bytes);
	use_deinit(&use);
}

/* --- one session --------------------------------------------------------------------------------
 */

static const struct size_class classes[] = { { "small", 1 * GIB, 1, 1 },
					     { "medium", 4 * GIB, 2, 4 },
					     { "large", 16 * GIB, 4, 16 } };

static struct sim_setup setup;

static struct world *new_world(enum strategy_id id, enum sim_running running, int64_t limit,
			       int64_t most)
{
	struct error e = ERROR_INIT;
	sim_setup_init(&setup);
	assert_int_equal(prices_parse(prices_default, &setup.prices, &e), 0);
	setup.sizes = (struct sim_sizes) {
		.classes = classes,
		.count = ARRAY_SIZE(classes),
		.rules = size_defaults,
		.window_ms = 7 * DAY,
		.running = running,
		.memory_bytes = limit,
		.rescue = rescue_defaults,
	};
	setup.sizes.rescue.most_bytes = most;
	assert_int_equal(sim_setup_ways(&setup), STRATEGY_MOST);
	struct world *w = world_new(&setup, id, &e);
	assert_non_null(w);
	return w;
}

static void open(struct world *w, int64_t at, int64_t bytes)
{
	take(w, (struct trace_record) { .kind = TRACE_OPEN, .at = at, .memory_bytes = bytes });
}

static void work(struct world *w, int64_t at, int64_t ms, int64_t bytes)
{
	take(w, (struct trace_record) {
			.kind = TRACE_BUSY, .at = at, .duration_ms = ms, .memory_bytes = bytes });
}

static struct size_counts end(struct world *w, int64_t at)
{
	take(w, (struct trace_record) { .kind = TRACE_END, .at = at });
	return world_result(w)->sizes;
}

static int64_t limit_of(const struct world *w)
{
	return w->sizes->list[0].limit_bytes;
}

/* Of 16 GiB it uses half a one: it wakes smaller, and not before. */
static void test_smaller_at_the_next_wake(void **state)
{
	(void)state;
	for (int one = 0; one < 2; one++) {
		struct world *w = new_world(one ? STRATEGY_ONE_SIZE : STRATEGY_ELSA,
					    SIM_RUNNING_KEEP, 16 * GIB, 0);
		open(w, HOUR, GIB / 2);
		work(w, HOUR + 1, 5 * HOUR, 0);
		work(w, 5 * HOUR, MINUTE, 0);
		assert_int_equal(limit_of(w), 16 * GIB);
		open(w, 30 * HOUR, 0);
		assert_int_equal(limit_of(w), one ? 16 * GIB : GIB);
		const struct size_counts c = end(w, 30 * HOUR + MINUTE);
		assert_int_equal(c.smaller, !one);
		assert_int_equal(c.larger + c.raised + c.lowered, 0);
		assert_true(c.promised_gib_hours > 8 * c.gib_hours);
		world_free(w);
	}
}

static void test_smaller_as_it_runs(void **state)
{
	(void)state;
	struct world *w = new_world(STRATEGY_ELSA, SIM_RUNNING_LOWER, 16 * GIB, 0);
	open(w, HOUR, GIB / 2);
	work(w, HOUR + 1, 5 * HOUR, 0);
	work(w, 3 * HOUR - MINUTE, MINUTE, 0); /* not seen for long enough */
	assert_int_equal(limit_of(w), 16 * GIB);
	work(w, 3 * HOUR + 2 * MINUTE, MINUTE, 0);
	assert_int_equal(limit_of(w), GIB);
	const struct size_counts c = end(w, 4 * HOUR);
	assert_int_equal(c.smaller, 1);
	assert_int_equal(c.lowered, 1);
	world_free(w);
}

/* It grows by itself as far as it may; then what is beyond it ends, and it wakes larger. */
static void test_growth(void **state)
{
	(void)state;
	for (int helped = 0; helped < 2; helped++) {
		struct world *w =
			new_world(STRATEGY_ELSA, SIM_RUNNING_KEEP, GIB, helped ? 8 * GIB : 0);
		open(w, HOUR, GIB / 2);
		work(w, HOUR + MINUTE, HOUR, 3 * GIB);
		work(w, HOUR + 2 * MINUTE, MINUTE, 0);
		assert_int_equal(w->sessions[0].memory_bytes, helped ? 3 * GIB : GIB);
		assert_true(limit_of(w) >= (helped ? 3 * GIB : GIB) && limit_of(w) < 6 * GIB);
		open(w, 30 * HOUR, 0);
		assert_int_equal(limit_of(w), helped ? limit_of(w) : 4 * GIB);
		const struct size_counts c = end(w, 30 * HOUR + MINUTE);
		assert_int_equal(c.out_of_memory, !helped);
		assert_int_equal(c.raised > 0, helped);
		assert_int_equal(c.larger, !helped);
		world_free(w);
	}
}

/* Its machine is full: it goes on, larger, on another one. */
static void test_growth_elsewhere(void **state)
{
	(void)state;
	struct world *w = new_world(STRATEGY_ELSA, SIM_RUNNING_KEEP, 10 * GIB, 24 * GIB);
	setup.capacity.spare_bytes = setup.spare_session_bytes = 0;
	for (uint32_t i = 0; i < 6; i++)
		take(w,
		     (struct trace_record) {
			     .kind = TRACE_OPEN, .session = i, .at = HOUR, .memory_bytes = GIB });
	for (uint32_t i = 0; i < 6; i++)
		take(w, (struct trace_record) { .kind = TRACE_BUSY,
						.session = i,
						.at = HOUR + 5 * MINUTE,
						.duration_ms = HOUR,
						.memory_bytes = i == 0 ? 15 * GIB : 0 });
	open(w, 2 * HOUR, 0);
	const struct sim_session *s = &w->sessions[0];
	assert_int_equal(s->memory_bytes, 15 * GIB);
	assert_true(limit_of(w) >= 15 * GIB && limit_of(w) <= 24 * GIB);
	assert_true(s->runs);
	const struct size_counts c = end(w, 2 * HOUR + MINUTE);
	assert_true(c.rescue_moved + c.rescue_slept > 0);
	assert_int_equal(c.out_of_memory, 0);
	assert_int_equal(world_result(w)->sessions_lost, 0);
	world_free(w);
}

/* Who is started anew begins with what was used before. */
static void test_started_afresh(void **state)
{
	(void)state;
	struct world *w = new_world(STRATEGY_ELSA, SIM_RUNNING_KEEP, 16 * GIB, 0);
	open(w, HOUR, GIB / 2);
	work(w, HOUR + 1, 5 * HOUR, 0);
	take(w, (struct trace_record) { .kind = TRACE_STOP, .at = 6 * HOUR });
	open(w, 7 * HOUR, 0);
	assert_int_equal(limit_of(w), GIB);
	/* Weeks later nothing of that counts any more. */
	take(w, (struct trace_record) { .kind = TRACE_STOP, .at = 8 * HOUR });
	open(w, 20 * DAY, 0);
	assert_int_equal(limit_of(w), 16 * GIB);
	assert_int_equal(end(w, 20 * DAY + HOUR).smaller, 0);
	world_free(w);
}

/* Where there is no limit at first it counts for what it holds, and gets one when it is known. */
static void test_no_limit_at_first(void **state)
{
	(void)state;
	struct world *w = new_world(STRATEGY_ELSA, SIM_RUNNING_KEEP, 0, 0);
	open(w, HOUR, GIB / 2);
	assert_int_equal(session_room(w, &w->sessions[0]), GIB / 2);
	work(w, HOUR + 1, 5 * HOUR, 0);
	open(w, 30 * HOUR, 0);
	assert_int_equal(session_room(w, &w->sessions[0]), GIB);
	assert_int_equal(end(w, 31 * HOUR).smaller, 1);
	world_free(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_use),
		cmocka_unit_test(test_use_is_bounded),
		cmocka_unit_test(test_smaller_at_the_next_wake),
		cmocka_unit_test(test_smaller_as_it_runs),
		cmocka_unit_test(test_growth),
		cmocka_unit_test(test_growth_elsewhere),
		cmocka_unit_test(test_started_afresh),
		cmocka_unit_test(test_no_limit_at_first),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
