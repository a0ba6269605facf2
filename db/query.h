/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_DB_QUERY_H
#define ELSA_DB_QUERY_H

/*
 * Private to db/: the connection, and statements as short as possible.
 *
 *	cleanup_query struct query q;
 *	query_start(&q, db, "DELETE FROM effects WHERE id = ?", e);
 *	query_text(&q, id);
 *	return query_run(&q);
 *
 * The first failure sticks to the query and is what query_run() or
 * query_next() returns, with *e filled in. Same thread as the db.
 */

#include "base/cleanup.h"
#include "db/db.h"

#include <sqlite3.h>

#define DB_STATEMENTS 96

#define DAMAGED_REMEDY                                                                             \
	"keep a copy of the file and its -wal, then bring back a backup or try "                   \
	"'sqlite3 FILE .recover'"

struct db {
	sqlite3 *handle;
	char *path;
	int lock;    /* of "<path>.lock", held for as long as we live */
	int depth;   /* of db_begin() */
	bool soon;   /* begun by db_begin_soon() */
	bool undone; /* rolled back by an inner level; the outer ones do not know yet */
	struct {
		const char *sql;
		sqlite3_stmt *stmt;
	} statements[DB_STATEMENTS];
	size_t statement_count;
};

struct query {
	struct db *db;
	sqlite3_stmt *stmt;
	struct error *e;
	int result; /* first failure, negative */
	int bound;  /* parameters so far */
	bool cached;
};

#define cleanup_query cleanup(query_end)

/* `sql` is a literal: kept by address for as long as the db. */
void query_start(struct query *q, struct db *db, const char *sql, struct error *e);
void query_end(struct query *q);

/* Bind the next parameter; the text must outlive the query. NULL: null. */
void query_text(struct query *q, const char *text);
void query_integer(struct query *q, int64_t value);
void query_real(struct query *q, double value);

/* Runs to the end, whatever rows there are. */
int query_run(struct query *q);
/* 1: a row, 0: no more. */
int query_step(struct query *q);

/* How a row's columns lie in a struct, in the order of the columns and of the parameters. */
enum column_type {
	COLUMN_ID,      /* char [ID_SIZE] */
	COLUMN_TEXT,    /* char *, owned; NULL is null */
	COLUMN_INTEGER, /* int64_t */
	COLUMN_BOOLEAN, /* bool */
	COLUMN_REAL,    /* double */
};

struct shape {
	size_t count;
	struct {
		enum column_type type;
		size_t offset;
	} columns[24];
};

/* Bind all of a struct. */
void query_row(struct query *q, const struct shape *shape, const void *row);
/* As query_step(), with the row read into the struct, which is emptied before. */
int query_next(struct query *q, const struct shape *shape, void *row);
/* Frees the strings; the struct is then empty. */
void row_deinit(const struct shape *shape, void *row);

/* The failure `code` of SQLite in our words; returns it as a negative errno. */
int db_error(struct db *db, int code, struct error *e, const char *doing);

/* Fails when a transaction is meant to be open and is not any more. */
int db_check_transaction(struct db *db, struct error *e);

/* Statements without parameters or rows. */
int db_exec(struct db *db, const char *sql, struct error *e);

/* Brings the schema to the newest; refuses one that is newer or not ours. */
int db_check_schema(struct db *db, struct error *e);
int db_migrate(struct db *db, struct error *e);

#endif
