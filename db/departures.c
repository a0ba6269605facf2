/* SPDX-License-Identifier: Apache-2.0 */
#include "db/query.h"

#define COLUMNS "id, session, source, target, state, generation, created_at"

#define FIELD(type, name) { COLUMN_##type, offsetof(struct db_departure, name) }

static const struct shape shape = {
	.count = 7,
	.columns = {
		FIELD(ID, id),
		FIELD(ID, session),
		FIELD(TEXT, source),
		FIELD(TEXT, target),
		FIELD(TEXT, state),
		FIELD(INTEGER, generation),
		FIELD(INTEGER, created_at),
	},
};

int db_departure_put(struct db *db, const struct db_departure *departure, struct error *e)
{
	cleanup_query struct query q;
	query_start(&q, db,
		    "INSERT OR REPLACE INTO departures (" COLUMNS ") VALUES (?,?,?,?,?,?,?)", e);
	query_row(&q, &shape, departure);
	return query_run(&q);
}

int db_departure_delete(struct db *db, const char *id, struct error *e)
{
	cleanup_query struct query q;
	query_start(&q, db, "DELETE FROM departures WHERE id = ?", e);
	query_text(&q, id);
	return query_run(&q);
}

int db_departure_each(struct db *db, int (*each)(const struct db_departure *, void *), void *arg,
		      struct error *e)
{
	cleanup_query struct query q;
	struct db_departure row = { 0 };
	int r;
	query_start(&q, db, "SELECT " COLUMNS " FROM departures ORDER BY created_at, rowid", e);
	while ((r = query_next(&q, &shape, &row)) > 0) {
		r = each(&row, arg);
		if (r)
			break;
	}
	db_departure_deinit(&row);
	return r;
}

void db_departure_deinit(struct db_departure *departure)
{
	row_deinit(&shape, departure);
}
