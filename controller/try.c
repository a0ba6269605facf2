/* SPDX-License-Identifier: Apache-2.0 */
#include "controller/try.h"

#include "base/cleanup.h"
#include "base/fs.h"
#include "controller/budgets.h"
#include "controller/capacity.h"
#include "controller/consolidate.h"
#include "controller/idle.h"
#include "controller/node.h"
#include "controller/placing.h"
#include "controller/protect.h"
#include "controller/rows.h"
#include "controller/size.h"
#include "controller/wake.h"
#include "policies/rescue.h"
#include "policies/retention.h"
#include "wire/text.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define MIB (INT64_C(1) << 20)

static json_t *session_row(const struct session *s, const char *text)
{
	return json_pack("{s:o, s:o, s:o}", "user", wire_text(s->row.user), "server",
			 wire_text(s->row.server), "text", wire_text(text ? text : ""));
}

/* --- where who waits would go ------------------------------------------------------------------
 */

static json_t *decide_placement(struct controller *c)
{
	json_t *rows = json_array();
	for (struct session *s = sessions_first(c); s; s = sessions_next(s)) {
		struct error e = ERROR_INIT;
		struct node *to = NULL;
		struct placing what;
		if (!wake_placing(s, &what))
			continue;
		int r = placing_choose(s, &what, &to, &e);
		json_t *row = session_row(s, r == 0 ? node_name(to) : e.text);
		json_object_set_new(row, "node", r == 0 ? wire_text(node_name(to)) : json_null());
		json_array_append_new(rows, row);
	}
	return rows;
}

/* --- memory limits -----------------------------------------------------------------------------
 */

static int64_t left_of(struct controller *c, const int64_t *left, const struct node *node)
{
	size_t i = 0;
	for (struct node *n = nodes_first(c); n && n != node; n = nodes_next(n))
		i++;
	return left[i];
}

static json_t *rescue_row(const struct session *s, int64_t left, const struct rescue_rules *rules)
{
	int64_t own = s->memory_limit - s->seen.rss_bytes;
	const struct rescue_facts facts = {
		.used_bytes = s->seen.rss_bytes,
		.limit_bytes = s->memory_limit,
		.room_bytes = left + (own > 0 ? own : 0),
		.held = s->seen.short_of > 0,
	};
	const struct rescue_decision d = rescue_decide(rules, &facts);
	const char *reason = rescue_reason_name(d.reason);
	cleanup_free char *text =
		d.act == RESCUE_RAISE ? str_printf("%s: raised to %lld MiB", reason,
						   (long long)(d.limit_bytes / MIB))
		: d.act == RESCUE_HOLD
			? str_printf("%s: it stands still, to get %lld MiB elsewhere", reason,
				     (long long)(d.wanted_bytes / MIB))
			: strdup(reason);
	json_t *row = session_row(s, text);
	json_object_set_new(row, "reason", json_string(reason));
	json_object_set_new(row, "limit_bytes", json_integer(d.limit_bytes));
	return row;
}

/* By what elsad has seen of them last; how fast they grow their nodes know. */
static json_t *decide_rescue(struct controller *c)
{
	json_t *rows = json_array();
	struct rescue_rules rules = rescue_defaults;
	cleanup_free int64_t *left = placing_left(c);
	rules.most_bytes = c->config->session.memory_most_bytes;
	for (struct session *s = sessions_first(c); left && s; s = sessions_next(s))
		if (s->state == SESSION_RUNNING && s->memory_limit > 0)
			json_array_append_new(rows,
					      rescue_row(s, left_of(c, left, s->node), &rules));
	return rows;
}

/* --- checkpoints -------------------------------------------------------------------------------
 */

static json_t *retention_row(const struct config *config, const struct session *s,
			     const struct retained *kept, size_t count)
{
	const struct retention_rules rules = { config->store.keep, config->store.keep_age_ms,
					       config->store.keep_bytes };
	json_t *remove = json_array();
	int64_t bytes = 0;
	cleanup_free struct retained *list = calloc(count + 1, sizeof(*list));
	for (size_t i = 0; list && i < count; i++)
		list[i] = kept[i];
	if (list)
		retention_decide(&rules, list, count, clock_wall());
	for (size_t i = 0; list && i < count; i++) {
		bytes += list[i].remove ? list[i].bytes : 0;
		if (list[i].remove)
			json_array_append_new(remove, json_integer(list[i].generation));
	}
	cleanup_free char *text =
		str_printf("%zu of %zu removed at the next one (%lld MiB)", json_array_size(remove),
			   count, (long long)(bytes / MIB));
	json_t *row = session_row(s, text);
	json_object_set_new(row, "checkpoints", json_integer((json_int_t)count));
	json_object_set_new(row, "remove", remove);
	json_object_set_new(row, "bytes", json_integer(bytes));
	return row;
}

