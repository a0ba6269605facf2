/* SPDX-License-Identifier: Apache-2.0 */
#include "base/cleanup.h"
#include "policies/size.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define MIB  (INT64_C(1) << 20)
#define GIB  (INT64_C(1) << 30)
#define HOUR (INT64_C(3600) * 1000)

/* Two for memory, one for processors, which costs more than its memory. */
static const struct size_class classes[] = {
	{ "small", 1 * GIB, 1, 1 },
	{ "medium", 2 * GIB, 2, 2 },
	{ "large", 8 * GIB, 4, 8 },
	{ "quick", 2 * GIB, 8, 6 },
};
enum { SMALL, MEDIUM, LARGE, QUICK, NONE = -1 };

/* --- one decision ------------------------------------------------------------------------- */

#define SEEN(p95, peak)        { 50 * HOUR, (p95) * MIB, (peak) * MIB, 0.1 }
#define LITTLE_SEEN(p95, peak) { HOUR, (p95) * MIB, (peak) * MIB, 0.1 }
#define BUSY(p95, peak, n)     { 50 * HOUR, (p95) * MIB, (peak) * MIB, n }

static const struct {
	const char *name;
	struct size_facts facts;
	enum size_reason reason;
	int to, fits;
	int64_t wait_hours;
} cases[] = {
	{ "no limit, and never seen", { 0, 0, 0, { 0 }, -1, NONE }, SIZE_UNSEEN, NONE, NONE, -1 },
	{ "no limit, and uses little",
	  { 0, 0, 300 * MIB, SEEN(400, 500), -1, NONE },
	  SIZE_CHEAPER,
	  SMALL,
	  SMALL,
	  -1 },
	{ "no limit, and more than all have",
	  { 0, 0, 9 * GIB, SEEN(9000, 9000), -1, NONE },
	  SIZE_FITS,
	  NONE,
	  NONE,
	  -1 },
	{ "uses much less than it has",
	  { 8 * GIB, 4, 300 * MIB, SEEN(400, 500), -1, NONE },
	  SIZE_CHEAPER,
	  SMALL,
	  SMALL,
	  -1 },
	{ "the same, not seen for long",
	  { 8 * GIB, 4, 300 * MIB, LITTLE_SEEN(400, 500), -1, NONE },
	  SIZE_UNSEEN,
	  NONE,
	  NONE,
	  -1 },
	{ "the same, changed lately",
	  { 8 * GIB, 4, 300 * MIB, SEEN(400, 500), 20 * HOUR, NONE },
	  SIZE_SETTLING,
	  NONE,
	  SMALL,
	  4 },
	{ "the same, changed a day ago",
	  { 8 * GIB, 4, 300 * MIB, SEEN(400, 500), 24 * HOUR, NONE },
	  SIZE_CHEAPER,
	  SMALL,
	  SMALL,
	  -1 },
	{ "would do, but without slack",
	  { 2 * GIB, 2, 300 * MIB, SEEN(600, 700), -1, NONE },
	  SIZE_FITS,
	  NONE,
	  SMALL,
	  -1 },
	{ "a peak alone needs it",
	  { 2 * GIB, 2, 300 * MIB, SEEN(300, 900), -1, NONE },
	  SIZE_FITS,
	  NONE,
	  SMALL,
	  -1 },
	{ "what it holds alone needs it",
	  { 2 * GIB, 2, 1000 * MIB, SEEN(300, 300), -1, NONE },
	  SIZE_FITS,
	  NONE,
	  MEDIUM,
	  -1 },
	{ "what it has will do",
	  { GIB, 1, 300 * MIB, SEEN(500, 600), -1, NONE },
	  SIZE_FITS,
	  NONE,
	  SMALL,
	  -1 },
	{ "needs more",
	  { GIB, 1, 300 * MIB, SEEN(800, 900), 0, NONE },
	  SIZE_GROWS,
	  MEDIUM,
	  MEDIUM,
	  -1 },
	{ "needs more at once, seen or not",
	  { GIB, 1, 900 * MIB, { 0 }, 0, NONE },
	  SIZE_GROWS,
	  MEDIUM,
	  NONE,
	  -1 },
	{ "needs more than all have",
	  { GIB, 1, 300 * MIB, SEEN(9000, 9000), -1, NONE },
	  SIZE_LARGEST,
	  LARGE,
	  NONE,
	  -1 },
	{ "has the largest, and needs more",
	  { 8 * GIB, 4, 300 * MIB, SEEN(9000, 9000), -1, NONE },
	  SIZE_LARGEST,
	  NONE,
	  NONE,
	  -1 },
	{ "was given more than any class has, and needs it",
	  { 10 * GIB, 4, 9 * GIB, SEEN(9000, 9000), -1, NONE },
	  SIZE_LARGEST,
	  NONE,
	  NONE,
	  -1 },
	{ "between two classes, and needs what it has",
	  { 1536 * MIB, 1, 300 * MIB, SEEN(800, 900), -1, NONE },
	  SIZE_FITS,
	  NONE,
	  MEDIUM,
	  -1 },
	{ "between two classes, and less will do",
	  { 1536 * MIB, 1, 300 * MIB, SEEN(300, 300), -1, NONE },
	  SIZE_CHEAPER,
	  SMALL,
	  SMALL,
	  -1 },
	{ "uses its processors",
	  { 8 * GIB, 4, 300 * MIB, BUSY(300, 300, 3.5), -1, NONE },
	  SIZE_CHEAPER,
	  QUICK,
	  QUICK,
	  -1 },
	{ "uses one of four",
	  { 8 * GIB, 4, 300 * MIB, BUSY(300, 300, 1.2), -1, NONE },
	  SIZE_CHEAPER,
	  MEDIUM,
	  MEDIUM,
	  -1 },
	{ "short of processors alone",
	  { 1 * GIB, 1, 300 * MIB, BUSY(300, 300, 1), -1, NONE },
	  SIZE_FITS,
	  NONE,
	  SMALL,
	  -1 },
	{ "needs memory, and more processors than a class with it has",
	  { 4 * GIB, 8, 4 * GIB, BUSY(300, 300, 8), -1, NONE },
	  SIZE_GROWS,
	  LARGE,
	  LARGE,
	  -1 },
	{ "chosen larger",
	  { GIB, 1, 300 * MIB, SEEN(300, 300), 0, LARGE },
	  SIZE_CHOSEN,
	  LARGE,
	  SMALL,
	  -1 },
	{ "chosen, and has it",
	  { 8 * GIB, 4, 300 * MIB, SEEN(300, 300), -1, LARGE },
	  SIZE_CHOSEN,
	  NONE,
	  SMALL,
	  -1 },
	{ "chosen smaller than it uses",
	  { 8 * GIB, 4, 300 * MIB, SEEN(4000, 4000), 0, SMALL },
	  SIZE_CHOSEN,
	  SMALL,
	  LARGE,
	  -1 },
	{ "chosen smaller than it holds",
	  { 8 * GIB, 4, 1200 * MIB, SEEN(300, 300), -1, SMALL },
	  SIZE_HOLDS,
	  MEDIUM,
	  MEDIUM,
	  -1 },
	{ "chosen, and it holds more than any class has",
	  { 16 * GIB, 4, 12 * GIB, SEEN(300, 300), -1, SMALL },
	  SIZE_HOLDS,
	  NONE,
	  NONE,
	  -1 },
};

