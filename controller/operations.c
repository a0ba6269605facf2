/* SPDX-License-Identifier: Apache-2.0 */
#include "controller/operations.h"

#include "base/cleanup.h"
#include "controller/rows.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define ORPHANS_MOST 1024 /* operations kept without their session, or behind its last one */

static void operation_free(void *arg)
{
	struct operation *op = arg;
	if (op->poll)
		http_call_cancel(op->poll);
	json_decref(op->outcome);
	free(op->user);
	free(op->server);
	free(op->who);
	free(op->why);
	free(op->step);
	free(op);
}

/* Those who wait get its last word first. */
static void operation_remove(struct operation *op)
{
	waiters_wake(&op->waiters);
	TAILQ_REMOVE(&op->c->operations->all, op, entry);
	controller_later(op->c, operation_free, op);
}

/* Who waits for it is told apart from one whose wish cannot be fulfilled. */
static void operation_supersede(struct operation *op)
{
	json_t *outcome = operation_json(op);
	operation_add_error(outcome,
			    &(struct error) { .fault = FAULT_NOT_FOUND,
					      .text = "something newer was asked of the session" },
			    NULL);
	json_object_set_new(outcome, "superseded", json_true());
	op->outcome = outcome;
	waiters_wake(&op->waiters);
}

void operation_orphan(struct session *s)
{
	struct operation *op = s->operation;
	struct operations *all = s->controller->operations;
	if (!op)
		return;
	op->session = NULL;
	s->operation = NULL;
	TAILQ_REMOVE(&all->all, op, entry);
	TAILQ_INSERT_TAIL(&all->all, op, entry);
	if (++all->orphans <= ORPHANS_MOST)
		return;
	struct operation *oldest = op;
	struct operation *before;
	while ((before = TAILQ_PREV(oldest, operations_list, entry)) && !before->session)
		oldest = before;
	all->orphans--;
	operation_remove(oldest);
}

static struct operation *operation_new(struct session *s, const char *id, enum effect_kind kind)
{
	struct operation *op = calloc(1, sizeof(*op));
	if (!op)
		abort();
	op->c = s->controller;
	op->session = s;
	op->kind = kind;
	memcpy(op->id, id, ID_SIZE);
	replace_text(&op->user, s->row.user);
	replace_text(&op->server, s->row.server);
	TAILQ_INIT(&op->waiters);
	TAILQ_INSERT_HEAD(&op->c->operations->all, op, entry);
	if (s->operation) {
		if (operation_running(s->operation))
			operation_supersede(s->operation);
		operation_orphan(s);
	}
	s->operation = op;
	return op;
}

bool operation_goes_on(const struct session *s, enum effect_kind kind)
{
	const struct operation *op = s->operation;
	return op && op->of_several && operation_running(op) &&
	       (kind == EFFECT_SNAPSHOT || kind == EFFECT_HIBERNATE || kind == EFFECT_RESTORE);
}

struct operation *operation_begin(struct session *s, const char *id, enum effect_kind kind,
				  const char *who, const char *why)
{
	struct operation *op = s->operation;
	if (operation_goes_on(s, kind)) {
		operation_step(op, effect_kind_names[kind]);
		return op;
	}
	if (!op || strcmp(op->id, id) != 0)
		op = operation_new(s, id, kind);
	replace_text(&op->who, who);
	replace_text(&op->why, why);
	return op;
}

const struct operation *operation_waiting(const struct session *s, enum effect_kind kind)
{
	const struct operation *op = s->operation;
	return op && operation_running(op) && !s->effect && op->kind == kind ? op : NULL;
}

bool operation_running(const struct operation *op)
{
	return !op->outcome;
}

struct operation *operation_find(struct controller *c, const char *id)
{
	struct operation *op;
	TAILQ_FOREACH(op, &c->operations->all, entry)
	if (strcmp(op->id, id) == 0)
		return op;
	return NULL;
}

void operation_step(struct operation *op, const char *step)
{
	replace_text(&op->step, step);
	waiters_wake(&op->waiters);
}

void operation_end(struct operation *op, const char *outcome)
{
	json_decref(op->outcome);
	op->outcome = json_loads(outcome, 0, NULL);
	waiters_wake(&op->waiters);
}

void operation_fail(struct operation *op, const struct error *error)
{
	json_t *outcome = operation_json(op);
	operation_add_error(outcome, error, NULL);
	op->outcome = outcome;
	waiters_wake(&op->waiters);
}

struct operation *operation_settled(struct session *s, enum effect_kind kind, const char *who,
				    const char *why)
{
	char id[ID_SIZE];
	id_new(id);
	struct operation *op = operation_begin(s, id, kind, who, why);
	json_t *outcome = operation_json(op);
	const struct effect_result nothing = { 0 };
	operation_add_result(outcome, "already", &nothing);
	op->outcome = outcome;
	return op;
}

static void operation_load(struct session *s, const char *text)
{
	json_t *outcome = json_loads(text, 0, NULL);
	const char *id = json_string_value(json_object_get(outcome, "id"));
	if (id_valid(id))
		operation_new(s, id, EFFECT_NONE)->outcome = outcome;
	else
		json_decref(outcome);
}

int operations_new(struct controller *c, struct error *e)
{
	c->operations = calloc(1, sizeof(*c->operations));
	if (!c->operations)
		return error_set(e, ENOMEM, "out of memory");
	TAILQ_INIT(&c->operations->all);
	c->operations->timer = progress_timer_new(c);
	if (!c->operations->timer)
		return error_set(e, ENOMEM, "out of memory");
	for (struct session *s = sessions_first(c); s; s = sessions_next(s)) {
		cleanup_free char *outcome = NULL;
		if (rows_get_outcome(c->db, s->row.id, &outcome, NULL) == 0 && outcome)
			operation_load(s, outcome);
	}
	return 0;
}

void operations_free(struct controller *c)
{
	struct operation *op;
	if (!c->operations)
		return;
	while ((op = TAILQ_FIRST(&c->operations->all))) {
		TAILQ_REMOVE(&c->operations->all, op, entry);
		operation_free(op);
	}
	if (c->operations->timer)
		event_free(c->operations->timer);
	free(c->operations);
	c->operations = NULL;
}
