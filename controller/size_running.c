/* SPDX-License-Identifier: Apache-2.0 */
/* What runs gets a cheaper class as it runs, and goes where its memory costs less. */
#include "controller/size_private.h"

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "controller/consolidate.h"
#include "controller/ledger.h"
#include "controller/migrate.h"
#include "controller/node.h"
#include "controller/placing.h"
#include "rules/rules.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define WHO       "size-policy"
#define LOOK_US   (10 * 60 * 1000000LL) /* its use changes little in that time */
#define AGAIN_US  (30 * 1000000LL)
#define SOON_US   (5 * 1000000LL)
#define OLD_SHARE 0.7 /* that what was measured before counts for */

static bool is_mode(const struct controller *c, const char *mode)
{
	return strcmp(c->config->size.running, mode) == 0;
}

/* --- what moves take -----------------------------------------------------------------------------
 */

void size_moved(struct controller *c, const struct effect_result *result)
{
	struct size_pace *pace = &c->size->pace;
	double ms = (double)result->duration_us / 1000;
	if (ms <= 0 || result->memory_bytes <= 0)
		return;
	double rate = (double)result->memory_bytes / ms;
	double stall = (double)result->frozen_us / 1000;
	pace->stall_ms = OLD_SHARE * pace->stall_ms + (1 - OLD_SHARE) * stall;
	pace->bytes_per_ms = OLD_SHARE * pace->bytes_per_ms + (1 - OLD_SHARE) * rate;
}

/* --- where it costs less -------------------------------------------------------------------------
 */

/* Not to one that goes away sooner than others, is to be emptied, or is not wanted for its price.
 */
static bool is_open(const struct node *n)
{
	const char *prefer = n->controller->config->nodes.prefer;
	const char *price = n->info.price;
	bool spot = price && strcmp(price, "spot") == 0;
	return node_is_usable(n) && !n->info.notice_count && !consolidate_empties(n) &&
	       !(spot && strcmp(prefer, "on-demand") == 0);
}

/* Whether there is a place for it, perhaps not this moment. */
static bool has_room(struct session *s, struct node *n)
{
	struct error e = ERROR_INIT;
	struct node *to = NULL;
	int r = migrate_place(s, n, &to, &e);
	return r == 0 || r == -EBUSY;
}

static int collect(struct session *s, struct size_move_view *view)
{
	struct controller *c = s->controller;
	size_t most = 0;
	for (struct node *n = nodes_first(c); n; n = nodes_next(n))
		most++;
	view->nodes = calloc(most + 1, sizeof(struct node *));
	view->list = calloc(most + 1, sizeof(*view->list));
	if (!view->nodes || !view->list)
		return -ENOMEM;
	for (struct node *n = nodes_first(c); n; n = nodes_next(n)) {
		double gib_hour = ledger_node_gib_hour(n);
		bool matters = n != s->node && gib_hour > 0 && gib_hour < view->facts.gib_hour;
		if (!matters)
			continue;
		size_t i = view->facts.node_count++;
		view->nodes[i] = n;
		view->list[i] = (struct size_move_node) { .name = node_name(n),
							  .gib_hour = gib_hour,
							  .room = is_open(n) && has_room(s, n) };
	}
	view->facts.nodes = view->list;
	return 0;
}

void size_move_view_deinit(struct size_move_view *view)
{
	free(view->nodes);
	free(view->list);
}

int size_move_look(struct session *s, struct size_move_view *to)
{
	struct controller *c = s->controller;
	const struct size_pace *pace = &c->size->pace;
	const struct size_move_rules rules = rules_size_move(c->config);
	wall_ms now = clock_wall();
	const struct consolidate_budget budget = consolidate_budget_of(s, now);
	int64_t awake_ms = s->row.started_at ? now - s->row.started_at : 0;
	double both_ms = (double)s->seen.rss_bytes / pace->bytes_per_ms;
	*to = (struct size_move_view) {
		.facts = {
			.memory_bytes = placing_memory(s),
			.awake_ms = awake_ms > 0 ? awake_ms : 0,
			.stall_ms = (int64_t)pace->stall_ms,
			.both_ms = (int64_t)both_ms,
			.gib_hour = ledger_node_gib_hour(s->node),
			.since_ms = budget.since_ms,
			.moves = (int64_t)budget.moves,
			.budget_ms = budget.free_ms,
		},
	};
	if (collect(s, to) < 0)
		return -ENOMEM;
	to->decision = size_move_decide(&rules, &to->facts);
	return 0;
}

