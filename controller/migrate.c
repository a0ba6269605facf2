/* SPDX-License-Identifier: Apache-2.0 */
#include "controller/migrate_private.h"

#include "base/cleanup.h"
#include "base/fs.h"
#include "base/log.h"
#include "controller/effects.h"
#include "controller/node.h"
#include "controller/operations.h"
#include "controller/remains.h"
#include "controller/retry.h"
#include "controller/rows.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define AGAIN_MS 500
#define TURN_S   600 /* longest wait for one */

/* --- where and whether -------------------------------------------------------------------------
 */

static int64_t under_way_at(const struct node *node)
{
	int64_t count = 0;
	for (struct session *s = sessions_first(node->controller); s; s = sessions_next(s))
		count += s->state == SESSION_MIGRATING &&
			 (s->node == node || (s->effect && s->effect->node == node));
	return count;
}

static bool has_turn(const struct node *node)
{
	return under_way_at(node) < node->controller->config->move.concurrency;
}

static int check_source(const struct session *s, struct error *e)
{
	const struct node *node = s->node;
	if (!node_in_reach(node))
		return error_fault(e, FAULT_UNAVAILABLE, "its node %s is lost", node_name(node));
	if (!node->up || !node->checked)
		return error_set(e, EINPROGRESS, "its node %s did not answer yet", node_name(node));
	if (node->info.move_port)
		return 0;
	int r = error_fault(e, FAULT_REFUSED, "node %s gives no session away while it runs",
			    node_name(node));
	return error_remedy(e, r,
			    "it must have joined and have node.move_listen (docs/migration.md); "
			    "--safe goes by checkpoint");
}

int migrate_place(struct session *s, struct node *only, struct node **to, struct error *e)
{
	const struct placing what = placing_of_move(s, only, true);
	int r = check_source(s, e);
	if (r == 0)
		r = placing_choose(s, &what, to, e);
	if (r < 0)
		return r;
	if (remains_open(s))
		return error_set(e, EBUSY, "it has moved just now, and its memory follows");
	if (!has_turn(s->node) || !has_turn(*to))
		return error_set(e, EBUSY, "others are moving");
	return 0;
}

int migrate_begin(struct session *s, struct node *to, const char *who, const char *why,
		  struct error *e)
{
	cleanup_free char *detail = str_printf("from %s to %s", node_name(s->node), node_name(to));
	const struct session_change change = {
		.event = EVENT_MIGRATE,
		.who = who,
		.why = why,
		.detail = detail,
		.node = to,
	};
	return session_apply(s, &change, NULL, e);
}

/* --- those that wait ---------------------------------------------------------------------------
 */

struct moving *migrate_find(const struct session *s)
{
	struct moving *m;
	TAILQ_FOREACH(m, &s->controller->migrate->queue, entry)
	if (strcmp(m->session, s->row.id) == 0)
		return m;
	return NULL;
}

static void free_moving(struct controller *c, struct moving *m)
{
	TAILQ_REMOVE(&c->migrate->queue, m, entry);
	free(m->who);
	free(m->why);
	free(m);
}

void migrate_drop(struct controller *c, struct moving *m)
{
	if (m->safe)
		migrate_safe_forget(c, m);
	free_moving(c, m);
}

/* Nobody has asked for something else of the session since. */
static bool is_wanted(const struct moving *m, const struct session *s)
{
	const struct operation *op = s ? s->operation : NULL;
	return op && operation_running(op) && strcmp(op->id, m->operation) == 0;
}

struct moving *migrate_enqueue(struct session *s, const struct moving *what)
{
	struct controller *c = s->controller;
	struct moving *m = calloc(1, sizeof(*m));
	if (!m)
		abort(); /* as replace_text() */
	*m = *what;
	m->who = m->why = NULL;
	m->deadline = clock_mono() + TURN_S * 1000000LL;
	memcpy(m->session, s->row.id, ID_SIZE);
	replace_text(&m->who, what->who);
	replace_text(&m->why, what->why);
	TAILQ_INSERT_TAIL(&c->migrate->queue, m, entry);
	struct operation *op =
		operation_begin(s, m->operation, EFFECT_MIGRATE, what->who, what->why);
	op->of_several = what->safe;
	migrate_soon(c);
	return m;
}

static int enqueue(struct session *s, const struct migrate_request *request, const char *step,
		   struct error *e)
{
	struct moving what = {
		.to = request->to,
		.safe = request->safe,
		.who = (char *)request->who,
		.why = (char *)request->why,
		.from = s->node,
	};
	struct moving *before = migrate_find(s);
	if (before) /* nobody waits for it any more */
		migrate_drop(s->controller, before);
	memcpy(what.session, s->row.id, ID_SIZE);
	id_new(what.operation);
	int r = what.safe ? migrate_safe_keep(s->controller, &what, e) : 0;
	if (r < 0)
		return r;
	migrate_enqueue(s, &what);
	operation_step(s->operation, step);
	return 0;
}

