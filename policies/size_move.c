/* SPDX-License-Identifier: Apache-2.0 */
#include "policies/size_move.h"

#include "base/cleanup.h"
#include "base/names.h"

#include <string.h>

#define HOUR_MS 3600000.0
#define GIB     ((double)(1 << 30))

static const char *const reason_names[SIZE_MOVE_REASON_COUNT] = {
	[SIZE_MOVE_CHEAPEST] = "cheapest",    [SIZE_MOVE_UNKNOWN] = "price-unknown",
	[SIZE_MOVE_NO_ROOM] = "no-room",      [SIZE_MOVE_NOT_WORTH] = "not-worth-it",
	[SIZE_MOVE_RESTING] = "moved-lately", [SIZE_MOVE_BUDGET] = "budget",
	[SIZE_MOVE_SAVES] = "costs-less",
};

static const char *const reason_texts[SIZE_MOVE_REASON_COUNT] = {
	[SIZE_MOVE_CHEAPEST] = "no other machine costs less",
	[SIZE_MOVE_UNKNOWN] = "what its machine costs is not known",
	[SIZE_MOVE_NO_ROOM] = "no machine that costs less has room for it",
	[SIZE_MOVE_NOT_WORTH] = "it would not save enough to be disturbed for that",
	[SIZE_MOVE_RESTING] = "it was moved not long ago",
	[SIZE_MOVE_BUDGET] = "as many were moved within an hour as may be",
	[SIZE_MOVE_SAVES] = "its memory costs less there",
};

static double positive(double x)
{
	return x > 0 ? x : 0;
}

static double least(double a, double b)
{
	return a < b ? a : b;
}

static double gib_of(const struct size_move_facts *f)
{
	return positive((double)f->memory_bytes / GIB);
}

static bool is_cheaper(const struct size_move_node *n, const struct size_move_facts *f)
{
	return n->gib_hour > 0 && n->gib_hour < f->gib_hour;
}

static bool is_better(const struct size_move_node *a, const struct size_move_node *b)
{
	if (a->gib_hour != b->gib_hour)
		return a->gib_hour < b->gib_hour;
	return strcmp(a->name, b->name) < 0;
}

/* The cheapest with room of those that cost less; -1: none. */
static int find(const struct size_move_facts *f, bool *any)
{
	int found = -1;
	*any = false;
	for (size_t i = 0; i < f->node_count; i++) {
		if (!is_cheaper(&f->nodes[i], f))
			continue;
		*any = true;
		if (f->nodes[i].room && (found < 0 || is_better(&f->nodes[i], &f->nodes[found])))
			found = (int)i;
	}
	return found;
}

static double cost_of(const struct size_move_rules *rules, const struct size_move_facts *f,
		      const struct size_move_node *to)
{
	double stall = positive((double)f->stall_ms) / HOUR_MS * positive(rules->stall_hour);
	return stall + positive((double)f->both_ms) / HOUR_MS * gib_of(f) * to->gib_hour;
}

/* Longer awake it is expected to go on for longer. */
static int64_t until_worth(const struct size_move_rules *rules, const struct size_move_facts *f,
			   double per_hour, double wanted)
{
	double awake = per_hour > 0 ? wanted / per_hour * HOUR_MS : -1;
	if (awake < 0 || awake > (double)rules->expected_ms)
		return -1;
	double wait = awake - (double)f->awake_ms;
	return wait > 1 ? (int64_t)wait : 1;
}

static void weigh(const struct size_move_rules *rules, const struct size_move_facts *f,
		  struct size_move_decision *d)
{
	const struct size_move_node *to = &f->nodes[d->where];
	double hours = positive(least((double)f->awake_ms, (double)rules->expected_ms)) / HOUR_MS;
	double per_hour = gib_of(f) * (f->gib_hour - to->gib_hour);
	d->saved = per_hour * hours;
	d->cost = cost_of(rules, f, to);
	d->reason = SIZE_MOVE_NOT_WORTH;
	if (!(d->saved > rules->worth * d->cost)) {
		d->wait_ms = until_worth(rules, f, per_hour, rules->worth * d->cost);
		return;
	}
	d->reason = SIZE_MOVE_RESTING;
	if (f->since_ms >= 0 && f->since_ms < rules->rest_ms) {
		d->wait_ms = rules->rest_ms - f->since_ms;
		return;
	}
	d->reason = SIZE_MOVE_BUDGET;
	if (f->moves >= rules->moves_per_hour) {
		d->wait_ms = rules->moves_per_hour > 0 && f->budget_ms > 0 ? f->budget_ms : -1;
		return;
	}
	d->reason = SIZE_MOVE_SAVES;
	d->to = d->where;
}

struct size_move_decision size_move_decide(const struct size_move_rules *rules,
					   const struct size_move_facts *facts)
{
	struct size_move_decision d = {
		.to = -1, .where = -1, .wait_ms = -1, .reason = SIZE_MOVE_UNKNOWN
	};
	bool any = false;
	if (!(facts->gib_hour > 0))
		return d;
	d.where = find(facts, &any);
	d.reason = any ? SIZE_MOVE_NO_ROOM : SIZE_MOVE_CHEAPEST;
	if (d.where >= 0)
		weigh(rules, facts, &d);
	return d;
}

const char *size_move_reason_name(enum size_move_reason reason)
{
	return name_of(reason_names, ARRAY_SIZE(reason_names), (int)reason);
}

const char *size_move_reason_text(enum size_move_reason reason)
{
	return name_of(reason_texts, ARRAY_SIZE(reason_texts), (int)reason);
}
