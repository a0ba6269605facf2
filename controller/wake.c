/* SPDX-License-Identifier: Apache-2.0 */
#include "controller/wake.h"

#include "base/cleanup.h"
#include "base/fs.h"
#include "base/log.h"
#include "controller/api.h"
#include "controller/asleep.h"
#include "controller/budgets.h"
#include "controller/capacity.h"
#include "controller/hub.h"
#include "controller/migrate.h"
#include "controller/nodes.h"
#include "controller/operations.h"
#include "controller/record.h"
#include "controller/retry.h"
#include "controller/rows.h"
#include "controller/spec.h"
#include "controller/tried.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define WHO         "nodes"
#define AGAIN_MS    1000
#define WANTED_MS   10000 /* how long a machine is wanted for it unless that is said again */
#define IMAGE_MS    15000 /* for the nodes to say whether they have an image */
#define WAITING_FOR "waiting for a machine"

struct waiting {
	TAILQ_ENTRY(waiting) entry;
	struct session *session;
	char operation[ID_SIZE];
	enum session_event event;
	char *who, *why;
	json_t *body;
	mono_us deadline;
	bool asking;
	struct error because; /* why it has no machine yet */
};

struct wake {
	struct event *timer;
	TAILQ_HEAD(, waiting) starts;
};

/* Somebody may give a machine for it. */
static void want_machine(struct session *s, const struct placing *what, bool in_use)
{
	const struct capacity_want want = {
		.session = s->row.id,
		.memory_bytes = what->memory_bytes > 0 ? what->memory_bytes : placing_memory(s),
		.features = what->features,
		.in_use = in_use,
		.spot = what->spot,
		.until = clock_wall() + WANTED_MS,
	};
	capacity_wanted(s->controller, &want);
}

/* --- starts that wait --------------------------------------------------------------------------
 */

static struct waiting *find_waiting(const struct session *s)
{
	struct waiting *w;
	TAILQ_FOREACH(w, &s->controller->wake->starts, entry)
	if (w->session == s)
		return w;
	return NULL;
}

bool wake_is_waiting(const struct session *s)
{
	return find_waiting(s);
}

static void waiting_free(struct wake *wake, struct waiting *w)
{
	TAILQ_REMOVE(&wake->starts, w, entry);
	capacity_unwanted(w->session->controller, w->session->row.id);
	json_decref(w->body);
	free(w->who);
	free(w->why);
	free(w);
}

/* A session that only ever waited was never recorded: it goes with its start. */
static void drop_unborn(struct session *s)
{
	if (!s->row.created_at && !s->effect)
		sessions_remove(s);
}

static void start_failed(struct waiting *w, struct error e)
{
	struct session *s = w->session;
	struct operation *op = s->operation;
	bool ours = op && operation_running(op) && strcmp(op->id, w->operation) == 0;
	waiting_free(s->controller->wake, w);
	if (ours)
		operation_fail(op, &e);
	drop_unborn(s);
}

void wake_forget_start(struct session *s)
{
	struct waiting *w = find_waiting(s);
	if (w)
		waiting_free(s->controller->wake, w);
}

bool wake_start_later(struct session *s, const struct wake_start *start,
		      const struct error *because)
{
	struct controller *c = s->controller;
	int64_t wait_ms = capacity_can_grow(c) ? c->config->capacity.start_timeout_ms : IMAGE_MS;
	if (!start->asking && !capacity_can_grow(c))
		return false;
	struct waiting *w = calloc(1, sizeof(*w));
	if (!w)
		return false;
	*w = (struct waiting) {
		.session = s,
		.event = start->event,
		.who = strdup(start->who),
		.why = strdup(start->why),
		.body = json_deep_copy(start->body),
		.deadline = clock_mono() + wait_ms * 1000,
		.asking = start->asking,
		.because = *because,
	};
	id_new(w->operation);
	TAILQ_INSERT_TAIL(&c->wake->starts, w, entry);
	if (!s->person)
		sessions_insert(s);
	operation_step(operation_begin(s, w->operation, start->kind, start->who, start->why),
		       WAITING_FOR);
	wake_soon(c);
	return true;
}

