/* SPDX-License-Identifier: Apache-2.0 */
#include "controller/effects_private.h"

#include "base/cleanup.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/names.h"
#include "controller/migrate.h"
#include "controller/node.h"
#include "controller/operations.h"
#include "controller/overlay_state.h"
#include "controller/retry.h"
#include "controller/rows.h"
#include "controller/steps.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RETRY_FIRST_MS 200
#define RETRY_MOST_MS  10000
#define ACK_TIMEOUT_MS 10000

enum effect_kind effect_kind_of(enum session_action action)
{
	static const enum effect_kind kinds[ACTION_COUNT] = {
		[ACTION_NONE] = EFFECT_NONE,           [ACTION_START] = EFFECT_START,
		[ACTION_HIBERNATE] = EFFECT_HIBERNATE, [ACTION_SNAPSHOT] = EFFECT_SNAPSHOT,
		[ACTION_RESTORE] = EFFECT_RESTORE,     [ACTION_STOP] = EFFECT_STOP,
		[ACTION_FORGET] = EFFECT_FORGET,       [ACTION_FENCE] = EFFECT_FENCE,
		[ACTION_MIGRATE] = EFFECT_MIGRATE,     [ACTION_SLEEP] = EFFECT_SLEEP,
		[ACTION_ANSWER] = EFFECT_ANSWER,       [ACTION_RELEASE] = EFFECT_RELEASE,
		[ACTION_DOZE] = EFFECT_DOZE,           [ACTION_ROUSE] = EFFECT_ROUSE,
	};
	return kinds[action];
}

bool effect_writes(enum effect_kind kind)
{
	return kind == EFFECT_HIBERNATE || kind == EFFECT_SNAPSHOT || kind == EFFECT_SLEEP;
}

bool effect_begins(enum effect_kind kind)
{
	return kind == EFFECT_START || kind == EFFECT_RESTORE;
}

/* It was asleep before, and is so still. */
static bool can_leave_asleep(enum effect_kind kind)
{
	return kind == EFFECT_RESTORE || kind == EFFECT_RELEASE || kind == EFFECT_STOP ||
	       kind == EFFECT_FORGET;
}

enum session_event effect_event(enum effect_kind kind, const struct effect_result *result)
{
	bool done = result->state == EFFECT_DONE;
	if (result->answering && (done ? kind == EFFECT_SLEEP : can_leave_asleep(kind)))
		return EVENT_EFFECT_ASLEEP;
	if (done)
		return EVENT_EFFECT_DONE;
	if (kind == EFFECT_MIGRATE) /* what runs at the target is not its source's any more */
		return result->kept      ? EVENT_EFFECT_REFUSED
		       : result->running ? EVENT_EFFECT_DONE
					 : EVENT_EFFECT_FAILED;
	return result->running ? EVENT_EFFECT_REFUSED : EVENT_EFFECT_FAILED;
}

static void effect_free(void *arg)
{
	struct effect *effect = arg;
	db_effect_deinit(&effect->row);
	if (effect->timer)
		event_free(effect->timer);
	free(effect);
}

void effect_drop(struct effect *effect)
{
	if (effect->call)
		http_call_cancel(effect->call);
	effect->call = NULL;
	event_del(effect->timer);
	effect->session->effect = NULL;
	controller_later(effect->session->controller, effect_free, effect);
}

/* --- telling the node that we know -------------------------------------------------------------
 */

struct ack {
	struct node *node;
	enum effect_kind kind;
};

static void acknowledged(const struct http_reply *reply, void *arg)
{
	struct ack *ack = arg;
	node_heard(ack->node, reply);
	step_reached(ack->node->controller->base, ack->kind, STEP_ACKNOWLEDGED);
	free(ack);
}

