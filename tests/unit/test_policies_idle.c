/* SPDX-License-Identifier: Apache-2.0 */
#include "base/cleanup.h"
#include "policies/idle.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define MINUTE 60000LL
#define HOUR   (60 * MINUTE)
#define DAY    (24 * HOUR)
#define NOW    1795413600000LL /* Monday 2026-11-23 06:00 UTC */

static const struct idle_rule rule = {
	.name = "default",
	.admins = -1,
	.timeout_ms = HOUR,
	.max_age_ms = 2 * DAY,
	.min_uptime_ms = 10 * MINUTE,
	.cpu_threshold = 0.05,
	.stuck_busy_ms = 12 * HOUR,
	.refused_retry_ms = 30 * MINUTE,
};
static const struct idle_policy policy = { .rules = &rule, .rule_count = 1, .concurrency = 2 };

/* Nobody there for five hours. */
static const struct idle_facts away = {
	.user = "ada",
	.server = "",
	.started_at = NOW - DAY,
	.created_at = NOW - 9 * DAY,
	.kernel_activity_at = NOW - 5 * HOUR,
	.terminal_activity_at = NOW - 6 * HOUR,
	.hub_activity_at = NOW - MINUTE,
	.server_seen = true,
	.cpu_quiet_since = NOW - 5 * HOUR,
};

static struct idle_decision decide_with(const struct idle_policy *p, struct idle_facts f)
{
	struct idle_decision d;
	wall_ms next = idle_decide(p, &f, 1, 0, NOW, &d);
	if (!p->interval_ms)
		assert_true(next == d.next_at);
	return d;
}

static struct idle_decision decide(struct idle_facts f)
{
	return decide_with(&policy, f);
}

#define WITH(...)                                                                                  \
	({                                                                                         \
		struct idle_facts f = away;                                                        \
		__VA_ARGS__;                                                                       \
		f;                                                                                 \
	})

#define CHECK(facts, sleeps, why, at)                                                              \
	do {                                                                                       \
		struct idle_decision d_ = decide(facts);                                           \
		assert_string_equal(idle_reason_name(d_.reason), idle_reason_name(why));           \
		assert_int_equal(d_.hibernate, sleeps);                                            \
		assert_int_equal(d_.report, (why) == IDLE_STUCK_BUSY);                             \
		assert_int_equal(d_.next_at, at);                                                  \
	} while (0)

static void test_person(void **state)
{
	(void)state;
	CHECK(away, true, IDLE_TIMEOUT, 0);
	CHECK(WITH(f.kernel_activity_at = NOW - HOUR), true, IDLE_TIMEOUT, 0);
	CHECK(WITH(f.kernel_activity_at = NOW - HOUR + 1), false, IDLE_PERSON, NOW + 1);
	CHECK(WITH(f.terminal_activity_at = NOW), false, IDLE_PERSON, NOW + HOUR);
	CHECK(WITH(f.request_at = NOW - 50 * MINUTE), false, IDLE_PERSON, NOW + 10 * MINUTE);
	/* a restore is a sign of a person although its kernels remember older days */
	CHECK(WITH(f.started_at = NOW - 20 * MINUTE), false, IDLE_PERSON, NOW + 40 * MINUTE);
	/* a clock that is ahead must not keep it awake for ever */
	CHECK(WITH(f.kernel_activity_at = NOW + DAY), false, IDLE_PERSON, NOW + HOUR);
	assert_int_equal(decide(away).person_at, NOW - 5 * HOUR);
	assert_ptr_equal(decide(away).rule, &rule);
}

static void test_what_cannot_be_seen(void **state)
{
	(void)state;
	/* it answered before: a silent cell may be running in it now */
	CHECK(WITH(f.server_seen = false), false, IDLE_UNKNOWN, 0);
	CHECK(WITH(f.server_seen = false, f.started_at = NOW - 3 * DAY), false, IDLE_UNKNOWN, 0);
	CHECK(WITH(f.server_seen = false, f.kernel_activity_at = 0, f.terminal_activity_at = 0,
		   f.hub_activity_at = 0),
	      false, IDLE_UNKNOWN, 0);
	/* it never did, so the Hub is all there is */
	CHECK(WITH(f.server_seen = false, f.kernel_activity_at = 0, f.terminal_activity_at = 0),
	      false, IDLE_PERSON, NOW + 59 * MINUTE);
	CHECK(WITH(f.server_seen = false, f.kernel_activity_at = 0, f.terminal_activity_at = 0,
		   f.hub_activity_at = NOW - 2 * HOUR),
	      true, IDLE_TIMEOUT, 0);
	/* no kernel was ever there */
	CHECK(WITH(f.kernel_activity_at = 0, f.terminal_activity_at = 0, f.hub_activity_at = 0),
	      true, IDLE_TIMEOUT, 0);
}