static void begin_waiting(struct waiting *w, struct node *node)
{
	struct session *s = w->session;
	struct start_request request;
	struct error e = ERROR_INIT;
	struct session_change change = {
		.event = w->event,
		.who = w->who,
		.why = w->why,
		.prepare = spec_prepare,
		.arg = &request,
		.node = node,
	};
	int r = start_request_parse(w->body, &request, &e);
	if (r == 0)
		r = session_apply(s, &change, NULL, &e);
	if (r < 0)
		start_failed(w, e);
	else if (wake_is_waiting(s))
		waiting_free(s->controller->wake, w);
}

/* `restore`: from its checkpoint, whatever it was asked for with. */
static struct placing placing_of_start(const struct waiting *w, bool restore)
{
	struct start_request request;
	struct error e = ERROR_INIT;
	if (!restore && start_request_parse(w->body, &request, &e) == 0) {
		struct placing what = spec_placing(w->session, &request);
		/* It was let in: what is spent since is no matter. */
		if (budgets_check_start(w->session, request.groups, &what.spot, &e) < 0)
			error_clear(&e);
		return what;
	}
	error_clear(&e);
	return placing_of(w->session, restore);
}

/* Of one that was begun before, and failed for its node's sake. */
static struct placing placing_again(const struct session *s, bool restore)
{
	struct placing what = placing_of(s, restore);
	if (!restore)
		what.spot = budgets_spot_again(s);
	return what;
}

bool wake_placing(struct session *s, struct placing *what)
{
	struct waiting *w = find_waiting(s);
	struct session_now now = session_now(s);
	enum session_event event = w ? w->event : EVENT_START;
	bool restore = lifecycle_step(&now, event).action == ACTION_RESTORE;
	if (!w && !s->waiting)
		return false;
	*what = w ? placing_of_start(w, restore) : placing_again(s, restore);
	return true;
}

static void try_waiting(struct waiting *w)
{
	struct session *s = w->session;
	struct session_now now = session_now(s);
	struct session_step step = lifecycle_step(&now, w->event);
	struct node *node = NULL;
	struct error e = ERROR_INIT;
	bool restore = step.action == ACTION_RESTORE;
	if (step.action != ACTION_START && !restore) { /* something else has happened to it */
		begin_waiting(w, NULL);
		return;
	}
	const struct placing what = placing_of_start(w, restore);
	int r = placing_choose(s, &what, &node, &e);
	if (r == 0) {
		begin_waiting(w, node);
		return;
	}
	/* Now that the nodes said that they have its image there is no room: that is to be known.
	 */
	bool over = w->asking && r != -EINPROGRESS && !capacity_can_grow(s->controller);
	if (r != -EINPROGRESS) {
		w->because = e;
		want_machine(s, &what, true);
	}
	if (over || clock_mono() > w->deadline)
		start_failed(w, w->because);
}

/* --- sessions to be woken ----------------------------------------------------------------------
 */

static bool wants(const struct session *s)
{
	if (s->effect || wake_is_waiting(s))
		return false;
	if (s->row.wish == WISH_AWAKE)
		return s->state == SESSION_HIBERNATED || s->state == SESSION_ASLEEP;
	return s->row.wish == WISH_START &&
	       (s->state == SESSION_HIBERNATED || s->state == SESSION_STOPPED);
}

/* Said once for each reason. */
static void note_why_not(struct session *s, const struct error *e)
{
	if (s->waiting && strcmp(s->waiting, e->text) == 0)
		return;
	if (!s->waiting)
		record_note(s->controller, &(struct record) { .session = s,
							      .who = WHO,
							      .what = "waiting",
							      .why = "no-machine",
							      .detail = e->text });
	replace_text(&s->waiting, e->text);
	log_warning("%s: it is to go on, but %s", s->label, e->text);
}

/* Where it was tried in vain, and nobody is left to try it, there is nothing to wait for. */
static bool is_given_up(const struct session *s, int r, struct error *e)
{
	if (tried_count(s->row.tried) >= TRIED_MOST) {
		error_set(e, EAGAIN, "%d nodes have failed or were lost with it", TRIED_MOST);
		return true;
	}
	return r == -EAGAIN && tried_any_failed(s->row.tried) && !capacity_can_grow(s->controller);
}

