/* SPDX-License-Identifier: Apache-2.0 */
/* Requests to JupyterHub's API, what its answers mean, and whether it is up. The passes over its
 * users are in hub_pass.c, servers stopped and started through it in hub_servers.c. */
#include "controller/hub_private.h"

#include "base/cleanup.h"
#include "base/fs.h"
#include "base/log.h"
#include "controller/record.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define BODY_MOST ((size_t)64 << 20) /* a page of the largest size with many groups each */

#define SLOW_MS 30000

#define SCOPES                                                                                     \
	"list:users, read:users:activity, read:users:groups, read:servers, servers, "              \
	"delete:servers"

const char *hub_state_name(enum hub_state state)
{
	static const char *const names[] = {
		[HUB_UNKNOWN] = "unknown", [HUB_UP] = "up", [HUB_DOWN] = "down"
	};
	return names[state];
}

enum hub_state hub_state(const struct controller *c)
{
	return c->hub->state;
}

const struct error *hub_last_error(const struct controller *c)
{
	return c->hub->error.fault == FAULT_NONE ? NULL : &c->hub->error;
}

/* The Hub's own words, of {"status": 403, "message": "..."}; allocated, or NULL. */
static char *hub_message(const struct http_reply *reply)
{
	cleanup_json json_t *body = json_loads(reply->body ? reply->body : "", 0, NULL);
	const char *message = json_string_value(json_object_get(body, "message"));
	return message ? strdup(message) : NULL;
}

static void add_remedy(const struct http_reply *reply, struct error *e)
{
	if (reply->status == 401)
		error_remedy(e, 0,
			     "the token in hub.token_file is not one the Hub knows: make a "
			     "service for elsad there and write its token to that file");
	else if (reply->status == 403)
		error_remedy(e, 0,
			     "the token's role in the Hub lacks a scope; elsad needs " SCOPES);
	else if (reply->status == 429)
		error_remedy(e, 0, "the Hub wants fewer requests: raise hub.poll or its limits");
	else if (reply->status == 0)
		error_remedy(e, 0, "is the Hub running, and is hub.api_url its address?");
}

void hub_error(const struct http_reply *reply, struct error *e)
{
	*e = ERROR_INIT;
	if (reply->status >= 200 && reply->status < 300)
		return;
	if (reply->status == 0) {
		*e = reply->error;
		if (e->fault == FAULT_NONE)
			e->fault = FAULT_UNAVAILABLE;
		error_wrap(e, 0, "the Hub does not answer");
	} else {
		cleanup_free char *message = hub_message(reply);
		error_fault(e, fault_from_http_status(reply->status), "the Hub answered %d%s%s",
			    reply->status, message ? ": " : "", message ? message : "");
		if (e->fault == FAULT_NONE) /* a redirect is no answer either */
			e->fault = FAULT_UNAVAILABLE;
	}
	add_remedy(reply, e);
}

void hub_heard(struct controller *c, const struct error *error)
{
	struct hub *hub = c->hub;
	enum hub_state before = hub->state;
	bool other = strcmp(hub->error.text, error->text) != 0;
	hub->state = error->fault == FAULT_NONE ? HUB_UP : HUB_DOWN;
	hub->error = *error;
	if (hub->state == HUB_DOWN && (before != HUB_DOWN || other))
		log_warning("%s%s%s", error->text, *error->remedy ? ". " : "", error->remedy);
	if (hub->state == before)
		return;
	if (hub->state == HUB_UP)
		log_info("the Hub answers");
	if (before != HUB_UNKNOWN || hub->state == HUB_DOWN)
		record_note(c,
			    &(struct record) { .who = "hub",
					       .what = hub->state == HUB_UP ? "hub-up" : "hub-down",
					       .why = fault_name(error->fault),
					       .detail = *error->text ? error->text : NULL });
}

int hub_call(struct controller *c, const struct hub_request *asked, http_done done, void *arg,
	     struct http_call **call, struct error *e)
{
	const char *base = c->config->hub.api_url;
	const char *token = asked->token ? asked->token : c->hub->token;
	size_t len = strlen(base);
	if (!token)
		return error_fault(e, FAULT_DENIED, "elsad has no token for the Hub");
	while (len && base[len - 1] == '/')
		len--;
	cleanup_free char *url = str_printf("%.*s%s", (int)len, base, asked->path);
	cleanup_free char *authorization = str_printf("Authorization: token %s", token);
	if (!url || !authorization)
		return error_set(e, ENOMEM, "out of memory");
	const char *const headers[] = {
		authorization,
		"Accept: application/jupyterhub-pagination+json",
		"Content-Type: application/json",
		NULL,
	};
	const struct http_request request = {
		.method = asked->method,
		.url = url,
		.headers = headers,
		.body = asked->body,
		.body_len = asked->body ? strlen(asked->body) : 0,
		.timeout_ms = (int)c->config->hub.timeout_ms + (asked->slow ? SLOW_MS : 0),
		.connect_timeout_ms = (int)c->config->hub.timeout_ms,
		.max_body = BODY_MOST,
	};
	return http_client_call(c->client, &request, done, arg, call, e);
}

char *hub_server_path(const struct session *s)
{
	cleanup_free char *user = http_escape(s->row.user);
	cleanup_free char *server = http_escape(s->row.server);
	if (!user || !server)
		return NULL;
	return *s->row.server ? str_printf("/users/%s/servers/%s", user, server)
			      : str_printf("/users/%s/server", user);
}

int hub_send_activity(struct session *s, const char *body, http_done done, void *arg,
		      struct error *e)
{
	cleanup_free char *user = http_escape(s->row.user);
	cleanup_free char *path = user ? str_printf("/users/%s/activity", user) : NULL;
	if (!path)
		return error_set(e, ENOMEM, "out of memory");
	const struct hub_request request = {
		.method = "POST",
		.path = path,
		.token = s->row.api_token,
		.body = body,
	};
	return hub_call(s->controller, &request, done, arg, NULL, e);
}

void hub_read_token(struct controller *c)
{
	struct hub *hub = c->hub;
	struct error e = ERROR_INIT;
	char *token = NULL;
	if (controller_read_secret(c->config->hub.token_file, &token, &e) < 0) {
		error_wrap(&e, 0, "elsad cannot read its token for the Hub");
		error_remedy(&e, 0,
			     "write the API token of elsad's service to hub.token_file, "
			     "readable for elsad's account only");
		hub_heard(c, &e);
	}
	free(hub->token);
	hub->token = token;
}

int hub_new(struct controller *c, struct error *e)
{
	c->hub = calloc(1, sizeof(*c->hub));
	if (!c->hub)
		return error_set(e, ENOMEM, "out of memory");
	c->hub->timer = hub_pass_timer(c);
	if (!c->hub->timer)
		return error_set(e, ENOMEM, "out of memory");
	hub_pass_soon(c);
	return 0;
}

void hub_reload(struct controller *c)
{
	if (!c->hub->pass.call)
		hub_pass_soon(c);
}

void hub_free(struct controller *c)
{
	if (!c->hub)
		return;
	if (c->hub->timer)
		event_free(c->hub->timer);
	free(c->hub->token);
	free(c->hub);
	c->hub = NULL;
}
