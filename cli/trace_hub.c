/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/trace_hub.h"

#include "base/cleanup.h"

#include <errno.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* jupyterhub/orm.py, 0.9 to 5: spawners.started is there while a server runs; times are UTC. */
static const char query[] =
	"SELECT u.name, coalesce(s.name, ''), s.started, s.last_activity, "
	"s.server_id IS NOT NULL FROM spawners s JOIN users u ON u.id = s.user_id ORDER BY s.id";

struct events {
	struct hub_event *list;
	size_t count, size;
	wall_ms end;
};

static int put(struct events *to, const struct hub_event *event)
{
	if (to->count == to->size) {
		size_t size = to->size ? to->size * 2 : 256;
		struct hub_event *list = reallocarray(to->list, size, sizeof(*list));
		if (!list)
			return -ENOMEM;
		to->list = list;
		to->size = size;
	}
	to->list[to->count++] = *event;
	if (event->at > to->end)
		to->end = event->at;
	return 0;
}

/* "2026-01-05 09:00:00.123456"; 0: never. */
static wall_ms read_time(sqlite3_stmt *row, int column)
{
	const char *text = (const char *)sqlite3_column_text(row, column);
	char when[40] = "";
	wall_ms t;
	if (!text || strlen(text) >= sizeof(when))
		return 0;
	memcpy(when, text, strlen(text) + 1);
	if (when[0] && when[10] == ' ')
		when[10] = 'T';
	return clock_parse(when, &t) == 0 && t > 0 ? t : 0;
}

/* A server that runs no more was there when it was last active; how long before, nobody knows. */
static int read_row(sqlite3_stmt *row, struct events *to)
{
	wall_ms started = read_time(row, 2), active = read_time(row, 3);
	bool runs = sqlite3_column_int(row, 4);
	const char *user = (const char *)sqlite3_column_text(row, 0);
	const char *server = (const char *)sqlite3_column_text(row, 1);
	struct hub_event event = { .kind = HUB_STARTED, .at = started ? started : active };
	if (!user || !event.at)
		return 0;
	int n = snprintf(event.session, sizeof(event.session), "%s%s%s", user,
			 server && *server ? "/" : "", server ? server : "");
	if (n < 0 || (size_t)n >= sizeof(event.session))
		return 0;
	int r = put(to, &event);
	event.at = active > event.at ? active : event.at;
	event.kind = runs ? HUB_ACTIVE : HUB_STOPPED;
	return r < 0 ? r : put(to, &event);
}

static int by_time(const void *a, const void *b)
{
	const struct hub_event *x = a, *y = b;
	if (x->at != y->at)
		return x->at < y->at ? -1 : 1;
	int order = strcmp(x->session, y->session);
	return order ? order : (int)x->kind - (int)y->kind;
}

static int read_rows(sqlite3 *db, struct events *to, struct error *e)
{
	sqlite3_stmt *row = NULL;
	int r = 0, code = sqlite3_prepare_v2(db, query, -1, &row, NULL);
	if (code != SQLITE_OK) {
		r = error_fault(e, FAULT_BAD_INPUT, "not a JupyterHub's database: %s",
				sqlite3_errmsg(db));
		return error_remedy(e, r, "give jupyterhub.sqlite, or the Hub's log");
	}
	while (r == 0 && (code = sqlite3_step(row)) == SQLITE_ROW)
		if (read_row(row, to) < 0)
			r = error_set(e, ENOMEM, "out of memory");
	if (r == 0 && code != SQLITE_DONE)
		r = error_fault(e, FAULT_CORRUPT, "%s", sqlite3_errmsg(db));
	sqlite3_finalize(row);
	return r;
}

int hub_read_database(const char *path, struct hub_event **events, size_t *count, wall_ms *end,
		      struct error *e)
{
	sqlite3 *db = NULL;
	struct events found = { 0 };
	int r = 0;
	if (sqlite3_open_v2(path, &db, SQLITE_OPEN_READONLY, NULL) != SQLITE_OK)
		r = error_fault(e, FAULT_UNAVAILABLE, "%s", sqlite3_errmsg(db));
	sqlite3_busy_timeout(db, 5000);
	if (r == 0)
		r = read_rows(db, &found, e);
	sqlite3_close(db);
	if (found.count)
		qsort(found.list, found.count, sizeof(*found.list), by_time);
	*events = found.list;
	*count = found.count;
	*end = found.end;
	return r;
}
