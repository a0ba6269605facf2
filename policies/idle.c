/* SPDX-License-Identifier: Apache-2.0 */
#include "policies/idle.h"

#include "base/cleanup.h"
#include "base/names.h"

#include <fnmatch.h>
#include <string.h>

#define NEVER         INT64_MAX
#define MS_PER_MINUTE 60000
#define DAY_MINUTES   1440

static const struct {
	const char *name;
	const char *text;
} reasons[IDLE_REASON_COUNT] = {
	[IDLE_NO_RULE] = { "no-rule", "no rule matches it" },
	[IDLE_EXEMPT] = { "exempt", "its rule keeps it awake" },
	[IDLE_KEEP_AWAKE] = { "keep-awake", "somebody asked to keep it awake" },
	[IDLE_YOUNG] = { "young", "it has not run for the minimum time yet" },
	[IDLE_KERNEL_BUSY] = { "kernel-busy", "a kernel is running something" },
	[IDLE_STUCK_BUSY] = { "stuck-busy",
			      "a kernel says it is busy but has used no CPU for a long time" },
	[IDLE_CPU] = { "cpu", "its processes are using the CPU" },
	[IDLE_PERSON] = { "person", "somebody used it lately" },
	[IDLE_UNKNOWN] = { "unknown", "what it is doing cannot be seen" },
	[IDLE_REFUSED] = { "refused", "it could not be checkpointed lately; to be tried again" },
	[IDLE_QUIET_HOURS] = { "quiet-hours", "nothing is hibernated in the quiet hours" },
	[IDLE_CONCURRENCY] = { "concurrency", "it waits for other hibernations to finish" },
	[IDLE_TIMEOUT] = { "timeout", "nobody has used it for the timeout" },
	[IDLE_MAX_AGE] = { "max-age", "it has run for the maximum age" },
	[IDLE_PRESSURE] = { "pressure",
			    "nobody has used it for a while, and its node is short of memory" },
	[IDLE_BUDGET] = { "budget",
			  "nobody has used it for a while, and the budget of its group is spent" },
	[IDLE_DOZE] = { "doze", "nobody has used it for a while" },
	[IDLE_SLEEPS] = { "sleeps", "nobody has come" },
	[IDLE_LONG_ASLEEP] = { "long-asleep", "nobody has come for very long" },
	[IDLE_AHEAD] = { "ahead", "its user is expected" },
};

const char *idle_tier_name(enum idle_tier tier)
{
	static const char *const names[] = { "awake", "dozing", "asleep", "stopped" };
	return (unsigned)tier < ARRAY_SIZE(names) ? names[tier] : "?";
}

const char *idle_reason_name(enum idle_reason reason)
{
	return (unsigned)reason < IDLE_REASON_COUNT ? reasons[reason].name : "?";
}

const char *idle_reason_text(enum idle_reason reason)
{
	return (unsigned)reason < IDLE_REASON_COUNT ? reasons[reason].text : "?";
}

static wall_ms latest(wall_ms a, wall_ms b)
{
	return a > b ? a : b;
}

static wall_ms earliest(wall_ms a, wall_ms b)
{
	return a < b ? a : b;
}

/* `duration` after `t`; NEVER rather than past the end of time. */
static wall_ms later(wall_ms t, int64_t duration)
{
	wall_ms sum;
	if (duration < 0)
		duration = 0;
	return __builtin_add_overflow(t, duration, &sum) ? NEVER : sum;
}

static const char *text_of(const char *s)
{
	return s ? s : "";
}

static bool matches(const char *const *patterns, const char *name)
{
	if (!patterns || !patterns[0])
		return true;
	for (; *patterns; patterns++)
		if (fnmatch(*patterns, name, 0) == 0)
			return true;
	return false;
}

static bool matches_any(const char *const *patterns, const char *const *names)
{
	if (!patterns || !patterns[0])
		return true;
	for (; names && *names; names++)
		if (matches(patterns, *names))
			return true;
	return false;
}

const struct idle_rule *idle_rule_for(const struct idle_policy *policy,
				      const struct idle_facts *facts)
{
	for (size_t i = 0; i < policy->rule_count; i++) {
		const struct idle_rule *rule = &policy->rules[i];
		if (rule->admins >= 0 && (rule->admins > 0) != facts->admin)
			continue;
		if (matches(rule->users, text_of(facts->user)) &&
		    matches(rule->servers, text_of(facts->server)) &&
		    matches_any(rule->groups, facts->groups))
			return rule;
	}
	return NULL;
}

