/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_CLI_TABLE_H
#define ELSA_CLI_TABLE_H

/*
 * JSON for people: a list of objects as a table with columns as wide as they
 * need be, one object as lines of names and values. Whatever it holds, it is
 * harmless to a terminal. Not thread-safe.
 */

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

enum column_kind {
	COLUMN_TEXT,
	COLUMN_INT,
	COLUMN_BYTES,
	COLUMN_TIME,
	COLUMN_AGE,
	COLUMN_US,
	COLUMN_MS,
	COLUMN_SHARE, /* of 1, as per cent */
	COLUMN_MONEY,
};

struct column {
	const char *title;
	const char *key; /* of the object; a missing one, null or "" shows as "-" */
	enum column_kind kind;
};

#define TABLE_COLUMNS_MOST 16

/* A table that grows: the titles are printed once. Widths hold for what follows. */
struct table {
	FILE *to;
	const struct column *columns;
	size_t count;  /* at most TABLE_COLUMNS_MOST */
	int cell_most; /* columns a cell but the last may take; 0: as many as it wants */
	int widths[TABLE_COLUMNS_MOST];
	bool begun;
};

void table_add(struct table *table, const json_t *rows);

/* A table at once; on a terminal overlong cells are cut. */
void table_print(FILE *to, const json_t *rows, const struct column *columns, size_t count);
int table_cell_most(FILE *to); /* what that takes for `cell_most` */

/* Lines of title and value; what is missing, null or "" is left out. */
void table_print_pairs(FILE *to, const json_t *object, const struct column *columns, size_t count);

/* What elsad says of a session's size, as it is shown wherever that is. */
#define SIZE_COLUMNS 11
extern const struct column size_columns[SIZE_COLUMNS]; /* cmd_size.c */

/* One value as the table shows it. */
#define CELL_SIZE 2048
void table_cell(const json_t *value, enum column_kind kind, char to[CELL_SIZE]);

const char *format_bytes(int64_t bytes, char to[32]);

/* As programs want it. On a terminal nothing but ASCII, so that it is harmless, too. */
void print_json(FILE *to, const json_t *value);

#endif
