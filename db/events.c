/* SPDX-License-Identifier: Apache-2.0 */
#include "db/query.h"

#define VALUES "at, session, user, server, who, what, why, detail, duration_us, bytes, inputs"

#define FIELD(type, name) { COLUMN_##type, offsetof(struct db_event, name) }

#define FIELDS                                                                                     \
	FIELD(INTEGER, at), FIELD(TEXT, session), FIELD(TEXT, user), FIELD(TEXT, server),          \
		FIELD(TEXT, who), FIELD(TEXT, what), FIELD(TEXT, why), FIELD(TEXT, detail),        \
		FIELD(INTEGER, duration_us), FIELD(INTEGER, bytes), FIELD(TEXT, inputs)

static const struct shape written = { .count = 11, .columns = { FIELDS } };
static const struct shape shape = { .count = 12, .columns = { FIELD(INTEGER, id), FIELDS } };

int db_event_add(struct db *db, struct db_event *event, struct error *e)
{
	cleanup_query struct query q;
	query_start(&q, db, "INSERT INTO events (" VALUES ") VALUES (?,?,?,?,?,?,?,?,?,?,?)", e);
	query_row(&q, &written, event);
	int r = query_run(&q);
	if (r == 0)
		event->id = sqlite3_last_insert_rowid(db->handle);
	return r;
}

static void start_walk(struct query *q, struct db *db, int64_t after, const char *user,
		       struct error *e)
{
	if (user && after > 0)
		query_start(q, db,
			    "SELECT id, " VALUES " FROM events WHERE user = ?3 AND id > ?1"
			    " ORDER BY id LIMIT ?2",
			    e);
	else if (user)
		query_start(q, db,
			    "SELECT id, " VALUES " FROM events WHERE user = ?3 AND ?1 = 0"
			    " ORDER BY id DESC LIMIT ?2",
			    e);
	else if (after > 0)
		query_start(q, db,
			    "SELECT id, " VALUES " FROM events WHERE id > ?1 ORDER BY id LIMIT ?2",
			    e);
	else
		query_start(q, db,
			    "SELECT id, " VALUES
			    " FROM events WHERE ?1 = 0 ORDER BY id DESC LIMIT ?2",
			    e);
}

int db_event_each(struct db *db, int64_t after, const char *user, int limit,
		  int (*each)(const struct db_event *, void *), void *arg, struct error *e)
{
	cleanup_query struct query q;
	struct db_event row = { 0 };
	int r;
	start_walk(&q, db, after, user, e);
	query_integer(&q, after > 0 ? after : 0);
	query_integer(&q, limit > 0 ? limit : -1);
	if (user)
		query_text(&q, user);
	while ((r = query_next(&q, &shape, &row)) > 0) {
		r = each(&row, arg);
		if (r)
			break;
	}
	db_event_deinit(&row);
	return r;
}

int db_event_prune(struct db *db, const char *who, const char *what, wall_ms before,
		   struct error *e)
{
	cleanup_query struct query q;
	query_start(&q, db, "DELETE FROM events WHERE who = ? AND what = ? AND at < ?", e);
	query_text(&q, who);
	query_text(&q, what);
	query_integer(&q, before);
	return query_run(&q);
}

void db_event_deinit(struct db_event *event)
{
	row_deinit(&shape, event);
}