static void test_cases(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct size_decision d =
			size_decide(&size_defaults, classes, ARRAY_SIZE(classes), &cases[i].facts);
		int64_t hours = d.wait_ms < 0 ? -1 : d.wait_ms / HOUR;
		if (d.reason != cases[i].reason || d.to != cases[i].to || d.fits != cases[i].fits ||
		    hours != cases[i].wait_hours)
			fail_msg("%s: %s, to %d, fits %d, in %lld h", cases[i].name,
				 size_reason_name(d.reason), d.to, d.fits, (long long)hours);
	}
}

static void test_no_classes(void **state)
{
	(void)state;
	const struct size_facts facts = { .memory_bytes = GIB, .held_bytes = GIB, .chosen = 0 };
	struct size_decision d = size_decide(&size_defaults, NULL, 0, &facts);
	assert_int_equal(d.reason, SIZE_NO_CLASSES);
	assert_int_equal(d.to, -1);
	assert_int_equal(d.fits, -1);
}

/* --- what it used ------------------------------------------------------------------------- */

static void test_use(void **state)
{
	(void)state;
	struct size_sample samples[100];
	for (int i = 0; i < 100; i++)
		samples[i] = (struct size_sample) { .awake_ms = 1000,
						    .p95_bytes = (i * 37 % 100 + 1) * MIB,
						    .peak_bytes = (i + 1) * MIB,
						    .cpu_ms = i * 53 % 100 * 10 };
	struct size_use use = size_use_of(samples, ARRAY_SIZE(samples));
	assert_int_equal(use.observed_ms, 100 * 1000);
	assert_int_equal(use.p95_bytes, 95 * MIB);
	assert_int_equal(use.peak_bytes, 100 * MIB);
	assert_true(use.cpus > 0.939 && use.cpus < 0.941);
}

