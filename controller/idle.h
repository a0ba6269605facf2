/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_CONTROLLER_IDLE_H
#define ELSA_CONTROLLER_IDLE_H

/* Passes of the idle policy (policies/idle.h) over the sessions. One thread. */

#include "controller/sessions.h"

#include <jansson.h>

struct idle_rules;

int idle_new(struct controller *c, struct error *e);
void idle_free(struct controller *c);
int idle_reload(struct controller *c, struct error *e); /* the config changed */

void idle_soon(
	struct controller *c); /* what it decides on has changed: a pass, when the loop runs */

/* A pass now; appends each decision to `decisions` (may be NULL). */
void idle_run(struct controller *c, json_t *decisions);

/* What the rules of another config would decide now, beside what those of this one do; appends each
 * to `decisions`. Nothing is done. */
int idle_try(struct controller *c, const struct config *config, json_t *decisions, struct error *e);

/* Everybody decides by these rules, until the ones before are given back likewise. */
void idle_swap_rules(struct controller *c, struct idle_rules *rules);

/* From what its hibernation was decided, if `who` asked for it: a new reference, or NULL. */
json_t *idle_inputs_for(const struct session *s, const char *who);

/* What the policy would decide now, with its inputs; null of one that does not run. A new
 * reference. */
json_t *idle_now_json(const struct session *s);
/* When it is put to sleep, or that may change by the passing of time alone, and to what; 0: never.
 */
wall_ms idle_foresee(const struct session *s, struct idle_decision *then);

/* The processor use that counts as work by the session's rule. */
double idle_cpu_threshold(struct session *s);

/* As a rule nothing is put to sleep now: until then; 0: it may be. */
wall_ms idle_quiet(const struct controller *c);
/* By its rule it would go on running now: somebody uses it, it works, or nobody knows. */
bool idle_in_use(struct session *s);
enum idle_tier idle_tier_of(const struct session *s); /* how deep it sleeps now */
/* What is to become of it when its node puts it away: woken, answered for, or nothing. */
enum session_wish idle_wish(struct session *s);
/* To sleep as its rule has it, unseen or by the Hub; of one that is not in use. */
void idle_put_away(struct session *s, const char *who, const char *why);
/* The same of one that may be in use: its user says so. */
void idle_sleep_now(struct session *s, const char *who, const char *why);

wall_ms idle_person_at(const struct session *s); /* last sign of a person */
char *idle_note(const struct session *s);
char *idle_explain(const struct session *s); /* why it is as it is; allocated, or NULL */

/* --- pure part ---------------------------------------------------------------------------------
 */

/* The config's rules as the policy wants them; borrows from the config. */
struct idle_rules {
	struct idle_policy policy;
	struct idle_rule *rules; /* owned, with their windows */
	size_t rule_count;
	struct idle_window *quiet; /* owned */
	bool needs_hub;            /* one asks for groups or admins */
};
int idle_rules_make(const struct config *config, struct idle_rules *to, struct error *e);
void idle_rules_deinit(struct idle_rules *rules);

#endif
