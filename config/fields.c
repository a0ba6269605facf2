/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "config/fields.h"

#include "base/cleanup.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	TEXT_MAX = 4096,
	LIST_MAX = 1000,
};

struct field {
	void *at;
	const struct option *option;
	const char *name; /* of the document */
	struct error *e;
};

static void *at(const void *base, const struct option *option)
{
	return (char *)base + option->offset;
}

static char **list_free(char **list)
{
	for (char **item = list; item && *item; item++)
		free(*item);
	free(list);
	return NULL;
}
DEFINE_CLEANUP(char **, list_free)

__attribute__((format(printf, 3, 4))) static int
fail(const struct field *f, const struct toml_node *value, const char *format, ...)
{
	char text[512];
	va_list args;
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	return error_set(f->e, EINVAL, "%s:%d:%d: %s.%s: %s", f->name, value->at.line,
			 value->at.column, f->option->section, f->option->key, text);
}

static int fail_type(const struct field *f, const struct toml_node *value, const char *wanted)
{
	return fail(f, value, "%s is wanted, not %s", wanted, toml_type_name(value->type));
}

static int fail_memory(const struct field *f)
{
	return error_set(f->e, ENOMEM, "out of memory while reading %s", f->name);
}

/* The range is told in the words the file uses. */
static int check_range(const struct field *f, const struct toml_node *value, double number)
{
	const struct option *o = f->option;
	char min[VALUE_TEXT_SIZE];
	char max[VALUE_TEXT_SIZE];
	if (number >= o->min && number <= o->max)
		return 0;
	if (o->type == OPTION_DURATION) {
		value_format_duration((int64_t)o->min, min);
		value_format_duration((int64_t)o->max, max);
	} else if (o->type == OPTION_SIZE) {
		value_format_size((int64_t)o->min, min);
		value_format_size((int64_t)o->max, max);
	} else {
		snprintf(min, sizeof(min), "%.10g", o->min);
		snprintf(max, sizeof(max), "%.10g", o->max);
	}
	return fail(f, value, "out of range: it must be from %s to %s", min, max);
}

static int check_text(const struct field *f, const struct toml_node *value)
{
	const struct option *o = f->option;
	if (strlen(value->text) > TEXT_MAX)
		return fail(f, value, "longer than %d bytes", TEXT_MAX);
	if (o->choices && !value_is_choice(value->text, o->choices))
		return fail(f, value, "\"%.100s\" is not one of: %s", value->text, o->choices);
	const char *wanted = o->check ? o->check(value->text) : NULL;
	if (wanted)
		return fail(f, value, "\"%.100s\": %s is wanted", value->text, wanted);
	return 0;
}

static int set_string(const struct field *f, const struct toml_node *value)
{
	char **to = f->at;
	if (value->type != TOML_STRING)
		return fail_type(f, value, "a string");
	int r = check_text(f, value);
	if (r < 0)
		return r;
	char *text = strdup(value->text);
	if (!text)
		return fail_memory(f);
	free(*to);
	*to = text;
	return 0;
}

static int set_strings(const struct field *f, const struct toml_node *value)
{
	char ***to = f->at;
	if (value->type != TOML_ARRAY)
		return fail_type(f, value, "a list of strings");
	if (value->count > LIST_MAX)
		return fail(f, value, "more than %d entries", LIST_MAX);
	cleanup(list_freep) char **list = calloc(value->count + 1, sizeof(*list));
	if (!list)
		return fail_memory(f);
	for (size_t i = 0; i < value->count; i++) {
		const struct toml_node *item = &value->children[i];
		if (item->type != TOML_STRING)
			return fail_type(f, item, "a list of strings");
		int r = check_text(f, item);
		if (r < 0)
			return r;
		list[i] = strdup(item->text);
		if (!list[i])
			return fail_memory(f);
	}
	list_free(*to);
	*to = steal_ptr(&list);
	return 0;
}

static int set_boolean(const struct field *f, const struct toml_node *value)
{
	if (value->type != TOML_BOOLEAN)
		return fail_type(f, value, "true or false");
	*(bool *)f->at = value->boolean;
	return 0;
}

static int set_integer(const struct field *f, const struct toml_node *value)
{
	if (value->type != TOML_INTEGER)
		return fail_type(f, value, "an integer");
	*(int64_t *)f->at = value->integer;
	return check_range(f, value, value->number);
}

static int set_number(const struct field *f, const struct toml_node *value)
{
	if (value->type != TOML_INTEGER && value->type != TOML_FLOAT)
		return fail_type(f, value, "a number");
	*(double *)f->at = value->number;
	return check_range(f, value, value->number);
}