/* An hour counts for more than a minute; what was never awake, for nothing. */
static void test_use_is_weighted(void **state)
{
	(void)state;
	struct size_sample samples[] = {
		{ 1000, 900 * MIB, 950 * MIB, 1000 },
		{ 3600 * 1000, 100 * MIB, 200 * MIB, 360 * 1000 },
		{ 0, 800 * MIB, 800 * MIB, 0 },
	};
	struct size_use use = size_use_of(samples, ARRAY_SIZE(samples));
	assert_int_equal(use.p95_bytes, 100 * MIB);
	assert_int_equal(use.peak_bytes, 950 * MIB);
	assert_true(use.cpus > 0.09 && use.cpus < 0.11);
	use = size_use_of(samples, 0);
	assert_int_equal(use.observed_ms, 0);
	use = size_use_of(samples, 1);
	assert_true(use.p95_bytes > 0);
}

/* --- whatever is so ----------------------------------------------------------------------- */

static uint64_t seed = 11;

static int64_t any(int64_t most)
{
	seed = seed * 6364136223846793005U + 1442695040888963407U;
	return (int64_t)((seed >> 20) % (uint64_t)most);
}

static size_t any_classes(struct size_class *to, size_t most)
{
	size_t count = (size_t)any((int64_t)most) + 1;
	for (size_t i = 0; i < count; i++)
		to[i] = (struct size_class) { .name = "c",
					      .memory_bytes = (any(64) + 1) * 256 * MIB,
					      .cpus = (double)any(5),
					      .cost = (double)any(10) };
	return count;
}

static struct size_facts any_facts(size_t count)
{
	return (struct size_facts) {
		.memory_bytes = any(2) * any(20) * 512 * MIB,
		.cpus = (double)any(5),
		.held_bytes = any(12 * GIB),
		.use = { any(100 * HOUR), any(16 * GIB), any(20 * GIB), (double)any(80) / 10 },
		.since_ms = any(3) ? any(48 * HOUR) : -1,
		.chosen = any(3) ? -1 : (int)any((int64_t)count),
	};
}

static void apply(const struct size_class *c, struct size_facts *f)
{
	f->memory_bytes = c->memory_bytes;
	f->cpus = c->cpus;
	f->since_ms = 0;
}

/* Never below what it holds; the same again is the same; and once done there is nothing to do, now
 * nor when that has settled. */
static void test_any(void **state)
{
	(void)state;
	for (int i = 0; i < 300000; i++) {
		struct size_class some[8];
		size_t count = any_classes(some, ARRAY_SIZE(some));
		struct size_facts f = any_facts(count);
		struct size_decision d = size_decide(&size_defaults, some, count, &f);
		struct size_decision again = size_decide(&size_defaults, some, count, &f);
		assert_true(d.to == again.to && d.reason == again.reason && d.fits == again.fits);
		assert_true(d.to >= -1 && d.to < (int)count);
		assert_true(strcmp(size_reason_name(d.reason), "?") != 0);
		if (d.to < 0)
			continue;
		assert_true(some[d.to].memory_bytes >= f.held_bytes);
		apply(&some[d.to], &f);
		again = size_decide(&size_defaults, some, count, &f);
		assert_int_equal(again.to, -1);
		f.since_ms = size_defaults.settle_ms;
		again = size_decide(&size_defaults, some, count, &f);
		assert_int_equal(again.to, -1);
	}
}

/* However its use jumps about, a session's size changes no more often than there are classes in
 * each time in which a change settles. */
static void test_no_flapping(void **state)
{
	enum { DAYS = 40, A_DAY = 24 * 12 };
	(void)state;
	for (int round = 0; round < 200; round++) {
		struct size_class some[8];
		size_t count = any_classes(some, ARRAY_SIZE(some));
		struct size_facts f = any_facts(count);
		int changes = 0;
		f.chosen = -1;
		for (int t = 0; t < DAYS * A_DAY; t++) {
			f.held_bytes = any(6 * GIB);
			f.use.p95_bytes = any(8 * GIB);
			f.use.peak_bytes = any(10 * GIB);
			f.use.cpus = (double)any(80) / 10;
			f.use.observed_ms = any(100 * HOUR);
			struct size_decision d = size_decide(&size_defaults, some, count, &f);
			if (f.since_ms >= 0)
				f.since_ms += HOUR / 12;
			if (d.to < 0)
				continue;
			changes++;
			apply(&some[d.to], &f);
		}
		assert_true(changes <= (DAYS + 1) * (int)count);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cases), cmocka_unit_test(test_no_classes),
		cmocka_unit_test(test_use),   cmocka_unit_test(test_use_is_weighted),
		cmocka_unit_test(test_any),   cmocka_unit_test(test_no_flapping),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
