/* SPDX-License-Identifier: Apache-2.0 */
#include "controller/store_tasks.h"

#include "base/cleanup.h"
#include "base/fs.h"
#include "base/log.h"
#include "controller/checkpoints.h"
#include "controller/import.h"
#include "controller/node.h"
#include "wire/text.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define END_TIMEOUT_MS (24 * 3600 * 1000)
#define ENDED_KEPT     64
#define HOMES_KEPT     256

struct watched {
	TAILQ_ENTRY(watched) entry;
	struct controller *c;
	struct node *node;
	char *id, *who;
	enum store_task_kind kind;
	char session[ID_SIZE];
	int64_t generation;
	struct http_call *call;
	json_t *end; /* as it is shown; NULL: not yet */
};

/* Which node has which. */
struct home {
	char id[ID_SIZE];
	struct node *node;
};

struct store_tasks {
	struct home homes[HOMES_KEPT]; /* a ring */
	size_t next_home;
	TAILQ_HEAD(watched_list, watched) all; /* newest first */
};

static void watched_free(struct watched *w)
{
	if (w->call)
		http_call_cancel(w->call);
	json_decref(w->end);
	free(w->id);
	free(w->who);
	free(w);
}

static struct watched *find_watched(struct controller *c, const char *id)
{
	struct watched *w;
	TAILQ_FOREACH(w, &c->store_tasks->all, entry)
	if (strcmp(w->id, id) == 0)
		return w;
	return NULL;
}

/* --- as it is shown ----------------------------------------------------------------------------
 */

static json_t *error_json(const struct store_task *task)
{
	struct error e = ERROR_INIT;
	error_fault(&e, fault_from_name(task->fault), "%s", task->text ? task->text : "");
	error_remedy(&e, 0, "%s", task->remedy ? task->remedy : "");
	json_t *wrapped = wire_encode_error(&e);
	json_t *inner = json_incref(json_object_get(wrapped, "error"));
	json_decref(wrapped);
	return inner;
}

static json_t *task_json(struct controller *c, const struct store_task *task)
{
	bool failed = task->state == EFFECT_FAILED;
	json_t *shown = wire_encode(&wire_store_task, task);
	if (!shown)
		return NULL;
	/* It holds the session's secrets. */
	json_object_del(shown, "spec");
	json_object_del(shown, "checkpoints");
	json_object_del(shown, "fault");
	json_object_del(shown, "text");
	json_object_del(shown, "remedy");
	json_object_set_new(shown, "error", failed ? error_json(task) : json_null());
	if (task->checkpoint_count) {
		const struct checkpoint_info *info = task->checkpoints;
		json_object_set_new(shown, "checkpoint",
				    checkpoint_info_json(sessions_by_id(c, info->session), info));
	}
	return shown;
}

json_t *store_task_shown(struct controller *c, const struct store_task *task)
{
	const struct watched *w = find_watched(c, task->id);
	if (w && w->end)
		return json_incref(w->end);
	json_t *shown = task_json(c, task);
	if (w && shown && task->state != EFFECT_RUNNING) {
		json_object_set_new(shown, "state",
				    json_string(effect_state_names[EFFECT_RUNNING]));
		json_object_set_new(shown, "error", json_null());
	}
	return shown;
}

/* --- the end ------------------------------------------------------------------------------------
 */

static void removed(struct watched *w)
{
	struct session *s = sessions_by_id(w->c, w->session);
	struct error e = ERROR_INIT;
	if (s && session_drop_checkpoint(s, w->generation, w->who, &e) < 0)
		log_error("%s: that its checkpoint %lld was removed cannot be recorded: %s",
			  s->label, (long long)w->generation, e.text);
}

static void imported(struct watched *w, const struct store_task *task)
{
	struct import_outcome outcome = { 0 };
	import_take(w->c, task, w->who, &outcome);
	/* Only now: the session may have a name since. */
	json_decref(w->end);
	w->end = task_json(w->c, task);
	json_object_set_new(w->end, "resumable", json_boolean(outcome.resumable));
	json_object_set_new(w->end, "record", wire_text(outcome.text));
}