static int set_duration(const struct field *f, const struct toml_node *value)
{
	static const char wanted[] = "a duration such as \"30s\", \"10m\", \"2h\" or \"1d\", or "
				     "seconds as a number,";
	int64_t *ms = f->at;
	int r = 0;
	if (value->type == TOML_STRING) {
		r = value_parse_duration(value->text, ms);
		if (r == -EINVAL)
			return fail(f, value, "%s is wanted, not \"%.100s\"", wanted, value->text);
	} else if (value->type == TOML_INTEGER || value->type == TOML_FLOAT) {
		/* Far out of any option's range, and of int64_t when it counts milliseconds. */
		if (!(fabs(value->number) < 1e12))
			r = -ERANGE;
		else
			*ms = (int64_t)llround(value->number * 1000);
	} else {
		return fail_type(f, value, wanted);
	}
	return check_range(f, value, r < 0 ? INFINITY : (double)*ms);
}

static int set_size(const struct field *f, const struct toml_node *value)
{
	static const char wanted[] = "a size such as \"512M\" or \"4G\", or bytes as a number,";
	int64_t *bytes = f->at;
	int r = 0;
	if (value->type == TOML_STRING) {
		r = value_parse_size(value->text, bytes);
		if (r == -EINVAL)
			return fail(f, value, "%s is wanted, not \"%.100s\"", wanted, value->text);
	} else if (value->type == TOML_INTEGER) {
		*bytes = value->integer;
	} else {
		return fail_type(f, value, wanted);
	}
	return check_range(f, value, r < 0 ? INFINITY : (double)*bytes);
}

int field_set(void *base, const struct option *option, const struct toml_node *value,
	      const char *name, struct error *e)
{
	static int (*const setters[])(const struct field *, const struct toml_node *) = {
		[OPTION_STRING] = set_string,     [OPTION_STRINGS] = set_strings,
		[OPTION_BOOLEAN] = set_boolean,   [OPTION_INTEGER] = set_integer,
		[OPTION_DURATION] = set_duration, [OPTION_SIZE] = set_size,
		[OPTION_NUMBER] = set_number,
	};
	struct field f = { .at = at(base, option), .option = option, .name = name, .e = e };
	return setters[option->type](&f, value);
}

static int print_text(const char *text, struct buf *to)
{
	int r = buf_append(to, "\"", 1);
	for (const unsigned char *p = (const unsigned char *)text; *p && r == 0; p++) {
		if (*p == '"' || *p == '\\')
			r = buf_printf(to, "\\%c", *p);
		else if (*p < ' ' || *p == 0x7f)
			r = buf_printf(to, "\\u%04X", *p);
		else
			r = buf_append(to, p, 1);
	}
	return r < 0 ? r : buf_append(to, "\"", 1);
}

static int print_list(char *const *list, struct buf *to)
{
	int r = buf_append(to, "[", 1);
	for (char *const *item = list; *item && r == 0; item++) {
		if (item != list)
			r = buf_append(to, ", ", 2);
		if (r == 0)
			r = print_text(*item, to);
	}
	return r < 0 ? r : buf_append(to, "]", 1);
}

/* The shortest text that reads back as the same number, and that TOML does not take for an integer.
 */
static int print_number(double number, struct buf *to)
{
	char text[40];
	for (int digits = 6; digits <= 17; digits++) {
		snprintf(text, sizeof(text), "%.*g", digits, number);
		if (strtod(text, NULL) == number)
			break;
	}
	return buf_printf(to, "%s%s", text, strpbrk(text, ".e") ? "" : ".0");
}

static int print_value(const void *value, const struct option *option, struct buf *to)
{
	char text[VALUE_TEXT_SIZE];
	switch (option->type) {
	case OPTION_STRING:
		return print_text(*(char *const *)value, to);
	case OPTION_STRINGS:
		return print_list(*(char **const *)value, to);
	case OPTION_BOOLEAN:
		return buf_printf(to, "%s", *(const bool *)value ? "true" : "false");
	case OPTION_INTEGER:
		return buf_printf(to, "%" PRId64, *(const int64_t *)value);
	case OPTION_DURATION:
		return buf_printf(to, "\"%s\"",
				  value_format_duration(*(const int64_t *)value, text));
	case OPTION_SIZE:
		return buf_printf(to, "\"%s\"", value_format_size(*(const int64_t *)value, text));
	case OPTION_NUMBER:
		return print_number(*(const double *)value, to);
	}
	return -EINVAL;
}

int field_print(const void *base, const struct option *option, struct buf *to)
{
	const void *value = at(base, option);
	if (option->type <= OPTION_STRINGS && !*(void *const *)value)
		return 0;
	int r = buf_printf(to, "%s = ", option->key);
	if (r == 0)
		r = print_value(value, option, to);
	return r < 0 ? r : buf_append(to, "\n", 1);
}

void field_free(void *base, const struct option *option)
{
	if (option->type == OPTION_STRING) {
		char **text = at(base, option);
		free(*text);
		*text = NULL;
	} else if (option->type == OPTION_STRINGS) {
		char ***list = at(base, option);
		*list = list_free(*list);
	}
}