static void test_work(void **state)
{
	(void)state;
	/* a silent long cell, at any age */
	CHECK(WITH(f.kernel_busy = true, f.busy_since = NOW - 5 * HOUR, f.cpu_quiet_since = 0),
	      false, IDLE_KERNEL_BUSY, 0);
	CHECK(WITH(f.kernel_busy = true, f.started_at = NOW - 90 * DAY, f.cpu_quiet_since = 0),
	      false, IDLE_KERNEL_BUSY, 0);
	/* stuck: reported as soon as both have lasted */
	CHECK(WITH(f.kernel_busy = true, f.busy_since = NOW - 13 * HOUR,
		   f.cpu_quiet_since = NOW - 5 * HOUR),
	      false, IDLE_KERNEL_BUSY, NOW + 7 * HOUR);
	CHECK(WITH(f.kernel_busy = true, f.busy_since = NOW - 13 * HOUR,
		   f.cpu_quiet_since = NOW - 12 * HOUR),
	      false, IDLE_STUCK_BUSY, 0);
	CHECK(WITH(f.kernel_busy = true, f.busy_since = NOW - 90 * DAY,
		   f.started_at = NOW - 90 * DAY, f.cpu_quiet_since = NOW - 90 * DAY),
	      false, IDLE_STUCK_BUSY, 0);
	CHECK(WITH(f.cpu_share = 0.05), false, IDLE_CPU, 0);
	CHECK(WITH(f.cpu_share = 0.0499), true, IDLE_TIMEOUT, 0);
	CHECK(WITH(f.cpu_share = NAN), false, IDLE_CPU, 0);
	CHECK(WITH(f.cpu_share = 3, f.started_at = NOW - 9 * DAY), false, IDLE_CPU, 0);
}

/* A budget that is spent shortens the timeout, and nothing else. */
static void test_budget(void **state)
{
	(void)state;
#define SPENT(...)                                                                                 \
	WITH(f.budget_timeout_ms = 5 * MINUTE, f.request_at = NOW - 20 * MINUTE, __VA_ARGS__)
	CHECK(SPENT(f.admin = false), true, IDLE_BUDGET, 0);
	CHECK(SPENT(f.budget_timeout_ms = 0), false, IDLE_PERSON, NOW + 40 * MINUTE);
	CHECK(SPENT(f.request_at = NOW - 2 * MINUTE), false, IDLE_PERSON, NOW + 3 * MINUTE);
	/* never later than the rule's own */
	CHECK(SPENT(f.request_at = NOW - HOUR, f.budget_timeout_ms = DAY), true, IDLE_TIMEOUT, 0);
	CHECK(SPENT(f.started_at = NOW - 6 * MINUTE), false, IDLE_YOUNG, NOW + 4 * MINUTE);
	CHECK(SPENT(f.keep_awake_until = NOW + 5), false, IDLE_KEEP_AWAKE, NOW + 5);
	CHECK(SPENT(f.kernel_busy = true, f.cpu_quiet_since = 0), false, IDLE_KERNEL_BUSY, 0);
	CHECK(SPENT(f.cpu_share = 1), false, IDLE_CPU, 0);
	CHECK(SPENT(f.server_seen = false), false, IDLE_UNKNOWN, 0);
	CHECK(SPENT(f.refused_at = NOW - 10 * MINUTE), false, IDLE_REFUSED, NOW + 20 * MINUTE);
#undef SPENT
}

