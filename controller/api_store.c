/* SPDX-License-Identifier: Apache-2.0 */
/* Work on the store: what is asked of the node, and what must not be. */
#include "controller/api.h"

#include "base/cleanup.h"
#include "base/fs.h"
#include "base/names.h"
#include "controller/checkpoints.h"
#include "controller/node.h"
#include "controller/record.h"
#include "controller/store_tasks.h"
#include "wire/text.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define BEGIN_TIMEOUT_MS 60000
#define LOOK_TIMEOUT_MS  30000
#define DATA_TIMEOUT_MS  600000 /* a part of an export may wait for a slow bucket */

/* --- which one -------------------------------------------------------------------------------- */

/* The session meant, by its id (elsad need not know it) or by its user's name; false: answered. */
static bool find_session(struct http_exchange *x, struct controller *c, const json_t *body,
			 char id[ID_SIZE])
{
	const char *given = json_string_value(json_object_get(body, "session"));
	if (given && !id_valid(given)) {
		api_reply_fault(x, FAULT_BAD_INPUT, "session: expected 16 hexadecimal digits",
				NULL);
		return false;
	}
	if (given) {
		memcpy(id, given, ID_SIZE);
		return true;
	}
	struct session *s = api_body_session(x, c, body);
	if (s)
		memcpy(id, s->row.id, ID_SIZE);
	return s;
}

static bool find_generation(struct http_exchange *x, const json_t *body, int64_t *generation)
{
	const json_t *given = json_object_get(body, "generation");
	*generation = json_integer_value(given);
	if (json_is_integer(given) && *generation > 0)
		return true;
	api_reply_fault(x, FAULT_BAD_INPUT, "generation: expected a whole number above 0", NULL);
	return false;
}

/* --- what must not be removed ------------------------------------------------------------------
 */

static int check_removal(const struct session *s, int64_t generation, bool force, struct error *e)
{
	int r = 0;
	if (!s)
		return 0;
	if (s->effect) {
		r = error_fault(e, FAULT_CONFLICT, "%s is %s: its checkpoints are in use", s->label,
				session_state_name(s->state));
		return error_remedy(e, r, "ask again when that is done");
	}
	if (generation != s->row.checkpoint)
		return 0;
	if (s->seen.missing_bytes > 0) {
		r = error_fault(e, FAULT_CONFLICT,
				"%s is still being woken from this checkpoint: it would end",
				s->label);
		return error_remedy(e, r, "ask again when all of its memory is there");
	}
	if (s->state == SESSION_ASLEEP) {
		r = error_fault(e, FAULT_CONFLICT,
				"%s is asleep, and its node wakes it from checkpoint %lld",
				s->label, (long long)generation);
		return error_remedy(e, r,
				    "wake it first (elsa resume), or have it let go of (elsa "
				    "hibernate)");
	}
	if (force || session_has_processes(s) || s->state == SESSION_STOPPED)
		return 0;
	r = error_fault(e, FAULT_CONFLICT,
			"%s is asleep, and checkpoint %lld is all there is of it: with it the "
			"session would be lost",
			s->label, (long long)generation);
	return error_remedy(e, r, "wake it first (elsa resume), or say --force if it may be lost");
}

/* --- beginning ---------------------------------------------------------------------------------
 */

struct beginning {
	struct controller *c;
	struct node *node;       /* that is asked */
	struct http_exchange *x; /* NULL: its caller went away */
	struct store_request request;
	char session[ID_SIZE];
	char *who;
};

static void beginning_free(struct beginning *b)
{
	free(b->who);
	free(b);
}

static void asker_left(void *arg)
{
	struct beginning *b = arg;
	b->x = NULL;
}

static void record_begun(const struct beginning *b)
{
	const struct store_request *q = &b->request;
	cleanup_free char *what = str_printf("store-%s", store_task_kind_names[q->kind]);
	cleanup_free char *detail = q->generation ? str_printf("checkpoint %lld of session %s",
							       (long long)q->generation, b->session)
						  : NULL;
	if (q->kind == STORE_TASK_VERIFY || q->dry_run || !what)
		return;
	record_note(b->c, &(struct record) {
				  .session = *b->session ? sessions_by_id(b->c, b->session) : NULL,
				  .who = b->who,
				  .what = what,
				  .why = "asked",
				  .detail = detail });
}

