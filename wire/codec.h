/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_WIRE_CODEC_H
#define ELSA_WIRE_CODEC_H

/*
 * Structs to JSON and back by one table per struct, so that a field is named
 * once. Decoding takes anything: a missing required field, a wrong type, a
 * number out of range or a string with a NUL gives -EINVAL and the path of the
 * field ("session.limits.pids: expected an integer"). Unknown fields are
 * skipped, so that old and new programs can talk.
 *
 * Decoded strings and lists belong to the struct; wire_free() releases them by
 * the same table and leaves the struct zeroed. Thread-safe.
 */

#include "base/cleanup.h"
#include "base/error.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* jansson's own json_auto_t does not get along with the name of base/cleanup.h's macro. */
#define cleanup_json cleanup(json_decrefp)

enum wire_type {
	WIRE_STRING,  /* char *; NULL is left out */
	WIRE_STRINGS, /* char **, NULL-terminated; JSON list */
	WIRE_INT,     /* int64_t */
	WIRE_BOOL,    /* bool */
	WIRE_DOUBLE,  /* double */
	WIRE_ENUM,    /* int-sized enum, by names/count */
	WIRE_STRUCT,  /* nested struct, by `nested` */
	WIRE_LIST     /* pointer to an array of structs plus a size_t count at `count_offset` */
};

struct wire_field {
	const char *name;
	enum wire_type type;
	size_t offset;
	bool required;
	const char *const *names; /* WIRE_ENUM */
	size_t name_count;
	const struct wire_struct *nested; /* WIRE_STRUCT, WIRE_LIST */
	size_t count_offset;              /* WIRE_LIST */
	int64_t min, max;                 /* WIRE_INT, WIRE_DOUBLE: the range when max != 0 */
};

struct wire_struct {
	const char *name;
	size_t size;
	const struct wire_field *fields;
	size_t field_count;
};

/* New reference; NULL when out of memory, or for an enum outside its names or a number that is not
 * finite. Bytes that are not UTF-8 become U+FFFD. */
json_t *wire_encode(const struct wire_struct *type, const void *from);

/* `to` is overwritten, not released first; on failure it is left zeroed. */
int wire_decode(const struct wire_struct *type, const json_t *from, void *to, struct error *e);
int wire_decode_text(const struct wire_struct *type, const char *text, size_t len, void *to,
		     struct error *e);
void wire_free(const struct wire_struct *type, void *value); /* idempotent */

/* {"error": {"fault": "conflict", "text": ..., "remedy": ...}} as every API answer carries it. */
json_t *wire_encode_error(const struct error *from);
void wire_decode_error(const json_t *from, int http_status, struct error *to);

#endif
