/* SPDX-License-Identifier: Apache-2.0 */
#include "controller/consolidate.h"

#include "base/cleanup.h"
#include "base/fs.h"
#include "base/log.h"
#include "controller/asleep.h"
#include "controller/capacity.h"
#include "controller/consolidate_private.h"
#include "controller/idle.h"
#include "controller/migrate.h"
#include "controller/node.h"
#include "controller/record.h"
#include "controller/retry.h"
#include "controller/rows.h"
#include "rules/rules.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define WHO CONSOLIDATE_WHO
enum { LOOK_LEAST_MS = 500, LOOK_MOST_MS = 5000, DECISIONS = 256 };

bool consolidate_empties(const struct node *node)
{
	const struct consolidate *own = node->controller->consolidate;
	const char *name = own ? own->kept.emptying : NULL;
	return name && node->name && strcmp(node->name, name) == 0;
}

/* --- beginning and ending ----------------------------------------------------------------------
 */

static json_t *inputs_json(const struct consolidate_pass *pass, size_t node, wall_ms now)
{
	const struct consolidate_facts *f = &pass->facts;
	json_t *to = json_pack("{s:I, s:b, s:I, s:I}", "grown_at", (json_int_t)f->grown_at,
			       "wanted", (int)f->wanted, "began_at", (json_int_t)f->began_at, "at",
			       (json_int_t)now);
	if (node == CONSOLIDATE_NONE)
		return to;
	const struct consolidate_node *n = &f->nodes[node];
	json_object_set_new(to, "sessions", json_integer((json_int_t)n->sessions));
	json_object_set_new(to, "in_use", json_integer((json_int_t)n->in_use));
	json_object_set_new(to, "in_use_bytes", json_integer(n->in_use_bytes));
	json_object_set_new(to, "short_bytes", json_integer(n->short_bytes));
	json_object_set_new(to, "fits_since", json_integer(n->fits_since));
	json_object_set_new(to, "price", json_real(n->price));
	return to;
}

/* What is kept now, and an event, in one transaction. */
static int write_change(struct controller *c, const struct record *record, struct error *e)
{
	int r = db_begin(c->db, e);
	if (r < 0)
		return r;
	r = consolidate_save(c, e);
	if (r == 0)
		r = record_event(c, record, e);
	if (r == 0)
		return db_commit(c->db, e);
	db_rollback(c->db);
	return r;
}

static void change(struct controller *c, const char *emptying, const struct record *record,
		   wall_ms now)
{
	struct error e = ERROR_INIT;
	struct consolidate_kept *kept = &c->consolidate->kept;
	char *before = steal_ptr(&kept->emptying);
	wall_ms began_at = kept->began_at, ended_at = kept->ended_at;
	replace_text(&kept->emptying, emptying);
	kept->began_at = emptying ? now : 0;
	kept->ended_at = emptying ? ended_at : now;
	if (write_change(c, record, &e) == 0) {
		free(before);
		capacity_changed(c);
		return;
	}
	log_error("that node %s is emptied, or not any more, cannot be recorded: %s",
		  emptying ? emptying : before, e.text);
	free(kept->emptying);
	kept->emptying = before;
	kept->began_at = began_at;
	kept->ended_at = ended_at;
}

static void begin(struct controller *c, const struct consolidate_pass *pass, size_t node,
		  wall_ms now)
{
	const struct consolidate_node *n = &pass->facts.nodes[node];
	char since[CLOCK_TEXT_SIZE];
	cleanup_json json_t *inputs = inputs_json(pass, node, now);
	cleanup_free char *detail = str_printf(
		"%zu %s in use (%lld MiB) of %zu there will be moved: the other nodes have had "
		"room for %s for %s",
		n->in_use, n->in_use == 1 ? "session" : "sessions",
		(long long)(n->in_use_bytes >> 20), n->sessions, n->in_use == 1 ? "it" : "them",
		clock_format_duration(now - n->fits_since, since));
	log_info("node %s is being emptied", n->name);
	change(c, n->name,
	       &(struct record) { .who = WHO,
				  .what = "node-emptying",
				  .why = n->name,
				  .detail = detail,
				  .inputs = inputs },
	       now);
}

