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

/* In the same order; allocated, or NULL: out of memory, or one is no window. */
static struct idle_window *make_windows(char *const *texts, const char *option, size_t *count,
					struct error *e)
{
	*count = 0;
	while (texts && texts[*count])
		(*count)++;
	struct idle_window *windows = calloc(*count + 1, sizeof(*windows));
	if (!windows)
		error_set(e, ENOMEM, "out of memory");
	for (size_t i = 0; windows && i < *count; i++) {
		struct config_quiet quiet;
		if (config_quiet_parse(texts[i], &quiet) < 0) {
			error_set(e, EINVAL, "%s: \"%s\" is no such time", option, texts[i]);
			free(windows);
			return NULL;
		}
		windows[i] = (struct idle_window) {
			.from_minute = quiet.from_minute,
			.to_minute = quiet.to_minute,
			.weekdays = quiet.weekdays,
		};
	}
	return windows;
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
		.transparent = from->transparent,
		.doze_ms = from->doze_ms,
		.pressure_after_ms = from->pressure_after_ms,
		.stop_after_ms = from->stop_after_ms,
	};
}

static int make_all_windows(const struct config *config, struct idle_rules *to, struct error *e)
{
	to->policy.quiet = to->quiet = make_windows(config->idle.quiet_hours, "idle.quiet_hours",
						    &to->policy.quiet_count, e);
	bool made = to->quiet;
	for (size_t i = 0; made && i < to->rule_count; i++) {
		struct idle_rule *rule = &to->rules[i];
		rule->wake_ahead = make_windows(config->idle.rules[i].wake_ahead,
						"idle.rule.wake_ahead", &rule->wake_ahead_count, e);
		made = rule->wake_ahead;
	}
	return made ? 0 : -EINVAL;
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
	to->rule_count = config->idle.rule_count;
	for (size_t i = 0; i < to->rule_count; i++)
		to->rules[i] = make_rule(&config->idle.rules[i]);
	to->policy = (struct idle_policy) {
		.rules = to->rules,
		.rule_count = config->idle.rule_count,
		.utc_offset_minutes = (int)config->idle.utc_offset_minutes,
		.concurrency = (int)config->idle.concurrency,
		.dry_run = config->idle.dry_run,
		.pressure = config->idle.pressure,
		.interval_ms = config->idle.interval_ms,
	};
	to->needs_hub = rules_need_hub(&to->policy);
	int r = make_all_windows(config, to, e);
	if (r < 0)
		idle_rules_deinit(to);
	return r;
}

void idle_rules_deinit(struct idle_rules *rules)
{
	for (size_t i = 0; i < rules->rule_count; i++)
		free((struct idle_window *)rules->rules[i].wake_ahead);
	free(rules->rules);
	free(rules->quiet);
	*rules = (struct idle_rules) { 0 };
}