static int length_of(const struct idle_window *q)
{
	int length = ((q->to_minute - q->from_minute) % DAY_MINUTES + DAY_MINUTES) % DAY_MINUTES;
	return length ? length : DAY_MINUTES;
}

/* When `q` begins on that day (since 1970, local), in minutes; -1: it does not. */
static int64_t window_begin(const struct idle_window *q, int64_t day)
{
	unsigned weekdays = q->weekdays ? q->weekdays : ~0u;
	int weekday = (int)((day + 3) % 7); /* 1970-01-01 was a Thursday */
	return weekdays >> weekday & 1 ? day * DAY_MINUTES + q->from_minute : -1;
}

/* The begin of the window `q` if the minute `m` (since 1970, local) lies in it, else -1. It may
 * have begun on the day before. */
static int64_t window_around(const struct idle_window *q, int64_t m)
{
	int64_t today = m / DAY_MINUTES;
	for (int64_t day = today; day >= today - 1; day--) {
		int64_t begin = window_begin(q, day);
		if (begin >= 0 && m >= begin && m < begin + length_of(q))
			return begin;
	}
	return -1;
}

wall_ms idle_quiet_until(const struct idle_policy *policy, wall_ms now)
{
	int64_t first = now / MS_PER_MINUTE + policy->utc_offset_minutes;
	int64_t m = first;
	bool moved = true;
	while (moved) {
		moved = false;
		for (size_t i = 0; i < policy->quiet_count; i++) {
			int64_t begin = window_around(&policy->quiet[i], m);
			if (begin < 0)
				continue;
			moved = true;
			m = begin + length_of(&policy->quiet[i]);
		}
		if (m - first > 8 * DAY_MINUTES)
			return NEVER;
	}
	return m == first ? now : (m - policy->utc_offset_minutes) * MS_PER_MINUTE;
}

/*
 * The last sign of a person; 0: cannot be told. A start or a restore is one.
 *
 * A server that answered before and does not now may be busy with a long cell that nobody can see,
 * so nothing is decided about it. The Hub's own last_activity counts an open tab's polls as well;
 * it is only for servers that never said anything better.
 */
static wall_ms person_seen_at(const struct idle_facts *f)
{
	wall_ms told = latest(f->kernel_activity_at, f->terminal_activity_at);
	wall_ms seen = latest(told, f->request_at);
	if (!f->server_seen && told)
		return 0;
	if (!seen)
		seen = f->hub_activity_at;
	else if (!f->server_seen)
		seen = latest(seen, f->hub_activity_at);
	if (!seen && !f->server_seen)
		return 0;
	return latest(seen, f->started_at);
}

/* Besides that, what was decided before: of one that does not run it is all there is. */
static wall_ms last_person_at(const struct idle_facts *f)
{
	wall_ms seen = f->tier == IDLE_AWAKE ? person_seen_at(f) : f->person_at;
	return seen ? latest(seen, f->person_at) : 0;
}

static wall_ms stuck_at(const struct idle_rule *rule, const struct idle_facts *f)
{
	if (rule->stuck_busy_ms <= 0 || !f->busy_since || !f->cpu_quiet_since)
		return NEVER;
	return later(latest(f->busy_since, f->cpu_quiet_since), rule->stuck_busy_ms);
}

static void decide_busy(const struct idle_facts *f, wall_ms now, struct idle_decision *d)
{
	wall_ms stuck = stuck_at(d->rule, f);
	d->report = stuck <= now;
	d->reason = d->report ? IDLE_STUCK_BUSY : IDLE_KERNEL_BUSY;
	d->next_at = stuck;
}

static bool is_short_of_memory(const struct idle_policy *policy, const struct idle_facts *f)
{
	return policy->pressure > 0 && f->pressure >= policy->pressure;
}

/* The first of what it is time for by the rule some time. */
struct times {
	wall_ms idle, pressed, old, doze, spent;
};

static struct times times_of(const struct idle_policy *policy, const struct idle_facts *f,
			     const struct idle_decision *d)
{
	const struct idle_rule *rule = d->rule;
	wall_ms begun = f->started_at ? f->started_at : f->created_at;
	bool pressed = rule->pressure_after_ms > 0 && is_short_of_memory(policy, f);
	bool dozes = rule->doze_ms > 0 && f->can_doze && f->tier == IDLE_AWAKE;
	wall_ms retry = f->doze_refused_at ? later(f->doze_refused_at, rule->refused_retry_ms) : 0;
	return (struct times) {
		.idle = rule->timeout_ms > 0 ? later(d->person_at, rule->timeout_ms) : NEVER,
		.pressed = pressed ? later(d->person_at, rule->pressure_after_ms) : NEVER,
		.old = rule->max_age_ms > 0 && begun ? later(begun, rule->max_age_ms) : NEVER,
		.spent = f->budget_timeout_ms > 0 ? later(d->person_at, f->budget_timeout_ms)
						  : NEVER,
		.doze = dozes ? latest(later(d->person_at, rule->doze_ms), retry) : NEVER,
	};
}

