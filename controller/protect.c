/* SPDX-License-Identifier: Apache-2.0 */
#include "controller/protect.h"

#include "base/cleanup.h"
#include "base/fs.h"
#include "base/log.h"
#include "controller/effects.h"
#include "controller/node.h"
#include "controller/operations.h"
#include "controller/record.h"
#include "controller/retry.h"
#include "controller/rows.h"
#include "rules/rules.h"
#include "wire/text.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define WHO "protection"
/* A pass is cheap, and sessions come, wake and end between two. */
#define LOOK_LEAST_MS 200
#define LOOK_MOST_MS  5000
#define PRUNE_MS      (3600 * 1000)
#define KEEP_MS       (24 * 3600 * 1000LL)

struct protect {
	struct event *timer;
	wall_ms pruned_at;
};

/* --- facts -------------------------------------------------------------------------------------
 */

/* What its newest checkpoint is and has cost, read again when there is another one. */
static void load_saved(struct session *s)
{
	struct db_checkpoint *rows = NULL;
	size_t count = 0;
	size_t i = 0;
	if (s->protect.loaded && s->protect.generation == s->row.checkpoint)
		return;
	if (rows_checkpoints(s->controller->db, s->row.id, &rows, &count, NULL) < 0)
		return;
	while (i < count && rows[i].aside)
		i++;
	s->protect.loaded = true;
	s->protect.generation = s->row.checkpoint;
	s->protect.frozen_at = 0;
	if (i < count) {
		s->protect.cost_ms = rows[i].duration_us / 1000;
		s->protect.cost_bytes = rows[i].stored_bytes;
		s->protect.frozen_at = rows[i].created_at - s->protect.cost_ms;
	}
	rows_free_checkpoints(rows, count);
}

static bool node_is_protected(const struct controller *c, const struct node *node)
{
	const char *where = c->config->spot.protect;
	if (strcmp(where, "all") == 0)
		return true;
	return strcmp(where, "spot") == 0 && node->info.price &&
	       strcmp(node->info.price, "spot") == 0;
}

static bool is_ours(const struct session *s)
{
	return s->state == SESSION_SNAPSHOTTING && s->effect &&
	       strcmp(s->effect->row.who, WHO) == 0;
}

/* What became of the last one we asked for. */
static void note_end(struct session *s, wall_ms now)
{
	const struct operation *op = s->operation;
	if (!s->protect.asked || (op && operation_running(op)))
		return;
	s->protect.asked = false;
	if (op && op->outcome && json_is_object(json_object_get(op->outcome, "error")))
		s->protect.failed_at = now;
}

static struct protect_facts facts_of(struct session *s, size_t node, wall_ms now)
{
	note_end(s, now);
	load_saved(s);
	if (s->protect.failed_at < s->protect.frozen_at)
		s->protect.failed_at = 0;
	return (struct protect_facts) {
		.node = node,
		.wanted = node_is_protected(s->controller, s->node),
		.under_way = s->state == SESSION_SNAPSHOTTING,
		.busy = s->effect && !is_ours(s),
		.started_at = s->row.started_at,
		.frozen_at = s->protect.frozen_at,
		.failed_at = s->protect.failed_at,
		.memory_bytes = s->seen.rss_bytes,
		.cost_ms = s->protect.cost_ms,
		.cost_bytes = s->protect.cost_bytes,
	};
}

/* --- a pass ------------------------------------------------------------------------------------
 */

struct pass {
	struct session **sessions;
	struct protect_facts *facts;
	struct protect_decision *decisions;
	size_t count;
	struct protect_node *nodes;
	size_t node_count;
};

static void pass_deinit(struct pass *pass)
{
	free(pass->sessions);
	free(pass->facts);
	free(pass->decisions);
	free(pass->nodes);
}

static size_t node_index(struct controller *c, const struct node *wanted)
{
	size_t i = 0;
	for (struct node *n = nodes_first(c); n && n != wanted; n = nodes_next(n))
		i++;
	return i;
}