/* One that does not arrive is made up for at the next look at a node that came up. */
void effect_acknowledge(struct node *node, const char *id, enum effect_kind kind)
{
	cleanup_free char *path = str_printf("/v1/effects/%s", id);
	struct ack *ack = calloc(1, sizeof(*ack));
	if (!path || !ack) {
		free(ack);
		return;
	}
	*ack = (struct ack) { .node = node, .kind = kind };
	if (node_call(node, "DELETE", path, NULL, ACK_TIMEOUT_MS, acknowledged, ack, NULL, NULL) <
	    0)
		free(ack);
}

/* --- again -------------------------------------------------------------------------------------
 */

void effect_ask_again(struct effect *effect, const char *why)
{
	int64_t delay = retry_delay_ms(effect->failures, RETRY_FIRST_MS, RETRY_MOST_MS);
	if (effect->failures++ == 0)
		log_warning("%s: %s not answered for: %s; asking again until it is",
			    effect->session->label, effect->row.kind, why);
	const struct timeval time = retry_timeval(delay);
	event_add(effect->timer, &time);
}

/* --- fences: asked until one is done -----------------------------------------------------------
 */

/* A fence that failed on one node may be done by another, under another id: the first keeps what it
 * answered. */
static int renew_fence(struct effect *effect, struct error *e)
{
	struct controller *c = effect->session->controller;
	struct node *node = nodes_for_store_next(c, effect->node);
	struct db_effect row = effect->row;
	id_new(row.id);
	row.node = node->name;
	int r = db_begin(c->db, e);
	if (r < 0)
		return r;
	r = db_effect_delete(c->db, effect->row.id, e);
	if (r == 0)
		r = db_effect_put(c->db, &row, e);
	if (r == 0) {
		r = db_commit(c->db, e);
	} else {
		db_rollback(c->db);
	}
	if (r < 0)
		return r;
	effect_acknowledge(effect->node, effect->row.id, EFFECT_NONE);
	memcpy(effect->row.id, row.id, ID_SIZE);
	replace_text(&effect->row.node, node->name);
	effect->node = node;
	effect->renew = false;
	return 0;
}

/* --- the question ------------------------------------------------------------------------------
 */

static int ask_timeout_ms(const struct controller *c)
{
	/* Its steps together, and the turns of others before it. Giving up early costs nothing: the
	 * next question attaches to the same work. */
	int64_t ms = 2 * c->config->node.effect_timeout_ms + 60000;
	return ms > INT_MAX ? INT_MAX : (int)ms;
}

static json_t *request_body(const struct effect *effect, struct error *e)
{
	struct effect_request request = {
		.id = (char *)effect->row.id,
		.kind = effect->kind,
		.generation = effect->row.generation,
		.force = effect->source_lost,
	};
	cleanup_free char *from_at = NULL;
	if (effect->kind == EFFECT_MIGRATE) {
		request.from = (char *)node_name(effect->session->node);
		request.from_at = from_at = migrate_from_at(effect->session->node);
	}
	if (session_spec(effect->session, &request.session, e) < 0)
		return NULL;
	json_t *body = wire_encode(&wire_effect_request, &request);
	wire_free(&wire_session_spec, &request.session);
	if (!body)
		error_set(e, ENOMEM, "out of memory");
	return body;
}

static void ask(struct effect *effect)
{
	struct controller *c = effect->session->controller;
	struct error e = ERROR_INIT;
	if (effect->renew && renew_fence(effect, &e) < 0) {
		effect_ask_again(effect, e.text);
		return;
	}
	effect->waits = (effect_begins(effect->kind) || effect->kind == EFFECT_ANSWER) &&
			!overlay_is_ready(effect->session);
	if (effect->waits)
		return; /* effects_ask_waiting() goes on */
	/* The one that has it must know before the other one comes. */
	if (effect->kind == EFFECT_MIGRATE && !effect->granted && !effect->source_lost &&
	    migrate_grant(effect))
		return; /* which asks again */
	cleanup_free char *path = str_printf("/v1/effects/%s", effect->row.id);
	cleanup_json json_t *body = request_body(effect, &e);
	if (!path || !body ||
	    node_call(effect->node, "PUT", path, body, ask_timeout_ms(c), effect_answered, effect,
		      &effect->call, &e) < 0) {
		effect_ask_again(effect, e.text);
		return;
	}
	effect->granted = false;
	step_reached(c->base, effect->kind, STEP_ASKED);
}