static void test_wishes_and_ages(void **state)
{
	(void)state;
	CHECK(WITH(f.keep_awake_until = NOW + 5), false, IDLE_KEEP_AWAKE, NOW + 5);
	CHECK(WITH(f.keep_awake_until = NOW), true, IDLE_TIMEOUT, 0);
	CHECK(WITH(f.started_at = NOW - MINUTE), false, IDLE_YOUNG, NOW + 9 * MINUTE);
	CHECK(WITH(f.started_at = 0), true, IDLE_TIMEOUT, 0);
	CHECK(WITH(f.refused_at = NOW - 10 * MINUTE), false, IDLE_REFUSED, NOW + 20 * MINUTE);
	CHECK(WITH(f.refused_at = NOW - 30 * MINUTE), true, IDLE_TIMEOUT, 0);
	/* too old although somebody is there; the age of this run, not of the first start */
	CHECK(WITH(f.request_at = NOW - 1, f.started_at = NOW - 2 * DAY), true, IDLE_MAX_AGE, 0);
	CHECK(WITH(f.request_at = NOW - 1, f.started_at = NOW - 2 * DAY + 5), false, IDLE_PERSON,
	      NOW + 5);

	struct idle_rule r = rule;
	struct idle_policy p = policy;
	p.rules = &r;
	r.timeout_ms = 0;
	assert_int_equal(decide_with(&p, away).reason, IDLE_EXEMPT);
	assert_int_equal(decide_with(&p, away).next_at, NOW + DAY);
	r.exempt = true;
	assert_int_equal(decide_with(&p, WITH(f.started_at = NOW - 9 * DAY)).reason, IDLE_EXEMPT);
	r = rule;
	r.timeout_ms = INT64_MAX;
	r.max_age_ms = 0;
	assert_int_equal(decide_with(&p, away).reason, IDLE_PERSON);
	assert_int_equal(decide_with(&p, away).next_at, 0);
	r = rule;
	r.cpu_threshold = 0;
	assert_int_equal(decide_with(&p, WITH(f.cpu_share = 4)).reason, IDLE_TIMEOUT);
}

static void test_rules(void **state)
{
	(void)state;
	static const char *const bots[] = { "bot-*", "ci", NULL }, *const named[] = { "?*", NULL },
				 *const by_default[] = { "", NULL },
				 *const staff[] = { "staff", NULL },
				 *const groups[] = { "students", "staff", NULL },
				 *const none[] = { NULL };
	const struct idle_rule rules[] = {
		{ .name = "bots", .users = bots, .admins = -1 },
		{ .name = "admins", .admins = 1 },
		{ .name = "staff", .groups = staff, .admins = -1, .users = none },
		{ .name = "named", .servers = named, .admins = 0 },
		{ .name = "default", .servers = by_default, .admins = -1 },
	};
	struct idle_policy p = { .rules = rules, .rule_count = ARRAY_SIZE(rules) };
	const struct {
		struct idle_facts facts;
		const char *rule;
	} list[] = {
		{ { .user = "bot-7/x", .server = "", .admin = true }, "bots" },
		{ { .user = "ci", .server = "gpu" }, "bots" },
		{ { .user = "cindy", .server = "gpu" }, "named" },
		{ { .user = "ada", .server = "gpu", .admin = true, .groups = groups }, "admins" },
		{ { .user = "ada", .server = "gpu", .groups = groups }, "staff" },
		{ { .user = "ada", .server = "", .groups = none }, "default" },
		{ { .user = "ada", .server = NULL }, "default" },
	};
	for (size_t i = 0; i < ARRAY_SIZE(list); i++)
		assert_string_equal(idle_rule_for(&p, &list[i].facts)->name, list[i].rule);

	p.rule_count = 2;
	assert_null(idle_rule_for(&p, &away));
	assert_int_equal(decide_with(&p, away).reason, IDLE_NO_RULE);
	assert_false(decide_with(&p, away).hibernate);
}

