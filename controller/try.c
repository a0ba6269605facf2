/* SPDX-License-Identifier: Apache-2.0 */
#include "controller/try.h"

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/fs.h"
#include "controller/budgets.h"
#include "controller/capacity.h"
#include "controller/consolidate.h"
#include "controller/idle.h"
#include "controller/node.h"
#include "controller/placing.h"
#include "controller/protect.h"
#include "controller/retry.h"
#include "controller/rows.h"
#include "controller/size.h"
#include "controller/wake.h"
#include "policies/rescue.h"
#include "policies/retention.h"
#include "wire/text.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define MIB            (INT64_C(1) << 20)
#define SLICE_US       5000
#define SLICE_PAUSE_MS 1
#define TEXT_MOST      (256 << 20)

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

/* As on record: read once for both. Nothing where there are none. */
static void decide_retention(const struct session *s, const struct config *other, json_t **now,
			     json_t **then)
{
	struct controller *c = s->controller;
	struct db_checkpoint *rows = NULL;
	size_t count = 0;
	if (rows_checkpoints(c->db, s->row.id, &rows, &count, NULL) < 0)
		return;
	cleanup_free struct retained *list = calloc(count + 1, sizeof(*list));
	for (size_t i = 0; list && i < count; i++)
		list[i] = (struct retained) { .generation = rows[i].generation,
					      .created_at = rows[i].created_at,
					      .bytes = rows[i].stored_bytes,
					      .aside = rows[i].aside };
	if (list && count) {
		*now = retention_row(c->config, s, list, count);
		*then = retention_row(other, s, list, count);
	}
	rows_free_checkpoints(rows, count);
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

/* A row with what is decided now, and whether that is something else. */
static void compare_row(json_t *row, json_t *before)
{
	bool changed = !json_equal(row, before);
	json_object_set(row, "now", before);
	json_object_set_new(row, "changed", json_boolean(changed));
}

/* The same of all rows. Both are about the same, in the same order: nothing happens between them.
 */
static json_t *compared(json_t *now, json_t *then)
{
	size_t i;
	json_t *row;
	json_array_foreach (then, i, row)
		compare_row(row, json_array_get(now, i));
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

/* Of all that is known without asking the record. */
static json_t *decide_known(struct controller *c, struct config *config, struct error *e)
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
	json_t *answer = json_pack("{s:O}", "decisions", idle);
	for (size_t i = 0; i < ARRAY_SIZE(parts); i++)
		json_object_set_new(answer, parts[i].name, compared(now[i], then[i]));
	json_object_set_new(answer, "budgets", compared_budgets(spent, would_be));
	return answer;
}

/* --- a trial -------------------------------------------------------------------------------------
 */

/* What is on record is read of a few sessions at a time, since others wait for the loop. Rows are
 * printed and freed as they come: those of thousands of sessions together would stop it as well. */
struct trial {
	struct controller *controller;
	struct config *config;
	struct http_exchange *x; /* gone with its caller, and this with it */
	struct event *timer;
	struct size_trial *sizes;
	char (*ids)[ID_SIZE];
	size_t count, next;
	json_t *known;                    /* lists of rows */
	void *list;                       /* the one that is being printed; NULL: all are */
	size_t row;                       /* the next of that */
	struct buf text;                  /* the answer */
	struct buf retention, sizes_text; /* rows, with a comma between them */
};

static void *trial_free(struct trial *t)
{
	json_decref(t->known);
	buf_deinit(&t->text);
	buf_deinit(&t->retention);
	buf_deinit(&t->sizes_text);
	if (t->timer)
		event_free(t->timer);
	size_trial_free(t->sizes);
	config_free(t->config);
	free(t->ids);
	free(t);
	return NULL;
}

static void caller_left(void *arg)
{
	trial_free(arg);
}

static int too_long(int r, struct error *e)
{
	return r < 0 ? error_set(e, -r, "the answer is too long") : 0;
}

static void trial_ends(struct trial *t, int r, struct error *e)
{
	http_exchange_on_close(t->x, NULL, NULL);
	if (r == 0)
		r = too_long(buf_printf(&t->text, "\"retention\":[%s],\"sizes\":[%s]}\n",
					buf_text(&t->retention), buf_text(&t->sizes_text)),
			     e);
	if (r == 0) {
		http_reply_header(t->x, "Cache-Control", "no-store");
		http_reply_text(t->x, 200, "application/json", t->text.data, t->text.len);
	} else {
		http_reply_error(t->x, e);
	}
	trial_free(t);
}

static int print_row(struct buf *to, bool first, const json_t *row, struct error *e)
{
	cleanup_free char *text = json_dumps(row, JSON_COMPACT);
	return too_long(text ? buf_printf(to, "%s%s", first ? "" : ",", text) : -ENOMEM, e);
}

/* The next row of what is known, which is freed, or the end of a list. */
static int print_known(struct trial *t, struct error *e)
{
	json_t *rows = json_object_iter_value(t->list);
	int r = 0;
	if (t->row == 0)
		r = buf_printf(&t->text, "\"%s\":[", json_object_iter_key(t->list));
	if (r == 0 && t->row < json_array_size(rows)) {
		r = print_row(&t->text, t->row == 0, json_array_get(rows, t->row), e);
		json_array_set_new(rows, t->row++, json_null());
		return r;
	}
	if (r == 0)
		r = buf_printf(&t->text, "],");
	t->list = json_object_iter_next(t->known, t->list);
	t->row = 0;
	return too_long(r, e);
}

static int add_row(struct buf *to, json_t *now, json_t *then, struct error *e)
{
	if (!then)
		return 0;
	compare_row(then, now);
	int r = print_row(to, to->len == 0, then, e);
	json_decref(now);
	json_decref(then);
	return r;
}

/* It may have gone meanwhile. */
static int try_session(struct trial *t, const char *id, struct error *e)
{
	struct session *s = sessions_by_id(t->controller, id);
	if (!s)
		return 0;
	json_t *now = NULL, *then = NULL;
	decide_retention(s, t->config, &now, &then);
	int r = add_row(&t->retention, now, then, e);
	now = then = NULL;
	if (r == 0)
		r = size_try(t->sizes, s, &now, &then, e);
	return r < 0 ? r : add_row(&t->sizes_text, now, then, e);
}

static bool is_done(const struct trial *t)
{
	return !t->list && t->next == t->count;
}

static int try_next(struct trial *t, struct error *e)
{
	return t->list ? print_known(t, e) : try_session(t, t->ids[t->next++], e);
}

static void try_some(evutil_socket_t fd, short what, void *arg)
{
	const struct timeval pause = retry_timeval(SLICE_PAUSE_MS);
	struct trial *t = arg;
	struct error e = ERROR_INIT;
	mono_us until = clock_mono() + SLICE_US;
	int r = 0;
	(void)fd;
	(void)what;
	while (r == 0 && !is_done(t) && clock_mono() < until)
		r = try_next(t, &e);
	if (r < 0 || is_done(t))
		trial_ends(t, r, &e);
	else
		event_add(t->timer, &pause);
}

static int trial_new(struct controller *c, struct config *config, struct http_exchange *x,
		     struct trial **to, struct error *e)
{
	struct trial *t = calloc(1, sizeof(*t));
	if (!t) {
		config_free(config);
		return error_set(e, ENOMEM, "out of memory");
	}
	*to = t;
	*t = (struct trial) { .controller = c,
			      .config = config,
			      .x = x,
			      .timer = evtimer_new(c->base, try_some, t),
			      .ids = calloc(sessions_count(c) + 1, ID_SIZE),
			      .text = BUF_INIT(3 * (size_t)TEXT_MOST),
			      .retention = BUF_INIT(TEXT_MOST),
			      .sizes_text = BUF_INIT(TEXT_MOST) };
	if (!t->timer || !t->ids)
		return error_set(e, ENOMEM, "out of memory");
	for (struct session *s = sessions_first(c); s; s = sessions_next(s))
		memcpy(t->ids[t->count++], s->row.id, ID_SIZE);
	int r = size_trial_new(c, config, &t->sizes, e);
	if (r < 0)
		return r;
	t->known = decide_known(c, config, e);
	if (!t->known)
		return -EINVAL;
	t->list = json_object_iter(t->known);
	return buf_append(&t->text, "{", 1) < 0 ? error_set(e, ENOMEM, "out of memory") : 0;
}

void policy_try(struct controller *c, struct config *config, struct http_exchange *x)
{
	static const struct timeval now;
	struct error e = ERROR_INIT;
	struct trial *t = NULL;
	if (trial_new(c, config, x, &t, &e) == 0) {
		http_exchange_on_close(x, caller_left, t);
		event_add(t->timer, &now);
		return;
	}
	if (t)
		trial_free(t);
	http_reply_error(x, &e);
}
