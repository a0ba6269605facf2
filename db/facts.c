/* SPDX-License-Identifier: Apache-2.0 */
#include "db/query.h"

#include <errno.h>

struct fact {
	char *value;
};

static const struct shape shape = {
	.count = 1,
	.columns = { { COLUMN_TEXT, offsetof(struct fact, value) } },
};

int db_fact_set(struct db *db, const char *key, const char *value, struct error *e)
{
	cleanup_query struct query q;
	if (value)
		query_start(&q, db, "INSERT OR REPLACE INTO facts (key, value) VALUES (?, ?)", e);
	else
		query_start(&q, db, "DELETE FROM facts WHERE key = ?", e);
	query_text(&q, key);
	if (value)
		query_text(&q, value);
	return query_run(&q);
}

int db_fact_get(struct db *db, const char *key, char **value, struct error *e)
{
	cleanup_query struct query q;
	struct fact fact = { 0 };
	query_start(&q, db, "SELECT value FROM facts WHERE key = ?", e);
	query_text(&q, key);
	int r = query_next(&q, &shape, &fact);
	if (r > 0)
		*value = fact.value;
	else if (r == 0)
		r = error_set(e, ENOENT, "the record has no '%s'", key);
	return r < 0 ? r : 0;
}
