/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/hub.h"

#include "sim/trace.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Single-user servers tell of activity since the last time every five minutes
 * (JUPYTERHUB_ACTIVITY_INTERVAL). */
#define ACTIVITY_MS 300000

struct hub_session {
	uint32_t user;
	unsigned server; /* of its user's, from 0 */
	bool open, sized;
};

/* --- the log -----------------------------------------------------------------------------------
 */

/* "[I 2024-11-01 16:28:29.715 JupyterHub base:1124] ...": the time, and what comes behind. Whatever
 * stands before it is a journal's. */
static const char *read_prefix(const char *line, wall_ms *at)
{
	char when[24] = "";
	for (const char *p = strchr(line, '['); p; p = strchr(p + 1, '[')) {
		if (strlen(p) < 28 || !isupper((unsigned char)p[1]) || p[2] != ' ')
			continue;
		memcpy(when, p + 3, 23);
		if (when[10] != ' ')
			continue;
		when[10] = 'T';
		const char *end = strchr(p, ']');
		if (clock_parse(when, at) == 0 && *at > 0 && end && end[1] == ' ')
			return end + 2;
	}
	return NULL;
}

/* A name up to `end`. The Hub writes a named server as "user:server". */
static bool take_name(const char *from, const char *end, char to[HUB_NAME_SIZE])
{
	size_t len = (size_t)(end - from);
	if (len == 0 || len >= HUB_NAME_SIZE)
		return false;
	memcpy(to, from, len);
	to[len] = '\0';
	char *colon = strchr(to, ':');
	if (colon)
		*colon = '/';
	return true;
}

static bool read_user(const char *text, const char *behind, char to[HUB_NAME_SIZE])
{
	static const char user[] = "User ";
	if (strncmp(text, user, sizeof(user) - 1) != 0)
		return false;
	const char *end = strstr(text, behind);
	return end && take_name(text + sizeof(user) - 1, end, to);
}

static bool read_activity(const char *text, char to[HUB_NAME_SIZE])
{
	static const char path[] = "/api/users/";
	if (strncmp(text, "200 POST ", 9) != 0)
		return false;
	const char *name = strstr(text, path);
	const char *end = name ? strstr(name, "/activity ") : NULL;
	return end && end > name + sizeof(path) - 1 && take_name(name + sizeof(path) - 1, end, to);
}

bool hub_read_log(const char *line, struct hub_event *to)
{
	const char *text = read_prefix(line, &to->at);
	to->active_ms = 0;
	if (!text)
		return false;
	if (read_user(text, " server took ", to->session) && strstr(text, "seconds to stop")) {
		to->kind = HUB_STOPPED;
		return true;
	}
	if (read_user(text, " took ", to->session) && strstr(text, "seconds to start")) {
		to->kind = HUB_STARTED;
		return true;
	}
	if (!read_activity(text, to->session))
		return false;
	to->kind = HUB_ACTIVE;
	to->active_ms = ACTIVITY_MS;
	return true;
}

/* --- the trace ---------------------------------------------------------------------------------
 */

/* `list` with room for `count`, new ones zero; NULL: out of memory, and it is as it was. */
static void *more(void *list, size_t *size, size_t count, size_t each)
{
	if (count <= *size)
		return list;
	size_t wanted = *size ? *size * 2 : 256;
	char *grown = reallocarray(list, wanted, each);
	if (!grown)
		return NULL;
	memset(grown + *size * each, 0, (wanted - *size) * each);
	*size = wanted;
	return grown;
}

static int find_user(struct hub_trace *t, const char *session, uint32_t *user)
{
	size_t before = t->users.count;
	*user = names_add(&t->users, session, strcspn(session, "/"));
	if (*user == NAMES_NONE)
		return -ENOMEM;
	uint32_t *last = more(t->last, &t->last_size, t->users.count, sizeof(*last));
	if (!last)
		return -ENOMEM;
	t->last = last;
	return t->users.count == before ? 0 : buf_printf(t->to, "user u%u\n", *user + 1);
}

/* Of a user alone, the session that was started last is meant. */
static int find_session(struct hub_trace *t, const struct hub_event *event, uint32_t *number)
{
	uint32_t user;
	size_t before = t->sessions.count;
	int r = find_user(t, event->session, &user);
	if (r < 0)
		return r;
	if (event->kind == HUB_ACTIVE && !strchr(event->session, '/') && t->last[user]) {
		*number = t->last[user] - 1;
		return 0;
	}
	*number = names_add(&t->sessions, event->session, strlen(event->session));
	if (*number == NAMES_NONE)
		return -ENOMEM;
	struct hub_session *known =
		more(t->known, &t->known_size, t->sessions.count, sizeof(*known));
	if (!known)
		return -ENOMEM;
	t->known = known;
	struct hub_session *s = &t->known[*number];
	if (t->sessions.count > before) {
		s->user = user;
		s->server = strchr(event->session, '/') ? *number + 1 : 0;
	}
	if (event->kind == HUB_STARTED)
		t->last[user] = *number + 1;
	return 0;
}

static const char *name_session(const struct hub_session *s, char to[32])
{
	if (s->server)
		snprintf(to, 32, "u%u/s%u", s->user + 1, s->server);
	else
		snprintf(to, 32, "u%u", s->user + 1);
	return to;
}

static int write_event(struct hub_trace *t, enum trace_kind kind, uint32_t number, int64_t ms)
{
	char name[32];
	struct hub_session *s = &t->known[number];
	struct trace_record record = {
		.kind = kind, .at = t->at, .session = number, .duration_ms = ms
	};
	if (kind == TRACE_OPEN && !s->sized)
		record.memory_bytes = t->memory_bytes;
	s->sized = true;
	s->open = kind != TRACE_STOP;
	return trace_write(t->to, &record, t->begin, name_session(s, name));
}

int hub_trace_add(struct hub_trace *t, const struct hub_event *event)
{
	uint32_t number = 0;
	int r = 0;
	if (!t->begin) {
		t->begin = t->at = event->at / 1000 * 1000;
		r = trace_write_head(t->to, t->begin);
	}
	/* Clocks are put back, and so is summer time. */
	if (event->at > t->at && event->at - t->begin < TRACE_TIME_MOST)
		t->at = event->at;
	if (r == 0)
		r = find_session(t, event, &number);
	if (r < 0)
		return r;
	bool open = t->known[number].open;
	if (event->kind == HUB_STOPPED)
		return open ? write_event(t, TRACE_STOP, number, 0) : 0;
	if (!open || event->kind == HUB_STARTED)
		r = write_event(t, TRACE_OPEN, number, 0);
	if (r == 0 && event->kind == HUB_ACTIVE)
		r = write_event(t, TRACE_BUSY, number, event->active_ms);
	return r;
}

int hub_trace_end(struct hub_trace *t, wall_ms at)
{
	const struct trace_record end = { .kind = TRACE_END, .at = at > t->at ? at : t->at };
	int r = t->begin ? 0 : trace_write_head(t->to, at);
	return r < 0 ? r : trace_write(t->to, &end, t->begin ? t->begin : at, "");
}

void hub_trace_deinit(struct hub_trace *t)
{
	names_deinit(&t->users);
	names_deinit(&t->sessions);
	free(t->known);
	free(t->last);
	t->known = NULL;
	t->last = NULL;
}