static int collect_nodes(struct controller *c, struct pass *pass)
{
	for (struct node *n = nodes_first(c); n; n = nodes_next(n))
		pass->node_count++;
	pass->nodes = calloc(pass->node_count + 1, sizeof(*pass->nodes));
	size_t i = 0;
	for (struct node *n = nodes_first(c); pass->nodes && n; n = nodes_next(n))
		pass->nodes[i++].upload_bytes_per_s = n->info.upload_bytes_per_s;
	return pass->nodes ? 0 : -ENOMEM;
}

/* What dozes is saved once more, and is then as it stays. */
static bool dozes_unsaved(struct session *s)
{
	if (s->state != SESSION_DOZING)
		return false;
	load_saved(s);
	return s->protect.frozen_at < s->row.slept_at;
}

static int collect(struct controller *c, struct pass *pass, wall_ms now)
{
	size_t most = sessions_count(c) + 1;
	pass->sessions = calloc(most, sizeof(*pass->sessions));
	pass->facts = calloc(most, sizeof(*pass->facts));
	pass->decisions = calloc(most, sizeof(*pass->decisions));
	if (!pass->sessions || !pass->facts || !pass->decisions)
		return -ENOMEM;
	for (struct session *s = sessions_first(c); s; s = sessions_next(s)) {
		if (s->state != SESSION_RUNNING && s->state != SESSION_SNAPSHOTTING &&
		    !dozes_unsaved(s)) {
			s->protect.known = false;
			continue;
		}
		pass->facts[pass->count] = facts_of(s, node_index(c, s->node), now);
		pass->sessions[pass->count++] = s;
	}
	return collect_nodes(c, pass);
}

static void take(struct session *s)
{
	struct error e = ERROR_INIT;
	const struct session_change change = {
		.event = EVENT_SNAPSHOT,
		.who = WHO,
		.why = "protect",
	};
	s->protect.asked = true;
	if (session_apply(s, &change, NULL, &e) < 0)
		log_warning("%s: no snapshot could be asked for: %s", s->label, e.text);
}

/* That the RPO cannot be held is said when it begins and when it ends. */
static void report_stretch(struct session *s, const struct protect_decision *d)
{
	char takes[CLOCK_TEXT_SIZE];
	if (d->stretched == s->protect.stretched)
		return;
	clock_format_duration(d->interval_ms, takes);
	record_note(s->controller,
		    &(struct record) {
			    .session = s,
			    .who = WHO,
			    .what = d->stretched ? "rpo-missed" : "rpo-held",
			    .why = "spot.rpo",
			    .detail = d->stretched
					      ? "its node's share of time or throughput "
						"(spot.bandwidth_share) does not bear snapshots as "
						"often as spot.rpo asks"
					      : "snapshots come as often as spot.rpo asks again" });
	if (d->stretched)
		log_warning("%s: a snapshot every %s at most: spot.rpo cannot be held", s->label,
			    takes);
}

static void take_decision(struct session *s, const struct protect_decision *d)
{
	report_stretch(s, d);
	s->protect.known = d->reason != PROTECT_NOT_WANTED;
	s->protect.reason = d->reason;
	s->protect.due_at = d->due_at;
	s->protect.interval_ms = d->interval_ms;
	s->protect.stretched = d->stretched;
	if (d->take)
		take(s);
}

/* What was done every minute is of no use after a day; what failed, and what others asked for,
 * stays. */
static void prune(struct controller *c, wall_ms now)
{
	struct error e = ERROR_INIT;
	if (now - c->protect->pruned_at < PRUNE_MS)
		return;
	c->protect->pruned_at = now;
	int r = db_event_prune(c->db, WHO, session_state_name(SESSION_SNAPSHOTTING), now - KEEP_MS,
			       &e);
	if (r == 0)
		r = db_event_prune(c->db, WHO, effect_kind_names[EFFECT_SNAPSHOT], now - KEEP_MS,
				   &e);
	if (r < 0)
		log_warning("old events of the protection stay: %s", e.text);
}