/* As on record: read once for both. */
static void decide_retention(struct controller *c, const struct config *other, json_t *now,
			     json_t *then)
{
	for (struct session *s = sessions_first(c); s; s = sessions_next(s)) {
		struct db_checkpoint *rows = NULL;
		size_t count = 0;
		if (rows_checkpoints(c->db, s->row.id, &rows, &count, NULL) < 0)
			continue;
		cleanup_free struct retained *list = calloc(count + 1, sizeof(*list));
		for (size_t i = 0; list && i < count; i++)
			list[i] = (struct retained) { .generation = rows[i].generation,
						      .created_at = rows[i].created_at,
						      .bytes = rows[i].stored_bytes,
						      .aside = rows[i].aside };
		if (list && count) {
			json_array_append_new(now, retention_row(c->config, s, list, count));
			json_array_append_new(then, retention_row(other, s, list, count));
		}
		rows_free_checkpoints(rows, count);
	}
}

/* --- both --------------------------------------------------------------------------------------
 */

static const struct {
	const char *name;
	json_t *(*decide)(struct controller *c);
} parts[] = {
	{ "protection", protect_decide_json },        { "placement", decide_placement },
	{ "capacity", capacity_decide_json },         { "rescue", decide_rescue },
	{ "consolidation", consolidate_decide_json },
};

/* The rows of `then`, each with what is decided now and whether that is something else. Both are
 * about the same, in the same order: nothing happens between them. */
static json_t *compared(json_t *now, json_t *then)
{
	size_t i;
	json_t *row;
	json_array_foreach (then, i, row) {
		json_t *before = json_array_get(now, i);
		bool changed = !json_equal(row, before);
		json_object_set(row, "now", before);
		json_object_set_new(row, "changed", json_boolean(changed));
	}
	json_decref(now);
	return then;
}

static bool same_budget(const json_t *a, const json_t *b)
{
	return json_equal(json_object_get(a, "group"), json_object_get(b, "group")) &&
	       json_equal(json_object_get(a, "per"), json_object_get(b, "per"));
}

/* Of each group and time that has a budget now, or would. */
static json_t *compared_budgets(json_t *now, json_t *then)
{
	size_t i, k;
	json_t *row, *other;
	json_array_foreach (now, i, row) {
		bool there = false;
		json_array_foreach (then, k, other)
			there = there || same_budget(row, other);
		if (!there)
			json_array_append_new(then, json_pack("{s:O, s:O, s:s, s:s}", "group",
							      json_object_get(row, "group"), "per",
							      json_object_get(row, "per"), "level",
							      "none", "text", "no budget"));
	}
	json_array_foreach (then, k, other) {
		json_t *before = NULL;
		json_array_foreach (now, i, row)
			before = same_budget(row, other) ? row : before;
		bool changed = !before || !json_equal(other, before);
		json_object_set_new(other, "now", before ? json_incref(before) : json_null());
		json_object_set_new(other, "changed", json_boolean(changed));
	}
	json_decref(now);
	return then;
}

static void decide_all(struct controller *c, json_t *rows[])
{
	for (size_t i = 0; i < ARRAY_SIZE(parts); i++)
		rows[i] = parts[i].decide(c);
}

/* What decides reads the controller's config, and keeps nothing of it. */
static void decide_all_by(struct controller *c, struct config *config, struct idle_rules *rules,
			  struct budget_view **budgets, json_t *rows[])
{
	struct config *own = c->config;
	c->config = config;
	budgets_swap(c, budgets);
	idle_swap_rules(c, rules);
	decide_all(c, rows);
	idle_swap_rules(c, rules);
	budgets_swap(c, budgets);
	c->config = own;
}

/* The same of what is read from the record, so once for both. */
static int decide_on_record(struct controller *c, struct config *config, json_t *answer,
			    struct error *e)
{
	json_t *kept = json_array(), *would_keep = json_array();
	json_t *sizes = json_array(), *would_be = json_array();
	decide_retention(c, config, kept, would_keep);
	int r = size_try(c, config, sizes, would_be, e);
	json_object_set_new(answer, "retention", compared(kept, would_keep));
	json_object_set_new(answer, "sizes", compared(sizes, would_be));
	return r;
}

json_t *policy_try(struct controller *c, struct config *config, struct error *e)
{
	json_t *now[ARRAY_SIZE(parts)], *then[ARRAY_SIZE(parts)];
	cleanup_json json_t *idle = json_array();
	struct idle_rules rules = { 0 };
	struct budget_view *budgets = budgets_make(c, config, e);
	int r = budgets ? idle_try(c, config, idle, e) : -ENOMEM;
	if (r == 0)
		r = idle_rules_make(config, &rules, e);
	if (r < 0) {
		budgets_view_free(budgets);
		return NULL;
	}
	json_t *spent = budgets_decide_json(c);
	decide_all(c, now);
	decide_all_by(c, config, &rules, &budgets, then);
	budgets_swap(c, &budgets);
	json_t *would_be = budgets_decide_json(c);
	budgets_swap(c, &budgets);
	budgets_view_free(budgets);
	idle_rules_deinit(&rules);
	cleanup_json json_t *answer = json_pack("{s:O}", "decisions", idle);
	for (size_t i = 0; i < ARRAY_SIZE(parts); i++)
		json_object_set_new(answer, parts[i].name, compared(now[i], then[i]));
	json_object_set_new(answer, "budgets", compared_budgets(spent, would_be));
	r = decide_on_record(c, config, answer, e);
	return r < 0 ? NULL : steal_ptr(&answer);
}
