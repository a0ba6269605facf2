/* SPDX-License-Identifier: Apache-2.0 */
#include "controller/ledger.h"

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/fs.h"
#include "base/log.h"
#include "controller/ledger_private.h"
#include "controller/nodes.h"
#include "controller/placing.h"
#include "controller/record.h"
#include "controller/rows.h"
#include "policies/account.h"
#include "wire/codec.h"
#include "wire/text.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define WHO            "account"
#define PASS_MS        60000
#define PASSES_OF_ALL  10
#define FIRST_MS       1000
#define CATALOGUE_MOST ((size_t)1 << 20)

/* --- charging ------------------------------------------------------------------------------------
 */

struct account_basis ledger_basis(const struct db_account *a)
{
	return (struct account_basis) {
		.awake = a->awake,
		.held_bytes = a->held_bytes,
		.whole_bytes = a->whole_bytes,
		.stored_bytes = a->stored_bytes,
		.machine_gib_hour = a->machine_gib_hour,
		.demand_gib_hour = a->demand_gib_hour,
		.store_gib_hour = a->store_gib_hour,
	};
}

static int add(struct db *db, const struct db_account *a, wall_ms at,
	       const struct account_sums *sums, struct error *e)
{
	const struct db_account_sums row = {
		.awake_ms = sums->awake_ms,
		.open_ms = sums->open_ms,
		.always = sums->always,
		.machine = sums->machine,
		.store = sums->store,
	};
	bool nothing = !row.awake_ms && !row.open_ms && row.store <= 0;
	return nothing ? 0
		       : db_account_add(db, account_day(at), a->user, a->server, a->groups, &row,
					e);
}

int ledger_charge(struct db *db, struct db_account *a, wall_ms now, struct error *e)
{
	const struct account_basis basis = ledger_basis(a);
	int r = 0;
	/* What lies ahead was counted before the clock was put back by less than is noticed. */
	while (r == 0 && a->since < now) {
		struct account_sums sums = { 0 };
		wall_ms end = account_day_end(a->since);
		end = end < now ? end : now;
		account_add(&sums, &basis, end - a->since);
		r = add(db, a, a->since, &sums, e);
		a->since = end;
	}
	return r;
}

static int charge_requests(struct controller *c, const struct db_account *a,
			   const struct ledger_step *step, struct error *e)
{
	const struct prices *p = &c->ledger->prices;
	const struct account_sums sums = {
		.store = step->puts * p->put_thousand / 1000 + step->gets * p->get_thousand / 1000,
	};
	return add(c->db, a, step->now, &sums, e);
}

/* --- by what a session is charged ----------------------------------------------------------------
 */

/* The user's groups, where the Hub has told them. */
static void take_groups(const struct session *s, struct db_account *to)
{
	cleanup_json json_t *list = json_array();
	char **groups = s->person ? s->person->groups : NULL;
	if (!groups)
		return;
	for (char **group = groups; *group; group++)
		json_array_append_new(list, wire_text(*group));
	cleanup_free char *text = json_dumps(list, JSON_COMPACT);
	replace_text(&to->groups, text);
}

/* What memory costs on a machine, by its type and price as told. False: not known yet. */
static bool node_memory_price(const struct node *node, const char *type, const char *price,
			      struct price_memory *to)
{
	const struct controller *c = node->controller;
	const struct node_info *info = &node->info;
	double host_hour = c->config->account.host_hour;
	bool spot = price && strcmp(price, "spot") == 0;
	*to = prices_memory(&c->ledger->prices, type, spot);
	if (!node->local || host_hour <= 0)
		return true;
	if (info->memory_bytes <= 0)
		return false;
	to->machine = to->demand = host_hour / ((double)info->memory_bytes / (1 << 30));
	return true;
}

/* The machine, as it says itself; before it has said anything, as it was. */
static void take_machine(const struct node *node, bool awake, struct db_account *to)
{
	const struct node_info *info = &node->info;
	struct price_memory memory;
	if (awake && info->name) {
		replace_text(&to->type, info->instance_type);
		replace_text(&to->price, info->price);
	}
	if (!node_memory_price(node, to->type, to->price, &memory) && to->demand_gib_hour > 0)
		return;
	to->machine_gib_hour = memory.machine;
	to->demand_gib_hour = memory.demand;
}

double ledger_node_gib_hour(const struct node *node)
{
	const struct node_info *info = &node->info;
	struct price_memory memory;
	bool known =
		info->name && node_memory_price(node, info->instance_type, info->price, &memory);
	return known ? memory.machine : 0;
}

double ledger_node_hour(const struct node *node)
{
	const struct node_info *info = &node->info;
	bool spot = info->price && strcmp(info->price, "spot") == 0;
	double gib = (double)info->memory_bytes / (1 << 30);
	return prices_memory(&node->controller->ledger->prices, info->instance_type, spot).machine *
	       gib;
}

