/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/table.h"

#include "base/clock.h"

#include <stdbool.h>
#include <string.h>

#define CELL_SIZE 256

const char *format_bytes(int64_t bytes, char to[32])
{
	static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB" };
	double value = (double)bytes;
	size_t unit = 0;
	while (value >= 1024 && unit < sizeof(units) / sizeof(units[0]) - 1) {
		value /= 1024;
		unit++;
	}
	snprintf(to, 32, unit && value < 100 ? "%.1f %s" : "%.0f %s", value, units[unit]);
	return to;
}

/* A user may be called anything, an escape sequence included: the terminal must not obey it. */
static void copy_harmless(const char *from, char *to, size_t size)
{
	size_t n = 0;
	for (; *from && n + 1 < size; from++)
		to[n++] = (unsigned char)*from < 0x20 || *from == 0x7f ? '?' : *from;
	/* Not in the middle of a UTF-8 sequence. */
	while (*from && n && ((unsigned char)to[n - 1] & 0xc0) == 0x80)
		n--;
	to[n] = '\0';
}

static void format_time(int64_t at, bool age, char *to, size_t size)
{
	char text[CLOCK_TEXT_SIZE];
	if (at <= 0)
		snprintf(to, size, "-");
	else if (age)
		snprintf(to, size, "%s ago", clock_format_duration(clock_wall() - at, text));
	else
		snprintf(to, size, "%.19sZ", clock_format(at, text));
}

void table_cell(const json_t *value, enum column_kind kind, char *to, size_t size)
{
	char text[32];
	if (!value || json_is_null(value)) {
		snprintf(to, size, "-");
	} else if (json_is_string(value)) {
		copy_harmless(json_string_value(value), to, size);
	} else if (json_is_boolean(value)) {
		snprintf(to, size, "%s", json_is_true(value) ? "yes" : "no");
	} else if (json_is_real(value)) {
		snprintf(to, size, "%.2f", json_real_value(value));
	} else if (kind == COLUMN_BYTES) {
		int64_t bytes = json_integer_value(value);
		snprintf(to, size, "%s", bytes ? format_bytes(bytes, text) : "-");
	} else if (kind == COLUMN_TIME || kind == COLUMN_AGE) {
		format_time(json_integer_value(value), kind == COLUMN_AGE, to, size);
	} else if (kind == COLUMN_US) {
		int64_t us = json_integer_value(value);
		snprintf(to, size, "%s", us ? clock_format_duration(us / 1000, text) : "-");
	} else {
		snprintf(to, size, "%lld", (long long)json_integer_value(value));
	}
}

/* Characters, not bytes: names are UTF-8. */
static int text_width(const char *text)
{
	int width = 0;
	for (; *text; text++)
		width += ((unsigned char)*text & 0xc0) != 0x80;
	return width;
}

static int column_width(const json_t *rows, const struct column *column)
{
	int width = text_width(column->title);
	size_t i;
	json_t *row;
	json_array_foreach(rows, i, row) {
		char cell[CELL_SIZE];
		table_cell(json_object_get(row, column->key), column->kind, cell, sizeof(cell));
		int w = text_width(cell);
		width = w > width ? w : width;
	}
	return width;
}

static void print_cell(FILE *to, const char *text, int width, bool last)
{
	fprintf(to, "%s", text);
	if (!last)
		fprintf(to, "%*s", width - text_width(text) + 2, "");
}

void table_print(FILE *to, const json_t *rows, const struct column *columns, size_t count)
{
	int widths[16] = { 0 };
	count = count > 16 ? 16 : count;
	for (size_t c = 0; c < count; c++)
		widths[c] = column_width(rows, &columns[c]);
	for (size_t c = 0; c < count; c++)
		print_cell(to, columns[c].title, widths[c], c + 1 == count);
	fputc('\n', to);
	size_t i;
	json_t *row;
	json_array_foreach(rows, i, row) {
		for (size_t c = 0; c < count; c++) {
			char cell[CELL_SIZE];
			table_cell(json_object_get(row, columns[c].key), columns[c].kind, cell,
				sizeof(cell));
			print_cell(to, cell, widths[c], c + 1 == count);
		}
		fputc('\n', to);
	}
}
