/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_CLI_TABLE_H
#define ELSA_CLI_TABLE_H

/*
 * A JSON list of objects as a table for people: columns as wide as they need
 * be, control characters from names made harmless.
 */

#include <jansson.h>
#include <stdio.h>

enum column_kind { COLUMN_TEXT, COLUMN_INT, COLUMN_BYTES, COLUMN_TIME, COLUMN_AGE, COLUMN_US };

struct column {
	const char *title;
	const char *key; /* of the object; a missing one or null shows as "-" */
	enum column_kind kind;
};

void table_print(FILE *to, const json_t *rows, const struct column *columns, size_t count);

/* One value as the table shows it. `to` holds at least 256 bytes. */
void table_cell(const json_t *value, enum column_kind kind, char *to, size_t size);

const char *format_bytes(int64_t bytes, char to[32]);

#endif
