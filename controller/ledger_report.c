/* SPDX-License-Identifier: Apache-2.0 */
/* The account as it is shown. */
#include "controller/ledger_private.h"

#include "base/cleanup.h"
#include "wire/codec.h"
#include "wire/text.h"

#include <string.h>

#define HOUR_MS 3600000.0
#define DAY_MS  86400000

static json_t *row_json(const struct db_account_row *row)
{
	const struct db_account_sums *s = &row->sums;
	double cost = s->machine + s->store;
	return json_pack("{s:o, s:I, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:o}", "key",
			 row->key ? wire_text(row->key) : json_null(), "users",
			 (json_int_t)row->users, "awake_hours", (double)s->awake_ms / HOUR_MS,
			 "open_hours", (double)s->open_ms / HOUR_MS, "always_on", s->always,
			 "machines", s->machine, "store", s->store, "cost", cost, "saved",
			 s->always - cost, "times",
			 cost > 0 ? json_real(s->always / cost) : json_null());
}

static int add_row(const struct db_account_row *row, void *arg)
{
	return json_array_append_new(arg, row_json(row));
}

static int report(struct controller *c, enum db_account_by by, int64_t from, json_t *rows,
		  struct error *e)
{
	return db_account_report(c->db, by, from, add_row, rows, e);
}

json_t *ledger_json(struct controller *c, enum db_account_by by, int64_t since_ms, struct error *e)
{
	static const struct db_account_row none = { 0 };
	const struct prices *p = &c->ledger->prices;
	cleanup_json json_t *total = json_array();
	cleanup_json json_t *rows = json_array();
	int r = ledger_settle(c, e);
	wall_ms now = c->ledger->settled_until;
	int64_t from = account_day(now - since_ms);
	if (r == 0)
		r = report(c, ACCOUNT_BY_ALL, from, total, e);
	if (r == 0 && by != ACCOUNT_BY_ALL)
		r = report(c, by, from, rows, e);
	if (r < 0)
		return NULL;
	if (!json_array_size(total))
		json_array_append_new(total, row_json(&none));
	return json_pack("{s:o, s:o, s:I, s:I, s:O, s:O}", "currency", wire_text(p->currency),
			 "as_of", wire_text(p->as_of), "from",
			 (json_int_t)(account_day_end(now - since_ms) - DAY_MS), "until",
			 (json_int_t)now, "total", json_array_get(total, 0), "rows", rows);
}

struct open {
	struct account_sums sums;
	wall_ms now;
};

static int add_open(const struct db_account *account, void *arg)
{
	struct open *open = arg;
	const struct account_basis basis = ledger_basis(account);
	if (account->since < open->now)
		account_add(&open->sums, &basis, open->now - account->since);
	return 0;
}

/* Without writing anything: it is asked often. */
int ledger_total(struct controller *c, struct db_account_sums *to, struct error *e)
{
	ledger_check_clock(c);
	struct open open = { .now = clock_wall() };
	int r = db_account_total(c->db, to, e);
	if (r == 0)
		r = db_account_each(c->db, add_open, &open, e);
	to->awake_ms += open.sums.awake_ms;
	to->open_ms += open.sums.open_ms;
	to->always += open.sums.always;
	to->machine += open.sums.machine;
	to->store += open.sums.store;
	return r;
}

/* --- groups --------------------------------------------------------------------------------------
 */

struct adding {
	struct controller *c;
	struct ledger_group *groups;
	size_t count;
	wall_ms from, now;
};

static void add_cost(const struct adding *a, const char *group, double cost)
{
	for (size_t i = 0; group && i < a->count; i++)
		if (strcmp(a->groups[i].name, group) == 0)
			a->groups[i].cost += cost;
}

static int add_days(const struct db_account_row *row, void *arg)
{
	add_cost(arg, row->key, row->sums.machine + row->sums.store);
	return 0;
}

/* As the Hub says now, which the account hears when it is charged next; else as it has them. */
static void add_to_groups(const struct adding *a, const struct db_account *account, double cost)
{
	const struct person *person = sessions_person(a->c, account->user);
	size_t i;
	json_t *group;
	if (person && person->groups) {
		for (char **own = person->groups; *own; own++)
			add_cost(a, *own, cost);
		return;
	}
	cleanup_json json_t *list = account->groups ? json_loads(account->groups, 0, NULL) : NULL;
	json_array_foreach (list, i, group)
		add_cost(a, json_string_value(group), cost);
}

/* What no day has yet. */
static int add_since(const struct db_account *account, void *arg)
{
	const struct adding *a = arg;
	const struct account_basis basis = ledger_basis(account);
	struct account_sums sums = { 0 };
	wall_ms since = account->since > a->from ? account->since : a->from;
	if (since >= a->now)
		return 0;
	account_add(&sums, &basis, a->now - since);
	add_to_groups(a, account, sums.machine + sums.store);
	return 0;
}

int ledger_groups(struct controller *c, wall_ms from, struct ledger_group *groups, size_t count,
		  struct error *e)
{
	ledger_check_clock(c);
	struct adding adding = { .c = c, .groups = groups, .count = count, .from = from };
	adding.now = clock_wall();
	int r = db_account_report(c->db, ACCOUNT_BY_GROUP, account_day(from), add_days, &adding, e);
	return r == 0 ? db_account_each(c->db, add_since, &adding, e) : r;
}

const char *ledger_currency(struct controller *c)
{
	return c->ledger->prices.currency;
}

const struct prices *ledger_prices(struct controller *c)
{
	return &c->ledger->prices;
}
