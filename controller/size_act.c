/* SPDX-License-Identifier: Apache-2.0 */
/* What was decided of a session's size is done: its node is told, and it is recorded. */
#include "controller/size_private.h"

#include "base/cleanup.h"
#include "base/fs.h"
#include "base/log.h"
#include "controller/migrate.h"
#include "controller/node.h"
#include "controller/record.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define WHO        "size-policy"
#define TIMEOUT_MS 10000
#define MIB        (INT64_C(1) << 20)

/* --- recording -----------------------------------------------------------------------------------
 */

/* What is put on record when it is so. */
struct change {
	struct session_limits limits;
	enum size_reason reason;
	char *detail;
	json_t *inputs;
};

static void change_deinit(struct change *change)
{
	free(change->detail);
	json_decref(change->inputs);
}

static int make_change(const struct session *s, const struct size_view *view, struct change *to,
		       struct error *e)
{
	const struct size *size = s->controller->size;
	const struct size_class *class = &size->classes.list[view->decision.to];
	struct session_spec spec = { 0 };
	int r = session_spec(s, &spec, e);
	*to = (struct change) { .limits = spec.limits, .reason = view->decision.reason };
	wire_free(&wire_session_spec, &spec);
	if (r < 0)
		return r;
	to->limits.memory_bytes = class->memory_bytes;
	to->limits.cpus = class->cpus;
	to->detail = str_printf(
		"from %lld to %lld MiB (%s): %s", (long long)(s->memory_limit / MIB),
		(long long)(class->memory_bytes / MIB), class->name, size_reason_text(to->reason));
	to->inputs = json_pack("{s:o*}", "size", size_view_json(size, view));
	return 0;
}

static int record(struct session *s, const struct change *change, struct error *e)
{
	const struct record said = {
		.who = WHO,
		.why = size_reason_name(change->reason),
		.detail = change->detail,
		.inputs = change->inputs,
	};
	log_info("%s: its memory's limit goes %s", s->label, change->detail ? change->detail : "");
	return session_set_limits(s, &change->limits, &said, e);
}

/* --- telling its node ----------------------------------------------------------------------------
 */

struct telling {
	struct controller *controller;
	struct node *node;
	char session[ID_SIZE];
	struct change change;
	void (*done)(struct session *s, enum size_when when, void *arg);
	void *arg;
};

static void *telling_free(struct telling *t)
{
	if (t)
		change_deinit(&t->change);
	free(t);
	return NULL;
}
DEFINE_CLEANUP(struct telling *, telling_free)

/* Its node has no room for it as large as it is to be; another one has. */
static int move_to_room(struct session *s, const struct change *change, struct error *e)
{
	int64_t before = s->memory_limit;
	struct node *to = NULL;
	s->memory_limit = change->limits.memory_bytes; /* to find its place by */
	int r = migrate_place(s, NULL, &to, e);
	s->memory_limit = before;
	if (r == 0)
		r = record(s, change, e);
	return r < 0 ? r : migrate_begin(s, to, WHO, "size", e);
}

static void told(const struct http_reply *reply, void *arg)
{
	cleanup(telling_freep) struct telling *t = arg;
	struct session *s = sessions_by_id(t->controller, t->session);
	struct error e = ERROR_INIT;
	node_heard(t->node, reply);
	node_error(reply, &e);
	enum size_when when = e.fault == FAULT_NONE   ? SIZE_NOW
			      : e.fault == FAULT_FULL ? SIZE_FULL
						      : SIZE_WAKE;
	if (s)
		s->size.asking = false;
	if (s && when == SIZE_NOW && s->node == t->node && record(s, &t->change, &e) < 0)
		when = SIZE_WAKE;
	if (s && when == SIZE_NOW && s->state == SESSION_RUNNING)
		size_soon(s); /* it may be worth to move, now */
	if (s && when == SIZE_FULL && s->state == SESSION_RUNNING && !s->effect &&
	    move_to_room(s, &t->change, &e) == 0)
		when = SIZE_MOVES;
	/* Somebody woke it just then, or it is being moved: there will be another time. */
	if (s && when != SIZE_NOW && when != SIZE_MOVES)
		log_info("%s: its limits are not changed now: %s", s->label, e.text);
	if (t->done)
		t->done(s, when, t->arg);
}

