/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/table.h"

#include "base/clock.h"
#include "cli/text.h"

#include <math.h>
#include <string.h>
#include <unistd.h>

#define CELL_MOST_ON_TERMINAL 40

const char *format_bytes(int64_t bytes, char to[32])
{
	static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB" };
	double value = (double)bytes;
	size_t unit = 0;
	/* 1023.95 of a unit would be shown as 1024. */
	while (value >= 1023.95 && unit < sizeof(units) / sizeof(units[0]) - 1) {
		value /= 1024;
		unit++;
	}
	snprintf(to, 32, unit && value < 99.95 ? "%.1f %s" : "%.0f %s", value, units[unit]);
	return to;
}

static void format_time(int64_t at, bool age, char *to, size_t size)
{
	char text[CLOCK_TEXT_SIZE];
	int64_t ago = clock_wall() - at;
	if (at <= 0)
		snprintf(to, size, "-");
	else if (age) /* a clock that differs from elsad's must not make it the future */
		snprintf(to, size, "%s ago", clock_format_duration(ago > 0 ? ago : 0, text));
	else
		snprintf(to, size, "%.19sZ", clock_format(at, text));
}

static void format_number(int64_t number, enum column_kind kind, char *to, size_t size)
{
	char text[CLOCK_TEXT_SIZE];
	switch (kind) {
	case COLUMN_BYTES:
		snprintf(to, size, "%s", number ? format_bytes(number, text) : "-");
		break;
	case COLUMN_TIME:
	case COLUMN_AGE:
		format_time(number, kind == COLUMN_AGE, to, size);
		break;
	case COLUMN_US:
		snprintf(to, size, "%s", number ? clock_format_duration(number / 1000, text) : "-");
		break;
	case COLUMN_MS:
		snprintf(to, size, "%s", number ? clock_format_duration(number, text) : "-");
		break;
	default:
		snprintf(to, size, "%lld", (long long)number);
	}
}

static void format_real(double value, enum column_kind kind, char *to, size_t size)
{
	char text[CLOCK_TEXT_SIZE];
	switch (kind) {
	case COLUMN_BYTES:
		snprintf(to, size, "%s", value >= 1 ? format_bytes((int64_t)value, text) : "-");
		break;
	case COLUMN_SHARE:
		snprintf(to, size, "%.1f%%", value * 100);
		break;
	case COLUMN_MONEY:
		snprintf(to, size, fabs(value) < 100 ? "%.4f" : "%.2f", value);
		break;
	default:
		snprintf(to, size, "%.2f", value);
	}
}

void table_cell(const json_t *value, enum column_kind kind, char to[CELL_SIZE])
{
	const char *text = json_string_value(value);
	if (text && *text)
		text_harmless(text, to, CELL_SIZE);
	else if (json_is_boolean(value))
		snprintf(to, CELL_SIZE, "%s", json_is_true(value) ? "yes" : "no");
	else if (json_is_real(value))
		format_real(json_real_value(value), kind, to, CELL_SIZE);
	else if (json_is_integer(value))
		format_number(json_integer_value(value), kind, to, CELL_SIZE);
	else
		snprintf(to, CELL_SIZE, "-");
}

/* --- tables ------------------------------------------------------------------ */

static void fill_cell(const struct table *table, const json_t *row, size_t c, char to[CELL_SIZE])
{
	const struct column *column = &table->columns[c];
	table_cell(json_object_get(row, column->key), column->kind, to);
	if (table->cell_most && c + 1 < table->count)
		text_cut(to, CELL_SIZE, table->cell_most);
}

static void widen(struct table *table, size_t c, const char *text)
{
	int width = text_width(text);
	table->widths[c] = width > table->widths[c] ? width : table->widths[c];
}

static void measure(struct table *table, const json_t *rows)
{
	char cell[CELL_SIZE];
	size_t i;
	json_t *row;
	for (size_t c = 0; c < table->count; c++)
		widen(table, c, table->columns[c].title);
	json_array_foreach (rows, i, row)
		for (size_t c = 0; c < table->count; c++) {
			fill_cell(table, row, c, cell);
			widen(table, c, cell);
		}
}

static void print_cell(const struct table *table, size_t c, const char *text)
{
	fputs(text, table->to);
	if (c + 1 < table->count)
		fprintf(table->to, "%*s", table->widths[c] - text_width(text) + 2, "");
	else
		fputc('\n', table->to);
}

void table_add(struct table *table, const json_t *rows)
{
	char cell[CELL_SIZE];
	size_t i;
	json_t *row;
	measure(table, rows);
	for (size_t c = 0; c < table->count && !table->begun; c++)
		print_cell(table, c, table->columns[c].title);
	table->begun = true;
	json_array_foreach (rows, i, row)
		for (size_t c = 0; c < table->count; c++) {
			fill_cell(table, row, c, cell);
			print_cell(table, c, cell);
		}
}

int table_cell_most(FILE *to)
{
	return isatty(fileno(to)) ? CELL_MOST_ON_TERMINAL : 0;
}

void table_print(FILE *to, const json_t *rows, const struct column *columns, size_t count)
{
	struct table table = {
		.to = to,
		.columns = columns,
		.count = count > TABLE_COLUMNS_MOST ? TABLE_COLUMNS_MOST : count,
		.cell_most = table_cell_most(to),
	};
	table_add(&table, rows);
}

/* --- one object -------------------------------------------------------------- */

void table_print_pairs(FILE *to, const json_t *object, const struct column *columns, size_t count)
{
	char cell[CELL_SIZE];
	for (size_t i = 0; i < count; i++) {
		table_cell(json_object_get(object, columns[i].key), columns[i].kind, cell);
		if (strcmp(cell, "-") != 0)
			fprintf(to, "%-16s %s\n", columns[i].title, cell);
	}
}

void print_json(FILE *to, const json_t *value)
{
	size_t flags = JSON_INDENT(2) | JSON_ENCODE_ANY;
	if (isatty(fileno(to)))
		flags |= JSON_ENSURE_ASCII;
	json_dumpf(value, to, flags);
	fputc('\n', to);
}
