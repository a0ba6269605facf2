/* SPDX-License-Identifier: Apache-2.0 */
#include "node/api.h"

#include "base/cleanup.h"
#include "base/fs.h"
#include "base/id.h"
#include "base/log.h"
#include "node/effect.h"
#include "node/evacuate.h"
#include "node/overlay.h"
#include "wire/identity.h"

#include <errno.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { LOG_LINES_DEFAULT = 200, LOG_LINES_MOST = 100000, EFFECT_ID_MOST = 64 };

void api_reply(struct http_exchange *x, const struct wire_struct *type, const void *value)
{
	struct error e = ERROR_INIT;
	json_t *json = wire_encode(type, value);
	if (json) {
		http_reply_json(x, 200, json);
		return;
	}
	error_set(&e, ENOMEM, "cannot encode the answer");
	http_reply_error(x, &e);
}

static void reply_not_found(struct http_exchange *x, const char *what, const char *id)
{
	struct error e = ERROR_INIT;
	error_set(&e, ENOENT, "no %s %s on this node", what, id);
	http_reply_error(x, &e);
}

/* --- the node and its sessions --------------------------------------------------- */

static void get_node(struct http_exchange *x, void *arg)
{
	struct node_info info;
	struct error e = ERROR_INIT;
	if (node_info(arg, &info, &e) < 0) {
		http_reply_error(x, &e);
		return;
	}
	api_reply(x, &wire_node_info, &info);
	wire_free(&wire_node_info, &info);
}

/* Those of the question that are directories here. */
static int find_images(const struct node_question *question, struct node_info *info,
		       struct error *e)
{
	size_t count = 0;
	for (char **p = question->images; p && *p; p++)
		count++;
	info->images = calloc(count + 1, sizeof(*info->images));
	if (!info->images)
		return error_set(e, ENOMEM, "out of memory");
	count = 0;
	for (char **p = question->images; p && *p; p++) {
		struct stat st;
		if (**p != '/' || stat(*p, &st) < 0 || !S_ISDIR(st.st_mode))
			continue;
		info->images[count] = strdup(*p);
		if (!info->images[count++])
			return error_set(e, ENOMEM, "out of memory");
	}
	return 0;
}

/* The same, with an answer to what elsad wants to know before it places a session. */
static void post_node(struct http_exchange *x, void *arg)
{
	struct node_question question = { 0 };
	struct node_info info = { 0 };
	struct error e = ERROR_INIT;
	size_t len = 0;
	const char *body = http_exchange_body(x, &len);
	int r = wire_decode_text(&wire_node_question, body ? body : "", len, &question, &e);
	if (r == 0)
		r = node_info(arg, &info, &e);
	if (r == 0)
		r = find_images(&question, &info, &e);
	if (r < 0)
		http_reply_error(x, &e);
	else
		api_reply(x, &wire_node_info, &info);
	wire_free(&wire_node_info, &info);
	wire_free(&wire_node_question, &question);
}

static void get_evacuation(struct http_exchange *x, void *arg)
{
	const struct evacuation *last = evacuate_last(arg);
	struct error e = ERROR_INIT;
	if (last) {
		api_reply(x, &wire_evacuation, last);
		return;
	}
	error_set(&e, ENOENT, "this node was not evacuated");
	http_reply_error(x, &e);
}

/* More than a result is left of it. */
static bool is_listed(struct node *node, const struct session *s)
{
	const struct journal *j = &s->journal;
	pthread_mutex_lock(&node->lock);
	bool listed = j->pid || j->ended || j->asleep || j->effect ||
		      (s->effect && s->effect->request.id);
	pthread_mutex_unlock(&node->lock);
	return listed;
}

static int add_status(struct node *node, struct session *s, struct session_status_list *list,
		      struct error *e)
{
	struct session_status *more = realloc(list->items, (list->count + 1) * sizeof(*more));
	if (!more)
		return error_set(e, ENOMEM, "out of memory");
	list->items = more;
	int r = session_status(node, s, &list->items[list->count], e);
	list->count++;
	return r;
}