static void test_quiet_hours(void **state)
{
	(void)state;
	const struct {
		struct idle_window window;
		int offset;
		wall_ms until; /* 0: not quiet now, Monday 06:00 UTC */
		bool always;
	} list[] = {
		{ { 5 * 60, 7 * 60, 0x7f }, 0, NOW + HOUR, false },
		{ { 5 * 60, 7 * 60, 0 }, 0, NOW + HOUR, false },
		{ { 5 * 60, 7 * 60, 0x7e }, 0, 0, false }, /* not on Mondays */
		{ { 6 * 60, 7 * 60, 0x7f }, 0, NOW + HOUR, false },
		{ { 5 * 60, 6 * 60, 0x7f }, 0, 0, false },
		{ { 22 * 60, 8 * 60, 0x40 }, 0, NOW + 2 * HOUR, false }, /* begun on Sunday */
		{ { 22 * 60, 8 * 60, 0x01 }, 0, 0, false },              /* begins tonight */
		{ { 8 * 60, 9 * 60, 0x01 }, 150, NOW + 30 * MINUTE, false },
		{ { 22 * 60, 23 * 60, 0x40 }, -480, NOW + HOUR, false }, /* Sunday evening there */
		{ { 0, 1440, 0x01 }, 0, NOW + 18 * HOUR, false },
		{ { 0, 0, 0x01 }, 0, NOW + 18 * HOUR, false },
		{ { 7 * 60, 7 * 60, 0x40 }, 0, NOW + HOUR, false },
		{ { 0, 0, 0x7f }, 0, 0, true },
	};
	for (size_t i = 0; i < ARRAY_SIZE(list); i++) {
		struct idle_policy p = policy;
		p.quiet = &list[i].window;
		p.quiet_count = 1;
		p.utc_offset_minutes = list[i].offset;
		struct idle_decision d = decide_with(&p, away);
		bool quiet = list[i].until || list[i].always;
		assert_int_equal(d.reason, quiet ? IDLE_QUIET_HOURS : IDLE_TIMEOUT);
		assert_int_equal(d.hibernate, !quiet);
		assert_int_equal(d.next_at, list[i].until);
	}
	/* windows that touch are one */
	const struct idle_window chain[] = { { 600, 660, 0x7f },
					     { 300, 420, 0x7f },
					     { 420, 600, 0x7f } };
	struct idle_policy p = policy;
	p.quiet = chain;
	p.quiet_count = ARRAY_SIZE(chain);
	assert_int_equal(decide_with(&p, away).next_at, NOW + 5 * HOUR);
	/* what is awake anyway says why, not that it is quiet */
	assert_int_equal(decide_with(&p, WITH(f.cpu_share = 1)).reason, IDLE_CPU);
}

static void test_turns(void **state)
{
	(void)state;
	struct idle_facts facts[5];
	struct idle_decision d[5];
	const char *users[] = { "dan", "bob", "bob", "amy", "eve" };
	for (size_t i = 0; i < 5; i++)
		facts[i] = WITH(f.user = users[i], f.server = i == 1 ? "x" : "");
	facts[4].kernel_activity_at = facts[4].terminal_activity_at = NOW - 9 * HOUR;
	facts[0].kernel_busy = true;

	idle_decide(&policy, facts, 5, 0, NOW, d);
	assert_true(d[4].hibernate && d[3].hibernate); /* longest away, then by name */
	assert_int_equal(d[1].reason, IDLE_CONCURRENCY);
	assert_int_equal(d[2].reason, IDLE_CONCURRENCY);
	assert_int_equal(d[1].next_at, 0);

	idle_decide(&policy, facts, 5, 1, NOW, d);
	assert_true(d[4].hibernate && !d[3].hibernate);
	idle_decide(&policy, facts, 5, 9, NOW, d);
	assert_false(d[4].hibernate);

	struct idle_policy p = policy;
	p.concurrency = 3;
	idle_decide(&p, facts, 5, 0, NOW, d);
	assert_true(d[2].hibernate && !d[1].hibernate); /* bob's default server before bob/x */
	p.concurrency = 0;
	idle_decide(&p, facts, 5, 0, NOW, d);
	assert_true(d[4].hibernate && !d[3].hibernate);
	p.dry_run = true;
	idle_decide(&p, facts, 5, 7, NOW, d);
	assert_true(d[1].hibernate && d[2].hibernate && d[3].hibernate && d[4].hibernate);
	assert_false(d[0].hibernate);
}

static void test_interval(void **state)
{
	(void)state;
	struct idle_policy p = policy;
	struct idle_facts there = WITH(f.kernel_activity_at = NOW);
	struct idle_decision d;
	p.interval_ms = MINUTE;
	assert_int_equal(idle_decide(&p, &there, 1, 0, NOW, &d), NOW + MINUTE);
	p.interval_ms = 2 * HOUR;
	assert_int_equal(idle_decide(&p, &there, 1, 0, NOW, &d), NOW + HOUR);
	assert_int_equal(idle_decide(&p, NULL, 0, 0, NOW, NULL), 0);
}

static const struct idle_window monday = { 5 * 60 + 50, 7 * 60, 0x01 };

static const struct idle_rule tiers = {
	.name = "tiers",
	.admins = -1,
	.timeout_ms = HOUR,
	.refused_retry_ms = 30 * MINUTE,
	.transparent = true,
	.doze_ms = 10 * MINUTE,
	.pressure_after_ms = 20 * MINUTE,
	.stop_after_ms = DAY,
	.wake_ahead = &monday,
	.wake_ahead_count = 1,
};
static const struct idle_policy tiered = {
	.rules = &tiers, .rule_count = 1, .concurrency = 2, .pressure = 20
};

