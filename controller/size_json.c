/* SPDX-License-Identifier: Apache-2.0 */
/* Sizes as the API shows them, and how a user chooses. */
#include "controller/size_private.h"

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "controller/api.h"
#include "controller/ledger.h"
#include "controller/node.h"
#include "controller/spec.h"
#include "wire/text.h"

#include <stdlib.h>
#include <string.h>

#define MIB (INT64_C(1) << 20)

/* --- classes -------------------------------------------------------------------------------------
 */

json_t *size_classes_json(struct controller *c)
{
	const struct size *size = c->size;
	json_t *list = json_array();
	for (size_t i = 0; i < size->classes.count; i++)
		json_array_append_new(
			list,
			json_pack("{s:o, s:I, s:f, s:f}", "name",
				  wire_text(size->classes.list[i].name), "memory_bytes",
				  (json_int_t)size->classes.list[i].memory_bytes, "cpus",
				  size->classes.list[i].cpus, "hour", size->classes.list[i].cost));
	return list;
}

static json_t *name_json(const struct size *size, int class)
{
	return class < 0 ? json_null() : wire_text(size->classes.list[class].name);
}

/* --- a decision ----------------------------------------------------------------------------------
 */

int size_with(const struct size *size, int64_t memory_bytes, double cpus)
{
	for (size_t i = 0; i < size->classes.count; i++)
		if (size->classes.list[i].memory_bytes == memory_bytes &&
		    size->classes.list[i].cpus == cpus)
			return (int)i;
	return -1;
}

json_t *size_view_json(const struct size *size, const struct size_view *view)
{
	const struct size_facts *f = &view->facts;
	const struct size_decision *d = &view->decision;
	json_t *shown = json_pack("{s:o, s:o, s:o, s:o, s:s, s:s}", "class",
				  name_json(size, size_with(size, f->memory_bytes, f->cpus)), "to",
				  name_json(size, d->to), "recommended", name_json(size, d->fits),
				  "chosen", name_json(size, f->chosen), "reason",
				  size_reason_name(d->reason), "text", size_reason_text(d->reason));
	json_t *inputs =
		json_pack("{s:I, s:f, s:I, s:I, s:I, s:I, s:f, s:I, s:f, s:I}", "memory_bytes",
			  (json_int_t)f->memory_bytes, "cpus", f->cpus, "held_bytes",
			  (json_int_t)f->held_bytes, "observed_ms", (json_int_t)f->use.observed_ms,
			  "p95_bytes", (json_int_t)f->use.p95_bytes, "peak_bytes",
			  (json_int_t)f->use.peak_bytes, "cpus_used", f->use.cpus, "need_bytes",
			  (json_int_t)d->need_bytes, "need_cpus", d->need_cpus, "since_ms",
			  (json_int_t)f->since_ms);
	json_object_update(shown, inputs);
	json_decref(inputs);
	return shown;
}

json_t *size_json(struct controller *c, const struct session *s, const char *user,
		  const char *server)
{
	struct size_view view;
	struct error e = ERROR_INIT;
	if (c->size->classes.count == 0)
		return json_null();
	int r = s ? size_look(s, &view, &e) : size_look_ahead(c, user, server, &view, &e);
	if (r == 0)
		return size_view_json(c->size, &view);
	log_warning("the size of %s: %s", user, e.text);
	return json_null();
}

/* --- what will be done ---------------------------------------------------------------------------
 */

static void add_next(json_t *next, const char *what, int64_t wait_ms, const char *why,
		     const char *text)
{
	json_t *at = wait_ms >= 0 ? json_integer(clock_wall() + wait_ms) : json_null();
	json_array_append_new(next, json_pack("{s:s, s:o, s:s, s:s}", "what", what, "at", at, "why",
					      why, "text", text));
}

static void foresee_limits(const struct session *s, json_t *next)
{
	const struct size *size = s->controller->size;
	struct size_view view;
	if (size_look(s, &view, NULL) < 0)
		return;
	const struct size_decision *d = &view.decision;
	bool at_once = size_lowers(s) && (d->to < 0 || size_is_less(s, &view));
	char text[200];
	if (d->to >= 0)
		snprintf(text, sizeof(text), "to %.64s, %s: %s", size->classes.list[d->to].name,
			 at_once ? "as it runs" : "when it wakes next",
			 size_reason_text(d->reason));
	else if (d->wait_ms >= 0)
		snprintf(text, sizeof(text), "to a cheaper size%s: %s",
			 at_once ? "" : ", if it wakes after that", size_reason_text(d->reason));
	else
		return;
	add_next(next, "resize", d->wait_ms, size_reason_name(d->reason), text);
}