static enum idle_reason why_due(const struct times *t, wall_ms now)
{
	return t->idle <= now    ? IDLE_TIMEOUT
	       : t->old <= now   ? IDLE_MAX_AGE
	       : t->spent <= now ? IDLE_BUDGET
				 : IDLE_PRESSURE;
}

/* Is it time, by the rule? Leaves IDLE_TIMEOUT, IDLE_MAX_AGE, IDLE_BUDGET or IDLE_PRESSURE in what
 * may be hibernated. What CRIU refused can doze all the same. */
static void decide_time(const struct idle_policy *policy, const struct idle_facts *f, wall_ms now,
			struct idle_decision *d)
{
	const struct idle_rule *rule = d->rule;
	const struct times t = times_of(policy, f, d);
	wall_ms retry_at = f->refused_at ? later(f->refused_at, rule->refused_retry_ms) : 0;
	wall_ms due_at = earliest(earliest(t.idle, t.old), earliest(t.pressed, t.spent));

	if (due_at <= now && retry_at <= now) {
		d->reason = why_due(&t, now);
	} else if (t.doze <= now) {
		d->reason = IDLE_DOZE;
		d->to = IDLE_DOZING;
	} else if (due_at <= now) {
		d->reason = IDLE_REFUSED;
		d->next_at = earliest(retry_at, t.doze);
	} else {
		bool timed = rule->timeout_ms > 0 || f->budget_timeout_ms > 0;
		d->reason = f->tier != IDLE_AWAKE ? IDLE_SLEEPS : timed ? IDLE_PERSON : IDLE_EXEMPT;
		d->next_at = earliest(due_at, t.doze);
	}
}

/* Its user is expected since it slept. When that may be next, into *next. */
static bool is_expected(const struct idle_policy *policy, const struct idle_facts *f,
			const struct idle_rule *rule, wall_ms now, wall_ms *next)
{
	int64_t slept = f->slept_at / MS_PER_MINUTE + policy->utc_offset_minutes;
	int64_t m = now / MS_PER_MINUTE + policy->utc_offset_minutes;
	*next = NEVER;
	for (size_t i = 0; i < rule->wake_ahead_count; i++) {
		const struct idle_window *q = &rule->wake_ahead[i];
		if (f->slept_at && window_around(q, m) > slept)
			return true;
		for (int64_t day = m / DAY_MINUTES; day <= m / DAY_MINUTES + 7; day++) {
			int64_t begin = window_begin(q, day);
			if (begin > m)
				*next = earliest(*next, (begin - policy->utc_offset_minutes) *
								MS_PER_MINUTE);
		}
	}
	return false;
}

/* In the store already, and nobody came. */
static void decide_asleep(const struct idle_policy *policy, const struct idle_facts *f, wall_ms now,
			  struct idle_decision *d)
{
	wall_ms stop_at = d->rule->stop_after_ms > 0 && f->slept_at
				  ? later(f->slept_at, d->rule->stop_after_ms)
				  : NEVER;
	d->person_at = f->person_at;
	d->reason = IDLE_SLEEPS;
	if (is_expected(policy, f, d->rule, now, &d->next_at)) {
		d->reason = IDLE_AHEAD;
		d->to = IDLE_AWAKE;
		d->next_at = NEVER;
	} else if (stop_at <= now) {
		d->reason = IDLE_LONG_ASLEEP;
		d->to = IDLE_STOPPED;
		d->next_at = NEVER;
	} else {
		d->next_at = earliest(d->next_at, stop_at);
	}
}

