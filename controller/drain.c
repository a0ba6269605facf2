/* SPDX-License-Identifier: Apache-2.0 */
#include "controller/drain.h"

#include "base/cleanup.h"
#include "base/fs.h"
#include "base/log.h"
#include "controller/asleep.h"
#include "controller/idle.h"
#include "controller/migrate.h"
#include "controller/node.h"
#include "controller/nodes_change.h"
#include "controller/operations.h"
#include "controller/placing.h"
#include "controller/record.h"
#include "controller/retry.h"

#include <errno.h>
#include <stdlib.h>

#define WHO      "drain"
#define AGAIN_MS 500 /* while there is something to do */

struct drain {
	struct event *timer;
};

static bool is_leaving(const struct session *s)
{
	return s->state == SESSION_CHECKPOINTING || s->state == SESSION_MIGRATING ||
	       operation_waiting(s, EFFECT_HIBERNATE);
}

/* While it runs, if both nodes can and it did not fail lately. -EBUSY: in a moment. */
static int move(struct session *s, const char *who, const char *why, struct error *e)
{
	int64_t pause_us = s->controller->config->idle.base.refused_retry_ms * 1000;
	struct node *to = NULL;
	if (s->move_failed_at && clock_mono() - s->move_failed_at < pause_us)
		return -ENOTSUP;
	int r = migrate_place(s, NULL, &to, e);
	return r < 0 ? r : migrate_begin(s, to, who, why, e);
}

/* What CRIU refused lately is not tried over and over: it stays until its user or the operator ends
 * it. */
static bool was_refused(const struct session *s)
{
	int64_t pause = s->controller->config->idle.base.refused_retry_ms;
	return s->row.refused_at && clock_wall() - s->row.refused_at < pause;
}

/* Somebody is there: it goes on elsewhere, and the Hub need not know. Else it sleeps as by policy.
 */
static void put_away(struct session *s)
{
	struct error e = ERROR_INIT;
	cleanup_free char *why = str_printf("node=%s", node_name(s->node));
	const struct session_change change = {
		.event = EVENT_HIBERNATE,
		.who = WHO,
		.why = why ? why : "node",
		.wish = WISH_AWAKE,
	};
	int moved = idle_in_use(s) ? move(s, WHO, change.why, &e) : -ENOTSUP;
	if (moved == 0 || moved == -EBUSY || moved == -EINPROGRESS)
		return;
	error_clear(&e);
	if (!idle_in_use(s))
		idle_put_away(s, WHO, change.why);
	else if (session_apply(s, &change, NULL, &e) < 0)
		log_warning("%s: it cannot leave %s: %s", s->label, node_name(s->node), e.text);
}

/* Nothing of it runs here, but it is answered for. */
static void leave(struct session *s)
{
	cleanup_free char *why = str_printf("node=%s", node_name(s->node));
	asleep_move_on(s, WHO, why ? why : "node");
}

static void record_drained(struct node *node, bool empty)
{
	if (empty && !node->drained)
		record_note(node->controller, &(struct record) { .who = WHO,
								 .what = "node-drained",
								 .why = node_name(node),
								 .detail = "no session is there" });
	node->drained = empty;
}

/* True: it is to be looked at again soon. */
static bool drain(struct node *node)
{
	struct controller *c = node->controller;
	int64_t free_turns = c->config->idle.concurrency;
	bool any = false;
	struct session *next;
	for (struct session *s = sessions_first(c); s; s = sessions_next(s))
		free_turns -= s->node == node && is_leaving(s);
	for (struct session *s = sessions_first(c); s; s = next) {
		next = sessions_next(s);
		if (s->node != node || !session_state_has_processes(s->state))
			continue;
		any = true;
		if (s->state == SESSION_ASLEEP && !s->effect)
			leave(s);
		if (!session_has_processes(s) || s->effect || is_leaving(s) || was_refused(s) ||
		    free_turns <= 0)
			continue;
		free_turns--;
		put_away(s);
	}
	any = any || node_sessions(node);
	record_drained(node, !any);
	return any;
}

/* A machine that goes away puts its sessions away by itself, but for those that it leaves to us for
 * a moment. Who sleeps there is answered for elsewhere. True: there are some. */
static bool move_away(struct node *node)
{
	cleanup_free char *why = str_printf("node=%s", node_name(node));
	bool any = false;
	struct session *next;
	for (struct session *s = sessions_first(node->controller); s; s = next) {
		struct error e = ERROR_INIT;
		next = sessions_next(s);
		if (s->node != node || s->effect)
			continue;
		bool sleeps = s->state == SESSION_ASLEEP && !node->local;
		bool moves = s->state == SESSION_RUNNING && s->seen.to_move && idle_in_use(s);
		any = any || sleeps || moves;
		if (sleeps)
			leave(s);
		else if (moves && move(s, "evacuation", why ? why : "node", &e) == 0)
			s->seen.to_move = false;
	}
	return any;
}

static void run_pass(evutil_socket_t fd, short what, void *arg)
{
	struct controller *c = arg;
	const struct timeval again = retry_timeval(AGAIN_MS);
	bool any = false;
	(void)fd;
	(void)what;
	for (struct node *node = nodes_first(c); node; node = nodes_next(node)) {
		/* One that is lost has its sessions fenced. */
		bool doomed = placing_is_doomed(node);
		if (node->local || !placing_is_draining(node))
			node->drained = false;
		else if (!node->lost && !doomed)
			any = drain(node) || any;
		if (!node->lost && doomed)
			any = move_away(node) || any;
	}
	if (any)
		event_add(c->drain->timer, &again);
}

void drain_soon(struct controller *c)
{
	static const struct timeval now;
	if (c->drain)
		event_add(c->drain->timer, &now);
}

int drain_new(struct controller *c, struct error *e)
{
	c->drain = calloc(1, sizeof(*c->drain));
	if (!c->drain)
		return error_set(e, ENOMEM, "out of memory");
	c->drain->timer = evtimer_new(c->base, run_pass, c);
	if (!c->drain->timer)
		return error_set(e, ENOMEM, "out of memory");
	drain_soon(c);
	return 0;
}

void drain_free(struct controller *c)
{
	if (!c->drain)
		return;
	if (c->drain->timer)
		event_free(c->drain->timer);
	free(c->drain);
	c->drain = NULL;
}
