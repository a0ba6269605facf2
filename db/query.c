/* SPDX-License-Identifier: Apache-2.0 */
#include "db/query.h"

#include <errno.h>
#include <string.h>

/* What SQLite's primary result codes mean for the person who runs us. */
static const struct {
	int code;
	enum fault fault;
	int error; /* errno; 0: the fault's */
	const char *text;
	const char *remedy;
} meanings[] = {
	{ SQLITE_FULL, FAULT_FULL, 0, "the disk is full", "free some space on it" },
	{ SQLITE_CORRUPT, FAULT_CORRUPT, 0, "the database is damaged", DAMAGED_REMEDY },
	{ SQLITE_NOTADB, FAULT_CORRUPT, 0, "the file is not a database",
	  "check the option controller.database, or bring back a backup" },
	{ SQLITE_READONLY, FAULT_DENIED, 0, "the database is read-only",
	  "make the file, its directory and its file system writable" },
	{ SQLITE_CANTOPEN, FAULT_DENIED, 0, "the database cannot be opened",
	  "check that its directory exists and that this account may write there" },
	{ SQLITE_PERM, FAULT_DENIED, 0, "access to the database is denied",
	  "check the owner and the mode of the file" },
	{ SQLITE_BUSY, FAULT_CONFLICT, 0, "another program is writing to the database",
	  "end the program that holds it open, for instance a sqlite3 shell" },
	{ SQLITE_LOCKED, FAULT_CONFLICT, 0, "the database is in use", NULL },
	{ SQLITE_NOMEM, FAULT_FULL, ENOMEM, "out of memory", NULL },
	{ SQLITE_TOOBIG, FAULT_BAD_INPUT, 0, "the value is too large", NULL },
	{ SQLITE_CONSTRAINT, FAULT_BAD_INPUT, 0, "the value is not allowed", NULL },
};

/* Only ENOSPC has a code of its own. For a quota or a limit we look at the errno, which SQLite does
 * not keep when the write was part of a commit; hence errno is cleared before every step. */
static bool is_full(struct db *db, int code)
{
	int kept = sqlite3_system_errno(db->handle);
	int cause = kept ? kept : errno;
	return (code & 0xff) == SQLITE_IOERR &&
	       (cause == ENOSPC || cause == EDQUOT || cause == EFBIG);
}

int db_error(struct db *db, int code, struct error *e, const char *doing)
{
	bool full = db->handle && is_full(db, code);
	const char *detail = db->handle ? sqlite3_errmsg(db->handle) : sqlite3_errstr(code);
	if (code == SQLITE_CONSTRAINT_UNIQUE || code == SQLITE_CONSTRAINT_PRIMARYKEY)
		return error_set(e, EEXIST, "%s: it is there already (%s)", doing, detail);
	if (full)
		code = SQLITE_FULL;
	for (size_t i = 0; i < ARRAY_SIZE(meanings); i++) {
		if (meanings[i].code != (code & 0xff))
			continue;
		int r = error_fault(e, meanings[i].fault, "%s '%s': %s (%s)", doing, db->path,
				    meanings[i].text, detail);
		if (meanings[i].remedy)
			error_remedy(e, r, "%s", meanings[i].remedy);
		return meanings[i].error ? -meanings[i].error : r;
	}
	return error_set(e, EIO, "%s '%s': %s (SQLite code %d)", doing, db->path, detail, code);
}

/* SQLite undoes a transaction by itself after some failures (a full disk). What follows must not
 * then be committed statement by statement as if there had never been one. */
int db_check_transaction(struct db *db, struct error *e)
{
	if (db->depth == 0 || (!db->undone && !sqlite3_get_autocommit(db->handle)))
		return 0;
	return error_set(e, ECANCELED,
			 "using the database '%s': the transaction was undone by a failure before",
			 db->path);
}

int db_exec(struct db *db, const char *sql, struct error *e)
{
	errno = 0;
	int code = sqlite3_exec(db->handle, sql, NULL, NULL, NULL);
	return code == SQLITE_OK ? 0 : db_error(db, code, e, "using the database");
}

static void query_fail(struct query *q, int code)
{
	if (q->result == 0)
		q->result = db_error(q->db, code, q->e, "using the database");
}

/* A statement that is in use, by a walk whose callback asks the same again, is not shared. */
static sqlite3_stmt *find_cached(struct db *db, const char *sql)
{
	for (size_t i = 0; i < db->statement_count; i++)
		if (strcmp(db->statements[i].sql, sql) == 0 &&
		    !sqlite3_stmt_busy(db->statements[i].stmt))
			return db->statements[i].stmt;
	return NULL;
}

