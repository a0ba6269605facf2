/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/table.h"

#include "base/clock.h"
#include "cli/text.h"

#include <locale.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const struct {
	int64_t bytes;
	const char *text;
} sizes[] = {
	{ 0, "0 B" },
	{ 1, "1 B" },
	{ 1023, "1023 B" },
	{ 1024, "1.0 KiB" },
	{ 1536, "1.5 KiB" },
	{ 99 * 1024, "99.0 KiB" },
	{ 100 * 1024, "100 KiB" },
	{ 1024 * 1024 - 1, "1.0 MiB" },
	{ (int64_t)1 << 30, "1.0 GiB" },
	{ (int64_t)5000 << 40, "5000 TiB" },
	{ -1, "-1 B" },
};

static void test_bytes(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		char text[32];
		assert_string_equal(format_bytes(sizes[i].bytes, text), sizes[i].text);
	}
}

static const struct {
	const char *from, *to;
	int width;
} texts[] = {
	{ "", "", 0 },
	{ "ada", "ada", 3 },
	{ "a\x1b[2Jb", "a?[2Jb", 6 },
	{ "a\nb\tc\x7f", "a?b?c?", 6 },
	{ "\xc2\x9b"
	  "2J",
	  "?2J", 3 }, /* CSI as a C1 control */
	{ "\x9b"
	  "2J",
	  "?2J", 3 }, /* ... as a byte that is no UTF-8 */
	{ "\xe2\x80\xae"
	  "nimda",
	  "?nimda", 6 }, /* right-to-left override */
	{ "J\xc3\xbcrgen", "J\xc3\xbcrgen", 6 },
	{ "\xe6\x97\xa5\xe6\x9c\xac", "\xe6\x97\xa5\xe6\x9c\xac", 4 }, /* two columns each */
	{ "e\xcc\x81", "e\xcc\x81", 1 },                               /* a combining mark */
	{ "\xc3", "?", 1 },                                            /* cut short */
	{ "\xc0\xaf", "??", 2 },                                       /* overlong */
	{ "\xed\xa0\x80", "???", 3 },                                  /* a surrogate */
	{ "\xf5\x80\x80\x80", "????", 4 },                             /* beyond Unicode */
};

static void test_harmless(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		char to[64];
		text_harmless(texts[i].from, to, sizeof(to));
		assert_string_equal(to, texts[i].to);
		assert_int_equal(text_width(to), texts[i].width);
		assert_int_equal(text_is_utf8(to), true);
	}
}

/* Whatever the room, what is there is whole characters and ends. */
static void test_harmless_room(void **state)
{
	(void)state;
	static const char text[] = "\xf0\x9f\x98\x80\xc3\xbc"
				   "a";
	static const size_t lengths[] = { 0, 0, 0, 0, 4, 4, 6, 7, 7 };
	for (size_t size = 1; size <= sizeof(lengths) / sizeof(lengths[0]); size++) {
		char to[16];
		memset(to, 'x', sizeof(to));
		text_harmless(text, to, size);
		assert_int_equal(strlen(to), lengths[size - 1]);
	}
}

static void test_cut(void **state)
{
	(void)state;
	char text[16] = "abcdef";
	text_cut(text, sizeof(text), 6);
	assert_string_equal(text, "abcdef");
	text_cut(text, sizeof(text), 4);
	assert_string_equal(text, "abc\xe2\x80\xa6");
	char wide[16] = "\xe6\x97\xa5\xe6\x9c\xac\xe8\xaa\x9e";
	text_cut(wide, sizeof(wide), 4);
	assert_string_equal(wide, "\xe6\x97\xa5\xe2\x80\xa6");
}

/* --- cells and tables -------------------------------------------------------- */

