/* SPDX-License-Identifier: Apache-2.0 */
/* The config's words for the idle policy as the policy's own. */
#include "controller/idle.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int admins_of(const char *word)
{
	if (word && strcmp(word, "only") == 0)
		return 1;
	if (word && strcmp(word, "not") == 0)
		return 0;
	return -1;
}

static struct idle_rule make_rule(const struct config_rule *from)
{
	return (struct idle_rule) {
		.name = from->name,
		.users = (const char *const *)from->users,
		.groups = (const char *const *)from->groups,
		.servers = (const char *const *)from->servers,
		.admins = admins_of(from->admins),
		.exempt = from->exempt,
		.timeout_ms = from->timeout_ms,
		.max_age_ms = from->max_age_ms,
		.min_uptime_ms = from->min_uptime_ms,
		.cpu_threshold = from->cpu_threshold,
		.stuck_busy_ms = from->stuck_busy_ms,
		.refused_retry_ms = from->refused_retry_ms,
	};
}

static int make_quiet(const struct config *config, struct idle_rules *to, struct error *e)
{
	size_t count = 0;
	while (config->idle.quiet_hours && config->idle.quiet_hours[count])
		count++;
	to->quiet = calloc(count + 1, sizeof(*to->quiet));
	if (!to->quiet)
		return error_set(e, ENOMEM, "out of memory");
	for (size_t i = 0; i < count; i++) {
		struct config_quiet quiet;
		if (config_quiet_parse(config->idle.quiet_hours[i], &quiet) < 0)
			return error_set(e, EINVAL, "idle.quiet_hours: \"%s\" is no such time",
					 config->idle.quiet_hours[i]);
		to->quiet[i] = (struct quiet_hours) {
			.from_minute = quiet.from_minute,
			.to_minute = quiet.to_minute,
			.weekdays = quiet.weekdays,
		};
	}
	to->policy.quiet = to->quiet;
	to->policy.quiet_count = count;
	return 0;
}

static bool rules_need_hub(const struct idle_policy *policy)
{
	for (size_t i = 0; i < policy->rule_count; i++)
		if (policy->rules[i].admins >= 0 ||
		    (policy->rules[i].groups && policy->rules[i].groups[0]))
			return true;
	return false;
}

int idle_rules_make(const struct config *config, struct idle_rules *to, struct error *e)
{
	*to = (struct idle_rules) { 0 };
	to->rules = calloc(config->idle.rule_count + 1, sizeof(*to->rules));
	if (!to->rules)
		return error_set(e, ENOMEM, "out of memory");
	for (size_t i = 0; i < config->idle.rule_count; i++)
		to->rules[i] = make_rule(&config->idle.rules[i]);
	to->policy = (struct idle_policy) {
		.rules = to->rules,
		.rule_count = config->idle.rule_count,
		.utc_offset_minutes = (int)config->idle.utc_offset_minutes,
		.concurrency = (int)config->idle.concurrency,
		.dry_run = config->idle.dry_run,
		.interval_ms = config->idle.interval_ms,
	};
	to->needs_hub = rules_need_hub(&to->policy);
	int r = make_quiet(config, to, e);
	if (r < 0)
		idle_rules_deinit(to);
	return r;
}

void idle_rules_deinit(struct idle_rules *rules)
{
	free(rules->rules);
	free(rules->quiet);
	*rules = (struct idle_rules) { 0 };
}