static void get_sessions(struct http_exchange *x, void *arg)
{
	struct node *node = arg;
	struct session_status_list list = { 0 };
	struct error e = ERROR_INIT;
	int r = 0;
	for (struct session *s = node->sessions; r == 0 && s; s = s->next)
		if (is_listed(node, s))
			r = add_status(node, s, &list, &e);
	if (r < 0)
		http_reply_error(x, &e);
	else
		api_reply(x, &wire_session_status_list, &list);
	wire_free(&wire_session_status_list, &list);
}

static void get_session(struct http_exchange *x, void *arg)
{
	struct node *node = arg;
	const char *id = http_exchange_param(x, "id");
	struct session *s = session_find(node, id);
	struct session_status status;
	struct error e = ERROR_INIT;
	if (!s || !is_listed(node, s)) {
		reply_not_found(x, "session", id);
		return;
	}
	if (session_status(node, s, &status, &e) < 0)
		http_reply_error(x, &e);
	else
		api_reply(x, &wire_session_status, &status);
	wire_free(&wire_session_status, &status);
}

static void get_log(struct http_exchange *x, void *arg)
{
	const char *id = http_exchange_param(x, "id");
	const char *asked = http_exchange_query(x, "lines");
	long lines = asked ? strtol(asked, NULL, 10) : LOG_LINES_DEFAULT;
	cleanup_free char *text = NULL;
	struct error e = ERROR_INIT;
	if (!id_valid(id)) {
		reply_not_found(x, "session", id);
		return;
	}
	if (lines < 1 || lines > LOG_LINES_MOST)
		lines = LOG_LINES_MOST;
	if (session_log(arg, id, (int)lines, &text, &e) < 0)
		http_reply_error(x, &e);
	else
		http_reply_text(x, 200, "text/plain; charset=utf-8", text, strlen(text));
}

/* --- effects ------------------------------------------------------------------------ */

struct caller {
	struct http_exchange *exchange;
	struct effect_waiter *waiter;
};

static void answer_caller(const struct effect_result *result, void *arg)
{
	struct caller *caller = arg;
	struct http_exchange *x = caller->exchange;
	http_exchange_on_close(x, NULL, NULL);
	free(caller);
	api_reply(x, &wire_effect_result, result);
}

static void caller_left(void *arg)
{
	struct caller *caller = arg;
	effect_unwait(caller->waiter);
	free(caller);
}

static void attach(struct http_exchange *x, struct effect *ef)
{
	struct error e = ERROR_INIT;
	struct caller *caller = malloc(sizeof(*caller));
	if (caller)
		*caller = (struct caller) { x, effect_wait(ef, answer_caller, caller) };
	if (caller && caller->waiter) {
		http_exchange_on_close(x, caller_left, caller);
		return;
	}
	free(caller);
	error_set(&e, ENOMEM, "out of memory");
	http_reply_error(x, &e);
}

bool api_id_valid(const char *id)
{
	static const char letters[] =
		"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
		"._-";
	size_t len = strlen(id);
	return len > 0 && len <= EFFECT_ID_MOST && strspn(id, letters) == len;
}

static int read_request(struct http_exchange *x, struct effect_request *request, struct error *e)
{
	size_t len;
	const char *body = http_exchange_body(x, &len);
	const char *id = http_exchange_param(x, "id");
	int r = wire_decode_text(&wire_effect_request, body ? body : "", len, request, e);
	if (r < 0)
		return r;
	if (!api_id_valid(id) || strcmp(request->id, id) != 0)
		r = error_set(e, EINVAL,
			      "id: must be the one of the path, of letters, digits, '.', "
			      "'_', '-', at most %d",
			      EFFECT_ID_MOST);
	else if (request->kind == EFFECT_NONE || request->kind == EFFECT_DEPART ||
		 request->kind == EFFECT_RETURN)
		r = error_set(e, EINVAL, "kind: none that can be asked for");
	else if (!id_valid(request->session.id))
		r = error_set(e, EINVAL, "session.id: expected 16 hexadecimal digits");
	if (r < 0)
		wire_free(&wire_effect_request, request);
	return r;
}

/* As JSON, new reference; NULL when there is no such effect. Under the lock, since its worker
 * writes to it. */