/* Away for so many minutes; awake since a day unless it says otherwise. */
#define AWAY(minutes, ...)                                                                         \
	({                                                                                         \
		struct idle_facts f = { .started_at = NOW - DAY,                                   \
					.request_at = NOW - (minutes) * MINUTE,                    \
					.person_at = NOW - (minutes) * MINUTE,                     \
					.server_seen = true,                                       \
					.can_doze = true };                                        \
		__VA_ARGS__;                                                                       \
		f;                                                                                 \
	})

static void test_tiers(void **state)
{
	(void)state;
	const struct {
		struct idle_facts facts;
		enum idle_tier to;
		enum idle_reason reason;
		wall_ms next_at;
	} list[] = {
		{ AWAY(9), IDLE_AWAKE, IDLE_PERSON, NOW + MINUTE },
		{ AWAY(10), IDLE_DOZING, IDLE_DOZE, 0 },
		{ AWAY(10, f.can_doze = false), IDLE_AWAKE, IDLE_PERSON, NOW + 50 * MINUTE },
		{ AWAY(10, f.doze_refused_at = NOW - MINUTE), IDLE_AWAKE, IDLE_PERSON,
		  NOW + 29 * MINUTE },
		{ AWAY(10, f.kernel_busy = true), IDLE_AWAKE, IDLE_KERNEL_BUSY, 0 },
		{ AWAY(60), IDLE_ASLEEP, IDLE_TIMEOUT, 0 },
		/* what cannot be hibernated can doze */
		{ AWAY(60, f.refused_at = NOW - MINUTE), IDLE_DOZING, IDLE_DOZE, 0 },
		{ AWAY(60, f.refused_at = NOW - MINUTE, f.can_doze = false), IDLE_AWAKE,
		  IDLE_REFUSED, NOW + 29 * MINUTE },
		/* a node that is short of memory */
		{ AWAY(19, f.pressure = 20), IDLE_DOZING, IDLE_DOZE, 0 },
		{ AWAY(20, f.pressure = 20), IDLE_ASLEEP, IDLE_PRESSURE, 0 },
		{ AWAY(20, f.pressure = 19.9, f.can_doze = false), IDLE_AWAKE, IDLE_PERSON,
		  NOW + 40 * MINUTE },
		/* dozing: what it did when it ran says nothing any more */
		{ AWAY(20, f.tier = IDLE_DOZING), IDLE_DOZING, IDLE_SLEEPS, NOW + 40 * MINUTE },
		{ AWAY(20, f.tier = IDLE_DOZING, f.cpu_share = NAN, f.server_seen = false,
		       f.kernel_busy = true),
		  IDLE_DOZING, IDLE_SLEEPS, NOW + 40 * MINUTE },
		{ AWAY(20, f.tier = IDLE_DOZING, f.pressure = 50), IDLE_ASLEEP, IDLE_PRESSURE, 0 },
		{ AWAY(60, f.tier = IDLE_DOZING), IDLE_ASLEEP, IDLE_TIMEOUT, 0 },
		{ AWAY(60, f.tier = IDLE_DOZING, f.keep_awake_until = NOW + 1), IDLE_DOZING,
		  IDLE_KEEP_AWAKE, NOW + 1 },
		{ AWAY(60, f.tier = IDLE_DOZING, f.person_at = 0), IDLE_DOZING, IDLE_UNKNOWN, 0 },
		/* asleep; its user is expected on Mondays at 05:50 */
		{ AWAY(60, f.tier = IDLE_ASLEEP, f.slept_at = NOW - 5 * MINUTE), IDLE_ASLEEP,
		  IDLE_SLEEPS, NOW + 24 * HOUR - 5 * MINUTE },
		{ AWAY(60, f.tier = IDLE_ASLEEP, f.slept_at = NOW - 11 * MINUTE), IDLE_AWAKE,
		  IDLE_AHEAD, 0 },
		{ AWAY(60, f.tier = IDLE_ASLEEP, f.slept_at = NOW - 2 * DAY), IDLE_AWAKE,
		  IDLE_AHEAD, 0 },
		{ AWAY(60, f.tier = IDLE_ASLEEP), IDLE_ASLEEP, IDLE_SLEEPS,
		  NOW + 7 * DAY - 10 * MINUTE },
	};
	for (size_t i = 0; i < ARRAY_SIZE(list); i++) {
		struct idle_decision d = decide_with(&tiered, list[i].facts);
		if (d.to != list[i].to || d.reason != list[i].reason ||
		    d.next_at != list[i].next_at)
			fail_msg("%zu: to %d for %s at %lld", i, (int)d.to,
				 idle_reason_name(d.reason), (long long)(d.next_at - NOW));
		assert_int_equal(d.hibernate,
				 d.to > IDLE_DOZING && list[i].facts.tier <= IDLE_DOZING);
	}
}