static void begun(const struct http_reply *reply, void *arg)
{
	struct beginning *b = arg;
	struct store_task task = { 0 };
	struct error e;
	node_heard(b->node, reply);
	node_error(reply, &e);
	if (e.fault == FAULT_NONE)
		wire_decode_text(&wire_store_task, reply->body, reply->body_len, &task, &e);
	if (e.fault == FAULT_NONE) {
		record_begun(b);
		store_task_begun(b->node, task.id, &b->request, b->who);
	}
	if (b->x && e.fault != FAULT_NONE)
		http_reply_error(b->x, &e);
	else if (b->x)
		http_reply_json(b->x, 202, store_task_shown(b->c, &task));
	wire_free(&wire_store_task, &task);
	beginning_free(b);
}

static void begin(struct http_exchange *x, struct controller *c,
		  const struct store_request *request, const char *who)
{
	struct error e = ERROR_INIT;
	cleanup_json json_t *body = wire_encode(&wire_store_request, request);
	struct beginning *b = calloc(1, sizeof(*b));
	if (!body || !b) {
		free(b);
		api_reply_fault(x, FAULT_FULL, "out of memory", NULL);
		return;
	}
	*b = (struct beginning) {
		.c = c, .node = nodes_for_store(c), .x = x, .request = *request, .who = strdup(who)
	};
	if (request->session)
		memcpy(b->session, request->session, ID_SIZE);
	b->request.session = b->session;
	if (!b->who || node_call(b->node, "POST", "/v1/store", body, BEGIN_TIMEOUT_MS, begun, b,
				 NULL, &e) < 0) {
		if (!b->who)
			error_set(&e, ENOMEM, "out of memory");
		beginning_free(b);
		http_reply_error(x, &e);
		return;
	}
	http_exchange_on_close(x, asker_left, b);
}

/* What would be removed, and may. */
static void reply_would_remove(struct http_exchange *x)
{
	http_reply_json(x, 200,
			json_pack("{s:n, s:s, s:s, s:b, s:n}", "id", "kind",
				  store_task_kind_names[STORE_TASK_REMOVE], "state",
				  effect_state_names[EFFECT_DONE], "dry_run", 1, "error"));
}

static bool needs_checkpoint(enum store_task_kind kind)
{
	return kind == STORE_TASK_VERIFY || kind == STORE_TASK_REMOVE || kind == STORE_TASK_EXPORT;
}

static void post_task(struct http_exchange *x, struct controller *c, const json_t *body,
		      enum store_task_kind kind)
{
	char session[ID_SIZE] = "";
	struct error e = ERROR_INIT;
	struct store_request request = {
		.kind = kind,
		.dry_run = json_is_true(json_object_get(body, "dry_run")),
	};
	if (needs_checkpoint(kind)) {
		if (!find_session(x, c, body, session) ||
		    !find_generation(x, body, &request.generation))
			return;
		request.session = session;
	}
	bool force = json_is_true(json_object_get(body, "force"));
	if (kind == STORE_TASK_REMOVE &&
	    check_removal(sessions_by_id(c, session), request.generation, force, &e) < 0)
		http_reply_error(x, &e);
	else if (kind == STORE_TASK_REMOVE && request.dry_run)
		reply_would_remove(x);
	else
		begin(x, c, &request, api_asker(x, body));
}

void api_post_store(struct http_exchange *x, void *arg)
{
	const char *name = http_exchange_param(x, "kind");
	int kind = value_of(store_task_kind_names, STORE_TASK_KIND_COUNT, name);
	if (kind <= STORE_TASK_NONE) {
		api_reply_fault(x, FAULT_NOT_FOUND, "nothing of that name can be done to the store",
				"it is one of verify, rm, gc, export, import, rekey");
		return;
	}
	cleanup_json json_t *body = http_exchange_json(x);
	if (body)
		post_task(x, arg, body, (enum store_task_kind)kind);
}