/* `pass` NULL: nothing was looked at. */
static void end(struct controller *c, const struct consolidate_pass *pass, size_t node,
		enum consolidate_reason why, wall_ms now)
{
	cleanup_free char *name = strdup(c->consolidate->kept.emptying);
	cleanup_json json_t *inputs = pass ? inputs_json(pass, node, now) : json_object();
	cleanup_free char *detail =
		str_printf("%s: %s", consolidate_reason_name(why), consolidate_reason_text(why));
	if (!name)
		return;
	json_object_set_new(inputs, "reason", json_string(consolidate_reason_name(why)));
	log_info("node %s is not being emptied any more: %s", name, detail ? detail : "");
	change(c, NULL,
	       &(struct record) { .who = WHO,
				  .what = why == CONSOLIDATE_DONE ? "node-emptied"
								  : "node-emptying-ended",
				  .why = name,
				  .detail = detail,
				  .inputs = inputs },
	       now);
}

/* --- sessions ----------------------------------------------------------------------------------
 */

/* Is it there still, or again, it is not sent away anew at once. */
static void note_sent(struct session *s, enum consolidate_use as)
{
	s->sent_away.at = clock_mono();
	s->sent_away.as = as;
}

static void cannot_move(struct session *s, const struct error *e)
{
	log_info("%s: it cannot leave %s as it runs: %s", s->label, node_name(s->node), e->text);
	note_sent(s, CONSOLIDATE_IN_USE);
}

/* That it is moved is on record before it is: a budget must not be used twice. */
int consolidate_move_one(struct session *s, struct node *to, const char *who, const char *why,
			 wall_ms now, struct error *e)
{
	struct controller *c = s->controller;
	int r = migrate_place(s, to, &to, e);
	if (r == 0 && consolidate_add_move(c, s->row.id, now) < 0)
		r = error_set(e, ENOMEM, "out of memory");
	if (r < 0)
		return r;
	r = consolidate_save(c, e);
	if (r == 0)
		return migrate_begin(s, to, who, why, e);
	log_error("%s: that it is to move cannot be recorded", s->label);
	consolidate_drop_move(c);
	return r;
}

static void move(struct session *s, struct node *to, const char *why, wall_ms now)
{
	struct error e = ERROR_INIT;
	int r = consolidate_move_one(s, to, WHO, why, now, &e);
	if (r < 0 && r != -EBUSY && r != -EINPROGRESS)
		cannot_move(s, &e);
}

static void send_away(struct controller *c, const struct consolidate_pass *pass,
		      const struct consolidate_decision *d, wall_ms now)
{
	struct session *s = sessions_by_id(c, pass->facts.sessions[d->session].id);
	cleanup_free char *why = s ? str_printf("node=%s", node_name(s->node)) : NULL;
	if (!why)
		return;
	if (d->kind == CONSOLIDATE_MOVE) {
		move(s, pass->nodes[d->to], why, now);
	} else if (d->kind == CONSOLIDATE_PUT_AWAY) {
		note_sent(s, CONSOLIDATE_IDLE);
		idle_put_away(s, WHO, why);
	} else {
		/* Should no other node have room to wake it, it is back in a moment. */
		note_sent(s, CONSOLIDATE_ASLEEP);
		asleep_move_on(s, WHO, why);
	}
}

/* --- a pass ------------------------------------------------------------------------------------
 */

static void keep_verdicts(const struct consolidate_pass *pass)
{
	for (size_t i = 0; i < pass->facts.node_count; i++) {
		const struct consolidate_node *n = &pass->facts.nodes[i];
		struct node *node = pass->nodes[i];
		node->consolidation.known = !node->local;
		node->consolidation.reason = n->reason;
		node->consolidation.fits_since = n->fits_since;
		node->consolidation.until = n->until;
		node->consolidation.in_use = (int64_t)n->in_use;
		node->consolidation.in_use_bytes = n->in_use_bytes;
		node->consolidation.short_bytes = n->short_bytes;
	}
}

