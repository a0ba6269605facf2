/* SPDX-License-Identifier: Apache-2.0 */
#include "db/query.h"

#define COLUMNS "id, session, kind, node, generation, created_at, who, why"

#define FIELD(type, name) { COLUMN_##type, offsetof(struct db_effect, name) }

static const struct shape shape = {
	.count = 8,
	.columns = {
		FIELD(ID, id),
		FIELD(ID, session),
		FIELD(TEXT, kind),
		FIELD(TEXT, node),
		FIELD(INTEGER, generation),
		FIELD(INTEGER, created_at),
		FIELD(TEXT, who),
		FIELD(TEXT, why),
	},
};

int db_effect_put(struct db *db, const struct db_effect *effect, struct error *e)
{
	cleanup_query struct query q;
	query_start(
		&q, db,
		"INSERT INTO effects (" COLUMNS ") VALUES (?,?,?,?,?,?,?,?)"
		" ON CONFLICT (id) DO UPDATE SET session = excluded.session, kind = excluded.kind,"
		" node = excluded.node, generation = excluded.generation,"
		" created_at = excluded.created_at, who = excluded.who, why = excluded.why",
		e);
	query_row(&q, &shape, effect);
	return query_run(&q);
}

int db_effect_delete(struct db *db, const char *id, struct error *e)
{
	cleanup_query struct query q;
	query_start(&q, db, "DELETE FROM effects WHERE id = ?", e);
	query_text(&q, id);
	return query_run(&q);
}

int db_effect_each(struct db *db, int (*each)(const struct db_effect *, void *), void *arg,
		   struct error *e)
{
	cleanup_query struct query q;
	struct db_effect row = { 0 };
	int r;
	query_start(&q, db, "SELECT " COLUMNS " FROM effects ORDER BY created_at, rowid", e);
	while ((r = query_next(&q, &shape, &row)) > 0) {
		r = each(&row, arg);
		if (r)
			break;
	}
	db_effect_deinit(&row);
	return r;
}

void db_effect_deinit(struct db_effect *effect)
{
	row_deinit(&shape, effect);
}
