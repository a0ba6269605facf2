/* SPDX-License-Identifier: Apache-2.0 */
#include "controller/budgets_private.h"

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/fs.h"
#include "base/log.h"
#include "controller/idle.h"
#include "controller/ledger.h"
#include "controller/record.h"
#include "controller/retry.h"
#include "wire/text.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define WHO      "budget"
#define LOOK_MS  15000
#define FIRST_MS 2000

/* --- a view --------------------------------------------------------------------------------------
 */

void budgets_view_free(struct budget_view *view)
{
	for (size_t i = 0; view && i < view->count; i++) {
		free((char *)view->rules[i].group);
		free(view->texts[i]);
	}
	if (view) {
		free(view->rules);
		free(view->facts);
		free(view->decisions);
		free(view->texts);
	}
	free(view);
}

static void view_freep(struct budget_view **view)
{
	budgets_view_free(*view);
}

static struct budget_view *view_of(const struct config *config)
{
	size_t count = config->budget.group_count;
	cleanup(view_freep) struct budget_view *view = calloc(1, sizeof(*view));
	if (!view)
		return NULL;
	view->near = config->budget.tell;
	view->rules = calloc(count + 1, sizeof(*view->rules));
	view->facts = calloc(count + 1, sizeof(*view->facts));
	view->decisions = calloc(count + 1, sizeof(*view->decisions));
	view->texts = calloc(count + 1, sizeof(*view->texts));
	if (!view->rules || !view->facts || !view->decisions || !view->texts)
		return NULL;
	for (; view->count < count; view->count++) {
		const struct config_budget *b = &config->budget.groups[view->count];
		view->rules[view->count] = (struct budget_rule) {
			.group = strdup(b->group),
			.per = (enum budget_per)budget_per_of(b->per),
			.amount = b->amount,
			.timeout_ms = b->timeout_ms,
			.starts = (enum budget_starts)budget_starts_of(b->starts),
		};
		if (!view->rules[view->count].group)
			return NULL;
	}
	return steal_ptr(&view);
}

/* All of one kind together: the account is read once for them. */
static int read_spent(struct controller *c, struct budget_view *view, enum budget_per per,
		      wall_ms now, struct error *e)
{
	cleanup_free struct ledger_group *groups = calloc(view->count + 1, sizeof(*groups));
	bool any = false;
	if (!groups)
		return error_set(e, ENOMEM, "out of memory");
	for (size_t i = 0; i < view->count; i++) {
		bool asked = view->rules[i].per == per;
		groups[i].name = asked ? view->rules[i].group : "";
		any = any || asked;
	}
	int r = any ? ledger_groups(c, budget_from(per, now), groups, view->count, e) : 0;
	for (size_t i = 0; r == 0 && i < view->count; i++)
		if (view->rules[i].per == per)
			view->facts[i].spent = groups[i].cost;
	return r;
}

static void take_told(const struct budgets_kept *kept, struct budget_view *view)
{
	for (size_t i = 0; i < view->count; i++) {
		const struct budget_told *told = budgets_told(kept, &view->rules[i]);
		view->facts[i].told = told ? (enum budget_level)told->level : BUDGET_WITHIN;
		view->facts[i].told_of = told ? told->of : 0;
	}
}

static void write_texts(struct controller *c, struct budget_view *view)
{
	for (size_t i = 0; i < view->count; i++) {
		const struct budget_rule *rule = &view->rules[i];
		free(view->texts[i]);
		view->texts[i] = str_printf("the budget of the group %s is spent (%.2f of %.2f %s "
					    "this %s)",
					    rule->group, view->facts[i].spent, rule->amount,
					    ledger_currency(c), budget_per_name(rule->per));
	}
}

static int read_view(struct controller *c, struct budget_view *view, struct error *e)
{
	wall_ms now = clock_wall();
	int r = 0;
	for (int per = 0; r == 0 && per < BUDGET_PER_COUNT; per++)
		r = read_spent(c, view, (enum budget_per)per, now, e);
	if (r < 0)
		return r;
	take_told(&c->budgets->kept, view);
	view->next_at = budget_decide(view->rules, view->facts, view->count, view->near, now,
				      view->decisions);
	write_texts(c, view);
	return 0;
}

struct budget_view *budgets_make(struct controller *c, const struct config *config, struct error *e)
{
	cleanup(view_freep) struct budget_view *view = view_of(config);
	if (!view) {
		error_set(e, ENOMEM, "out of memory");
		return NULL;
	}
	return read_view(c, view, e) < 0 ? NULL : steal_ptr(&view);
}

void budgets_swap(struct controller *c, struct budget_view **view)
{
	struct budget_view *before = c->budgets->view;
	c->budgets->view = *view;
	*view = before;
}

/* --- telling -------------------------------------------------------------------------------------
 */

static const char *const told_names[BUDGET_LEVEL_COUNT] = {
	[BUDGET_WITHIN] = "budget-renewed",
	[BUDGET_NEAR] = "budget-near",
	[BUDGET_SPENT] = "budget-spent",
};

/* In one transaction with what is kept of it. */
static int write_told(struct controller *c, const struct budget_view *view, size_t i,
		      struct error *e)
{
	const struct budget_rule *rule = &view->rules[i];
	const struct budget_decision *d = &view->decisions[i];
	cleanup_json json_t *inputs = json_pack("{s:o}", "budget", budgets_row_json(view, i));
	cleanup_free char *why =
		str_printf("group=%s per=%s", rule->group, budget_per_name(rule->per));
	cleanup_free char *detail = str_printf(
		"%.2f of %.2f %s of this %s are spent (%.0f %%)", view->facts[i].spent,
		rule->amount, ledger_currency(c), budget_per_name(rule->per), 100 * d->share);
	int r = budgets_keep(&c->budgets->kept, rule, d);
	if (r == 0)
		r = db_begin(c->db, e);
	if (r < 0)
		return r;
	r = budgets_save(c, e);
	if (r == 0)
		r = record_event(c,
				 &(struct record) { .who = WHO,
						    .what = told_names[d->level],
						    .why = why,
						    .detail = detail,
						    .inputs = inputs },
				 e);
	if (r == 0)
		r = db_commit(c->db, e);
	else
		db_rollback(c->db);
	if (r == 0)
		log_info("budget of %s: %s", rule->group, detail ? detail : "");
	return r;
}

