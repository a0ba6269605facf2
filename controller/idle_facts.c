/* SPDX-License-Identifier: Apache-2.0 */
/* What the idle policy is told of a session, and what it says, as it is shown and recorded. */
#include "controller/idle_private.h"

#include "controller/budgets.h"
#include "controller/node.h"
#include "wire/text.h"

#include <math.h>
#include <string.h>

enum idle_tier idle_tier_of(const struct session *s)
{
	return s->state == SESSION_DOZING   ? IDLE_DOZING
	       : s->state == SESSION_ASLEEP ? IDLE_ASLEEP
					    : IDLE_AWAKE;
}

struct idle_facts idle_facts_of(const struct session *s)
{
	const struct seen *seen = &s->seen;
	const struct node_info *info = &s->node->info;
	return (struct idle_facts) {
		.user = s->row.user,
		.server = s->row.server,
		.groups = s->person ? (const char *const *)s->person->groups : NULL,
		.admin = s->person && s->person->admin,
		.started_at = s->row.started_at,
		.created_at = s->row.created_at,
		.kernel_activity_at = seen->kernel_activity_at,
		.terminal_activity_at = seen->terminal_activity_at,
		.request_at = seen->request_at,
		.hub_activity_at = seen->hub_activity_at,
		.server_seen = seen->server_seen,
		.kernel_busy = seen->kernel_busy,
		.busy_since = seen->busy_since,
		.cpu_share = seen->cpu_share,
		.cpu_quiet_since = seen->cpu_quiet_since,
		.keep_awake_until = s->row.keep_awake_until,
		.refused_at = s->row.refused_at,
		.memory_bytes = seen->rss_bytes,
		.tier = idle_tier_of(s),
		.slept_at = s->row.slept_at,
		.person_at = idle_person_at(s),
		.can_doze = info->doze,
		.doze_refused_at = s->idle.doze_refused_at,
		.pressure = info->pressure_known ? info->pressure_some : 0,
		.budget_timeout_ms = budgets_timeout(s),
	};
}

/* Rules that ask for groups or admins need to know them: until the Hub told, nothing is known of
 * the session at all, and what is not known stays awake. */
void idle_blind_if_unlisted(const struct idle_rules *rules, const struct session *s,
			    struct idle_facts *facts)
{
	if (!rules->needs_hub || s->person->listed_in)
		return;
	facts->server_seen = false;
	facts->hub_activity_at = 0;
	facts->kernel_activity_at = facts->terminal_activity_at = facts->request_at = 0;
	facts->person_at = facts->slept_at = 0;
}

static json_t *rule_json(const struct idle_rule *rule)
{
	if (!rule)
		return json_null();
	return json_pack("{s:o, s:b, s:I, s:I, s:I, s:f, s:I, s:I}", "name",
			 rule->name ? wire_text(rule->name) : json_null(), "exempt",
			 (int)rule->exempt, "timeout_ms", (json_int_t)rule->timeout_ms,
			 "max_age_ms", (json_int_t)rule->max_age_ms, "min_uptime_ms",
			 (json_int_t)rule->min_uptime_ms, "cpu_threshold", rule->cpu_threshold,
			 "stuck_busy_ms", (json_int_t)rule->stuck_busy_ms, "refused_retry_ms",
			 (json_int_t)rule->refused_retry_ms);
}

json_t *idle_inputs(const struct idle_facts *f, const struct idle_decision *d)
{
	return json_pack(
		"{s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:b, s:b, s:I, s:o, s:I, s:I, s:I, s:I, s:o}",
		"reason", idle_reason_name(d->reason), "person_at", (json_int_t)d->person_at,
		"started_at", (json_int_t)f->started_at, "kernel_activity_at",
		(json_int_t)f->kernel_activity_at, "terminal_activity_at",
		(json_int_t)f->terminal_activity_at, "request_at", (json_int_t)f->request_at,
		"hub_activity_at", (json_int_t)f->hub_activity_at, "server_seen",
		(int)f->server_seen, "kernel_busy", (int)f->kernel_busy, "busy_since",
		(json_int_t)f->busy_since, "cpu_share",
		isnan(f->cpu_share) ? json_null() : json_real(f->cpu_share), "cpu_quiet_since",
		(json_int_t)f->cpu_quiet_since, "keep_awake_until", (json_int_t)f->keep_awake_until,
		"refused_at", (json_int_t)f->refused_at, "budget_timeout_ms",
		(json_int_t)f->budget_timeout_ms, "rule", rule_json(d->rule));
}

static struct idle_decision decide(const struct session *s, wall_ms now, struct idle_facts *facts)
{
	struct idle_decision decision = { 0 };
	const struct idle_rules *rules = &s->controller->idle->rules;
	*facts = idle_facts_of(s);
	idle_blind_if_unlisted(rules, s, facts);
	idle_decide(&rules->policy, facts, 1, 0, now, &decision);
	return decision;
}

json_t *idle_now_json(const struct session *s)
{
	struct idle_facts facts;
	if (!session_is_its_nodes(s))
		return json_null();
	const struct idle_decision d = decide(s, clock_wall(), &facts);
	json_t *shown = idle_decision_json(s, &d, s->controller->idle->rules.policy.dry_run);
	json_object_set_new(shown, "inputs", idle_inputs(&facts, &d));
	return shown;
}

wall_ms idle_foresee(const struct session *s, struct idle_decision *then)
{
	struct idle_facts facts;
	wall_ms now = clock_wall();
	const struct idle_decision d = decide(s, now, &facts);
	if (d.to != facts.tier) {
		*then = d;
		return now;
	}
	if (d.next_at)
		*then = decide(s, d.next_at, &facts);
	return d.next_at;
}

json_t *idle_inputs_for(const struct session *s, const char *who)
{
	return who && strcmp(who, IDLE_WHO) == 0 ? json_incref(s->idle.inputs) : NULL;
}

json_t *idle_decision_json(const struct session *s, const struct idle_decision *d, bool dry_run)
{
	return json_pack("{s:o, s:o, s:b, s:s, s:b, s:b, s:s, s:s, s:o, s:I, s:I}", "user",
			 wire_text(s->row.user), "server", wire_text(s->row.server), "hibernate",
			 (int)d->hibernate, "to", idle_tier_name(d->to), "dry_run", (int)dry_run,
			 "report", (int)d->report, "reason", idle_reason_name(d->reason), "text",
			 idle_reason_text(d->reason), "rule",
			 d->rule && d->rule->name ? wire_text(d->rule->name) : json_null(),
			 "person_at", (json_int_t)d->person_at, "next_at", (json_int_t)d->next_at);
}