void migrate_fail(struct controller *c, struct moving *m, struct session *s, struct error e)
{
	bool safe = m->safe;
	operation_fail(s->operation, &e);
	if (safe)
		migrate_safe_told(s);
	migrate_drop(c, m);
}

/* --- a pass ------------------------------------------------------------------------------------
 */

static int begin_live(struct session *s, struct moving *m, struct error *e)
{
	struct node *to = NULL;
	int r = migrate_place(s, m->to, &to, e);
	return r < 0 ? r : migrate_begin(s, to, m->who, m->why, e);
}

static void try_turn(struct controller *c, struct moving *m, struct session *s)
{
	struct error e = ERROR_INIT;
	bool late = clock_mono() > m->deadline;
	if (s->state == SESSION_SNAPSHOTTING && !late)
		return;
	int r = m->safe ? migrate_safe_begin(s, m, &e) : begin_live(s, m, &e);
	if (r == 0 && !m->safe)
		migrate_drop(c, m);
	else if (r < 0 && (late || (r != -EBUSY && r != -EINPROGRESS)))
		migrate_fail(c, m, s, e);
	else if (r == -EBUSY && session_state_is_transient(s->state))
		migrate_fail(c, m, s, e);
}

static void run_pass(evutil_socket_t fd, short what, void *arg)
{
	struct controller *c = arg;
	const struct timeval again = retry_timeval(AGAIN_MS);
	struct moving *next;
	(void)fd;
	(void)what;
	for (struct moving *m = TAILQ_FIRST(&c->migrate->queue); m; m = next) {
		struct session *s = sessions_by_id(c, m->session);
		next = TAILQ_NEXT(m, entry);
		if (!is_wanted(m, s))
			migrate_drop(c, m);
		else if (m->phase == MOVING_WAITS)
			try_turn(c, m, s);
		else
			migrate_safe_go_on(c, m, s);
	}
	if (!TAILQ_EMPTY(&c->migrate->queue))
		event_add(c->migrate->timer, &again);
}

void migrate_soon(struct controller *c)
{
	static const struct timeval now;
	if (c->migrate && !TAILQ_EMPTY(&c->migrate->queue))
		event_add(c->migrate->timer, &now);
}

/* --- being asked -------------------------------------------------------------------------------
 */

static int join(const struct session *s, const struct node *now, const struct node *to,
		struct error *e)
{
	if (!to || to == now)
		return 0;
	int r = error_fault(e, FAULT_CONFLICT, "%s is about to move to %s already", s->label,
			    now ? node_name(now) : "another node");
	return error_remedy(e, r, "ask again when that is done");
}

int migrate_ask(struct session *s, const struct migrate_request *request, struct error *e)
{
	const struct session_now now = session_now(s);
	const struct session_change change = { .event = EVENT_MIGRATE,
					       .who = request->who,
					       .why = request->why };
	const struct moving *m = migrate_find(s);
	struct node *to = NULL;
	if (m && is_wanted(m, s))
		return join(s, m->to, request->to, e);
	if (s->state == SESSION_MIGRATING && s->effect)
		return join(s, s->effect->node, request->to, e);
	if (lifecycle_step(&now, EVENT_MIGRATE).verdict != STEP_TAKEN)
		return session_apply(s, &change, NULL, e); /* which says why not */
	if (request->safe) {
		const struct placing what = placing_of_move(s, request->to, false);
		int r = placing_choose(s, &what, &to, e);
		return r < 0 && r != -EINPROGRESS ? r : enqueue(s, request, "waiting", e);
	}
	int r = migrate_place(s, request->to, &to, e);
	if (r == 0)
		return migrate_begin(s, to, request->who, request->why, e);
	if (r != -EBUSY && r != -EINPROGRESS)
		return r;
	error_clear(e);
	return enqueue(s, request, "waiting for its turn", e);
}

/* --- life --------------------------------------------------------------------------------------
 */

int migrate_new(struct controller *c, struct error *e)
{
	c->migrate = calloc(1, sizeof(*c->migrate));
	if (!c->migrate)
		return error_set(e, ENOMEM, "out of memory");
	TAILQ_INIT(&c->migrate->queue);
	TAILQ_INIT(&c->migrate->routes);
	c->migrate->timer = evtimer_new(c->base, run_pass, c);
	if (!c->migrate->timer)
		return error_set(e, ENOMEM, "out of memory");
	migrate_safe_load(c);
	return 0;
}

void migrate_free(struct controller *c)
{
	if (!c->migrate)
		return;
	for (struct moving *m; (m = TAILQ_FIRST(&c->migrate->queue));)
		free_moving(c, m);
	if (c->migrate->timer)
		event_free(c->migrate->timer);
	free(c->migrate);
	c->migrate = NULL;
}