bool size_moves(const struct session *s)
{
	return s->state == SESSION_RUNNING && is_mode(s->controller, "move");
}

static int64_t begin_move(struct session *s, const struct size_move_view *view)
{
	const struct size_move_decision *d = &view->decision;
	struct node *to = view->nodes[d->to];
	const char *currency = ledger_currency(s->controller);
	struct error e = ERROR_INIT;
	cleanup_buf struct buf why = BUF_INIT(200);
	buf_printf(&why, "%s saves=%.4f cost=%.4f currency=%s", size_move_reason_name(d->reason),
		   d->saved, d->cost, currency);
	int r = consolidate_move_one(s, to, WHO, buf_text(&why), clock_wall(), &e);
	if (r == -EBUSY || r == -EINPROGRESS)
		return SOON_US;
	if (r < 0)
		log_info("%s: it cannot move to %s, where it would cost less: %s", s->label,
			 node_name(to), e.text);
	return LOOK_US;
}

static int64_t sooner(int64_t pause_us, int64_t wait_ms)
{
	return wait_ms >= 0 && wait_ms < pause_us / 1000 ? (wait_ms + 1) * 1000 : pause_us;
}

/* What moves alone are in the way of anyhow is not looked for. */
static int64_t consider_move(struct session *s)
{
	cleanup(size_move_view_deinit) struct size_move_view view = { 0 };
	if (!size_moves(s) || s->effect || size_move_look(s, &view) < 0)
		return LOOK_US;
	if (view.decision.to >= 0)
		return begin_move(s, &view);
	return sooner(LOOK_US, view.decision.wait_ms);
}

/* --- its limits ----------------------------------------------------------------------------------
 */

bool size_lowers(const struct session *s)
{
	return s->state == SESSION_RUNNING && !is_mode(s->controller, "keep");
}

bool size_is_less(const struct session *s, const struct size_view *view)
{
	int to = view->decision.to;
	if (to < 0)
		return false;
	int64_t bytes = s->controller->size->classes.list[to].memory_bytes;
	return s->memory_limit <= 0 || bytes < s->memory_limit;
}

/* All of its memory is there, and was seen. */
bool size_may_lower(const struct session *s)
{
	const struct seen *seen = &s->seen;
	return size_lowers(s) && !s->effect && !s->size.asking && seen->rss_bytes > 0 &&
	       !seen->missing_bytes && !seen->short_of;
}

/* When it will have been seen for long enough. */
static int64_t until_seen(const struct controller *c, const struct size_view *view)
{
	int64_t left = c->config->size.observed_ms - view->facts.use.observed_ms;
	return view->decision.reason == SIZE_UNSEEN && left > 0 ? left : -1;
}

int64_t size_look_running(struct session *s)
{
	struct size_view view;
	struct error e = ERROR_INIT;
	int r = size_look(s, &view, &e);
	if (r == 0 && size_is_less(s, &view)) {
		r = size_act(s, &view, &e);
		if (r == 0)
			return AGAIN_US; /* or as soon as it has it */
	}
	if (r < 0) {
		log_warning("%s: its size cannot be decided, or changed: %s", s->label, e.text);
		return AGAIN_US;
	}
	int64_t pause = consider_move(s);
	if (view.decision.reason == SIZE_HOLDS && pause > AGAIN_US)
		pause = AGAIN_US; /* it may hold less, then */
	pause = sooner(pause, view.decision.wait_ms);
	return sooner(pause, until_seen(s->controller, &view));
}