static json_t *encode_result(struct node *node, const char *id)
{
	pthread_mutex_lock(&node->lock);
	struct effect *ef = effect_find(node, id);
	if (ef)
		effect_look(ef);
	const struct session *s = ef ? NULL : effect_find_result(node, id);
	const struct effect_result *result = ef ? &ef->result : s ? &s->journal.results[0] : NULL;
	json_t *json = result ? wire_encode(&wire_effect_result, result) : NULL;
	pthread_mutex_unlock(&node->lock);
	return json;
}

/* Has ended, and not because it was cut short. -EBUSY for one of another session. */
static int is_settled(struct node *node, const struct effect_request *request, struct error *e)
{
	pthread_mutex_lock(&node->lock);
	const struct effect *ef = effect_find(node, request->id);
	const struct session *s = ef ? ef->session : effect_find_result(node, request->id);
	bool other = s && strcmp(s->id, request->session.id) != 0;
	int settled = s && !ef && !s->journal.interrupted;
	pthread_mutex_unlock(&node->lock);
	if (other)
		return error_set(e, EBUSY, "effect %s is another session's", request->id);
	return settled;
}

/* Attaches to the effect asked for, which begins now unless it has before; or its result again. */
static int begin_or_attach(struct node *node, struct http_exchange *x,
			   struct effect_request *request, struct error *e)
{
	struct effect *ef = effect_find(node, request->id);
	int r = is_settled(node, request, e);
	if (r > 0)
		http_reply_json(x, 200, encode_result(node, request->id));
	if (r != 0)
		return r < 0 ? r : 0;
	if (!ef && node->stopping)
		return error_set(e, EAGAIN, "elsa-node is about to end");
	if (!ef && r == 0 && acknowledged_has(&node->acknowledged, request->id, clock_mono()))
		return error_set(e, EBUSY, "effect %s was acknowledged: it is not done again",
				 request->id);
	if (!ef)
		r = evacuate_refuses(node, request, e);
	if (ef)
		effect_asked_again(ef, request);
	if (!ef && r == 0)
		r = effect_begin(node, request, &ef, e);
	if (r == 0)
		attach(x, ef);
	return r;
}

static void put_effect(struct http_exchange *x, void *arg)
{
	struct effect_request request = { 0 };
	struct error e = ERROR_INIT;
	int r = read_request(x, &request, &e);
	if (r == 0)
		r = begin_or_attach(arg, x, &request, &e);
	if (r < 0)
		http_reply_error(x, &e);
	wire_free(&wire_effect_request, &request);
}

static void get_effect(struct http_exchange *x, void *arg)
{
	const char *id = http_exchange_param(x, "id");
	json_t *json = encode_result(arg, id);
	if (json)
		http_reply_json(x, 200, json);
	else
		reply_not_found(x, "effect", id);
}

static void append_result(json_t *list, const struct effect_result *result)
{
	if (result && result->id)
		json_array_append_new(list, wire_encode(&wire_effect_result, result));
}

static void get_effects(struct http_exchange *x, void *arg)
{
	struct node *node = arg;
	json_t *list = json_array();
	pthread_mutex_lock(&node->lock);
	for (const struct session *s = node->sessions; s; s = s->next) {
		if (s->effect)
			effect_look(s->effect);
		append_result(list, s->effect ? &s->effect->result : NULL);
		append_result(list, s->queued ? &s->queued->result : NULL);
		append_result(list, s->journal.result_count ? &s->journal.results[0] : NULL);
	}
	pthread_mutex_unlock(&node->lock);
	http_reply_json(x, 200, json_pack("{s:o}", "items", list));
}

static void delete_effect(struct http_exchange *x, void *arg)
{
	struct node *node = arg;
	const char *id = http_exchange_param(x, "id");
	struct error e = ERROR_INIT;
	if (effect_acknowledge(node, id, &e) < 0)
		http_reply_error(x, &e);
	else
		http_reply_json(x, 200, json_object());
}

/* --- the overlay -------------------------------------------------------------------- */

static void get_overlay(struct http_exchange *x, void *arg)
{
	const struct node *node = arg;
	api_reply(x, &wire_overlay_state, &node->overlay);
}

static void put_overlay(struct http_exchange *x, void *arg)
{
	struct node *node = arg;
	struct overlay_state state = { 0 };
	struct error e = ERROR_INIT;
	size_t len;
	const char *body = http_exchange_body(x, &len);
	int r = wire_decode_text(&wire_overlay_state, body ? body : "", len, &state, &e);
	if (r == 0)
		r = overlay_set(node->config, &node->overlay, &state, &e);
	if (r < 0)
		http_reply_error(x, &e);
	else
		http_reply_json(x, 200, json_object());
	wire_free(&wire_overlay_state, &state);
}