static void take_decisions(struct controller *c, const struct consolidate_pass *pass,
			   const struct consolidate_decision *list, size_t count, wall_ms now)
{
	for (size_t i = 0; i < count; i++) {
		if (list[i].kind == CONSOLIDATE_BEGIN)
			begin(c, pass, list[i].node, now);
		else if (list[i].kind == CONSOLIDATE_END)
			end(c, pass, list[i].node, list[i].why, now);
		else
			send_away(c, pass, &list[i], now);
	}
}

/* After our start a node that has not been heard yet is not taken for one that is down. */
static bool is_too_early(struct controller *c)
{
	int64_t lease_us = c->config->nodes.lease_ms * 1000;
	if (clock_mono() - c->consolidate->started_at > 2 * lease_us)
		return false;
	for (struct node *n = nodes_first(c); n; n = nodes_next(n))
		if (!n->local && n->joined && node_in_reach(n) && !node_is_usable(n))
			return true;
	return false;
}

static wall_ms decide(struct controller *c, wall_ms now)
{
	struct consolidate_pass pass = { 0 };
	struct consolidate_decision list[DECISIONS];
	const struct consolidate_rules rules = rules_consolidate(c->config);
	wall_ms next = 0;
	if (consolidate_collect(c, &pass, now) == 0) {
		size_t count = consolidate_decide(&rules, &pass.facts, now, list, DECISIONS, &next);
		keep_verdicts(&pass);
		take_decisions(c, &pass, list, count, now);
	}
	consolidate_pass_deinit(&pass);
	return next;
}

static void forget_verdicts(struct controller *c)
{
	for (struct node *n = nodes_first(c); n; n = nodes_next(n)) {
		n->consolidation.known = false;
		n->consolidation.fits_since = 0;
	}
}

static void run_pass(evutil_socket_t fd, short what, void *arg)
{
	struct controller *c = arg;
	struct consolidate *own = c->consolidate;
	wall_ms now = clock_wall();
	wall_ms next = 0;
	(void)fd;
	(void)what;
	if (!c->config->consolidation.enabled) {
		if (own->kept.emptying)
			end(c, NULL, CONSOLIDATE_NONE, CONSOLIDATE_OFF, now);
		forget_verdicts(c);
		return; /* until the config says so */
	}
	if (!is_too_early(c))
		next = decide(c, now);
	int64_t delay = next ? next - now : LOOK_MOST_MS;
	if (own->kept.emptying || delay < LOOK_LEAST_MS)
		delay = LOOK_LEAST_MS;
	const struct timeval time = retry_timeval(delay < LOOK_MOST_MS ? delay : LOOK_MOST_MS);
	event_add(own->timer, &time);
}

void consolidate_soon(struct controller *c)
{
	static const struct timeval now;
	if (c->consolidate)
		event_add(c->consolidate->timer, &now);
}

int consolidate_new(struct controller *c, struct error *e)
{
	struct consolidate *own = c->consolidate = calloc(1, sizeof(*own));
	if (!own)
		return error_set(e, ENOMEM, "out of memory");
	own->started_at = clock_mono();
	own->timer = evtimer_new(c->base, run_pass, c);
	if (!own->timer)
		return error_set(e, ENOMEM, "out of memory");
	int r = consolidate_load(c, e);
	if (r == 0)
		consolidate_soon(c);
	return r;
}

void consolidate_free(struct controller *c)
{
	struct consolidate *own = c->consolidate;
	if (!own)
		return;
	if (own->timer)
		event_free(own->timer);
	consolidate_kept_deinit(&own->kept);
	free(own);
	c->consolidate = NULL;
}
