/* SPDX-License-Identifier: Apache-2.0 */
#include "db/query.h"

#define COLUMNS                                                                                    \
	"session, generation, created_at, memory_bytes, stored_bytes, frozen_us, duration_us, "    \
	"node, aside, cpu"

#define FIELD(type, name) { COLUMN_##type, offsetof(struct db_checkpoint, name) }

static const struct shape shape = {
	.count = 10,
	.columns = {
		FIELD(ID, session),
		FIELD(INTEGER, generation),
		FIELD(INTEGER, created_at),
		FIELD(INTEGER, memory_bytes),
		FIELD(INTEGER, stored_bytes),
		FIELD(INTEGER, frozen_us),
		FIELD(INTEGER, duration_us),
		FIELD(TEXT, node),
		FIELD(BOOLEAN, aside),
		FIELD(TEXT, cpu),
	},
};

int db_checkpoint_put(struct db *db, const struct db_checkpoint *checkpoint, struct error *e)
{
	cleanup_query struct query q;
	query_start(&q, db,
		    "INSERT OR REPLACE INTO checkpoints (" COLUMNS ") VALUES (?,?,?,?,?,?,?,?,?,?)",
		    e);
	query_row(&q, &shape, checkpoint);
	return query_run(&q);
}

int db_checkpoint_delete(struct db *db, const char *session, int64_t generation, struct error *e)
{
	cleanup_query struct query q;
	query_start(&q, db, "DELETE FROM checkpoints WHERE session = ? AND generation = ?", e);
	query_text(&q, session);
	query_integer(&q, generation);
	return query_run(&q);
}

int db_checkpoint_each(struct db *db, const char *session,
		       int (*each)(const struct db_checkpoint *, void *), void *arg,
		       struct error *e)
{
	cleanup_query struct query q;
	struct db_checkpoint row = { 0 };
	int r;
	if (session) {
		query_start(&q, db,
			    "SELECT " COLUMNS
			    " FROM checkpoints WHERE session = ? ORDER BY generation",
			    e);
		query_text(&q, session);
	} else {
		query_start(&q, db,
			    "SELECT " COLUMNS " FROM checkpoints ORDER BY session, generation", e);
	}
	while ((r = query_next(&q, &shape, &row)) > 0) {
		r = each(&row, arg);
		if (r)
			break;
	}
	db_checkpoint_deinit(&row);
	return r;
}

void db_checkpoint_deinit(struct db_checkpoint *checkpoint)
{
	row_deinit(&shape, checkpoint);
}

int db_checkpoint_bytes(struct db *db, const char *session, int64_t *bytes, struct error *e)
{
	cleanup_query struct query q;
	query_start(&q, db,
		    "SELECT coalesce(sum(stored_bytes), 0) FROM checkpoints WHERE session = ?", e);
	query_text(&q, session);
	int r = query_step(&q);
	if (r > 0)
		*bytes = sqlite3_column_int64(q.stmt, 0);
	return r < 0 ? r : 0;
}