/* Everything but the quiet hours and whose turn it is. */
static void decide_one(const struct idle_policy *policy, const struct idle_facts *f, wall_ms now,
		       struct idle_decision *d)
{
	bool runs = f->tier == IDLE_AWAKE;
	*d = (struct idle_decision) { .to = f->tier,
				      .rule = idle_rule_for(policy, f),
				      .next_at = NEVER };
	d->person_at = earliest(last_person_at(f), now);
	if (!d->rule) {
		d->reason = IDLE_NO_RULE;
	} else if (d->rule->exempt) {
		d->reason = IDLE_EXEMPT;
	} else if (f->tier == IDLE_ASLEEP) {
		decide_asleep(policy, f, now, d);
	} else if (f->keep_awake_until > now) {
		d->reason = IDLE_KEEP_AWAKE;
		d->next_at = f->keep_awake_until;
	} else if (runs && f->started_at && later(f->started_at, d->rule->min_uptime_ms) > now) {
		d->reason = IDLE_YOUNG;
		d->next_at = later(f->started_at, d->rule->min_uptime_ms);
	} else if (runs && f->kernel_busy) {
		decide_busy(f, now, d);
	} else if (runs && d->rule->cpu_threshold > 0 && !(f->cpu_share < d->rule->cpu_threshold)) {
		d->reason = IDLE_CPU; /* also when the share is not a number: not known */
	} else if (!d->person_at) {
		d->reason = IDLE_UNKNOWN;
	} else {
		decide_time(policy, f, now, d);
	}
}

static bool is_due(const struct idle_decision *d)
{
	return d->reason == IDLE_TIMEOUT || d->reason == IDLE_MAX_AGE ||
	       d->reason == IDLE_PRESSURE || d->reason == IDLE_BUDGET;
}

static void put_away(struct idle_decision *d)
{
	d->hibernate = true;
	d->to = d->rule->transparent ? IDLE_ASLEEP : IDLE_STOPPED;
}

/* The order in which sessions get their turn; total, so that decisions do not depend on the order
 * of the facts. */
static bool goes_before(const struct idle_facts *facts, const struct idle_decision *decisions,
			size_t a, size_t b)
{
	if (decisions[a].person_at != decisions[b].person_at)
		return decisions[a].person_at < decisions[b].person_at;
	int order = strcmp(text_of(facts[a].user), text_of(facts[b].user));
	if (order == 0)
		order = strcmp(text_of(facts[a].server), text_of(facts[b].server));
	return order < 0 || (order == 0 && a < b);
}

/* Picks one after the other: slots are few, and there is no memory to allocate for a sort. */
static void give_slots(const struct idle_facts *facts, size_t count, size_t slots,
		       struct idle_decision *decisions)
{
	for (; slots > 0; slots--) {
		size_t first = count;
		for (size_t i = 0; i < count; i++)
			if (is_due(&decisions[i]) && !decisions[i].hibernate &&
			    (first == count || goes_before(facts, decisions, i, first)))
				first = i;
		if (first == count)
			return;
		put_away(&decisions[first]);
	}
}

static size_t free_slots(const struct idle_policy *policy, int under_way, size_t count)
{
	int most = policy->concurrency > 0 ? policy->concurrency : 1;
	if (policy->dry_run)
		return count;
	return under_way < most ? (size_t)(most - under_way) : 0;
}

/* Who of those that are due goes now. */
static void decide_turns(const struct idle_facts *facts, size_t count, size_t slots,
			 struct idle_decision *decisions)
{
	size_t due = 0;
	for (size_t i = 0; i < count; i++)
		due += is_due(&decisions[i]);
	if (due > slots)
		give_slots(facts, count, slots, decisions);
	for (size_t i = 0; i < count; i++) {
		struct idle_decision *d = &decisions[i];
		if (is_due(d) && due <= slots)
			put_away(d);
		else if (is_due(d) && !d->hibernate)
			d->reason = IDLE_CONCURRENCY;
	}
}

static void hold_until(const struct idle_facts *facts, struct idle_decision *decisions,
		       size_t count, wall_ms end)
{
	for (size_t i = 0; i < count; i++) {
		if (is_due(&decisions[i]) || decisions[i].reason == IDLE_DOZE) {
			decisions[i].reason = IDLE_QUIET_HOURS;
			decisions[i].to = facts[i].tier;
			decisions[i].next_at = end;
		}
	}
}

wall_ms idle_decide(const struct idle_policy *policy, const struct idle_facts *facts, size_t count,
		    int under_way, wall_ms now, struct idle_decision *decisions)
{
	wall_ms quiet_end = idle_quiet_until(policy, now);
	wall_ms next = policy->interval_ms > 0 && count ? later(now, policy->interval_ms) : NEVER;

	for (size_t i = 0; i < count; i++)
		decide_one(policy, &facts[i], now, &decisions[i]);
	if (quiet_end > now)
		hold_until(facts, decisions, count, quiet_end);
	decide_turns(facts, count, free_slots(policy, under_way, count), decisions);

	for (size_t i = 0; i < count; i++) {
		struct idle_decision *d = &decisions[i];
		if (d->next_at == NEVER || d->next_at <= now)
			d->next_at = 0;
		else
			next = earliest(next, d->next_at);
	}
	return next == NEVER ? 0 : next;
}