/* From what it was until now. */
static int take_basis(struct session *s, const struct ledger_step *step, struct db_account *to,
		      struct error *e)
{
	struct controller *c = s->controller;
	const struct account_facts facts = {
		.state = step->next,
		.placed_bytes = placing_memory(s),
		.resident_bytes = s->seen.rss_bytes,
		.whole_bytes = to->whole_bytes,
	};
	struct account_basis basis = { 0 };
	account_sizes(&facts, &basis);
	to->awake = basis.awake;
	to->held_bytes = step->gone ? 0 : basis.held_bytes;
	to->whole_bytes = step->gone ? 0 : basis.whole_bytes;
	to->store_gib_hour = c->ledger->prices.store_gib_month / PRICES_MONTH_HOURS;
	take_machine(step->home, to->awake, to);
	take_groups(s, to);
	return db_checkpoint_bytes(c->db, s->row.id, &to->stored_bytes, e);
}

/* 1: it is new. */
static int load(struct session *s, wall_ms now, struct db_account *to, struct error *e)
{
	struct error missing = ERROR_INIT;
	int r = db_account_get(s->controller->db, s->row.id, to, &missing);
	if (r != -ENOENT) {
		if (r < 0 && e)
			*e = missing;
		return r;
	}
	*to = (struct db_account) { .since = now, .sized_at = now };
	memcpy(to->session, s->row.id, ID_SIZE);
	replace_text(&to->user, s->row.user);
	replace_text(&to->server, s->row.server);
	return 1;
}

static json_t *text_or_null(const char *text)
{
	return text ? wire_text(text) : json_null();
}

static json_t *account_json(const struct db_account *a, const struct ledger_step *step)
{
	return json_pack("{s:b, s:I, s:I, s:I, s:o, s:o, s:f, s:f, s:f, s:i, s:i}", "awake",
			 (int)a->awake, "held_bytes", (json_int_t)a->held_bytes, "whole_bytes",
			 (json_int_t)a->whole_bytes, "stored_bytes", (json_int_t)a->stored_bytes,
			 "type", text_or_null(a->type), "price", text_or_null(a->price),
			 "machine_gib_hour", a->machine_gib_hour, "demand_gib_hour",
			 a->demand_gib_hour, "store_gib_hour", a->store_gib_hour, "puts",
			 step->puts, "gets", step->gets);
}

int ledger_write(struct session *s, const struct ledger_step *step, json_t **inputs,
		 struct error *e)
{
	struct controller *c = s->controller;
	struct db_account account = { 0 };
	int r = load(s, step->now, &account, e);
	if (r >= 0)
		r = ledger_charge(c->db, &account, step->now, e);
	if (r == 0)
		r = charge_requests(c, &account, step, e);
	if (r == 0)
		r = take_basis(s, step, &account, e);
	account.sized_at = step->now;
	if (r == 0 && step->gone)
		r = db_account_delete(c->db, s->row.id, e);
	else if (r == 0)
		r = db_account_put(c->db, &account, e);
	if (r == 0)
		*inputs = account_json(&account, step);
	db_account_deinit(&account);
	return r;
}

/* --- what changes without a step -----------------------------------------------------------------
 */

static bool same_text(const char *a, const char *b)
{
	return a && b ? strcmp(a, b) == 0 : a == b;
}

/* Why it is to be charged otherwise from now on; NULL: it is not. */
static const char *reason_of(const struct account_basis *before, const char *type,
			     const char *price, const struct db_account *now, wall_ms at)
{
	const struct account_basis after = ledger_basis(now);
	if (before->machine_gib_hour != after.machine_gib_hour ||
	    before->demand_gib_hour != after.demand_gib_hour ||
	    before->store_gib_hour != after.store_gib_hour || !same_text(type, now->type) ||
	    !same_text(price, now->price))
		return "repriced";
	if (before->stored_bytes != after.stored_bytes)
		return "stored";
	return account_resized(before, &after, at - now->sized_at) ? "resized" : NULL;
}

static int write_change(struct session *s, const struct ledger_step *step, const char *why,
			struct error *e)
{
	struct controller *c = s->controller;
	json_t *account = NULL;
	int r = db_begin(c->db, e);
	if (r < 0)
		return r;
	r = ledger_write(s, step, &account, e);
	cleanup_json json_t *inputs = json_pack("{s:o*}", "account", account);
	if (r == 0)
		r = record_event(c,
				 &(struct record) { .session = s,
						    .at = step->now,
						    .who = WHO,
						    .what = WHO,
						    .why = why,
						    .inputs = inputs },
				 e);
	if (r == 0)
		return db_commit(c->db, e);
	db_rollback(c->db);
	return r;
}

