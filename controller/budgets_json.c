/* SPDX-License-Identifier: Apache-2.0 */
/* Budgets as the API, `elsa policy try` and /metrics show them. */
#include "controller/budgets_private.h"

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/fs.h"
#include "controller/api.h"
#include "controller/ledger.h"
#include "wire/text.h"

#include <string.h>

json_t *budgets_row_json(const struct budget_view *view, size_t i)
{
	const struct budget_rule *rule = &view->rules[i];
	const struct budget_decision *d = &view->decisions[i];
	return json_pack("{s:o, s:s, s:f, s:f, s:f, s:s, s:I, s:I, s:I, s:s}", "group",
			 wire_text(rule->group), "per", budget_per_name(rule->per), "amount",
			 rule->amount, "spent", view->facts[i].spent, "share", d->share, "level",
			 budget_level_name(d->level), "from", (json_int_t)d->from, "until",
			 (json_int_t)d->until, "timeout_ms", (json_int_t)rule->timeout_ms, "starts",
			 budget_starts_name(rule->starts));
}

static bool concerns(const struct session *s, const char *group)
{
	char **groups = s->person ? s->person->groups : NULL;
	for (; groups && *groups; groups++)
		if (strcmp(*groups, group) == 0)
			return true;
	return false;
}

json_t *budgets_json(const struct controller *c, const struct session *s)
{
	const struct budget_view *view = c->budgets->view;
	json_t *list = json_array();
	for (size_t i = 0; i < view->count; i++)
		if (!s || concerns(s, view->rules[i].group))
			json_array_append_new(list, budgets_row_json(view, i));
	return list;
}

void api_get_budgets(struct http_exchange *x, void *arg)
{
	struct controller *c = arg;
	http_reply_json(x, 200,
			json_pack("{s:s, s:o}", "currency", ledger_currency(c), "budgets",
				  budgets_json(c, NULL)));
}

static char *text_of(const struct budget_view *view, size_t i)
{
	const struct budget_rule *rule = &view->rules[i];
	const struct budget_decision *d = &view->decisions[i];
	cleanup_free char *timeout = NULL;
	char span[CLOCK_TEXT_SIZE];
	bool spent = d->level == BUDGET_SPENT;
	if (spent && rule->timeout_ms)
		timeout = str_printf("; asleep after %s",
				     clock_format_duration(rule->timeout_ms, span));
	return str_printf("%.0f %% of %g a %s: %s%s%s%s", 100 * d->share, rule->amount,
			  budget_per_name(rule->per), budget_level_name(d->level),
			  timeout ? timeout : "", spent && rule->starts ? "; starts: " : "",
			  spent && rule->starts ? budget_starts_name(rule->starts) : "");
}

/* One row for each group and time of which there is a budget now, or would be. */
json_t *budgets_decide_json(struct controller *c)
{
	const struct budget_view *view = c->budgets->view;
	json_t *rows = json_array();
	for (size_t i = 0; i < view->count; i++) {
		cleanup_free char *text = text_of(view, i);
		json_array_append_new(rows, json_pack("{s:o, s:s, s:s, s:s}", "group",
						      wire_text(view->rules[i].group), "per",
						      budget_per_name(view->rules[i].per), "level",
						      budget_level_name(view->decisions[i].level),
						      "text", text ? text : ""));
	}
	return rows;
}

/* A label's value: quotes, backslashes and newlines are escaped. */
static void add_label(struct buf *to, const char *text)
{
	for (; *text; text++) {
		if (*text == '\n')
			buf_printf(to, "\\n");
		else
			buf_printf(to, "%s%c", *text == '"' || *text == '\\' ? "\\" : "", *text);
	}
}

static void add_metric(struct buf *to, const struct budget_view *view, size_t i, const char *name,
		       double value)
{
	buf_printf(to, "%s{group=\"", name);
	add_label(to, view->rules[i].group);
	buf_printf(to, "\",per=\"%s\"} %.9g\n", budget_per_name(view->rules[i].per), value);
}

void budgets_add_metrics(struct controller *c, struct buf *to)
{
	const struct budget_view *view = c->budgets->view;
	if (!view->count)
		return;
	buf_printf(to, "# HELP elsa_budget_amount What a group may cost in its day or month.\n"
		       "# TYPE elsa_budget_amount gauge\n");
	for (size_t i = 0; i < view->count; i++)
		add_metric(to, view, i, "elsa_budget_amount", view->rules[i].amount);
	buf_printf(to, "# HELP elsa_budget_spent What it has cost in this one.\n"
		       "# TYPE elsa_budget_spent gauge\n");
	for (size_t i = 0; i < view->count; i++)
		add_metric(to, view, i, "elsa_budget_spent", view->facts[i].spent);
}
