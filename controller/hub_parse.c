/* SPDX-License-Identifier: Apache-2.0 */
/* What JupyterHub's API answers, as bytes in and facts out (apihandlers/base.py, users.py). */
#include "controller/hub_private.h"

#include "base/cleanup.h"
#include "wire/codec.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static int garbage(struct error *e, const char *what)
{
	int r = error_fault(e, FAULT_UNAVAILABLE, "the Hub's answer is not what its API gives: %s",
			    what);
	return error_remedy(e, r, "is hub.api_url the address of JupyterHub's API?");
}

static int parse_user(const json_t *item, struct hub_user *user)
{
	const json_t *groups = json_object_get(item, "groups");
	const json_t *servers = json_object_get(item, "servers");
	*user = (struct hub_user) {
		.name = json_string_value(json_object_get(item, "name")),
		.admin = json_is_true(json_object_get(item, "admin")),
		.groups = json_is_array(groups) ? groups : NULL,
		.servers = json_is_object(servers) ? servers : NULL,
	};
	return user->name ? 0 : -EINVAL;
}

static int parse_next(const json_t *pagination, int64_t *next, struct error *e)
{
	const json_t *link = json_object_get(pagination, "next");
	*next = -1;
	if (!link || json_is_null(link))
		return 0;
	const json_t *offset = json_object_get(link, "offset");
	const json_t *here = json_object_get(pagination, "offset");
	/* We go on by number and not by its URL: that has the name under which the Hub was reached,
	 * and a token must not go to wherever an answer points. */
	if (!json_is_integer(offset) || json_integer_value(offset) <= json_integer_value(here))
		return garbage(e, "its pages do not go on");
	*next = json_integer_value(offset);
	return 0;
}

int hub_parse_page(const char *body, size_t len, void (*each)(const struct hub_user *, void *),
		   void *arg, int64_t *next, struct error *e)
{
	json_error_t at;
	size_t i;
	json_t *item;
	struct hub_user user;
	cleanup_json json_t *page = json_loadb(body ? body : "", len, 0, &at);
	if (!page)
		return garbage(e, at.text);
	const json_t *items = json_object_get(page, "items");
	const json_t *pagination = json_object_get(page, "_pagination");
	if (!json_is_array(items) || !json_is_object(pagination))
		return garbage(e, "it is no page of a listing");
	int r = parse_next(pagination, next, e);
	if (r < 0)
		return r;
	json_array_foreach ((json_t *)items, i, item) {
		if (parse_user(item, &user) < 0)
			return garbage(e, "it lists a user without a name");
		each(&user, arg);
	}
	return 0;
}

wall_ms hub_server_activity(const json_t *servers, const char *server, wall_ms now)
{
	wall_ms at = 0;
	const json_t *entry = json_object_get(servers, server);
	const char *pending = json_string_value(json_object_get(entry, "pending"));
	if (pending && strcmp(pending, "spawn") == 0)
		return now;
	const char *text = json_string_value(json_object_get(entry, "last_activity"));
	return text && clock_parse(text, &at) == 0 ? at : 0;
}

/* Whether `scope`, or one that has it, is among the token's expanded scopes without a filter. */
static bool has_scope(const json_t *scopes, const char *scope, bool filtered)
{
	size_t len = strlen(scope);
	size_t i;
	json_t *item;
	json_array_foreach ((json_t *)scopes, i, item) {
		const char *text = json_string_value(item);
		if (text && strncmp(text, scope, len) == 0 &&
		    (!text[len] || (filtered && text[len] == '!')))
			return true;
	}
	return false;
}

int hub_parse_self(const char *body, size_t len, char *missing, size_t missing_size, bool *sees_all,
		   struct error *e)
{
	static const char *const needed[] = { "list:users", "read:users:activity", "read:servers",
					      "servers", "delete:servers" };
	cleanup_json json_t *self = json_loadb(body ? body : "", len, 0, NULL);
	const json_t *scopes = json_object_get(self, "scopes");
	missing[0] = '\0';
	*sees_all = false;
	if (!json_is_object(self))
		return garbage(e, "it is no JSON object");
	if (!json_is_array(scopes))
		return garbage(e, "it does not tell the token's scopes");
	for (size_t i = 0; i < ARRAY_SIZE(needed); i++) {
		size_t used = strlen(missing);
		if (!has_scope(scopes, needed[i], true))
			snprintf(missing + used, missing_size - used, "%s%s", used ? ", " : "",
				 needed[i]);
	}
	*sees_all = has_scope(scopes, "list:users", false);
	return 0;
}