static void give_up(struct session *s, const struct error *because)
{
	struct error e = ERROR_INIT;
	const char *what = s->state == SESSION_STOPPED ? "started" : "restored";
	cleanup_free char *reason = str_printf("could not be %s: %s%s%s", what, because->text,
					       because->remedy[0] ? ". " : "", because->remedy);
	const struct session_change change = { .event = EVENT_GIVEN_UP,
					       .who = WHO,
					       .reason = reason };
	struct operation *op = s->operation;
	if (session_apply(s, &change, NULL, &e) < 0) {
		log_error("%s: that it is given up cannot be recorded: %s", s->label, e.text);
		return;
	}
	if (op && operation_running(op))
		operation_fail(op, because);
	replace_text(&s->waiting, NULL);
	capacity_unwanted(s->controller, s->row.id);
}

/* Where it sleeps it cannot be woken, its node says: that holds while there is another one. */
static int place_asleep(struct session *s, struct placing *what, struct node **to, struct error *e)
{
	what->not_on = s->asleep.unwoken ? s->node : NULL;
	int r = placing_choose(s, what, to, e);
	if (r == -EAGAIN && what->not_on) {
		error_clear(e);
		what->not_on = NULL;
		r = placing_choose(s, what, to, e);
	}
	return r;
}

static void wake(struct session *s)
{
	struct session_change change = { .event = EVENT_START, .who = WHO, .why = "in-use" };
	struct session_now now = session_now(s);
	bool restore = lifecycle_step(&now, EVENT_START).action == ACTION_RESTORE;
	struct placing what = placing_again(s, restore);
	struct error e = ERROR_INIT;
	bool asleep = s->state == SESSION_ASLEEP;
	if (asleep && !asleep_may_try(s))
		return;
	int r = asleep ? place_asleep(s, &what, &change.node, &e)
		       : migrate_place_woken(s, &what, &change.node, &e);
	if (!asleep && is_given_up(s, r, &e)) {
		give_up(s, &e);
		return;
	}
	if (r == 0)
		r = session_apply(s, &change, NULL, &e);
	if (r < 0) {
		note_why_not(s, &e);
		if (r == -EAGAIN) /* not while the nodes are only being asked */
			want_machine(s, &what, true);
		return;
	}
	replace_text(&s->waiting, NULL);
	capacity_unwanted(s->controller, s->row.id);
}

void wake_put_away(struct session *s)
{
	if (wants(s) || asleep_wants(s))
		wake_soon(s->controller);
	else if (s->state == SESSION_HIBERNATED)
		hub_tell_asleep(s);
}

/* --- a pass ------------------------------------------------------------------------------------
 */

static void try_starts(struct controller *c)
{
	struct waiting *next;
	for (struct waiting *w = TAILQ_FIRST(&c->wake->starts); w; w = next) {
		next = TAILQ_NEXT(w, entry);
		try_waiting(w);
	}
}

static void run_pass(evutil_socket_t fd, short what, void *arg)
{
	struct controller *c = arg;
	const struct timeval again = retry_timeval(AGAIN_MS);
	bool any = false;
	struct session *next;
	(void)fd;
	(void)what;
	try_starts(c);
	for (struct session *s = sessions_first(c); s; s = next) {
		next = sessions_next(s);
		if (wants(s))
			wake(s);
		else if (asleep_wants(s))
			asleep_see_to(s);
		any = any || wants(s) || asleep_wants(s);
	}
	if (any || !TAILQ_EMPTY(&c->wake->starts))
		event_add(c->wake->timer, &again);
}

void wake_soon(struct controller *c)
{
	static const struct timeval now;
	if (c->wake)
		event_add(c->wake->timer, &now);
}

int wake_new(struct controller *c, struct error *e)
{
	c->wake = calloc(1, sizeof(*c->wake));
	if (!c->wake)
		return error_set(e, ENOMEM, "out of memory");
	TAILQ_INIT(&c->wake->starts);
	c->wake->timer = evtimer_new(c->base, run_pass, c);
	if (!c->wake->timer)
		return error_set(e, ENOMEM, "out of memory");
	wake_soon(c);
	return 0;
}

void wake_free(struct controller *c)
{
	if (!c->wake)
		return;
	for (struct waiting *w; (w = TAILQ_FIRST(&c->wake->starts));)
		waiting_free(c->wake, w);
	if (c->wake->timer)
		event_free(c->wake->timer);
	free(c->wake);
	c->wake = NULL;
}