static void pass_again(struct controller *c, wall_ms next, wall_ms now)
{
	int64_t delay = next ? next - now : LOOK_MOST_MS;
	if (delay > LOOK_MOST_MS)
		delay = LOOK_MOST_MS;
	const struct timeval time = retry_timeval(delay < LOOK_LEAST_MS ? LOOK_LEAST_MS : delay);
	event_add(c->protect->timer, &time);
}

/* Something waits for the end of something else: of that nobody tells us. */
static bool any_waits(const struct pass *pass)
{
	for (size_t i = 0; i < pass->count; i++)
		if (pass->decisions[i].take || pass->decisions[i].reason == PROTECT_TURN ||
		    pass->decisions[i].reason == PROTECT_UNDER_WAY)
			return true;
	return false;
}

static void run_pass(evutil_socket_t fd, short what, void *arg)
{
	struct controller *c = arg;
	struct pass pass = { 0 };
	wall_ms now = clock_wall();
	wall_ms next = 0;
	const struct protect_rules rules = rules_protect(c->config);
	(void)fd;
	(void)what;
	if (strcmp(c->config->spot.protect, "none") != 0 && collect(c, &pass, now) == 0) {
		next = protect_decide(&rules, pass.nodes, pass.node_count, pass.facts, pass.count,
				      now, pass.decisions);
		for (size_t i = 0; i < pass.count; i++)
			take_decision(pass.sessions[i], &pass.decisions[i]);
		if (any_waits(&pass))
			next = now;
		prune(c, now);
	}
	pass_deinit(&pass);
	pass_again(c, next, now);
}

json_t *protect_json(const struct session *s)
{
	if (!s->protect.known)
		return json_null();
	return json_pack("{s:s, s:I, s:I, s:b, s:I}", "reason",
			 protect_reason_name(s->protect.reason), "interval_ms",
			 (json_int_t)s->protect.interval_ms, "due_at",
			 (json_int_t)s->protect.due_at, "stretched", (int)s->protect.stretched,
			 "saved_at", (json_int_t)s->protect.frozen_at);
}

/* As for people. */
static char *describe(const struct protect_decision *d)
{
	char every[CLOCK_TEXT_SIZE];
	if (d->reason == PROTECT_NOT_WANTED)
		return strdup("no snapshots are taken of it");
	return str_printf("%s, every %s%s", d->take ? "now" : protect_reason_name(d->reason),
			  clock_format_duration(d->interval_ms, every),
			  d->stretched ? ": not as often as spot.rpo asks" : "");
}

json_t *protect_decide_json(struct controller *c)
{
	struct pass pass = { 0 };
	json_t *rows = json_array();
	wall_ms now = clock_wall();
	const struct protect_rules rules = rules_protect(c->config);
	if (collect(c, &pass, now) == 0)
		protect_decide(&rules, pass.nodes, pass.node_count, pass.facts, pass.count, now,
			       pass.decisions);
	for (size_t i = 0; pass.decisions && i < pass.count; i++) {
		const struct protect_decision *d = &pass.decisions[i];
		cleanup_free char *text = describe(d);
		json_array_append_new(
			rows, json_pack("{s:o, s:o, s:s, s:b, s:I, s:b, s:s}", "user",
					wire_text(pass.sessions[i]->row.user), "server",
					wire_text(pass.sessions[i]->row.server), "reason",
					protect_reason_name(d->reason), "take", (int)d->take,
					"interval_ms", (json_int_t)d->interval_ms, "stretched",
					(int)d->stretched, "text", text ? text : ""));
	}
	pass_deinit(&pass);
	return rows;
}

int protect_new(struct controller *c, struct error *e)
{
	c->protect = calloc(1, sizeof(*c->protect));
	if (!c->protect)
		return error_set(e, ENOMEM, "out of memory");
	c->protect->timer = evtimer_new(c->base, run_pass, c);
	if (!c->protect->timer)
		return error_set(e, ENOMEM, "out of memory");
	pass_again(c, 0, 0);
	return 0;
}

void protect_free(struct controller *c)
{
	if (!c->protect)
		return;
	if (c->protect->timer)
		event_free(c->protect->timer);
	free(c->protect);
	c->protect = NULL;
}
