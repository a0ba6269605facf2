/* SPDX-License-Identifier: Apache-2.0 */
#include "policies/budget.h"

#include "base/cleanup.h"
#include "base/names.h"

#include <string.h>

#define DAY_MS ((int64_t)86400 * 1000)

static const char *const level_names[BUDGET_LEVEL_COUNT] = {
	[BUDGET_WITHIN] = "within",
	[BUDGET_NEAR] = "near",
	[BUDGET_SPENT] = "spent",
};
static const char *const per_names[BUDGET_PER_COUNT] = {
	[BUDGET_DAY] = "day",
	[BUDGET_MONTH] = "month",
};
static const char *const starts_names[BUDGET_STARTS_COUNT] = {
	[BUDGET_ALLOW] = "allow",
	[BUDGET_SPOT] = "spot",
	[BUDGET_REFUSE] = "refuse",
};

/* --- days and months ---------------------------------------------------------------------- */

static int64_t day_of(wall_ms t)
{
	return t / DAY_MS - (t % DAY_MS < 0);
}

/*
 * Days since 1970 as a civil date of the Gregorian calendar, whose pattern repeats every 400 years
 * of 146,097 days. Years begin in March here, so that the leap day is the last of its year; the
 * months from March on have 31, 30, 31, 30, 31 days and so again, which (5 * day + 2) / 153 tells
 * apart.
 */
#define ERA_DAYS      146097
#define TO_MARCH_0000 719468 /* from 1970 */

static int64_t day_of_month(int64_t day)
{
	int64_t z = day + TO_MARCH_0000;
	int64_t era = z / ERA_DAYS - (z % ERA_DAYS < 0);
	int64_t of_era = z - era * ERA_DAYS;
	int64_t year = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
	int64_t of_year = of_era - (365 * year + year / 4 - year / 100);
	int64_t month = (5 * of_year + 2) / 153;
	return of_year - (153 * month + 2) / 5;
}

wall_ms budget_from(enum budget_per per, wall_ms now)
{
	int64_t day = day_of(now);
	return (per == BUDGET_MONTH ? day - day_of_month(day) : day) * DAY_MS;
}

/* No month has more than 31 days, nor fewer than 28: 31 days on it is the next one. */
wall_ms budget_until(enum budget_per per, wall_ms now)
{
	wall_ms from = budget_from(per, now);
	if (per != BUDGET_MONTH)
		return from + DAY_MS;
	return budget_from(BUDGET_MONTH, from + 31 * DAY_MS);
}

/* --- what is spent ------------------------------------------------------------------------ */

static enum budget_level level_of(const struct budget_rule *rule, double spent, double near)
{
	if (spent >= rule->amount)
		return BUDGET_SPENT;
	return spent >= near * rule->amount ? BUDGET_NEAR : BUDGET_WITHIN;
}

static struct budget_decision decide_one(const struct budget_rule *rule,
					 const struct budget_facts *f, double near, wall_ms now)
{
	struct budget_decision d = {
		.level = level_of(rule, f->spent, near),
		.from = budget_from(rule->per, now),
		.until = budget_until(rule->per, now),
		.share = rule->amount > 0 ? f->spent / rule->amount : 0,
	};
	/* A new day, or month, is told of only to whom the last one was. */
	enum budget_level told = f->told_of ? f->told : BUDGET_WITHIN;
	d.tell = d.level != told || (f->told_of && f->told_of != d.from && told > BUDGET_WITHIN);
	return d;
}

wall_ms budget_decide(const struct budget_rule *rules, const struct budget_facts *facts,
		      size_t count, double near, wall_ms now, struct budget_decision *decisions)
{
	wall_ms next = 0;
	for (size_t i = 0; i < count; i++) {
		decisions[i] = decide_one(&rules[i], &facts[i], near, now);
		if (!next || decisions[i].until < next)
			next = decisions[i].until;
	}
	return next;
}

static bool is_in(const char *const *groups, const char *group)
{
	for (; groups && *groups; groups++)
		if (strcmp(*groups, group) == 0)
			return true;
	return false;
}

struct budget_terms budget_terms_of(const struct budget_rule *rules,
				    const struct budget_decision *decisions, size_t count,
				    const char *const *groups)
{
	struct budget_terms t = { .timeout_of = -1, .starts_of = -1 };
	for (size_t i = 0; i < count; i++) {
		const struct budget_rule *rule = &rules[i];
		if (decisions[i].level != BUDGET_SPENT || !is_in(groups, rule->group))
			continue;
		if (rule->timeout_ms > 0 && (t.timeout_of < 0 || rule->timeout_ms < t.timeout_ms)) {
			t.timeout_ms = rule->timeout_ms;
			t.timeout_of = (int)i;
		}
		if (rule->starts > t.starts) {
			t.starts = rule->starts;
			t.starts_of = (int)i;
		}
	}
	return t;
}

/* --- names -------------------------------------------------------------------------------- */

const char *budget_level_name(enum budget_level level)
{
	return name_of(level_names, ARRAY_SIZE(level_names), (int)level);
}

const char *budget_per_name(enum budget_per per)
{
	return name_of(per_names, ARRAY_SIZE(per_names), (int)per);
}

const char *budget_starts_name(enum budget_starts starts)
{
	return name_of(starts_names, ARRAY_SIZE(starts_names), (int)starts);
}

int budget_per_of(const char *name)
{
	return value_of(per_names, ARRAY_SIZE(per_names), name);
}

int budget_starts_of(const char *name)
{
	return value_of(starts_names, ARRAY_SIZE(starts_names), name);
}