static int look_at(struct session *s, wall_ms now, struct error *e)
{
	const struct ledger_step step = {
		.row = &s->row, .next = s->state, .home = s->node, .now = now
	};
	struct db_account account = { 0 };
	cleanup_free char *type = NULL;
	cleanup_free char *price = NULL;
	int r = load(s, now, &account, e);
	const char *why = r > 0 ? "opened" : NULL;
	if (r == 0) {
		const struct account_basis before = ledger_basis(&account);
		replace_text(&type, account.type);
		replace_text(&price, account.price);
		r = take_basis(s, &step, &account, e);
		if (r == 0)
			why = reason_of(&before, type, price, &account, now);
	}
	db_account_deinit(&account);
	return r >= 0 && why ? write_change(s, &step, why, e) : r;
}

/* Of what sleeps little changes by itself: it is looked at now and then. */
static void look(struct controller *c, bool all)
{
	struct error e = ERROR_INIT;
	ledger_check_clock(c);
	wall_ms now = clock_wall();
	for (struct session *s = sessions_first(c); s; s = sessions_next(s))
		if ((all || session_state_has_processes(s->state)) && look_at(s, now, &e) < 0) {
			log_error("%s: its account: %s", s->label, e.text);
			return;
		}
}

static void pass(evutil_socket_t fd, short what, void *arg)
{
	static const struct timeval again = { .tv_sec = PASS_MS / 1000 };
	struct controller *c = arg;
	(void)fd;
	(void)what;
	look(c, c->ledger->passes++ % PASSES_OF_ALL == 0);
	event_add(c->ledger->timer, &again);
}

/* --- all -----------------------------------------------------------------------------------------
 */

static int settle_one(struct session *s, wall_ms now, struct error *e)
{
	struct db *db = s->controller->db;
	struct db_account account = { 0 };
	struct error missing = ERROR_INIT;
	int r = db_account_get(db, s->row.id, &account, &missing);
	if (r == -ENOENT)
		return 0; /* opened by the next pass */
	if (r < 0)
		return error_wrap(e, r, "%s", missing.text);
	take_groups(s, &account);
	r = ledger_charge(db, &account, now, e);
	if (r == 0)
		r = db_account_put(db, &account, e);
	db_account_deinit(&account);
	return r;
}

int ledger_settle(struct controller *c, struct error *e)
{
	ledger_check_clock(c);
	wall_ms now = clock_wall();
	/* Taken back by a power cut it is charged again from where it was. */
	int r = db_begin_soon(c->db, e);
	if (r < 0)
		return r;
	for (struct session *s = sessions_first(c); r == 0 && s; s = sessions_next(s))
		r = settle_one(s, now, e);
	if (r == 0)
		r = db_commit(c->db, e);
	else
		db_rollback(c->db);
	if (r == 0)
		c->ledger->settled_until = now;
	return r;
}

static int read_catalogue(const char *path, struct prices *to, struct error *e)
{
	cleanup_buf struct buf text = BUF_INIT(CATALOGUE_MOST);
	if (!*path)
		return prices_parse(prices_default, to, e);
	int r = fs_read(path, &text, e);
	if (r == 0 && strlen(buf_text(&text)) != text.len)
		r = error_fault(e, FAULT_BAD_INPUT, "it holds a zero byte");
	if (r == 0)
		r = prices_parse(buf_text(&text), to, e);
	return r < 0 ? error_wrap(e, r, "account.prices, %s", path) : 0;
}

void ledger_reload(struct controller *c)
{
	struct error e = ERROR_INIT;
	cleanup_free struct prices *fresh = calloc(1, sizeof(*fresh));
	if (!fresh || read_catalogue(c->config->account.prices, fresh, &e) < 0)
		log_error("the catalogue is not read again, the old one stays: %s", e.text);
	else
		c->ledger->prices = *fresh;
	look(c, true);
}

int ledger_new(struct controller *c, struct error *e)
{
	static const struct timeval soon = { .tv_sec = FIRST_MS / 1000 };
	c->ledger = calloc(1, sizeof(*c->ledger));
	if (!c->ledger)
		return error_set(e, ENOMEM, "out of memory");
	int r = read_catalogue(c->config->account.prices, &c->ledger->prices, e);
	if (r == 0)
		r = ledger_clock_begin(c, e);
	if (r < 0)
		return r;
	c->ledger->timer = evtimer_new(c->base, pass, c);
	if (!c->ledger->timer)
		return error_set(e, ENOMEM, "out of memory");
	event_add(c->ledger->timer, &soon);
	return 0;
}

void ledger_free(struct controller *c)
{
	if (!c->ledger)
		return;
	if (c->ledger->timer)
		event_free(c->ledger->timer);
	free(c->ledger);
	c->ledger = NULL;
}