void effects_ask_waiting(struct controller *c)
{
	struct session *next;
	for (struct session *s = sessions_first(c); s; s = next) {
		next = sessions_next(s);
		if (s->effect && s->effect->waits)
			ask(s->effect);
	}
}

static void time_to_ask(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	ask(arg);
}

void effect_begin(struct session *s, struct db_effect *row, const char *replaced,
		  struct node *replaced_node)
{
	struct effect *effect = calloc(1, sizeof(*effect));
	if (effect)
		effect->timer = evtimer_new(s->controller->base, time_to_ask, effect);
	if (!effect || !effect->timer)
		abort(); /* it is recorded: the next start of elsad takes it up */
	effect->session = s;
	effect->node = nodes_of_row(s->controller, row->node);
	effect->replaced_node = replaced_node;
	effect->row = *row;
	*row = (struct db_effect) { 0 };
	effect->kind =
		(enum effect_kind)value_of(effect_kind_names, EFFECT_KIND_COUNT, effect->row.kind);
	snprintf(effect->replaced, ID_SIZE, "%s", replaced);
	s->effect = effect;
	ask(effect);
}

void effect_ask_soon(struct effect *effect, int64_t ms)
{
	const struct timeval time = retry_timeval(ms);
	if (!effect->call)
		event_add(effect->timer, &time);
}

void effect_source_lost(struct effect *effect)
{
	if (effect->kind != EFFECT_MIGRATE || effect->source_lost)
		return;
	effect->source_lost = true;
	if (effect->call)
		http_call_cancel(effect->call);
	effect->call = NULL;
	effect_ask_soon(effect, 0);
}

void effect_ask_elsewhere(struct effect *effect)
{
	static const struct timeval now;
	if (effect->kind != EFFECT_FENCE || effect->renew)
		return;
	if (effect->call)
		http_call_cancel(effect->call);
	effect->call = NULL;
	effect->renew = true;
	event_add(effect->timer, &now);
}

/* --- after a restart ---------------------------------------------------------------------------
 */

static struct db_effect copy_row(const struct db_effect *row)
{
	struct db_effect copy = *row;
	copy.kind = strdup(row->kind);
	copy.node = row->node ? strdup(row->node) : NULL;
	copy.who = strdup(row->who ? row->who : "?");
	copy.why = strdup(row->why ? row->why : "?");
	return copy;
}

static int resume_one(const struct db_effect *row, void *arg)
{
	struct controller *c = arg;
	struct session *s = sessions_by_id(c, row->session);
	int kind = value_of(effect_kind_names, EFFECT_KIND_COUNT, row->kind);
	if (!s || s->effect || kind <= EFFECT_NONE) {
		log_error("the database has an effect %s (%s) that belongs to nothing; left alone",
			  row->id, row->kind);
		return 0;
	}
	struct db_effect copy = copy_row(row);
	log_info("%s: taking up %s again", s->label, row->kind);
	s->overlay_revision = overlay_revision(c);
	operation_begin(s, row->id, (enum effect_kind)kind, copy.who, copy.why);
	effect_begin(s, &copy, "", NULL);
	s->effect->unsure = true;
	return 0;
}

int effects_resume(struct controller *c, struct error *e)
{
	int r = db_effect_each(c->db, resume_one, c, e);
	for (struct session *s = sessions_first(c); r == 0 && s; s = sessions_next(s))
		if (session_state_is_transient(s->state) && !s->effect)
			log_error("%s: %s, but the database knows of no effect that would end it",
				  s->label, session_state_name(s->state));
	return r;
}