static void test_ways_out_of_sleep(void **state)
{
	(void)state;
	struct idle_rule r = tiers;
	struct idle_policy p = tiered;
	const struct idle_facts long_asleep =
		AWAY(2000, f.tier = IDLE_ASLEEP, f.slept_at = NOW - DAY);
	p.rules = &r;
	r.wake_ahead_count = 0;
	struct idle_decision d = decide_with(&p, long_asleep);
	assert_true(d.to == IDLE_STOPPED && d.reason == IDLE_LONG_ASLEEP && !d.hibernate);
	assert_int_equal(d.person_at, NOW - 2000 * MINUTE);
	r.stop_after_ms = 0;
	assert_int_equal(decide_with(&p, long_asleep).to, IDLE_ASLEEP);
	r.stop_after_ms = DAY;
	r.exempt = true;
	assert_int_equal(decide_with(&p, long_asleep).to, IDLE_ASLEEP);
	/* where it is seen, there is nothing between */
	r = tiers;
	r.transparent = false;
	assert_int_equal(decide_with(&p, AWAY(60)).to, IDLE_STOPPED);
	/* in quiet hours nothing goes down, but what sleeps may end */
	const struct idle_window always = { 0, 0, 0 };
	p.quiet = &always;
	p.quiet_count = 1;
	d = decide_with(&p, AWAY(10));
	assert_true(d.to == IDLE_AWAKE && d.reason == IDLE_QUIET_HOURS);
	r.wake_ahead_count = 0;
	assert_int_equal(decide_with(&p, long_asleep).to, IDLE_STOPPED);
	/* whose turn it is not stays as it is */
	p.quiet_count = 0;
	const struct idle_facts dozes = AWAY(60, f.tier = IDLE_DOZING);
	idle_decide(&p, &dozes, 1, 2, NOW, &d);
	assert_true(d.to == IDLE_DOZING && d.reason == IDLE_CONCURRENCY && !d.hibernate);
}

static uint32_t next_random(uint32_t *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 17;
	*seed ^= *seed << 5;
	return *seed;
}

/* Never, or a time around NOW. */
static wall_ms random_time(uint32_t *seed)
{
	uint32_t r = next_random(seed);
	return r % 5 == 0 ? 0 : NOW - (wall_ms)(r % (3 * 86400)) * 1000 + (r % 7 == 0) * DAY;
}

static struct idle_facts random_facts(uint32_t *seed)
{
	static const char *const names[] = { "ada", "bob", "eve" }, *const servers[] = { "", "x" };
	return (struct idle_facts) {
		.user = names[next_random(seed) % 3],
		.server = servers[next_random(seed) % 2],
		.admin = next_random(seed) % 2,
		.started_at = random_time(seed),
		.created_at = random_time(seed),
		.kernel_activity_at = random_time(seed),
		.terminal_activity_at = random_time(seed),
		.request_at = random_time(seed),
		.hub_activity_at = random_time(seed),
		.server_seen = next_random(seed) % 4 != 0,
		.kernel_busy = next_random(seed) % 4 == 0,
		.busy_since = random_time(seed),
		.cpu_share = next_random(seed) % 3 ? 0 : 0.7,
		.cpu_quiet_since = random_time(seed),
		.keep_awake_until = next_random(seed) % 5 ? 0 : random_time(seed),
		.refused_at = next_random(seed) % 5 ? 0 : random_time(seed),
		.budget_timeout_ms = next_random(seed) % 2 ? 0 : 1 + next_random(seed) % (2 * HOUR),
	};
}

