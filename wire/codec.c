/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/codec.h"

#include "base/buf.h"
#include "base/names.h"
#include "wire/text.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

_Static_assert(sizeof(enum fault) == sizeof(int), "WIRE_ENUM fields are accessed as int");

/* Where in a message we are, innermost first; lives on the stack of the recursion. */
struct path {
	const struct path *up;
	const char *name; /* NULL: an element of the list or strings above */
	size_t index;
};

static void path_format(const struct path *p, struct buf *to)
{
	if (!p)
		return;
	path_format(p->up, to);
	if (p->name)
		buf_printf(to, "%s%s", to->len ? "." : "", p->name);
	else
		buf_printf(to, "[%zu]", p->index);
}

static int bad(struct error *e, const struct path *where, const char *expected)
{
	cleanup_buf struct buf text = BUF_INIT(sizeof(e->text));
	path_format(where, &text);
	return error_set(e, EINVAL, "%s%s%s", buf_text(&text), text.len ? ": " : "", expected);
}

static int out_of_memory(struct error *e)
{
	return error_set(e, ENOMEM, "out of memory");
}

/* The list element at `i`, for structs whose size only the table knows. */
static void *element(const struct wire_field *f, void *items, size_t i)
{
	return (char *)items + i * f->nested->size;
}

/* --- decoding ------------------------------------------------------------- */

static int decode_struct(const struct wire_struct *type, const json_t *from, void *to,
			 const struct path *where, struct error *e);

static int decode_string(const json_t *from, char **to, const struct path *where, struct error *e)
{
	if (!json_is_string(from))
		return bad(e, where, "expected a string");
	const char *text = json_string_value(from);
	if (strlen(text) != json_string_length(from))
		return bad(e, where, "contains a NUL character");
	*to = strdup(text);
	return *to ? 0 : out_of_memory(e);
}

static int decode_strings(const json_t *from, char ***to, const struct path *where, struct error *e)
{
	if (!json_is_array(from))
		return bad(e, where, "expected a list of strings");
	size_t count = json_array_size(from);
	char **list = calloc(count + 1, sizeof(*list));
	if (!list)
		return out_of_memory(e);
	*to = list; /* the struct's from here on: wire_free() releases a part as well */
	for (size_t i = 0; i < count; i++) {
		struct path item = { .up = where, .index = i };
		int r = decode_string(json_array_get(from, i), &list[i], &item, e);
		if (r < 0)
			return r;
	}
	return 0;
}

static int decode_int(const struct wire_field *f, const json_t *from, int64_t *to,
		      const struct path *where, struct error *e)
{
	if (!json_is_integer(from))
		return bad(e, where, "expected an integer");
	*to = json_integer_value(from);
	if (f->max != 0 && (*to < f->min || *to > f->max))
		return bad(e, where, "out of range");
	return 0;
}

static int decode_bool(const json_t *from, bool *to, const struct path *where, struct error *e)
{
	if (!json_is_boolean(from))
		return bad(e, where, "expected true or false");
	*to = json_is_true(from);
	return 0;
}

static int decode_double(const struct wire_field *f, const json_t *from, double *to,
			 const struct path *where, struct error *e)
{
	if (!json_is_number(from))
		return bad(e, where, "expected a number");
	*to = json_number_value(from);
	if (f->max != 0 && (*to < (double)f->min || *to > (double)f->max))
		return bad(e, where, "out of range");
	return 0;
}

static int decode_enum(const struct wire_field *f, const json_t *from, int *to,
		       const struct path *where, struct error *e)
{
	if (!json_is_string(from))
		return bad(e, where, "expected a string");
	int value = value_of(f->names, f->name_count, json_string_value(from));
	if (value < 0 || strlen(json_string_value(from)) != json_string_length(from))
		return bad(e, where, "unknown value");
	*to = value;
	return 0;
}

static int decode_list(const struct wire_field *f, const json_t *from, void **items, size_t *count,
		       const struct path *where, struct error *e)
{
	if (!json_is_array(from))
		return bad(e, where, "expected a list");
	size_t size = json_array_size(from);
	if (size == 0)
		return 0;
	*items = calloc(size, f->nested->size);
	if (!*items)
		return out_of_memory(e);
	*count = size;
	for (size_t i = 0; i < size; i++) {
		struct path item = { .up = where, .index = i };
		int r = decode_struct(f->nested, json_array_get(from, i), element(f, *items, i),
				      &item, e);
		if (r < 0)
			return r;
	}
	return 0;
}

static int decode_field(const struct wire_field *f, const json_t *from, void *base,
			const struct path *where, struct error *e)
{
	void *at = (char *)base + f->offset;
	switch (f->type) {
	case WIRE_STRING:
		return decode_string(from, at, where, e);
	case WIRE_STRINGS:
		return decode_strings(from, at, where, e);
	case WIRE_INT:
		return decode_int(f, from, at, where, e);
	case WIRE_BOOL:
		return decode_bool(from, at, where, e);
	case WIRE_DOUBLE:
		return decode_double(f, from, at, where, e);
	case WIRE_ENUM:
		return decode_enum(f, from, at, where, e);
	case WIRE_STRUCT:
		return decode_struct(f->nested, from, at, where, e);
	case WIRE_LIST:
		return decode_list(f, from, at, (size_t *)((char *)base + f->count_offset), where,
				   e);
	}
	return bad(e, where, "has a type this program does not know");
}

