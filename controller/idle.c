/* SPDX-License-Identifier: Apache-2.0 */
#include "controller/idle.h"

#include "base/cleanup.h"
#include "base/fs.h"
#include "base/log.h"
#include "controller/asleep.h"
#include "controller/hub.h"
#include "controller/nodes.h"
#include "controller/operations.h"
#include "controller/record.h"
#include "controller/retry.h"
#include "wire/text.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define WHO            "idle-policy"
#define PERSON_STEP_MS 60000 /* how stale the database's last sign of a person may be */
#define LOOK_MOST_MS   ((int64_t)24 * 3600 * 1000)

struct idle {
	struct event *timer;
	struct idle_rules rules;
	bool needs_hub; /* a rule asks for groups or admins */
};

/* --- facts -------------------------------------------------------------------------------------
 */

static enum idle_tier tier_of(const struct session *s)
{
	return s->state == SESSION_DOZING   ? IDLE_DOZING
	       : s->state == SESSION_ASLEEP ? IDLE_ASLEEP
					    : IDLE_AWAKE;
}

static struct idle_facts facts_of(const struct session *s)
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
		.tier = tier_of(s),
		.slept_at = s->row.slept_at,
		.person_at = idle_person_at(s),
		.can_doze = info->doze,
		.doze_refused_at = s->idle.doze_refused_at,
		.pressure = info->pressure_known ? info->pressure_some : 0,
	};
}

/* Rules that ask for groups or admins need to know them: until the Hub told, nothing is known of
 * the session at all, and what is not known stays awake. */
static void blind_if_unlisted(const struct idle *idle, const struct session *s,
			      struct idle_facts *facts)
{
	if (!idle->needs_hub || s->person->listed_in)
		return;
	facts->server_seen = false;
	facts->hub_activity_at = 0;
	facts->kernel_activity_at = facts->terminal_activity_at = facts->request_at = 0;
	facts->person_at = facts->slept_at = 0;
}

static const struct idle_rule *rule_of(const struct session *s)
{
	const struct idle_facts facts = facts_of(s);
	return idle_rule_for(&s->controller->idle->rules.policy, &facts);
}

double idle_cpu_threshold(struct session *s)
{
	const struct idle_rule *rule = rule_of(s);
	return rule ? rule->cpu_threshold : s->controller->config->idle.base.cpu_threshold;
}

bool idle_in_use(struct session *s)
{
	struct idle_facts facts = facts_of(s);
	struct idle_policy policy = s->controller->idle->rules.policy;
	struct idle_decision decision = { 0 };
	if (facts.tier != IDLE_AWAKE)
		return false;
	/* What only puts a hibernation off says nothing about its use. */
	policy.quiet_count = 0;
	policy.concurrency = 1;
	policy.dry_run = false;
	facts.refused_at = 0;
	/* Who asks has just lost its machine, or is about to: that it does not answer now says
	 * nothing, and what it said last counts. */
	facts.server_seen |= s->seen.server_heard;
	idle_decide(&policy, &facts, 1, 0, clock_wall(), &decision);
	return !decision.hibernate;
}

enum session_wish idle_wish(struct session *s)
{
	const struct idle_rule *rule = rule_of(s);
	/* One that slept and was put away by its node was woken before. */
	if (s->state == SESSION_ASLEEP || idle_in_use(s))
		return WISH_AWAKE;
	return rule && rule->transparent ? WISH_ANSWER : WISH_NONE;
}

void idle_put_away(struct session *s, const char *who, const char *why)
{
	struct error e = ERROR_INIT;
	const struct session_change change = { .event = EVENT_SLEEP, .who = who, .why = why };
	if (idle_wish(s) != WISH_ANSWER)
		hub_stop_server(s, who, why);
	else if (session_apply(s, &change, NULL, &e) < 0)
		log_warning("%s: it is not put to sleep: %s", s->label, e.text);
}

wall_ms idle_person_at(const struct session *s)
{
	return s->idle.person_at > s->row.person_at ? s->idle.person_at : s->row.person_at;
}

/* --- a pass ------------------------------------------------------------------------------------
 */

struct pass {
	struct session **sessions;
	struct idle_facts *facts;
	struct idle_decision *decisions;
	size_t count;
	int under_way;
};

static void pass_deinit(struct pass *pass)
{
	free(pass->sessions);
	free(pass->facts);
	free(pass->decisions);
}

static bool being_hibernated(const struct session *s)
{
	return s->state == SESSION_CHECKPOINTING || operation_waiting(s, EFFECT_HIBERNATE);
}

