/* SPDX-License-Identifier: Apache-2.0 */
/* The routes, who listens where, and what all handlers need. */
#include "controller/api.h"

#include "base/cleanup.h"
#include "base/fs.h"
#include "base/log.h"
#include "controller/evacuations.h"
#include "controller/events.h"
#include "controller/node.h"
#include "controller/spec.h"

#include <errno.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>

struct api {
	struct http_server *unix_server;
	struct http_server *tcp_server;
	struct events *events;
};

const struct http_route api_routes[] = {
	{ "GET", "/v1/health", api_get_health },
	{ "GET", "/v1/sessions", api_get_sessions },
	{ "GET", "/v1/session", api_get_session },
	{ "POST", "/v1/session/start", api_post_start },
	{ "POST", "/v1/session/hibernate", api_post_hibernate },
	{ "POST", "/v1/session/snapshot", api_post_snapshot },
	{ "POST", "/v1/session/migrate", api_post_migrate },
	{ "POST", "/v1/session/stop", api_post_stop },
	{ "POST", "/v1/session/forget", api_post_forget },
	{ "POST", "/v1/session/resume", api_post_resume },
	{ "POST", "/v1/session/keep-awake", api_post_keep_awake },
	{ "POST", "/v1/session/size", api_post_size },
	{ "GET", "/v1/session/log", api_get_log },
	{ "GET", "/v1/operation", api_get_operation },
	{ "GET", "/v1/events", api_get_events },
	{ "GET", "/v1/checkpoints", api_get_checkpoints },
	{ "GET", "/v1/checkpoint", api_get_checkpoint },
	{ "GET", "/v1/store/task", api_get_store_task },
	{ "GET", "/v1/store/data", api_get_store_data },
	{ "POST", "/v1/store/data", api_post_store_data },
	{ "POST", "/v1/store/{kind}", api_post_store },
	{ "GET", "/v1/nodes", api_get_nodes },
	{ "GET", "/v1/nodes/evacuation", api_get_evacuation },
	{ "POST", "/v1/nodes/token", api_post_node_token },
	{ "POST", "/v1/nodes/drain", api_post_node_drain },
	{ "POST", "/v1/nodes/undrain", api_post_node_undrain },
	{ "POST", "/v1/nodes/remove", api_post_node_remove },
	{ "POST", "/v1/nodes/drill", api_post_node_drill },
	{ "POST", "/v1/nodes/drill/cancel", api_post_node_drill_cancel },
	{ "GET", "/v1/capacity", api_get_capacity },
	{ "POST", "/v1/policy/run", api_post_policy },
	{ "POST", "/v1/policy/try", api_post_policy_try },
	{ "GET", "/v1/explain", api_get_explain },
	{ "GET", "/v1/savings", api_get_savings },
	{ "GET", "/v1/usage", api_get_usage },
	{ "GET", "/v1/sizes", api_get_sizes },
	{ "GET", "/v1/budgets", api_get_budgets },
	{ "GET", "/metrics", api_get_metrics },
	{ 0 },
};

/* --- for handlers ------------------------------------------------------------------------------
 */

void api_reply_fault(struct http_exchange *x, enum fault fault, const char *text,
		     const char *remedy)
{
	struct error e = ERROR_INIT;
	error_fault(&e, fault, "%s", text);
	if (remedy)
		error_remedy(&e, 0, "%s", remedy);
	http_reply_error(x, &e);
}

static struct session *find_named(struct http_exchange *x, struct controller *c, const char *user,
				  const char *server)
{
	struct error e = ERROR_INIT;
	server = server ? server : "";
	if (check_name(user, false, "user", &e) < 0 || check_name(server, true, "server", &e) < 0) {
		http_reply_error(x, &e);
		return NULL;
	}
	struct session *s = sessions_find(c, user, server);
	if (!s) {
		error_fault(&e, FAULT_NOT_FOUND, "%s%s%s has no session", user, *server ? "/" : "",
			    server);
		error_remedy(&e, 0, "see 'elsa sessions' for those there are");
		http_reply_error(x, &e);
	}
	return s;
}

struct session *api_query_session(struct http_exchange *x, struct controller *c)
{
	return find_named(x, c, http_exchange_query(x, "user"), http_exchange_query(x, "server"));
}

struct session *api_body_session(struct http_exchange *x, struct controller *c, const json_t *body)
{
	const json_t *user = json_object_get(body, "user");
	const json_t *server = json_object_get(body, "server");
	if ((user && !json_is_string(user)) || (server && !json_is_string(server))) {
		api_reply_fault(x, FAULT_BAD_INPUT, "user and server: expected strings", NULL);
		return NULL;
	}
	return find_named(x, c, json_string_value(user), json_string_value(server));
}

bool api_query_number(struct http_exchange *x, const char *name, int64_t initial, int64_t most,
		      int64_t *to)
{
	const char *text = http_exchange_query(x, name);
	char *end = NULL;
	*to = initial;
	if (!text || !*text)
		return true;
	errno = 0;
	long long value = strtoll(text, &end, 10);
	if (errno || *end || value < 0) {
		struct error e = ERROR_INIT;
		error_set(&e, EINVAL, "%s: expected a whole number", name);
		http_reply_error(x, &e);
		return false;
	}
	*to = value > most ? most : value;
	return true;
}