static void take_end(struct watched *w, const struct store_task *task)
{
	w->end = task_json(w->c, task);
	if (task->state == EFFECT_DONE && w->kind == STORE_TASK_REMOVE)
		removed(w);
	else if (task->state == EFFECT_DONE && w->kind == STORE_TASK_IMPORT)
		imported(w, task);
}

static void not_known(struct watched *w, const struct error *e)
{
	const struct store_task task = {
		.id = w->id,
		.kind = w->kind,
		.state = EFFECT_FAILED,
		.fault = (char *)fault_name(e->fault),
		.text = (char *)e->text,
		.remedy =
			(char *)"what came of it is not known: see 'elsa store ls', and ask again",
	};
	w->end = task_json(w->c, &task);
}

static void forget_ended(struct store_tasks *tasks)
{
	int kept = 0;
	for (struct watched *w = TAILQ_FIRST(&tasks->all), *next; w; w = next) {
		next = TAILQ_NEXT(w, entry);
		if (!w->end || ++kept <= ENDED_KEPT)
			continue;
		TAILQ_REMOVE(&tasks->all, w, entry);
		watched_free(w);
	}
}

static void ended(const struct http_reply *reply, void *arg)
{
	struct watched *w = arg;
	struct store_task task = { 0 };
	struct error e;
	w->call = NULL;
	node_heard(w->node, reply);
	node_error(reply, &e);
	if (e.fault == FAULT_NONE)
		wire_decode_text(&wire_store_task, reply->body, reply->body_len, &task, &e);
	if (e.fault == FAULT_NONE)
		take_end(w, &task);
	else
		not_known(w, &e);
	wire_free(&wire_store_task, &task);
}

static void note_home(struct node *node, const char *id)
{
	struct store_tasks *tasks = node->controller->store_tasks;
	struct home *home = &tasks->homes[tasks->next_home++ % HOMES_KEPT];
	snprintf(home->id, sizeof(home->id), "%s", id);
	home->node = node;
}

struct node *store_task_node(struct controller *c, const char *id)
{
	for (size_t i = 0; i < HOMES_KEPT; i++)
		if (strcmp(c->store_tasks->homes[i].id, id) == 0)
			return c->store_tasks->homes[i].node;
	return nodes_for_store(c);
}

void store_task_begun(struct node *node, const char *id, const struct store_request *request,
		      const char *who)
{
	struct controller *c = node->controller;
	struct error e = ERROR_INIT;
	note_home(node, id);
	if (request->kind != STORE_TASK_REMOVE && request->kind != STORE_TASK_IMPORT)
		return;
	cleanup_free char *path = str_printf("/v1/store/%s/end", id);
	struct watched *w = calloc(1, sizeof(*w));
	if (!path || !w)
		abort(); /* the record would be wrong; the start after that compares it */
	w->c = c;
	w->node = node;
	w->id = strdup(id);
	w->who = strdup(who);
	w->kind = request->kind;
	w->generation = request->generation;
	if (!w->id || !w->who)
		abort();
	if (request->session)
		snprintf(w->session, sizeof(w->session), "%s", request->session);
	forget_ended(c->store_tasks);
	TAILQ_INSERT_HEAD(&c->store_tasks->all, w, entry);
	if (node_call(node, "GET", path, NULL, END_TIMEOUT_MS, ended, w, &w->call, &e) < 0)
		not_known(w, &e);
}

int store_tasks_new(struct controller *c, struct error *e)
{
	c->store_tasks = calloc(1, sizeof(*c->store_tasks));
	if (!c->store_tasks)
		return error_set(e, ENOMEM, "out of memory");
	TAILQ_INIT(&c->store_tasks->all);
	return 0;
}

void store_tasks_free(struct controller *c)
{
	if (!c->store_tasks)
		return;
	for (struct watched *w; (w = TAILQ_FIRST(&c->store_tasks->all));) {
		TAILQ_REMOVE(&c->store_tasks->all, w, entry);
		watched_free(w);
	}
	free(c->store_tasks);
	c->store_tasks = NULL;
}