static int pass_collect(struct controller *c, struct pass *pass)
{
	size_t most = sessions_count(c) + 1;
	pass->sessions = calloc(most, sizeof(*pass->sessions));
	pass->facts = calloc(most, sizeof(*pass->facts));
	pass->decisions = calloc(most, sizeof(*pass->decisions));
	if (!pass->sessions || !pass->facts || !pass->decisions)
		return -ENOMEM;
	for (struct session *s = sessions_first(c); s; s = sessions_next(s)) {
		if (being_hibernated(s))
			pass->under_way++;
		else if (session_is_its_nodes(s)) {
			struct idle_facts *facts = &pass->facts[pass->count];
			pass->sessions[pass->count++] = s;
			*facts = facts_of(s);
			blind_if_unlisted(c->idle, s, facts);
		}
	}
	return 0;
}

/* Reasons that come and go while somebody works are one to the record. */
static int class_of(enum idle_reason reason)
{
	switch (reason) {
	case IDLE_YOUNG:
	case IDLE_KERNEL_BUSY:
	case IDLE_CPU:
	case IDLE_SLEEPS:
		return IDLE_PERSON;
	default:
		return (int)reason;
	}
}

static void record_change(struct session *s, const struct idle_decision *d, bool dry_run)
{
	static const char *const would[] = { "would-wake", "would-doze", "would-sleep",
					     "would-hibernate" };
	int before = s->idle.known ? class_of(s->idle.reason) : IDLE_PERSON;
	const char *rule = d->rule && d->rule->name ? d->rule->name : "none";
	cleanup_free char *why = str_printf("%s rule=%s", idle_reason_name(d->reason), rule);
	bool moves = d->to != tier_of(s);
	if (class_of(d->reason) == before || (moves && !dry_run))
		return;
	record_note(s->controller, &(struct record) { .session = s,
						      .who = WHO,
						      .what = moves ? would[d->to] : "idle",
						      .why = why ? why : "?",
						      .detail = idle_reason_text(d->reason) });
}

static void report_stuck(struct session *s, const struct idle_decision *d)
{
	if (d->report && !s->idle.reported) {
		log_warning("%s: %s", s->label, idle_reason_text(d->reason));
		record_note(s->controller,
			    &(struct record) { .session = s,
					       .who = WHO,
					       .what = "stuck-busy",
					       .why = idle_reason_name(d->reason),
					       .detail = idle_reason_text(d->reason) });
	}
	s->idle.reported = d->report;
}

/* What became of the last hibernation we asked the Hub for. What CRIU refused is on record. */
static void note_failure(struct session *s)
{
	struct operation *op = s->operation;
	const json_t *error = op && op->outcome ? json_object_get(op->outcome, "error") : NULL;
	const char *text = json_string_value(json_object_get(error, "text"));
	if (!s->idle.asked || (op && operation_running(op)))
		return;
	s->idle.asked = false;
	if (!text || s->row.refused_at >= s->idle.asked_at || strcmp(text, s->idle.failure) == 0)
		return;
	snprintf(s->idle.failure, sizeof(s->idle.failure), "%s", text);
	record_note(s->controller,
		    &(struct record) { .session = s,
				       .who = WHO,
				       .what = "hibernate-failed",
				       .why = json_string_value(json_object_get(error, "fault")),
				       .detail = text });
}

static void take_decision(struct session *s, const struct idle_decision *d, bool dry_run)
{
	struct error e = ERROR_INIT;
	note_failure(s);
	record_change(s, d, dry_run);
	report_stuck(s, d);
	s->idle.known = true;
	s->idle.reason = d->reason;
	s->idle.next_at = d->next_at;
	if (d->person_at > s->idle.person_at)
		s->idle.person_at = d->person_at;
	snprintf(s->idle.rule, sizeof(s->idle.rule), "%s",
		 d->rule && d->rule->name ? d->rule->name : "");
	if (s->idle.person_at - s->row.person_at >= PERSON_STEP_MS &&
	    session_record_person(s, s->idle.person_at, &e) < 0)
		log_error("%s: %s", s->label, e.text);
}

static json_t *decision_json(const struct session *s, const struct idle_decision *d, bool dry_run)
{
	return json_pack("{s:o, s:o, s:b, s:s, s:b, s:b, s:s, s:s, s:o, s:I, s:I}", "user",
			 wire_text(s->row.user), "server", wire_text(s->row.server), "hibernate",
			 (int)d->hibernate, "to", idle_tier_name(d->to), "dry_run", (int)dry_run,
			 "report", (int)d->report, "reason", idle_reason_name(d->reason), "text",
			 idle_reason_text(d->reason), "rule",
			 d->rule && d->rule->name ? wire_text(d->rule->name) : json_null(),
			 "person_at", (json_int_t)d->person_at, "next_at", (json_int_t)d->next_at);
}

static void apply_decision(struct session *s, enum session_event event, const char *why)
{
	struct error e = ERROR_INIT;
	const struct session_change change = { .event = event, .who = WHO, .why = why };
	if (session_apply(s, &change, NULL, &e) < 0)
		log_warning("%s: %s: %s", s->label, session_event_name(event), e.text);
}

