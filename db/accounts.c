/* SPDX-License-Identifier: Apache-2.0 */
#include "db/query.h"

#include <errno.h>

#define COLUMNS                                                                                    \
	"session, user, server, groups, since, sized_at, awake, held_bytes, whole_bytes, "         \
	"stored_bytes, type, price, machine_gib_hour, demand_gib_hour, store_gib_hour"

#define FIELD(type, name) { COLUMN_##type, offsetof(struct db_account, name) }

static const struct shape shape = {
	.count = 15,
	.columns = {
		FIELD(ID, session),
		FIELD(TEXT, user),
		FIELD(TEXT, server),
		FIELD(TEXT, groups),
		FIELD(INTEGER, since),
		FIELD(INTEGER, sized_at),
		FIELD(BOOLEAN, awake),
		FIELD(INTEGER, held_bytes),
		FIELD(INTEGER, whole_bytes),
		FIELD(INTEGER, stored_bytes),
		FIELD(TEXT, type),
		FIELD(TEXT, price),
		FIELD(REAL, machine_gib_hour),
		FIELD(REAL, demand_gib_hour),
		FIELD(REAL, store_gib_hour),
	},
};

int db_account_put(struct db *db, const struct db_account *account, struct error *e)
{
	cleanup_query struct query q;
	query_start(&q, db,
		    "INSERT OR REPLACE INTO accounts (" COLUMNS ")"
		    " VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
		    e);
	query_row(&q, &shape, account);
	return query_run(&q);
}

int db_account_delete(struct db *db, const char *session, struct error *e)
{
	cleanup_query struct query q;
	query_start(&q, db, "DELETE FROM accounts WHERE session = ?", e);
	query_text(&q, session);
	return query_run(&q);
}

int db_account_get(struct db *db, const char *session, struct db_account *to, struct error *e)
{
	cleanup_query struct query q;
	struct db_account row = { 0 };
	query_start(&q, db, "SELECT " COLUMNS " FROM accounts WHERE session = ?", e);
	query_text(&q, session);
	int r = query_next(&q, &shape, &row);
	if (r > 0) {
		*to = row;
		return 0;
	}
	db_account_deinit(&row);
	return r < 0 ? r : error_set(e, ENOENT, "session %s has no account", session);
}

int db_account_each(struct db *db, int (*each)(const struct db_account *, void *), void *arg,
		    struct error *e)
{
	cleanup_query struct query q;
	struct db_account row = { 0 };
	int r;
	query_start(&q, db, "SELECT " COLUMNS " FROM accounts", e);
	while ((r = query_next(&q, &shape, &row)) > 0) {
		r = each(&row, arg);
		if (r)
			break;
	}
	db_account_deinit(&row);
	return r;
}

void db_account_deinit(struct db_account *account)
{
	row_deinit(&shape, account);
}

/* --- days ----------------------------------------------------------------------------------------
 */

#define SUM(type, name) { COLUMN_##type, offsetof(struct db_account_sums, name) }
#define SUMS                                                                                       \
	SUM(INTEGER, awake_ms), SUM(INTEGER, open_ms), SUM(REAL, always), SUM(REAL, machine),      \
		SUM(REAL, store)

static const struct shape sums_shape = { .count = 5, .columns = { SUMS } };

static int add_to_day(struct db *db, int64_t day, const char *user, const char *server,
		      const char *groups, const struct db_account_sums *sums, struct error *e)
{
	cleanup_query struct query q;
	query_start(
		&q, db,
		"INSERT INTO account_days (day, user, server, groups, awake_ms, open_ms,"
		" always, machine, store) VALUES (?,?,?,?,?,?,?,?,?)"
		" ON CONFLICT (day, user, server) DO UPDATE SET"
		" groups = coalesce(excluded.groups, groups),"
		" awake_ms = awake_ms + excluded.awake_ms, open_ms = open_ms + excluded.open_ms,"
		" always = always + excluded.always, machine = machine + excluded.machine,"
		" store = store + excluded.store",
		e);
	query_integer(&q, day);
	query_text(&q, user);
	query_text(&q, server);
	query_text(&q, groups);
	query_row(&q, &sums_shape, sums);
	return query_run(&q);
}

static int add_to_total(struct db *db, const struct db_account_sums *sums, struct error *e)
{
	cleanup_query struct query q;
	query_start(&q, db,
		    "UPDATE account_total SET awake_ms = awake_ms + ?, open_ms = open_ms + ?,"
		    " always = always + ?, machine = machine + ?, store = store + ?",
		    e);
	query_row(&q, &sums_shape, sums);
	return query_run(&q);
}

int db_account_add(struct db *db, int64_t day, const char *user, const char *server,
		   const char *groups, const struct db_account_sums *sums, struct error *e)
{
	int r = add_to_day(db, day, user, server, groups, sums, e);
	return r < 0 ? r : add_to_total(db, sums, e);
}

int db_account_total(struct db *db, struct db_account_sums *to, struct error *e)
{
	cleanup_query struct query q;
	query_start(&q, db, "SELECT awake_ms, open_ms, always, machine, store FROM account_total",
		    e);
	int r = query_next(&q, &sums_shape, to);
	return r < 0 ? r : 0;
}

/* --- reports -------------------------------------------------------------------------------------
 */

#define ROW(type, name) { COLUMN_##type, offsetof(struct db_account_row, name) }

static const struct shape row_shape = {
	.count = 7,
	.columns = {
		ROW(TEXT, key),
		ROW(INTEGER, users),
		ROW(INTEGER, sums.awake_ms),
		ROW(INTEGER, sums.open_ms),
		ROW(REAL, sums.always),
		ROW(REAL, sums.machine),
		ROW(REAL, sums.store),
	},
};

#define SUMMED                                                                                     \
	", count(DISTINCT user), sum(awake_ms), sum(open_ms), sum(always), sum(machine), "         \
	"sum(store) FROM account_days AS d"

static const char *const reports[] = {
	[ACCOUNT_BY_ALL] = "SELECT NULL" SUMMED " WHERE day >= ? HAVING count(*) > 0",
	[ACCOUNT_BY_USER] = "SELECT user" SUMMED " WHERE day >= ? GROUP BY user"
			    " ORDER BY sum(always) DESC, user",
	[ACCOUNT_BY_GROUP] = "SELECT g.value" SUMMED ", json_each(CASE WHEN groups IS NULL"
			     " OR groups = '[]' THEN '[\"\"]' ELSE groups END) AS g"
			     " WHERE day >= ? GROUP BY g.value ORDER BY sum(always) DESC, g.value",
	[ACCOUNT_BY_DAY] = "SELECT date(day * 86400, 'unixepoch')" SUMMED " WHERE day >= ?"
			   " GROUP BY day ORDER BY day",
};

int db_account_report(struct db *db, enum db_account_by by, int64_t from_day,
		      int (*each)(const struct db_account_row *, void *), void *arg,
		      struct error *e)
{
	cleanup_query struct query q;
	struct db_account_row row = { 0 };
	int r;
	query_start(&q, db, reports[by], e);
	query_integer(&q, from_day);
	while ((r = query_next(&q, &row_shape, &row)) > 0) {
		r = each(&row, arg);
		if (r)
			break;
	}
	row_deinit(&row_shape, &row);
	return r;
}