static void check_decision(const struct idle_facts *f, const struct idle_decision *d, wall_ms now)
{
	assert_true(d->next_at == 0 || d->next_at > now);
	assert_int_equal(d->report, d->reason == IDLE_STUCK_BUSY);
	if (!d->hibernate) {
		assert_true(d->reason != IDLE_TIMEOUT && d->reason != IDLE_MAX_AGE &&
			    d->reason != IDLE_BUDGET);
		return;
	}
	assert_true(d->reason == IDLE_TIMEOUT || d->reason == IDLE_MAX_AGE ||
		    d->reason == IDLE_BUDGET);
	assert_true(!f->started_at || f->started_at + d->rule->min_uptime_ms <= now);
	assert_false(d->rule->exempt);
	assert_false(f->kernel_busy);
	assert_true(f->cpu_share < d->rule->cpu_threshold);
	assert_true(f->keep_awake_until <= now);
	if (d->reason == IDLE_TIMEOUT) {
		assert_true(f->kernel_activity_at + d->rule->timeout_ms <= now);
		assert_true(f->terminal_activity_at + d->rule->timeout_ms <= now);
		assert_true(f->request_at + d->rule->timeout_ms <= now);
	}
	if (d->reason == IDLE_BUDGET) {
		assert_true(f->budget_timeout_ms > 0);
		assert_true(f->kernel_activity_at + f->budget_timeout_ms <= now);
		assert_true(f->request_at + f->budget_timeout_ms <= now);
	}
}

static size_t count_hibernations(const struct idle_decision *d, size_t n)
{
	size_t count = 0;
	for (size_t i = 0; i < n; i++)
		count += d[i].hibernate;
	return count;
}

/* Looking again earlier than it says, with nothing new, changes nothing for those that stay awake.
 */
static void check_wake(const struct idle_policy *p, const struct idle_facts *f,
		       const struct idle_decision *d, size_t n, wall_ms next)
{
	struct idle_decision before[8];
	wall_ms then = next ? next - 1 : NOW + 20 * DAY;
	idle_decide(p, f, n, 0, then, before);
	for (size_t i = 0; i < n; i++)
		if (!d[i].hibernate && d[i].reason != IDLE_CONCURRENCY)
			assert_int_equal(before[i].reason, d[i].reason);
}

static void test_random_sessions(void **state)
{
	(void)state;
	const struct idle_window night = { 22 * 60, 7 * 60, 0x7f };
	uint32_t seed = 88172645;
	for (int round = 0; round < 20000; round++) {
		struct idle_policy p = policy;
		struct idle_facts f[8], reversed[8];
		struct idle_decision d[8], again[8];
		p.concurrency = 1 + (int)(next_random(&seed) % 9);
		p.quiet = &night;
		p.quiet_count = next_random(&seed) % 2;
		p.utc_offset_minutes = (int)(next_random(&seed) % 1440) - 720;
		for (size_t i = 0; i < 8; i++)
			f[i] = reversed[7 - i] = random_facts(&seed);

		wall_ms next = idle_decide(&p, f, 8, 0, NOW, d);
		assert_true(next == 0 || next > NOW);
		assert_true(count_hibernations(d, 8) <= (size_t)p.concurrency);
		for (size_t i = 0; i < 8; i++)
			check_decision(&f[i], &d[i], NOW);
		check_wake(&p, f, d, 8, next);

		assert_true(idle_decide(&p, f, 8, 0, NOW, again) == next);
		assert_memory_equal(d, again, sizeof(d));
		assert_true(idle_decide(&p, reversed, 8, 0, NOW, again) == next);
		assert_int_equal(count_hibernations(again, 8), count_hibernations(d, 8));
	}
}

static void test_names(void **state)
{
	(void)state;
	for (int i = 0; i < IDLE_REASON_COUNT; i++) {
		assert_string_not_equal(idle_reason_name((enum idle_reason)i), "?");
		assert_string_not_equal(idle_reason_text((enum idle_reason)i), "?");
	}
	assert_string_equal(idle_reason_name(IDLE_REASON_COUNT), "?");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_person),
		cmocka_unit_test(test_what_cannot_be_seen),
		cmocka_unit_test(test_work),
		cmocka_unit_test(test_budget),
		cmocka_unit_test(test_wishes_and_ages),
		cmocka_unit_test(test_rules),
		cmocka_unit_test(test_quiet_hours),
		cmocka_unit_test(test_turns),
		cmocka_unit_test(test_interval),
		cmocka_unit_test(test_tiers),
		cmocka_unit_test(test_ways_out_of_sleep),
		cmocka_unit_test(test_random_sessions),
		cmocka_unit_test(test_names),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