static void wake_ahead(struct session *s, const char *why)
{
	struct error e = ERROR_INIT;
	record_note(s->controller, &(struct record) { .session = s,
						      .who = WHO,
						      .what = "wake-ahead",
						      .why = why,
						      .detail = idle_reason_text(IDLE_AHEAD) });
	if (asleep_rouse(s, WHO, why, &e) < 0)
		log_warning("%s: %s", s->label, e.text);
}

/* What was decided of one that is to be another way than it is. */
static void move_to(struct session *s, const struct idle_decision *d, wall_ms now)
{
	char away[CLOCK_TEXT_SIZE];
	cleanup_free char *made = str_printf("%s rule=%s away=%s", idle_reason_name(d->reason),
					     d->rule && d->rule->name ? d->rule->name : "none",
					     clock_format_duration(now - d->person_at, away));
	const char *why = made ? made : idle_reason_name(d->reason);
	s->idle.asked = d->hibernate;
	s->idle.asked_at = now;
	switch (d->to) {
	case IDLE_AWAKE:
		wake_ahead(s, why);
		return;
	case IDLE_DOZING:
		apply_decision(s, EVENT_DOZE, why);
		return;
	case IDLE_ASLEEP:
		apply_decision(s, EVENT_SLEEP, why);
		return;
	case IDLE_STOPPED:
		hub_stop_server(s, WHO, why);
		return;
	}
}

/* One transaction for all that a pass records; what it does comes after. */
static void take_all(struct controller *c, const struct pass *pass, json_t *decisions)
{
	struct error e = ERROR_INIT;
	bool dry_run = c->idle->rules.policy.dry_run;
	bool open = db_begin(c->db, &e) == 0;
	for (size_t i = 0; i < pass->count; i++) {
		take_decision(pass->sessions[i], &pass->decisions[i], dry_run);
		if (decisions)
			json_array_append_new(
				decisions,
				decision_json(pass->sessions[i], &pass->decisions[i], dry_run));
	}
	if (!open || db_commit(c->db, &e) < 0)
		log_error("a pass of the idle policy cannot be recorded: %s", e.text);
}

static void pass_again(struct controller *c, wall_ms next, wall_ms now)
{
	int64_t delay = next ? next - now : c->config->idle.interval_ms;
	if (delay > LOOK_MOST_MS)
		delay = LOOK_MOST_MS;
	const struct timeval time = retry_timeval(delay < 50 ? 50 : delay);
	event_add(c->idle->timer, &time);
}

void idle_run(struct controller *c, json_t *decisions)
{
	struct pass pass = { 0 };
	const struct idle_policy *policy = &c->idle->rules.policy;
	wall_ms now = clock_wall();
	wall_ms next = 0;
	if (pass_collect(c, &pass) == 0) {
		next = idle_decide(policy, pass.facts, pass.count, pass.under_way, now,
				   pass.decisions);
		take_all(c, &pass, decisions);
		for (size_t i = 0; i < pass.count && !policy->dry_run; i++)
			if (pass.decisions[i].to != pass.facts[i].tier)
				move_to(pass.sessions[i], &pass.decisions[i], now);
	}
	pass_deinit(&pass);
	pass_again(c, next, now);
}

static void time_for_pass(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	idle_run(arg, NULL);
}

/* --- the config --------------------------------------------------------------------------------
 */

static bool rules_need_hub(const struct idle_policy *policy)
{
	for (size_t i = 0; i < policy->rule_count; i++)
		if (policy->rules[i].admins >= 0 ||
		    (policy->rules[i].groups && policy->rules[i].groups[0]))
			return true;
	return false;
}

int idle_reload(struct controller *c, struct error *e)
{
	struct idle_rules rules;
	int r = idle_rules_make(c->config, &rules, e);
	if (r < 0)
		return r;
	idle_rules_deinit(&c->idle->rules);
	c->idle->rules = rules;
	c->idle->needs_hub = rules_need_hub(&rules.policy);
	pass_again(c, 0, 0);
	return 0;
}

int idle_new(struct controller *c, struct error *e)
{
	c->idle = calloc(1, sizeof(*c->idle));
	if (!c->idle)
		return error_set(e, ENOMEM, "out of memory");
	c->idle->timer = evtimer_new(c->base, time_for_pass, c);
	if (!c->idle->timer)
		return error_set(e, ENOMEM, "out of memory");
	return idle_reload(c, e);
}

void idle_free(struct controller *c)
{
	if (!c->idle)
		return;
	if (c->idle->timer)
		event_free(c->idle->timer);
	idle_rules_deinit(&c->idle->rules);
	free(c->idle);
	c->idle = NULL;
}