static void prepare(struct query *q, const char *sql)
{
	struct db *db = q->db;
	q->stmt = find_cached(db, sql);
	q->cached = q->stmt || db->statement_count < DB_STATEMENTS;
	if (q->stmt)
		return;
	unsigned flags = q->cached ? SQLITE_PREPARE_PERSISTENT : 0;
	int code = sqlite3_prepare_v3(db->handle, sql, -1, flags, &q->stmt, NULL);
	if (code != SQLITE_OK) {
		query_fail(q, code);
		return;
	}
	if (q->cached) {
		db->statements[db->statement_count].sql = sql;
		db->statements[db->statement_count++].stmt = q->stmt;
	}
}

void query_start(struct query *q, struct db *db, const char *sql, struct error *e)
{
	*q = (struct query) { .db = db, .e = e };
	q->result = db_check_transaction(db, e);
	if (q->result == 0)
		prepare(q, sql);
}

void query_end(struct query *q)
{
	if (q->cached && q->stmt) {
		sqlite3_reset(q->stmt);
		sqlite3_clear_bindings(q->stmt);
	} else {
		sqlite3_finalize(q->stmt);
	}
	q->stmt = NULL;
}

void query_text(struct query *q, const char *text)
{
	if (q->result)
		return;
	int code = sqlite3_bind_text(q->stmt, ++q->bound, text, -1, SQLITE_STATIC);
	if (code != SQLITE_OK)
		query_fail(q, code);
}

void query_integer(struct query *q, int64_t value)
{
	if (q->result)
		return;
	int code = sqlite3_bind_int64(q->stmt, ++q->bound, value);
	if (code != SQLITE_OK)
		query_fail(q, code);
}

void query_real(struct query *q, double value)
{
	if (q->result)
		return;
	int code = sqlite3_bind_double(q->stmt, ++q->bound, value);
	if (code != SQLITE_OK)
		query_fail(q, code);
}

int query_step(struct query *q)
{
	if (q->result)
		return q->result;
	errno = 0;
	int code = sqlite3_step(q->stmt);
	if (code == SQLITE_ROW)
		return 1;
	if (code != SQLITE_DONE)
		query_fail(q, code);
	return q->result;
}

int query_run(struct query *q)
{
	int r;
	do
		r = query_step(q);
	while (r > 0);
	return r;
}

void query_row(struct query *q, const struct shape *shape, const void *row)
{
	for (size_t i = 0; i < shape->count; i++) {
		const void *field = (const char *)row + shape->columns[i].offset;
		switch (shape->columns[i].type) {
		case COLUMN_ID:
			query_text(q, field);
			break;
		case COLUMN_TEXT:
			query_text(q, *(char *const *)field);
			break;
		case COLUMN_INTEGER:
			query_integer(q, *(const int64_t *)field);
			break;
		case COLUMN_BOOLEAN:
			query_integer(q, *(const bool *)field);
			break;
		case COLUMN_REAL:
			query_real(q, *(const double *)field);
			break;
		}
	}
}

static int read_text(struct query *q, int column, char **to)
{
	if (sqlite3_column_type(q->stmt, column) == SQLITE_NULL)
		return 0;
	const char *text = (const char *)sqlite3_column_text(q->stmt, column);
	*to = text ? strdup(text) : NULL;
	return *to ? 0 : error_set(q->e, ENOMEM, "out of memory");
}

static void read_id(struct query *q, int column, char to[ID_SIZE])
{
	const char *text = (const char *)sqlite3_column_text(q->stmt, column);
	memset(to, 0, ID_SIZE);
	if (text)
		memcpy(to, text, strnlen(text, ID_SIZE - 1));
}

int query_next(struct query *q, const struct shape *shape, void *row)
{
	row_deinit(shape, row);
	int r = query_step(q);
	for (size_t i = 0; r > 0 && i < shape->count; i++) {
		void *field = (char *)row + shape->columns[i].offset;
		int column = (int)i;
		switch (shape->columns[i].type) {
		case COLUMN_ID:
			read_id(q, column, field);
			break;
		case COLUMN_TEXT:
			q->result = read_text(q, column, field);
			r = q->result ? q->result : r;
			break;
		case COLUMN_INTEGER:
			*(int64_t *)field = sqlite3_column_int64(q->stmt, column);
			break;
		case COLUMN_BOOLEAN:
			*(bool *)field = sqlite3_column_int64(q->stmt, column) != 0;
			break;
		case COLUMN_REAL:
			*(double *)field = sqlite3_column_double(q->stmt, column);
			break;
		}
	}
	return r;
}

void row_deinit(const struct shape *shape, void *row)
{
	for (size_t i = 0; i < shape->count; i++) {
		char **field = (char **)((char *)row + shape->columns[i].offset);
		if (shape->columns[i].type != COLUMN_TEXT)
			continue;
		free(*field);
		*field = NULL;
	}
}