static const struct {
	const char *json;
	enum column_kind kind;
	const char *cell;
} cells[] = {
	{ "null", COLUMN_TEXT, "-" },
	{ "\"\"", COLUMN_TEXT, "-" },
	{ "\"a\\u001bb\"", COLUMN_TEXT, "a?b" },
	{ "true", COLUMN_TEXT, "yes" },
	{ "false", COLUMN_TEXT, "no" },
	{ "0.125", COLUMN_TEXT, "0.12" },
	{ "12", COLUMN_INT, "12" },
	{ "12", COLUMN_TEXT, "12" },
	{ "0", COLUMN_BYTES, "-" },
	{ "2048", COLUMN_BYTES, "2.0 KiB" },
	{ "0", COLUMN_TIME, "-" },
	{ "1795400000000", COLUMN_TIME, "2026-11-23T02:13:20Z" },
	{ "-5", COLUMN_AGE, "-" },
	{ "9000000000000000", COLUMN_AGE, "0 ms ago" },
	{ "1500000", COLUMN_US, "1.5 s" },
	{ "[1]", COLUMN_INT, "-" },
	{ "{}", COLUMN_TEXT, "-" },
	{ "\"text\"", COLUMN_BYTES, "text" },
};

static void test_cells(void **state)
{
	(void)state;
	char cell[CELL_SIZE];
	for (size_t i = 0; i < sizeof(cells) / sizeof(cells[0]); i++) {
		json_t *value = json_loads(cells[i].json, JSON_DECODE_ANY, NULL);
		assert_non_null(value);
		table_cell(value, cells[i].kind, cell);
		assert_string_equal(cell, cells[i].cell);
		json_decref(value);
	}
	table_cell(NULL, COLUMN_INT, cell);
	assert_string_equal(cell, "-");
}

static void test_cell_of_any_length(void **state)
{
	(void)state;
	char name[8192];
	char cell[CELL_SIZE];
	memset(name, 'n', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	json_t *value = json_string(name);
	table_cell(value, COLUMN_TEXT, cell);
	assert_int_equal(strlen(cell), CELL_SIZE - 1);
	json_decref(value);
}

static const struct column columns[] = { { "USER", "user", COLUMN_TEXT },
					 { "N", "n", COLUMN_INT },
					 { "WHY", "why", COLUMN_TEXT } };

static char *add(struct table *table, const char *json)
{
	char *text = NULL;
	size_t size = 0;
	json_t *rows = json_loads(json, 0, NULL);
	table->to = open_memstream(&text, &size);
	table->columns = columns;
	table->count = 3;
	table_add(table, rows);
	fclose(table->to);
	json_decref(rows);
	return text;
}

static void expect(struct table *table, const char *json, const char *printed)
{
	char *text = add(table, json);
	assert_string_equal(text, printed);
	free(text);
}

static void test_table(void **state)
{
	(void)state;
	struct table table = { 0 };
	expect(&table,
	       "[{\"user\": \"ada\", \"n\": 1, \"why\": \"idle\"}, {\"user\": \"J\\u00fcrgen\"}, "
	       "5]",
	       "USER    N  WHY\n"
	       "ada     1  idle\n"
	       "J\xc3\xbcrgen  -  -\n"
	       "-       -  -\n");
	/* No second head; the widths hold. */
	expect(&table, "[{\"user\": \"bo\", \"n\": 22}]", "bo      22  -\n");
	expect(&table, "[]", "");
	struct table empty = { 0 };
	expect(&empty, "[]", "USER  N  WHY\n");
}

static void test_table_cut(void **state)
{
	(void)state;
	struct table table = { .cell_most = 5 };
	expect(&table, "[{\"user\": \"abcdefgh\", \"n\": 1, \"why\": \"a long reason stays\"}]",
	       "USER   N  WHY\n"
	       "abcd\xe2\x80\xa6  1  a long reason stays\n");
}

static void test_pairs(void **state)
{
	(void)state;
	char *text = NULL;
	size_t size = 0;
	FILE *to = open_memstream(&text, &size);
	json_t *object = json_pack("{s:s, s:i, s:n}", "user", "ada", "n", 3, "why");
	table_print_pairs(to, object, columns, 3);
	fclose(to);
	assert_string_equal(text, "USER             ada\nN                3\n");
	free(text);
	json_decref(object);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bytes),         cmocka_unit_test(test_harmless),
		cmocka_unit_test(test_harmless_room), cmocka_unit_test(test_cut),
		cmocka_unit_test(test_cells),         cmocka_unit_test(test_cell_of_any_length),
		cmocka_unit_test(test_table),         cmocka_unit_test(test_table_cut),
		cmocka_unit_test(test_pairs),
	};
	setlocale(LC_CTYPE, "C.UTF-8");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
