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
};

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

/* The end of the window `q` if the minute `m` (since 1970, local) lies in it, else 0. It may have
 * begun on the day before. */
static int64_t window_end(const struct quiet_hours *q, int64_t m)
{
	int length = ((q->to_minute - q->from_minute) % DAY_MINUTES + DAY_MINUTES) % DAY_MINUTES;
	unsigned weekdays = q->weekdays ? q->weekdays : ~0u;
	int64_t today = m / DAY_MINUTES;
	if (length == 0)
		length = DAY_MINUTES;
	for (int64_t day = today; day >= today - 1; day--) {
		int64_t from = day * DAY_MINUTES + q->from_minute;
		int weekday = (int)((day + 3) % 7); /* 1970-01-01 was a Thursday */
		if ((weekdays >> weekday & 1) && m >= from && m < from + length)
			return from + length;
	}
	return 0;
}

/* When the quiet hours around `now` end: `now` outside of them, NEVER if they cover the whole week.
 */
static wall_ms quiet_until(const struct idle_policy *policy, wall_ms now)
{
	int64_t first = now / MS_PER_MINUTE + policy->utc_offset_minutes;
	int64_t m = first;
	bool moved = true;
	while (moved) {
		moved = false;
		for (size_t i = 0; i < policy->quiet_count; i++) {
			int64_t end = window_end(&policy->quiet[i], m);
			moved = moved || end > m;
			m = latest(m, end);
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

/* Is it time, by the rule? Leaves IDLE_TIMEOUT or IDLE_MAX_AGE in what may be hibernated. */
static void decide_time(const struct idle_facts *f, wall_ms now, struct idle_decision *d)
{
	const struct idle_rule *rule = d->rule;
	wall_ms begun = f->started_at ? f->started_at : f->created_at;
	wall_ms idle_at = rule->timeout_ms > 0 ? later(d->person_at, rule->timeout_ms) : NEVER;
	wall_ms old_at = rule->max_age_ms > 0 && begun ? later(begun, rule->max_age_ms) : NEVER;
	wall_ms retry_at = f->refused_at ? later(f->refused_at, rule->refused_retry_ms) : 0;

	if (idle_at > now && old_at > now) {
		d->reason = rule->timeout_ms > 0 ? IDLE_PERSON : IDLE_EXEMPT;
		d->next_at = earliest(idle_at, old_at);
	} else if (retry_at > now) {
		d->reason = IDLE_REFUSED;
		d->next_at = retry_at;
	} else {
		d->reason = idle_at <= now ? IDLE_TIMEOUT : IDLE_MAX_AGE;
		d->next_at = NEVER;
	}
}

/* Everything but the quiet hours and whose turn it is. */
static void decide_one(const struct idle_policy *policy, const struct idle_facts *f, wall_ms now,
		       struct idle_decision *d)
{
	*d = (struct idle_decision) { .rule = idle_rule_for(policy, f), .next_at = NEVER };
	d->person_at = earliest(person_seen_at(f), now);
	if (!d->rule) {
		d->reason = IDLE_NO_RULE;
	} else if (d->rule->exempt) {
		d->reason = IDLE_EXEMPT;
	} else if (f->keep_awake_until > now) {
		d->reason = IDLE_KEEP_AWAKE;
		d->next_at = f->keep_awake_until;
	} else if (f->started_at && later(f->started_at, d->rule->min_uptime_ms) > now) {
		d->reason = IDLE_YOUNG;
		d->next_at = later(f->started_at, d->rule->min_uptime_ms);
	} else if (f->kernel_busy) {
		decide_busy(f, now, d);
	} else if (d->rule->cpu_threshold > 0 && !(f->cpu_share < d->rule->cpu_threshold)) {
		d->reason = IDLE_CPU; /* also when the share is not a number: not known */
	} else if (!d->person_at) {
		d->reason = IDLE_UNKNOWN;
	} else {
		decide_time(f, now, d);
	}
}

static bool is_due(const struct idle_decision *d)
{
	return d->reason == IDLE_TIMEOUT || d->reason == IDLE_MAX_AGE;
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
		decisions[first].hibernate = true;
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
			d->hibernate = true;
		else if (is_due(d) && !d->hibernate)
			d->reason = IDLE_CONCURRENCY;
	}
}

static void hold_until(struct idle_decision *decisions, size_t count, wall_ms end)
{
	for (size_t i = 0; i < count; i++) {
		if (is_due(&decisions[i])) {
			decisions[i].reason = IDLE_QUIET_HOURS;
			decisions[i].next_at = end;
		}
	}
}

wall_ms idle_decide(const struct idle_policy *policy, const struct idle_facts *facts, size_t count,
		    int under_way, wall_ms now, struct idle_decision *decisions)
{
	wall_ms quiet_end = quiet_until(policy, now);
	wall_ms next = policy->interval_ms > 0 && count ? later(now, policy->interval_ms) : NEVER;

	for (size_t i = 0; i < count; i++)
		decide_one(policy, &facts[i], now, &decisions[i]);
	if (quiet_end > now)
		hold_until(decisions, count, quiet_end);
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
