/* SPDX-License-Identifier: Apache-2.0 */
#include "controller/idle.h"

#include "base/cleanup.h"
#include "base/fs.h"
#include "base/log.h"
#include "controller/asleep.h"
#include "controller/budgets.h"
#include "controller/hub.h"
#include "controller/idle_private.h"
#include "controller/nodes.h"
#include "controller/operations.h"
#include "controller/record.h"
#include "controller/retry.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PERSON_STEP_MS 60000 /* how stale the database's last sign of a person may be */
#define LOOK_MOST_MS   ((int64_t)24 * 3600 * 1000)

/* --- facts -------------------------------------------------------------------------------------
 */

static const struct idle_rule *rule_of(const struct session *s)
{
	const struct idle_facts facts = idle_facts_of(s);
	return idle_rule_for(&s->controller->idle->rules.policy, &facts);
}

double idle_cpu_threshold(struct session *s)
{
	const struct idle_rule *rule = rule_of(s);
	return rule ? rule->cpu_threshold : s->controller->config->idle.base.cpu_threshold;
}

bool idle_in_use(struct session *s)
{
	struct idle_facts facts = idle_facts_of(s);
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

wall_ms idle_quiet(const struct controller *c)
{
	wall_ms now = clock_wall();
	wall_ms until = idle_quiet_until(&c->idle->rules.policy, now);
	return until > now ? until : 0;
}

enum session_wish idle_wish(struct session *s)
{
	const struct idle_rule *rule = rule_of(s);
	/* One that slept and was put away by its node was woken before. */
	if (s->state == SESSION_ASLEEP || idle_in_use(s))
		return WISH_AWAKE;
	return rule && rule->transparent ? WISH_ANSWER : WISH_NONE;
}

static void put_to_sleep(struct session *s, bool unseen, const char *who, const char *why)
{
	struct error e = ERROR_INIT;
	const struct session_change change = { .event = EVENT_SLEEP, .who = who, .why = why };
	if (!unseen)
		hub_stop_server(s, who, why);
	else if (session_apply(s, &change, NULL, &e) < 0)
		log_warning("%s: it is not put to sleep: %s", s->label, e.text);
}

void idle_put_away(struct session *s, const char *who, const char *why)
{
	put_to_sleep(s, idle_wish(s) == WISH_ANSWER, who, why);
}

void idle_sleep_now(struct session *s, const char *who, const char *why)
{
	const struct idle_rule *rule = rule_of(s);
	put_to_sleep(s, rule && rule->transparent, who, why);
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

static int pass_collect(struct controller *c, const struct idle_rules *rules, struct pass *pass)
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
			*facts = idle_facts_of(s);
			idle_blind_if_unlisted(rules, s, facts);
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

static void record_change(struct session *s, const struct idle_facts *facts,
			  const struct idle_decision *d, bool dry_run)
{
	static const char *const would[] = { "would-wake", "would-doze", "would-sleep",
					     "would-hibernate" };
	int before = s->idle.known ? class_of(s->idle.reason) : IDLE_PERSON;
	const char *rule = d->rule && d->rule->name ? d->rule->name : "none";
	cleanup_free char *why = str_printf("%s rule=%s", idle_reason_name(d->reason), rule);
	bool moves = d->to != facts->tier;
	if (class_of(d->reason) == before || (moves && !dry_run))
		return;
	cleanup_json json_t *inputs = json_pack("{s:o*}", "idle", idle_inputs(facts, d));
	record_note(s->controller, &(struct record) { .session = s,
						      .who = IDLE_WHO,
						      .what = moves ? would[d->to] : "idle",
						      .why = why ? why : "?",
						      .detail = idle_reason_text(d->reason),
						      .inputs = inputs });
}

static void report_stuck(struct session *s, const struct idle_facts *facts,
			 const struct idle_decision *d)
{
	if (d->report && !s->idle.reported) {
		cleanup_json json_t *inputs = json_pack("{s:o*}", "idle", idle_inputs(facts, d));
		log_warning("%s: %s", s->label, idle_reason_text(d->reason));
		record_note(s->controller, &(struct record) { .session = s,
							      .who = IDLE_WHO,
							      .what = "stuck-busy",
							      .why = idle_reason_name(d->reason),
							      .detail = idle_reason_text(d->reason),
							      .inputs = inputs });
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
				       .who = IDLE_WHO,
				       .what = "hibernate-failed",
				       .why = json_string_value(json_object_get(error, "fault")),
				       .detail = text });
}

static void take_decision(struct session *s, const struct idle_facts *facts,
			  const struct idle_decision *d, bool dry_run)
{
	struct error e = ERROR_INIT;
	note_failure(s);
	record_change(s, facts, d, dry_run);
	report_stuck(s, facts, d);
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

static void apply_decision(struct session *s, enum session_event event, const char *why)
{
	struct error e = ERROR_INIT;
	const struct session_change change = { .event = event, .who = IDLE_WHO, .why = why };
	if (session_apply(s, &change, NULL, &e) < 0)
		log_warning("%s: %s: %s", s->label, session_event_name(event), e.text);
}

static void wake_ahead(struct session *s, const char *why)
{
	struct error e = ERROR_INIT;
	record_note(s->controller, &(struct record) { .session = s,
						      .who = IDLE_WHO,
						      .what = "wake-ahead",
						      .why = why,
						      .detail = idle_reason_text(IDLE_AHEAD) });
	if (asleep_rouse(s, IDLE_WHO, why, &e) < 0)
		log_warning("%s: %s", s->label, e.text);
}

/* What was decided of one that is to be another way than it is. */
static void move_to(struct session *s, const struct idle_facts *facts,
		    const struct idle_decision *d, wall_ms now)
{
	char away[CLOCK_TEXT_SIZE];
	cleanup_free char *made = str_printf("%s rule=%s away=%s", idle_reason_name(d->reason),
					     d->rule && d->rule->name ? d->rule->name : "none",
					     clock_format_duration(now - d->person_at, away));
	const char *why = made ? made : idle_reason_name(d->reason);
	s->idle.asked = d->hibernate;
	s->idle.asked_at = now;
	json_decref(s->idle.inputs);
	s->idle.inputs = idle_inputs(facts, d);
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
		hub_stop_server(s, IDLE_WHO, why);
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
		take_decision(pass->sessions[i], &pass->facts[i], &pass->decisions[i], dry_run);
		if (decisions)
			json_array_append_new(decisions,
					      idle_decision_json(pass->sessions[i],
								 &pass->decisions[i], dry_run));
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
	if (pass_collect(c, &c->idle->rules, &pass) == 0) {
		next = idle_decide(policy, pass.facts, pass.count, pass.under_way, now,
				   pass.decisions);
		take_all(c, &pass, decisions);
		for (size_t i = 0; i < pass.count && !policy->dry_run; i++)
			if (pass.decisions[i].to != pass.facts[i].tier)
				move_to(pass.sessions[i], &pass.facts[i], &pass.decisions[i], now);
	}
	pass_deinit(&pass);
	pass_again(c, next, now);
}

/* --- what other rules would decide --------------------------------------------------------------
 */

static json_t *compared(const struct session *s, const struct idle_decision *now,
			const struct idle_decision *then, const struct idle_rules *rules)
{
	bool dry_run = s->controller->idle->rules.policy.dry_run;
	json_t *shown = idle_decision_json(s, then, rules->policy.dry_run);
	json_t *before = idle_decision_json(s, now, dry_run);
	json_object_set_new(shown, "changed",
			    json_boolean(now->to != then->to || now->reason != then->reason ||
					 now->next_at != then->next_at));
	json_object_set_new(shown, "now", before);
	return shown;
}

int idle_try(struct controller *c, const struct config *config, json_t *decisions, struct error *e)
{
	struct idle_rules rules;
	struct pass now_pass = { 0 };
	struct pass then = { 0 };
	wall_ms now = clock_wall();
	struct budget_view *budgets = budgets_make(c, config, e);
	int r = budgets ? idle_rules_make(config, &rules, e) : -ENOMEM;
	if (r < 0) {
		budgets_view_free(budgets);
		return r;
	}
	r = pass_collect(c, &c->idle->rules, &now_pass);
	budgets_swap(c, &budgets);
	if (r == 0)
		r = pass_collect(c, &rules, &then);
	budgets_swap(c, &budgets);
	budgets_view_free(budgets);
	if (r < 0)
		error_set(e, ENOMEM, "out of memory");
	if (r == 0) {
		idle_decide(&c->idle->rules.policy, now_pass.facts, now_pass.count,
			    now_pass.under_way, now, now_pass.decisions);
		idle_decide(&rules.policy, then.facts, then.count, then.under_way, now,
			    then.decisions);
	}
	for (size_t i = 0; r == 0 && i < then.count; i++)
		json_array_append_new(decisions, compared(then.sessions[i], &now_pass.decisions[i],
							  &then.decisions[i], &rules));
	pass_deinit(&now_pass);
	pass_deinit(&then);
	idle_rules_deinit(&rules);
	return r;
}

void idle_swap_rules(struct controller *c, struct idle_rules *rules)
{
	struct idle_rules before = c->idle->rules;
	c->idle->rules = *rules;
	*rules = before;
}

static void time_for_pass(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	idle_run(arg, NULL);
}

/* --- the config --------------------------------------------------------------------------------
 */

void idle_soon(struct controller *c)
{
	if (c->idle)
		pass_again(c, 0, 0);
}

int idle_reload(struct controller *c, struct error *e)
{
	struct idle_rules rules;
	int r = idle_rules_make(c->config, &rules, e);
	if (r < 0)
		return r;
	idle_rules_deinit(&c->idle->rules);
	c->idle->rules = rules;
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