static void foresee_move(struct session *s, json_t *next)
{
	cleanup(size_move_view_deinit) struct size_move_view view = { 0 };
	if (size_move_look(s, &view) < 0)
		return;
	const struct size_move_decision *d = &view.decision;
	cleanup_buf struct buf text = BUF_INIT(400);
	if (d->where < 0)
		return;
	buf_printf(&text, "to %s: %s (saves %.4f %s, costs %.4f)", node_name(view.nodes[d->where]),
		   size_move_reason_text(d->reason), d->saved, ledger_currency(s->controller),
		   d->cost);
	if (d->to >= 0 || d->wait_ms >= 0)
		add_next(next, "move", d->wait_ms, size_move_reason_name(d->reason),
			 buf_text(&text));
}

void size_foresee(struct session *s, json_t *next)
{
	if (s->controller->size->classes.count == 0)
		return;
	foresee_limits(s, next);
	if (size_moves(s) && !s->effect)
		foresee_move(s, next);
}

/* --- handlers ------------------------------------------------------------------------------------
 */

void api_get_sizes(struct http_exchange *x, void *arg)
{
	struct controller *c = arg;
	struct error e = ERROR_INIT;
	const char *user = http_exchange_query(x, "user");
	const char *server = http_exchange_query(x, "server");
	json_t *own = NULL;
	server = server ? server : "";
	if (user && (check_name(user, false, "user", &e) < 0 ||
		     check_name(server, true, "server", &e) < 0)) {
		http_reply_error(x, &e);
		return;
	}
	if (user)
		own = size_json(c, sessions_find(c, user, server), user, server);
	http_reply_json(x, 200,
			json_pack("{s:s, s:o, s:o}", "currency", ledger_currency(c), "classes",
				  size_classes_json(c), "session", own ? own : json_null()));
}

struct asking {
	struct http_exchange *x; /* NULL: its caller went away */
};

static void asker_left(void *arg)
{
	struct asking *asking = arg;
	asking->x = NULL;
}

static const char *const when_names[SIZE_WHEN_COUNT] = {
	[SIZE_NOW] = "now",   [SIZE_WAKE] = "wake",   [SIZE_START] = "start", [SIZE_HELD] = "held",
	[SIZE_FULL] = "full", [SIZE_MOVES] = "moves", [SIZE_USE] = "use",
};

static const char *const when_texts[SIZE_WHEN_COUNT] = {
	[SIZE_NOW] = "it has it now",
	[SIZE_WAKE] = "it gets it when it wakes next",
	[SIZE_START] = "it gets it when it is started",
	[SIZE_HELD] =
		"it holds more than that has room for: it gets it when it wakes and holds less",
	[SIZE_FULL] = "its node has no room for so much as it runs: it gets it when it wakes next, "
		      "where there is some",
	[SIZE_MOVES] = "its node has no room for so much: it moves to one that has, as it runs",
	[SIZE_USE] = "its size is found by its use from now on",
};

static void chosen(struct session *s, enum size_when when, void *arg)
{
	struct asking *asking = arg;
	struct http_exchange *x = asking->x;
	if (x)
		http_exchange_on_close(x, NULL, NULL);
	free(asking);
	if (!x)
		return;
	if (!s) {
		api_reply_fault(x, FAULT_NOT_FOUND, "the session is no more", NULL);
		return;
	}
	http_reply_json(x, 200,
			json_pack("{s:s, s:s, s:o}", "applies", when_names[when], "text",
				  when_texts[when], "size",
				  size_json(s->controller, s, s->row.user, s->row.server)));
}

void api_post_size(struct http_exchange *x, void *arg)
{
	struct error e = ERROR_INIT;
	cleanup_json json_t *body = http_exchange_json(x);
	const json_t *size = json_object_get(body, "size");
	struct session *s = body ? api_body_session(x, arg, body) : NULL;
	if (!s)
		return;
	if (!json_is_string(size)) {
		api_reply_fault(x, FAULT_BAD_INPUT,
				"size: expected the name of a class, or \"\" for one by use", NULL);
		return;
	}
	struct asking *asking = calloc(1, sizeof(*asking));
	if (!asking) {
		api_reply_fault(x, FAULT_FULL, "out of memory", NULL);
		return;
	}
	asking->x = x;
	http_exchange_on_close(x, asker_left, asking);
	int r = size_check(arg, json_string_value(size), &e);
	if (r == 0)
		r = size_choose(s, json_string_value(size), api_asker(x, body), chosen, asking, &e);
	if (r == 0)
		return;
	http_exchange_on_close(x, NULL, NULL);
	free(asking);
	http_reply_error(x, &e);
}