/* --- serving ------------------------------------------------------------------------- */

static const struct http_route routes[] = {
	{ "GET", "/v1/node", get_node },
	{ "POST", "/v1/node", post_node },
	{ "GET", "/v1/evacuation", get_evacuation },
	{ "GET", "/v1/sessions", get_sessions },
	{ "GET", "/v1/sessions/{id}", get_session },
	{ "GET", "/v1/sessions/{id}/log", get_log },
	{ "PUT", "/v1/sessions/{id}/limits", api_limits },
	{ "PUT", "/v1/effects/{id}", put_effect },
	{ "GET", "/v1/effects/{id}", get_effect },
	{ "GET", "/v1/effects", get_effects },
	{ "DELETE", "/v1/effects/{id}", delete_effect },
	{ "PUT", "/v1/departures/{id}", api_departure_grant },
	{ "GET", "/v1/departures/{id}", api_departure },
	{ "DELETE", "/v1/departures/{id}", api_departure_end },
	{ "POST", "/v1/departures/{id}/take-back", api_departure_take_back },
	{ "GET", "/v1/overlay", get_overlay },
	{ "PUT", "/v1/overlay", put_overlay },
	{ "GET", "/v1/checkpoints", api_checkpoints },
	{ "POST", "/v1/checkpoints/verify", api_checkpoint_verify },
	{ "POST", "/v1/checkpoints/aside", api_checkpoint_aside },
	{ "GET", "/v1/checkpoints/{session}/{generation}", api_checkpoint },
	{ "POST", "/v1/drill", api_drill },
	{ "DELETE", "/v1/drill", api_drill_cancel },
	{ "POST", "/v1/store", api_store_begin },
	{ "GET", "/v1/store/{id}", api_store_task },
	{ "GET", "/v1/store/{id}/end", api_store_end },
	{ "GET", "/v1/store/{id}/data", api_store_take },
	{ "POST", "/v1/store/{id}/data", api_store_give },
	{ 0 },
};

/* -1 when there is no such account. */
static long uid_of(const char *name)
{
	struct passwd account, *found = NULL;
	char text[4096];
	if (getpwnam_r(name, &account, text, sizeof(text), &found) != 0 || !found)
		return -1;
	return (long)account.pw_uid;
}

int api_start(struct node *node, struct error *e)
{
	const char *name = node->config->node.allowed_user;
	long account = uid_of(name);
	uid_t uid = (uid_t)account;
	cleanup_free char *where = str_printf("unix:%s", node->config->node.socket);
	struct http_server_options options = {
		.routes = routes,
		.arg = node,
		.allowed_uids = &uid,
		.allowed_uid_count = account >= 0,
	};
	if (!where)
		return error_set(e, ENOMEM, "out of memory");
	if (name[0] && account < 0)
		log_warning("there is no account \"%s\" (node.allowed_user): only root may use %s",
			    name, node->config->node.socket);
	return http_server_new(node->base, where, &options, &node->server, e);
}

static void report(const char *what, void *arg)
{
	(void)arg;
	log_warning("node.listen: %s", what);
}

/* Other nodes have certificates of the authority, too. */
static int admit_controller(const struct http_peer *peer, void *arg, struct error *e)
{
	(void)arg;
	if (strcmp(peer->name, CONTROLLER_HOST) == 0)
		return 0;
	return error_set(e, EACCES, "\"%s\" may not use this node's API", peer->name);
}

int api_start_tls(struct node *node, const struct http_tls *files, struct error *e)
{
	struct http_tls tls = *files;
	tls.report = report;
	struct http_server_options options = {
		.routes = routes,
		.arg = node,
		.tls = &tls,
		.admit = admit_controller,
	};
	return http_server_new(node->base, node->config->node.listen, &options, &node->tls_server,
			       e);
}

bool api_serves_tls(const struct node *node)
{
	return node->tls_server;
}

void api_stop(struct node *node)
{
	node->tls_server = http_server_free(node->tls_server);
	node->server = http_server_free(node->server);
}
