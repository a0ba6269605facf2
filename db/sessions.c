/* SPDX-License-Identifier: Apache-2.0 */
#include "db/query.h"

#include <errno.h>

#define COLUMNS                                                                                    \
	"id, user, server, state, reason, address, node, spec, api_token, spawner, "               \
	"generation, created_at, changed_at, started_at, person_at, keep_awake_until, "            \
	"refused_at, "                                                                             \
	"checkpoint, wish, tried, left_behind, slept_at, size, sized_at"

#define FIELD(type, name) { COLUMN_##type, offsetof(struct db_session, name) }

static const struct shape shape = {
	.count = 24,
	.columns = {
		FIELD(ID, id),
		FIELD(TEXT, user),
		FIELD(TEXT, server),
		FIELD(TEXT, state),
		FIELD(TEXT, reason),
		FIELD(TEXT, address),
		FIELD(TEXT, node),
		FIELD(TEXT, spec),
		FIELD(TEXT, api_token),
		FIELD(TEXT, spawner),
		FIELD(INTEGER, generation),
		FIELD(INTEGER, created_at),
		FIELD(INTEGER, changed_at),
		FIELD(INTEGER, started_at),
		FIELD(INTEGER, person_at),
		FIELD(INTEGER, keep_awake_until),
		FIELD(INTEGER, refused_at),
		FIELD(INTEGER, checkpoint),
		FIELD(INTEGER, wish),
		FIELD(TEXT, tried),
		FIELD(TEXT, left_behind),
		FIELD(INTEGER, slept_at),
		FIELD(TEXT, size),
		FIELD(INTEGER, sized_at),
	},
};

static int put_row(struct db *db, const struct db_session *session, struct error *e)
{
	cleanup_query struct query q;
	query_start(
		&q, db,
		"INSERT INTO sessions (" COLUMNS ")"
		" VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)"
		" ON CONFLICT (id) DO UPDATE SET user = excluded.user, server = excluded.server,"
		" state = excluded.state, reason = excluded.reason, address = excluded.address,"
		" node = excluded.node, spec = excluded.spec, api_token = excluded.api_token,"
		" spawner = excluded.spawner, generation = excluded.generation,"
		" created_at = excluded.created_at, changed_at = excluded.changed_at,"
		" started_at = excluded.started_at, person_at = excluded.person_at,"
		" keep_awake_until = excluded.keep_awake_until, refused_at = excluded.refused_at,"
		" checkpoint = excluded.checkpoint, wish = excluded.wish, tried = excluded.tried,"
		" left_behind = excluded.left_behind, slept_at = excluded.slept_at,"
		" size = excluded.size, sized_at = excluded.sized_at",
		e);
	query_row(&q, &shape, session);
	return query_run(&q);
}

/* A session's uid is in its spec and nowhere else. */
static int put_uid(struct db *db, const struct db_session *session, struct error *e)
{
	cleanup_query struct query q;
	query_start(
		&q, db,
		"INSERT INTO uids (user, uid) SELECT ?1, json_extract(?2, '$.uid')"
		" WHERE CASE WHEN json_valid(?2) THEN json_type(?2, '$.uid') END = 'integer'"
		" ON CONFLICT (user) DO UPDATE SET uid = excluded.uid WHERE uid != excluded.uid",
		e);
	query_text(&q, session->user);
	query_text(&q, session->spec);
	return query_run(&q);
}

static int put(struct db *db, const struct db_session *session, struct error *e)
{
	int r = put_row(db, session, e);
	return r < 0 ? r : put_uid(db, session, e);
}

/* Within a transaction of the caller's an address or name that is taken is not its end. */
int db_session_put(struct db *db, const struct db_session *session, struct error *e)
{
	if (db->depth > 0)
		return put(db, session, e);
	int r = db_begin(db, e);
	if (r < 0)
		return r;
	r = put(db, session, e);
	if (r == 0)
		return db_commit(db, e);
	db_rollback(db);
	return r;
}

int db_session_delete(struct db *db, const char *id, struct error *e)
{
	cleanup_query struct query q;
	query_start(&q, db, "DELETE FROM sessions WHERE id = ?", e);
	query_text(&q, id);
	return query_run(&q);
}

int db_session_each(struct db *db, int (*each)(const struct db_session *, void *), void *arg,
		    struct error *e)
{
	cleanup_query struct query q;
	struct db_session row = { 0 };
	int r;
	query_start(&q, db, "SELECT " COLUMNS " FROM sessions ORDER BY user, server", e);
	while ((r = query_next(&q, &shape, &row)) > 0) {
		r = each(&row, arg);
		if (r)
			break;
	}
	db_session_deinit(&row);
	return r;
}

int db_session_get(struct db *db, const char *user, const char *server, struct db_session *to,
		   struct error *e)
{
	cleanup_query struct query q;
	struct db_session row = { 0 };
	query_start(&q, db, "SELECT " COLUMNS " FROM sessions WHERE user = ? AND server = ?", e);
	query_text(&q, user);
	query_text(&q, server);
	int r = query_next(&q, &shape, &row);
	if (r > 0) {
		*to = row;
		return 0;
	}
	db_session_deinit(&row);
	return r < 0 ? r : error_set(e, ENOENT, "there is no session '%s/%s'", user, server);
}

void db_session_deinit(struct db_session *session)
{
	row_deinit(&shape, session);
}
