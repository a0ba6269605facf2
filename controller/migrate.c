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

static struct moving *find(const struct session *s)
{
	struct moving *m;
	TAILQ_FOREACH(m, &s->controller->migrate->queue, entry)
	if (strcmp(m->session, s->row.id) == 0)
		return m;
	return NULL;
}

static void drop(struct controller *c, struct moving *m)
{
	TAILQ_REMOVE(&c->migrate->queue, m, entry);
	free(m->who);
	free(m->why);
	free(m);
}

/* Nobody has asked for something else of the session since. */
static bool is_wanted(const struct moving *m, const struct session *s)
{
	const struct operation *op = s ? s->operation : NULL;
	return op && operation_running(op) && strcmp(op->id, m->operation) == 0;
}

static int enqueue(struct session *s, const struct migrate_request *request, const char *step,
		   struct error *e)
{
	struct controller *c = s->controller;
	struct moving *m = calloc(1, sizeof(*m));
	if (!m)
		return error_set(e, ENOMEM, "out of memory");
	*m = (struct moving) {
		.to = request->to,
		.safe = request->safe,
		.from = s->node,
		.deadline = clock_mono() + TURN_S * 1000000LL,
	};
	memcpy(m->session, s->row.id, ID_SIZE);
	replace_text(&m->who, request->who);
	replace_text(&m->why, request->why);
	id_new(m->operation);
	TAILQ_INSERT_TAIL(&c->migrate->queue, m, entry);
	struct operation *op =
		operation_begin(s, m->operation, EFFECT_MIGRATE, request->who, request->why);
	op->of_several = request->safe;
	operation_step(op, step);
	migrate_soon(c);
	return 0;
}

static void fail(struct controller *c, struct moving *m, struct session *s, struct error e)
{
	drop(c, m);
	operation_fail(s->operation, &e);
}

/* --- by checkpoint -----------------------------------------------------------------------------
 */

static int apply(struct session *s, const struct moving *m, enum session_event event,
		 struct error *e)
{
	const struct session_change change = {
		.event = event,
		.who = m->who,
		.why = m->why,
		.wish = event == EVENT_HIBERNATE ? WISH_AWAKE : WISH_NONE,
	};
	return session_apply(s, &change, NULL, e);
}

static int begin_safe(struct session *s, struct moving *m, struct error *e)
{
	const struct placing what = placing_of_move(s, m->to, false);
	struct node *to;
	int r = placing_choose(s, &what, &to, e);
	if (r == 0)
		r = apply(s, m, EVENT_SNAPSHOT, e);
	if (r == 0)
		m->phase = MOVING_SNAPSHOT;
	return r;
}

static void end_safe(struct controller *c, struct moving *m, struct session *s)
{
	const struct effect_result nothing = { 0 };
	struct operation *op = s->operation;
	json_t *outcome = operation_json(op);
	operation_add_result(outcome, "moved", &nothing);
	cleanup_free char *text = json_dumps(outcome, JSON_COMPACT);
	json_decref(outcome);
	drop(c, m);
	if (text)
		operation_end(op, text);
}

static void go_on_safe(struct controller *c, struct moving *m, struct session *s)
{
	struct error e = ERROR_INIT;
	if (s->effect || s->state == SESSION_HIBERNATED)
		return; /* controller/wake.h goes on with it */
	if (s->state == SESSION_RUNNING && s->node != m->from) {
		end_safe(c, m, s);
	} else if (s->state == SESSION_RUNNING && m->phase == MOVING_SNAPSHOT) {
		m->phase = MOVING_HIBERNATES;
		if (apply(s, m, EVENT_HIBERNATE, &e) < 0)
			fail(c, m, s, e);
	} else {
		error_fault(&e, FAULT_REFUSED, "%s did not move, and is %s%s%s", s->label,
			    session_state_name(s->state), s->row.reason ? ": " : "",
			    s->row.reason ? s->row.reason : "");
		fail(c, m, s, e);
	}
}

int migrate_place_woken(struct session *s, const struct placing *what, struct node **to,
			struct error *e)
{
	struct moving *m = s->controller->migrate ? find(s) : NULL;
	if (!m || !m->safe || m->phase != MOVING_HIBERNATES)
		return placing_choose(s, what, to, e);
	const struct placing elsewhere = placing_of_move(s, m->to, false);
	int r = placing_choose(s, &elsewhere, to, e);
	/* It is not to sleep on for the wish to be somewhere in particular. */
	if (r == 0 || r == -EINPROGRESS)
		return r;
	error_clear(e);
	return placing_choose(s, what, to, e);
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
	int r = m->safe ? begin_safe(s, m, &e) : begin_live(s, m, &e);
	if (r == 0 && !m->safe)
		drop(c, m);
	else if (r < 0 && (late || (r != -EBUSY && r != -EINPROGRESS)))
		fail(c, m, s, e);
	else if (r == -EBUSY && session_state_is_transient(s->state))
		fail(c, m, s, e);
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
			drop(c, m);
		else if (m->phase == MOVING_WAITS)
			try_turn(c, m, s);
		else
			go_on_safe(c, m, s);
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
	const struct moving *m = find(s);
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
	return c->migrate->timer ? 0 : error_set(e, ENOMEM, "out of memory");
}

void migrate_free(struct controller *c)
{
	if (!c->migrate)
		return;
	for (struct moving *m; (m = TAILQ_FIRST(&c->migrate->queue));)
		drop(c, m);
	if (c->migrate->timer)
		event_free(c->migrate->timer);
	free(c->migrate);
	c->migrate = NULL;
}