/* With the next look it is told after all. */
static void take_back_told(struct controller *c, const struct budget_view *view, size_t i)
{
	const struct budget_facts *f = &view->facts[i];
	const struct budget_decision before = { .level = f->told, .from = f->told_of };
	budgets_keep(&c->budgets->kept, &view->rules[i], &before);
}

static void tell(struct controller *c, struct budget_view *view)
{
	for (size_t i = 0; i < view->count; i++) {
		struct error e = ERROR_INIT;
		if (!view->decisions[i].tell)
			continue;
		if (write_told(c, view, i, &e) == 0)
			continue;
		take_back_told(c, view, i);
		log_error("that the budget of %s is %s cannot be recorded: %s",
			  view->rules[i].group, budget_level_name(view->decisions[i].level),
			  e.text);
	}
}

/* --- a look --------------------------------------------------------------------------------------
 */

static void look(struct controller *c)
{
	struct error e = ERROR_INIT;
	struct budget_view *fresh = budgets_make(c, c->config, &e);
	if (!fresh) {
		log_error("what groups have spent cannot be read: %s", e.text);
		return;
	}
	bool told = false;
	for (size_t i = 0; i < fresh->count; i++)
		told = told || fresh->decisions[i].tell;
	budgets_swap(c, &fresh);
	budgets_view_free(fresh);
	tell(c, c->budgets->view);
	if (told)
		idle_soon(c);
}

static void time_to_look(evutil_socket_t fd, short what, void *arg)
{
	struct controller *c = arg;
	(void)fd;
	(void)what;
	look(c);
	if (c->config->budget.group_count == 0)
		return;
	int64_t left = c->budgets->view->next_at - clock_wall();
	const struct timeval again = retry_timeval(left > 0 && left < LOOK_MS ? left + 1 : LOOK_MS);
	event_add(c->budgets->timer, &again);
}

/* --- what follows --------------------------------------------------------------------------------
 */

int64_t budgets_timeout(const struct session *s)
{
	const struct budgets *own = s->controller->budgets;
	const struct budget_view *view = own ? own->view : NULL;
	char **groups = s->person ? s->person->groups : NULL;
	if (!view || !view->count)
		return 0;
	return budget_terms_of(view->rules, view->decisions, view->count,
			       (const char *const *)groups)
		.timeout_ms;
}

static int refuse(const struct budget_view *view, int i, struct error *e)
{
	char until[CLOCK_TEXT_SIZE];
	int r = error_fault(e, FAULT_REFUSED, "no session is started anew: %s", view->texts[i]);
	return error_remedy(e, r,
			    "there is a new one from %s on; before that the administrator can "
			    "raise it in elsa.toml. What sleeps is woken all the same",
			    clock_format(view->decisions[i].until, until));
}

int budgets_check_start(const struct session *s, const json_t *told, const char **spot,
			struct error *e)
{
	const struct budget_view *view = s->controller->budgets->view;
	const struct person *person =
		s->person ? s->person : sessions_person(s->controller, s->row.user);
	size_t count = told ? json_array_size(told) : 0;
	cleanup_free const char **groups = calloc(count + 1, sizeof(*groups));
	*spot = NULL;
	if (!groups)
		return error_set(e, ENOMEM, "out of memory");
	for (size_t i = 0; i < count; i++)
		groups[i] = json_string_value(json_array_get(told, i));
	const char *const *known = person ? (const char *const *)person->groups : NULL;
	const struct budget_terms t =
		budget_terms_of(view->rules, view->decisions, view->count, told ? groups : known);
	if (t.starts == BUDGET_REFUSE)
		return refuse(view, t.starts_of, e);
	if (t.starts == BUDGET_SPOT)
		*spot = view->texts[t.starts_of];
	return 0;
}

const char *budgets_spot_again(const struct session *s)
{
	const char *spot;
	return budgets_check_start(s, NULL, &spot, NULL) < 0 ? NULL : spot;
}

/* --- life ----------------------------------------------------------------------------------------
 */

int budgets_new(struct controller *c, struct error *e)
{
	c->budgets = calloc(1, sizeof(*c->budgets));
	if (!c->budgets)
		return error_set(e, ENOMEM, "out of memory");
	int r = budgets_load(c, e);
	if (r < 0)
		return r;
	/* What was spent before counts from the first moment. */
	c->budgets->view = budgets_make(c, c->config, e);
	if (!c->budgets->view)
		return -ENOMEM;
	c->budgets->timer = evtimer_new(c->base, time_to_look, c);
	if (!c->budgets->timer)
		return error_set(e, ENOMEM, "out of memory");
	const struct timeval soon = retry_timeval(FIRST_MS);
	event_add(c->budgets->timer, &soon);
	return 0;
}

void budgets_reload(struct controller *c)
{
	static const struct timeval now;
	event_add(c->budgets->timer, &now);
}

void budgets_free(struct controller *c)
{
	if (!c->budgets)
		return;
	budgets_view_free(c->budgets->view);
	budgets_kept_deinit(&c->budgets->kept);
	if (c->budgets->timer)
		event_free(c->budgets->timer);
	free(c->budgets);
	c->budgets = NULL;
}
