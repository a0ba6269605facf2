/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Passes over all users of the Hub, page by page: groups, admins, activity of
 * our sessions' servers, and users who are no more. A page is forgotten before
 * the next one is asked for, so that the number of users costs time only.
 */
#include "controller/hub_private.h"

#include "base/cleanup.h"
#include "base/fs.h"
#include "base/log.h"
#include "controller/retry.h"
#include "controller/rows.h"

#include <stdlib.h>
#include <string.h>

#define BACKOFF_FIRST_MS 1000
#define BACKOFF_MOST_MS  (5 * 60 * 1000)
#define PASSES_ABSENT                                                                              \
	2 /* a user who is deleted while pages are read shifts others out of sight                 \
	   */

static void ask_page(struct controller *c);

static void pass_at(struct controller *c, int64_t delay)
{
	const struct timeval time = retry_timeval(delay);
	event_add(c->hub->timer, &time);
}

void hub_pass_soon(struct controller *c)
{
	pass_at(c, 0);
}

static void pass_failed(struct controller *c, const struct error *error, int retry_after_s)
{
	struct hub *hub = c->hub;
	int64_t delay = retry_delay_ms(hub->failures, BACKOFF_FIRST_MS, BACKOFF_MOST_MS);
	if (retry_after_s > 0 && delay < (int64_t)retry_after_s * 1000)
		delay = (int64_t)retry_after_s * 1000;
	hub->failures++;
	hub_heard(c, error);
	pass_at(c, delay);
}

/* --- one user ----------------------------------------------------------------------------------
 */

static void take_groups(struct person *person, const json_t *list)
{
	size_t i;
	size_t n = 0;
	json_t *item;
	char **groups = calloc(json_array_size(list) + 1, sizeof(*groups));
	if (!groups)
		return;
	json_array_foreach ((json_t *)list, i, item)
		if (json_is_string(item))
			replace_text(&groups[n++], json_string_value(item));
	for (char **old = person->groups; old && *old; old++)
		free(*old);
	free(person->groups);
	person->groups = groups;
}

static void take_user(const struct hub_user *user, void *arg)
{
	struct controller *c = arg;
	struct person *person = sessions_person(c, user->name);
	struct session *s;
	c->hub->pass.users++;
	if (!person)
		return;
	person->listed_in = c->hub->pass.number;
	person->admin = user->admin;
	if (user->groups)
		take_groups(person, user->groups);
	TAILQ_FOREACH(s, &person->sessions, by_person)
	{
		wall_ms at = hub_server_activity(user->servers, s->row.server, clock_wall());
		if (at > s->seen.hub_activity_at)
			s->seen.hub_activity_at = at;
	}
}

/* --- the end of a pass -------------------------------------------------------------------------
 */

static void look_for_absent(struct controller *c)
{
	size_t count = 0;
	cleanup_free struct person **persons = sessions_persons(c, &count);
	for (size_t i = 0; persons && i < count; i++) {
		struct person *person = persons[i];
		if (person->listed_in == c->hub->pass.number) {
			person->absent = 0;
			person->deleted = false;
		} else if (c->hub->pass.sees_all && ++person->absent >= PASSES_ABSENT) {
			hub_check_absent(c, person);
		}
	}
}

static void pass_done(struct controller *c)
{
	static const struct error none;
	c->hub->failures = 0;
	hub_heard(c, &none);
	look_for_absent(c);
	log_debug("the Hub lists %lld users", (long long)c->hub->pass.users);
	int64_t poll = c->config->hub.poll_ms;
	pass_at(c, poll - poll / 10 + (int64_t)arc4random_uniform((uint32_t)(poll / 5 + 1)));
}

static void got_page(const struct http_reply *reply, void *arg)
{
	struct controller *c = arg;
	struct hub_pass *pass = &c->hub->pass;
	struct error e;
	int64_t next = -1;
	pass->call = NULL;
	hub_error(reply, &e);
	if (e.fault == FAULT_NONE)
		hub_parse_page(reply->body, reply->body_len, take_user, c, &next, &e);
	if (e.fault == FAULT_NONE && next >= 0 && next <= pass->offset)
		error_fault(&e, FAULT_UNAVAILABLE, "the Hub's listing of users does not end");
	if (e.fault != FAULT_NONE) {
		error_wrap(&e, 0, "listing the Hub's users");
		pass_failed(c, &e, reply->retry_after_s);
	} else if (next >= 0) {
		pass->offset = next;
		ask_page(c);
	} else {
		pass_done(c);
	}
}

static void ask_page(struct controller *c)
{
	struct hub_pass *pass = &c->hub->pass;
	struct error e = ERROR_INIT;
	cleanup_free char *path =
		str_printf("/users?offset=%lld&limit=%lld", (long long)pass->offset,
			   (long long)c->config->hub.page_size);
	const struct hub_request request = { .method = "GET", .path = path };
	if (!path || hub_call(c, &request, got_page, c, &pass->call, &e) < 0)
		pass_failed(c, &e, 0);
}

/* --- its beginning: who are we there? ----------------------------------------------------------
 */

static void got_self(const struct http_reply *reply, void *arg)
{
	struct controller *c = arg;
	struct error e;
	char missing[256] = "";
	c->hub->pass.call = NULL;
	hub_error(reply, &e);
	if (e.fault == FAULT_NONE)
		hub_parse_self(reply->body, reply->body_len, missing, sizeof(missing),
			       &c->hub->pass.sees_all, &e);
	if (e.fault == FAULT_NONE && missing[0]) {
		error_fault(&e, FAULT_DENIED, "elsad's token for the Hub lacks scopes: %s",
			    missing);
		error_remedy(&e, 0,
			     "add them to the role of elsad's service in jupyterhub_config.py");
	}
	if (e.fault != FAULT_NONE)
		pass_failed(c, &e, reply->retry_after_s);
	else
		ask_page(c);
}

static void begin_pass(evutil_socket_t fd, short what, void *arg)
{
	struct controller *c = arg;
	struct hub_pass *pass = &c->hub->pass;
	const struct hub_request request = { .method = "GET", .path = "/user" };
	struct error e = ERROR_INIT;
	(void)fd;
	(void)what;
	if (pass->call)
		return;
	/* Read each time: the file may be replaced while we run. */
	hub_read_token(c);
	*pass = (struct hub_pass) { .number = pass->number + 1 };
	if (!c->hub->token)
		pass_failed(c, &c->hub->error, 0);
	else if (hub_call(c, &request, got_self, c, &pass->call, &e) < 0)
		pass_failed(c, &e, 0);
}

struct event *hub_pass_timer(struct controller *c)
{
	return evtimer_new(c->base, begin_pass, c);
}