/* --- answers that the node gives ---------------------------------------------------------------
 */

struct question {
	struct node *node;
	struct http_exchange *x; /* NULL: its caller went away */
	void (*answer)(struct http_exchange *x, struct controller *c,
		       const struct http_reply *reply);
};

static void asker_left(void *arg)
{
	struct question *q = arg;
	q->x = NULL;
}

static void node_answered(const struct http_reply *reply, void *arg)
{
	struct question *q = arg;
	struct error e;
	node_heard(q->node, reply);
	node_error(reply, &e);
	if (q->x && e.fault != FAULT_NONE)
		http_reply_error(q->x, &e);
	else if (q->x)
		q->answer(q->x, q->node->controller, reply);
	free(q);
}

static struct question *question_new(struct http_exchange *x, struct node *node, const char *path,
				     void (*answer)(struct http_exchange *x, struct controller *c,
						    const struct http_reply *reply),
				     struct error *e)
{
	struct question *q = path ? calloc(1, sizeof(*q)) : NULL;
	if (q)
		*q = (struct question) { .node = node, .x = x, .answer = answer };
	else
		error_set(e, ENOMEM, "out of memory");
	return q;
}

static void question_asked(struct question *q, int r, const struct error *e,
			   struct http_exchange *x)
{
	if (r < 0) {
		free(q);
		http_reply_error(x, e);
		return;
	}
	http_exchange_on_close(x, asker_left, q);
}

void api_ask_node(struct http_exchange *x, struct node *node, const char *method, const char *path,
		  const json_t *body, int timeout_ms,
		  void (*answer)(struct http_exchange *x, struct controller *c,
				 const struct http_reply *reply))
{
	struct error e = ERROR_INIT;
	struct question *q = question_new(x, node, path, answer, &e);
	int r = q ? node_call(node, method, path, body, timeout_ms, node_answered, q, NULL, &e)
		  : -1;
	question_asked(q, r, &e, x);
}

void api_send_node(struct http_exchange *x, struct node *node, const char *path, const char *data,
		   size_t len, int timeout_ms,
		   void (*answer)(struct http_exchange *x, struct controller *c,
				  const struct http_reply *reply))
{
	struct error e = ERROR_INIT;
	struct question *q = question_new(x, node, path, answer, &e);
	int r = q ? node_send(node, path, data, len, timeout_ms, node_answered, q, &e) : -1;
	question_asked(q, r, &e, x);
}

/* --- listening ---------------------------------------------------------------------------------
 */

static uid_t *allowed_uids(const struct config *config, size_t *count)
{
	char **users = config->controller.allowed_users;
	size_t n = 0;
	while (users && users[n])
		n++;
	uid_t *uids = calloc(n + 1, sizeof(*uids));
	*count = 0;
	for (size_t i = 0; uids && i < n; i++) {
		struct passwd account, *pw = NULL;
		char text[4096];
		if (getpwnam_r(users[i], &account, text, sizeof(text), &pw) == 0 && pw)
			uids[(*count)++] = pw->pw_uid;
		else
			log_warning("controller.allowed_users: there is no account \"%s\"",
				    users[i]);
	}
	return uids;
}

static int listen_unix(struct controller *c, struct error *e)
{
	size_t count = 0;
	cleanup_free uid_t *uids = allowed_uids(c->config, &count);
	cleanup_free char *where = str_printf("unix:%s", c->config->controller.socket);
	if (!uids || !where)
		return error_set(e, ENOMEM, "out of memory");
	const struct http_server_options options = {
		.routes = api_routes,
		.arg = c,
		.allowed_uids = uids,
		.allowed_uid_count = count,
	};
	return http_server_new(c->base, where, &options, &c->api->unix_server, e);
}

static int listen_tcp(struct controller *c, struct error *e)
{
	const char *where = c->config->controller.listen;
	cleanup_free char *token = NULL;
	if (!where || !*where)
		return 0;
	if (!*c->config->controller.token_file) {
		int r = error_set(e, EINVAL,
				  "controller.listen is set but controller.token_file is not");
		return error_remedy(e, r,
				    "the API on TCP needs a token: write one to a file that "
				    "only elsad's account can read, and name that file");
	}
	int r = controller_read_secret(c->config->controller.token_file, &token, e);
	if (r < 0)
		return error_wrap(e, r, "controller.token_file");
	const struct http_server_options options = {
		.routes = api_routes,
		.arg = c,
		.token = token,
	};
	return http_server_new(c->base, where, &options, &c->api->tcp_server, e);
}

int api_new(struct controller *c, struct error *e)
{
	if (!c->api)
		c->api = calloc(1, sizeof(*c->api));
	if (!c->api)
		return error_set(e, ENOMEM, "out of memory");
	int r = events_new(c, &c->api->events, e);
	if (r == 0)
		r = listen_unix(c, e);
	if (r == 0)
		r = listen_tcp(c, e);
	return r;
}

struct events *api_events(struct controller *c)
{
	return c->api ? c->api->events : NULL;
}

void api_wake_events(struct controller *c)
{
	if (c->api && c->api->events)
		events_wake(c->api->events);
}

void api_free(struct controller *c)
{
	if (!c->api)
		return;
	http_server_free(c->api->unix_server);
	http_server_free(c->api->tcp_server);
	events_free(c->api->events);
	free(c->api);
	c->api = NULL;
}