/* --- looking -----------------------------------------------------------------------------------
 */

static void reply_task(struct http_exchange *x, struct controller *c,
		       const struct http_reply *reply)
{
	struct store_task task = { 0 };
	struct error e = ERROR_INIT;
	if (wire_decode_text(&wire_store_task, reply->body, reply->body_len, &task, &e) < 0)
		http_reply_error(x, &e);
	else
		http_reply_json(x, 200, store_task_shown(c, &task));
	wire_free(&wire_store_task, &task);
}

/* "/v1/store/ID" + more; allocated. NULL: answered. *node: whom to ask for it. */
static char *task_path(struct http_exchange *x, struct controller *c, const char *more,
		       struct node **node)
{
	const char *id = http_exchange_query(x, "id");
	if (id_valid(id)) {
		*node = store_task_node(c, id);
		return str_printf("/v1/store/%s%s", id, more);
	}
	api_reply_fault(x, FAULT_BAD_INPUT, "id: expected 16 hexadecimal digits", NULL);
	return NULL;
}

void api_get_store_task(struct http_exchange *x, void *arg)
{
	struct node *node;
	cleanup_free char *path = task_path(x, arg, "", &node);
	if (path)
		api_ask_node(x, node, "GET", path, NULL, LOOK_TIMEOUT_MS, reply_task);
}

static void reply_data(struct http_exchange *x, struct controller *c,
		       const struct http_reply *reply)
{
	(void)c;
	http_reply_text(x, 200, "application/octet-stream", reply->body ? reply->body : "",
			reply->body_len);
}

void api_get_store_data(struct http_exchange *x, void *arg)
{
	struct node *node;
	cleanup_free char *path = task_path(x, arg, "/data", &node);
	if (path)
		api_ask_node(x, node, "GET", path, NULL, DATA_TIMEOUT_MS, reply_data);
}

void api_post_store_data(struct http_exchange *x, void *arg)
{
	size_t len = 0;
	const char *data = http_exchange_body(x, &len);
	struct node *node;
	cleanup_free char *path = task_path(x, arg, "/data", &node);
	if (path)
		api_send_node(x, node, path, data ? data : "", len, DATA_TIMEOUT_MS, reply_data);
}

/* --- one checkpoint ----------------------------------------------------------------------------
 */

static void reply_checkpoint(struct http_exchange *x, struct controller *c,
			     const struct http_reply *reply)
{
	struct checkpoint_detail detail = { 0 };
	struct error e = ERROR_INIT;
	if (wire_decode_text(&wire_checkpoint_detail, reply->body, reply->body_len, &detail, &e) <
	    0) {
		http_reply_error(x, &e);
		return;
	}
	const struct checkpoint_info *info = &detail.checkpoint;
	json_t *all = wire_encode(&wire_checkpoint_detail, &detail);
	json_t *shown = checkpoint_info_json(sessions_by_id(c, info->session), info);
	json_object_update_missing(shown, all);
	json_object_del(shown, "checkpoint");
	json_decref(all);
	wire_free(&wire_checkpoint_detail, &detail);
	http_reply_json(x, 200, shown);
}

void api_get_checkpoint(struct http_exchange *x, void *arg)
{
	const char *session = http_exchange_query(x, "session");
	int64_t generation;
	if (!id_valid(session)) {
		api_reply_fault(x, FAULT_BAD_INPUT, "session: expected 16 hexadecimal digits",
				NULL);
		return;
	}
	if (!api_query_number(x, "generation", 0, INT64_MAX, &generation))
		return;
	cleanup_free char *path =
		str_printf("/v1/checkpoints/%s/%lld", session, (long long)generation);
	api_ask_node(x, nodes_for_store(arg), "GET", path, NULL, DATA_TIMEOUT_MS, reply_checkpoint);
}
