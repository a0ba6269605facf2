/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Moves by checkpoint: a snapshot, a hibernation and a restore elsewhere, each an
 * effect of its own. That they belong together is a fact on record ("safe-move.SESSION"),
 * from before the first of them until the operation's end is on record, too: a
 * restart of elsad takes it up where it was. What is done twice then, a snapshot,
 * does no harm.
 */
#include "controller/migrate_private.h"

#include "base/cleanup.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/names.h"
#include "controller/effects.h"
#include "controller/node.h"
#include "controller/operations.h"
#include "controller/rows.h"

#include <errno.h>
#include <string.h>

static const char *const phase_names[MOVING_PHASE_COUNT] = {
	[MOVING_WAITS] = "waits",
	[MOVING_SNAPSHOT] = "snapshot",
	[MOVING_HIBERNATES] = "hibernates",
};

/* --- on record ---------------------------------------------------------------------------------
 */

static char *key_of(const char *session)
{
	return str_printf("safe-move.%s", session);
}

static json_t *to_json(const struct moving *m)
{
	json_t *to = json_pack("{s:s, s:s, s:s, s:s, s:s}", "operation", m->operation, "phase",
			       phase_names[m->phase], "from", node_name(m->from), "who",
			       m->who ? m->who : "", "why", m->why ? m->why : "");
	if (to && m->to)
		json_object_set_new(to, "to", json_string(node_name(m->to)));
	return to;
}

int migrate_safe_keep(struct controller *c, const struct moving *m, struct error *e)
{
	cleanup_free char *key = key_of(m->session);
	cleanup_json json_t *json = to_json(m);
	cleanup_free char *text = json ? json_dumps(json, JSON_COMPACT) : NULL;
	if (!key || !text)
		return error_set(e, ENOMEM, "out of memory");
	return db_fact_set(c->db, key, text, e);
}

void migrate_safe_forget(struct controller *c, const struct moving *m)
{
	struct error e = ERROR_INIT;
	cleanup_free char *key = key_of(m->session);
	if (key && db_fact_set(c->db, key, NULL, &e) < 0)
		log_error("session %s: that its move has ended cannot be recorded: %s", m->session,
			  e.text);
}

static const char *text_at(const json_t *from, const char *key)
{
	const char *text = json_string_value(json_object_get(from, key));
	return text ? text : "";
}

static void load_one(struct session *s, const json_t *kept)
{
	struct controller *c = s->controller;
	int phase = value_of(phase_names, MOVING_PHASE_COUNT, text_at(kept, "phase"));
	struct moving what = {
		.safe = true,
		.phase = phase < 0 ? MOVING_WAITS : (enum moving_phase)phase,
		.from = nodes_of_row(c, text_at(kept, "from")),
		.to = nodes_find(c, text_at(kept, "to")),
		.who = (char *)text_at(kept, "who"),
		.why = (char *)text_at(kept, "why"),
	};
	if (!id_valid(text_at(kept, "operation")))
		return;
	memcpy(what.operation, text_at(kept, "operation"), ID_SIZE);
	log_info("%s: taking up its move by checkpoint again", s->label);
	migrate_enqueue(s, &what);
	operation_step(s->operation, phase_names[what.phase]);
}

void migrate_safe_load(struct controller *c)
{
	for (struct session *s = sessions_first(c); s; s = sessions_next(s)) {
		cleanup_free char *key = key_of(s->row.id), *text = NULL;
		if (!key || db_fact_get(c->db, key, &text, NULL) < 0)
			continue;
		cleanup_json json_t *kept = json_loads(text, 0, NULL);
		load_one(s, kept);
	}
}

void migrate_safe_told(struct session *s)
{
	struct error e = ERROR_INIT;
	cleanup_json json_t *outcome = operation_json(s->operation);
	cleanup_free char *text = json_dumps(outcome, JSON_COMPACT);
	if (text && rows_put_outcome(s->controller->db, s->row.id, text, &e) < 0)
		log_error("%s: how its move has ended cannot be recorded: %s", s->label, e.text);
}

/* Not recorded it is recorded at the next step, or by what is seen of the session. */
static void set_phase(struct controller *c, struct moving *m, enum moving_phase phase)
{
	struct error e = ERROR_INIT;
	m->phase = phase;
	if (migrate_safe_keep(c, m, &e) < 0)
		log_error("session %s: how far its move has come cannot be recorded: %s",
			  m->session, e.text);
}

/* --- one after the other -----------------------------------------------------------------------
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

int migrate_safe_begin(struct session *s, struct moving *m, struct error *e)
{
	const struct placing what = placing_of_move(s, m->to, false);
	struct node *to;
	int r = placing_choose(s, &what, &to, e);
	if (r == 0)
		r = apply(s, m, EVENT_SNAPSHOT, e);
	if (r == 0)
		set_phase(s->controller, m, MOVING_SNAPSHOT);
	return r;
}

static void end(struct controller *c, struct moving *m, struct session *s)
{
	const struct effect_result nothing = { 0 };
	cleanup_json json_t *outcome = operation_json(s->operation);
	operation_add_result(outcome, "moved", &nothing);
	cleanup_free char *text = json_dumps(outcome, JSON_COMPACT);
	if (text)
		operation_end(s->operation, text);
	migrate_safe_told(s);
	migrate_drop(c, m);
}

/* controller/wake.h goes on with it. */
static bool is_to_be_woken(const struct session *s)
{
	return s->state == SESSION_HIBERNATED && s->row.wish == WISH_AWAKE;
}

void migrate_safe_go_on(struct controller *c, struct moving *m, struct session *s)
{
	struct error e = ERROR_INIT;
	if (s->state == SESSION_CHECKPOINTING && m->phase == MOVING_SNAPSHOT)
		set_phase(c, m, MOVING_HIBERNATES);
	if (s->effect || is_to_be_woken(s))
		return;
	if (s->state == SESSION_RUNNING && s->node != m->from) {
		end(c, m, s);
	} else if (s->state == SESSION_RUNNING && m->phase == MOVING_SNAPSHOT) {
		if (apply(s, m, EVENT_HIBERNATE, &e) < 0)
			migrate_fail(c, m, s, e);
		else
			set_phase(c, m, MOVING_HIBERNATES);
	} else {
		error_fault(&e, FAULT_REFUSED, "%s did not move, and is %s%s%s", s->label,
			    session_state_name(s->state), s->row.reason ? ": " : "",
			    s->row.reason ? s->row.reason : "");
		migrate_fail(c, m, s, e);
	}
}

int migrate_place_woken(struct session *s, const struct placing *what, struct node **to,
			struct error *e)
{
	struct moving *m = s->controller->migrate ? migrate_find(s) : NULL;
	if (!m || !m->safe || m->phase == MOVING_WAITS)
		return placing_choose(s, what, to, e);
	const struct placing elsewhere = placing_of_move(s, m->to, false);
	int r = placing_choose(s, &elsewhere, to, e);
	/* It is not to sleep on for the wish to be somewhere in particular. */
	if (r == 0 || r == -EINPROGRESS)
		return r;
	error_clear(e);
	return placing_choose(s, what, to, e);
}