/* `to` is zeroed; what is decoded before an error stays in it for wire_free(). */
static int decode_struct(const struct wire_struct *type, const json_t *from, void *to,
			 const struct path *where, struct error *e)
{
	if (!json_is_object(from))
		return bad(e, where, "expected an object");
	for (size_t i = 0; i < type->field_count; i++) {
		const struct wire_field *f = &type->fields[i];
		struct path here = { .up = where, .name = f->name };
		const json_t *value = json_object_get(from, f->name);
		int r = 0;
		/* null means absent: several JSON writers have no other way to leave a field out.
		 */
		if (value && !json_is_null(value))
			r = decode_field(f, value, to, &here, e);
		else if (f->required)
			r = bad(e, &here, "missing");
		if (r < 0)
			return r;
	}
	return 0;
}

int wire_decode(const struct wire_struct *type, const json_t *from, void *to, struct error *e)
{
	memset(to, 0, type->size);
	int r = decode_struct(type, from, to, NULL, e);
	if (r < 0)
		wire_free(type, to);
	return r;
}

int wire_decode_text(const struct wire_struct *type, const char *text, size_t len, void *to,
		     struct error *e)
{
	memset(to, 0, type->size);
	json_error_t problem;
	/* NULs are let in so that the field which holds one can be named. */
	cleanup_json json_t *json =
		json_loadb(text, len, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &problem);
	if (!json)
		return error_set(e, EINVAL, "not JSON: %s (line %d, column %d)", problem.text,
				 problem.line, problem.column);
	return wire_decode(type, json, to, e);
}

/* --- encoding ------------------------------------------------------------- */

static json_t *encode_strings(char *const *from)
{
	cleanup_json json_t *list = json_array();
	for (; list && *from; from++)
		if (json_array_append_new(list, wire_text(*from)) < 0)
			return NULL;
	return steal_ptr(&list);
}

static json_t *encode_list(const struct wire_field *f, void *items, size_t count)
{
	cleanup_json json_t *list = json_array();
	for (size_t i = 0; list && i < count; i++)
		if (json_array_append_new(list, wire_encode(f->nested, element(f, items, i))) < 0)
			return NULL;
	return steal_ptr(&list);
}

static json_t *encode_enum(const struct wire_field *f, int value)
{
	if (value < 0 || (size_t)value >= f->name_count || !f->names[value])
		return NULL;
	return json_string(f->names[value]);
}

static json_t *encode_field(const struct wire_field *f, const void *base)
{
	const void *at = (const char *)base + f->offset;
	switch (f->type) {
	case WIRE_STRING:
		return wire_text(*(char *const *)at);
	case WIRE_STRINGS:
		return encode_strings(*(char **const *)at);
	case WIRE_INT:
		return json_integer(*(const int64_t *)at);
	case WIRE_BOOL:
		return json_boolean(*(const bool *)at);
	case WIRE_DOUBLE:
		return json_real(*(const double *)at);
	case WIRE_ENUM:
		return encode_enum(f, *(const int *)at);
	case WIRE_STRUCT:
		return wire_encode(f->nested, at);
	case WIRE_LIST:
		return encode_list(f, *(void *const *)at,
				   *(const size_t *)((const char *)base + f->count_offset));
	}
	return NULL;
}

static bool is_absent(const struct wire_field *f, const void *base)
{
	return (f->type == WIRE_STRING || f->type == WIRE_STRINGS) &&
	       !*(void *const *)((const char *)base + f->offset);
}

json_t *wire_encode(const struct wire_struct *type, const void *from)
{
	cleanup_json json_t *object = json_object();
	for (size_t i = 0; object && i < type->field_count; i++) {
		const struct wire_field *f = &type->fields[i];
		if (!is_absent(f, from) &&
		    json_object_set_new(object, f->name, encode_field(f, from)) < 0)
			return NULL;
	}
	return steal_ptr(&object);
}

/* --- release -------------------------------------------------------------- */

static void free_strings(char **list)
{
	for (size_t i = 0; list && list[i]; i++)
		free(list[i]);
	free(list);
}

static void free_field(const struct wire_field *f, void *base)
{
	void *at = (char *)base + f->offset;
	if (f->type == WIRE_STRING)
		free(*(char **)at);
	if (f->type == WIRE_STRINGS)
		free_strings(*(char ***)at);
	if (f->type == WIRE_STRUCT)
		wire_free(f->nested, at);
	if (f->type == WIRE_LIST) {
		size_t count = *(size_t *)((char *)base + f->count_offset);
		for (size_t i = 0; i < count; i++)
			wire_free(f->nested, element(f, *(void **)at, i));
		free(*(void **)at);
	}
}

void wire_free(const struct wire_struct *type, void *value)
{
	for (size_t i = 0; i < type->field_count; i++)
		free_field(&type->fields[i], value);
	memset(value, 0, type->size);
}
