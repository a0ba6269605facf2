/* SPDX-License-Identifier: Apache-2.0 */
#include "db/query.h"

#include <errno.h>

/* --- nodes ---------------------------------------------------------------- */

#define COLUMNS                                                                                    \
	"name, state, listen, overlay, serial, next_serial, key_digest, token, joined_at, "        \
	"seen_at, boot_id, info"

#define FIELD(type, name) { COLUMN_##type, offsetof(struct db_node, name) }

static const struct shape shape = {
	.count = 12,
	.columns = {
		FIELD(TEXT, name),
		FIELD(TEXT, state),
		FIELD(TEXT, listen),
		FIELD(TEXT, overlay),
		FIELD(TEXT, serial),
		FIELD(TEXT, next_serial),
		FIELD(TEXT, key_digest),
		FIELD(TEXT, token),
		FIELD(INTEGER, joined_at),
		FIELD(INTEGER, seen_at),
		FIELD(TEXT, boot_id),
		FIELD(TEXT, info),
	},
};

int db_node_put(struct db *db, const struct db_node *node, struct error *e)
{
	cleanup_query struct query q;
	query_start(&q, db,
		    "INSERT INTO nodes (" COLUMNS ") VALUES (?,?,?,?,?,?,?,?,?,?,?,?)"
		    " ON CONFLICT (name) DO UPDATE SET state = excluded.state,"
		    " listen = excluded.listen, overlay = excluded.overlay,"
		    " serial = excluded.serial, next_serial = excluded.next_serial,"
		    " key_digest = excluded.key_digest, token = excluded.token,"
		    " joined_at = excluded.joined_at, seen_at = excluded.seen_at,"
		    " boot_id = excluded.boot_id, info = excluded.info",
		    e);
	query_row(&q, &shape, node);
	return query_run(&q);
}

int db_node_delete(struct db *db, const char *name, struct error *e)
{
	cleanup_query struct query q;
	query_start(&q, db, "DELETE FROM nodes WHERE name = ?", e);
	query_text(&q, name);
	return query_run(&q);
}

int db_node_get(struct db *db, const char *name, struct db_node *to, struct error *e)
{
	cleanup_query struct query q;
	struct db_node row = { 0 };
	query_start(&q, db, "SELECT " COLUMNS " FROM nodes WHERE name = ?", e);
	query_text(&q, name);
	int r = query_next(&q, &shape, &row);
	if (r == 0)
		r = error_set(e, ENOENT, "the record has no node \"%s\"", name);
	else if (r > 0)
		*to = row;
	return r < 0 ? r : 0;
}

int db_node_each(struct db *db, int (*each)(const struct db_node *, void *), void *arg,
		 struct error *e)
{
	cleanup_query struct query q;
	struct db_node row = { 0 };
	int r;
	query_start(&q, db, "SELECT " COLUMNS " FROM nodes ORDER BY name", e);
	while ((r = query_next(&q, &shape, &row)) > 0) {
		r = each(&row, arg);
		if (r)
			break;
	}
	db_node_deinit(&row);
	return r;
}

void db_node_deinit(struct db_node *node)
{
	row_deinit(&shape, node);
}

/* --- join tokens ---------------------------------------------------------- */

#define TOKEN_COLUMNS "id, secret_digest, expires_at, uses_left, created_at"

#define TOKEN_FIELD(type, name) { COLUMN_##type, offsetof(struct db_join_token, name) }

static const struct shape token_shape = {
	.count = 5,
	.columns = {
		TOKEN_FIELD(ID, id),
		TOKEN_FIELD(TEXT, secret_digest),
		TOKEN_FIELD(INTEGER, expires_at),
		TOKEN_FIELD(INTEGER, uses_left),
		TOKEN_FIELD(INTEGER, created_at),
	},
};

int db_join_token_put(struct db *db, const struct db_join_token *token, struct error *e)
{
	cleanup_query struct query q;
	query_start(&q, db,
		    "INSERT OR REPLACE INTO join_tokens (" TOKEN_COLUMNS ") VALUES (?,?,?,?,?)", e);
	query_row(&q, &token_shape, token);
	return query_run(&q);
}

int db_join_token_get(struct db *db, const char *id, struct db_join_token *to, struct error *e)
{
	cleanup_query struct query q;
	struct db_join_token row = { 0 };
	query_start(&q, db, "SELECT " TOKEN_COLUMNS " FROM join_tokens WHERE id = ?", e);
	query_text(&q, id);
	int r = query_next(&q, &token_shape, &row);
	if (r == 0)
		r = error_set(e, ENOENT, "the record has no such join token");
	else if (r > 0)
		*to = row;
	return r < 0 ? r : 0;
}

int db_join_tokens_expire(struct db *db, wall_ms before, struct error *e)
{
	cleanup_query struct query q;
	query_start(&q, db, "DELETE FROM join_tokens WHERE expires_at < ?", e);
	query_integer(&q, before);
	return query_run(&q);
}

void db_join_token_deinit(struct db_join_token *token)
{
	row_deinit(&token_shape, token);
}