static int tell(struct session *s, const struct size_view *view,
		void (*done)(struct session *s, enum size_when when, void *arg), void *arg,
		struct error *e)
{
	cleanup(telling_freep) struct telling *t = calloc(1, sizeof(*t));
	cleanup_free char *path = str_printf("/v1/sessions/%s/limits", s->row.id);
	if (!t || !path)
		return error_set(e, ENOMEM, "out of memory");
	t->controller = s->controller;
	t->node = s->node;
	t->done = done;
	t->arg = arg;
	memcpy(t->session, s->row.id, ID_SIZE);
	int r = make_change(s, view, &t->change, e);
	if (r < 0)
		return r;
	cleanup_json json_t *body = wire_encode(&wire_session_limits, &t->change.limits);
	r = node_call(s->node, "PUT", path, body, TIMEOUT_MS, told, t, NULL, e);
	if (r < 0)
		return r;
	s->size.asking = true;
	t = NULL;
	return 0;
}

int size_act(struct session *s, const struct size_view *view, struct error *e)
{
	cleanup(change_deinit) struct change change = { 0 };
	if (s->state == SESSION_ASLEEP || s->state == SESSION_RUNNING)
		return tell(s, view, NULL, NULL, e);
	int r = make_change(s, view, &change, e);
	return r < 0 ? r : record(s, &change, e);
}

/* --- what its user chooses -----------------------------------------------------------------------
 */

static bool is_more(const struct session *s, const struct size_view *view)
{
	int to = view->decision.to;
	return to >= 0 && s->memory_limit > 0 &&
	       s->controller->size->classes.list[to].memory_bytes >= s->memory_limit;
}

static enum size_when when_chosen(struct session *s, const struct size_view *view)
{
	if (size_is_over(s))
		return SIZE_START;
	if (view->decision.reason == SIZE_HOLDS)
		return SIZE_HELD;
	bool has_it = view->decision.to < 0 && session_has_processes(s);
	return has_it ? SIZE_NOW : SIZE_WAKE;
}

int size_choose(struct session *s, const char *name, const char *who,
		void (*done)(struct session *s, enum size_when when, void *arg), void *arg,
		struct error *e)
{
	struct size_view view;
	const char *chosen = *name ? name : NULL;
	if (!s->row.created_at)
		return error_fault(e, FAULT_CONFLICT, "%s waits for a machine to be started on",
				   s->label);
	bool same = strcmp(name, s->row.size ? s->row.size : "") == 0;
	int r = same ? 0 : session_set_size(s, chosen, who, e);
	if (r == 0)
		r = size_look(s, &view, e);
	if (r != 0)
		return r;
	bool quiet = !s->effect && !s->size.asking;
	bool less = size_may_lower(s) && size_is_less(s, &view);
	bool runs = s->state == SESSION_RUNNING && quiet && (less || is_more(s, &view));
	bool sleeps = (s->state == SESSION_HIBERNATED || s->state == SESSION_ASLEEP) && quiet;
	if (size_lowers(s))
		size_soon(s);
	if (chosen && runs)
		return tell(s, &view, done, arg, e);
	if (sleeps && view.decision.to >= 0)
		r = size_act(s, &view, e);
	if (r == 0)
		done(s, chosen ? when_chosen(s, &view) : SIZE_USE, arg);
	return r;
}

/* --- a fresh start -------------------------------------------------------------------------------
 */

void size_at_start(const struct session *s, const char *chosen, struct session_limits *limits)
{
	const struct size *size = s->controller->size;
	struct size_view view;
	struct error e = ERROR_INIT;
	if (size->classes.count == 0)
		return;
	if (size_look_at_start(s, chosen, limits, &view, &e) != 0) {
		log_warning("%s: its size cannot be decided: %s", s->label, e.text);
		return;
	}
	limits->memory_bytes = view.facts.memory_bytes;
	limits->cpus = view.facts.cpus;
	if (view.decision.to < 0)
		return;
	limits->memory_bytes = size->classes.list[view.decision.to].memory_bytes;
	limits->cpus = size->classes.list[view.decision.to].cpus;
}
