/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_CONFIG_TOML_H
#define ELSA_CONFIG_TOML_H

/*
 * A TOML document as a plain tree for C, made by toml++ (a C++ library, hence
 * this face, which includes this header as extern "C"). Lines and columns count from 1; columns are
 * characters, not bytes. Thread-safe.
 */

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum toml_type {
	TOML_TABLE,
	TOML_ARRAY,
	TOML_STRING,
	TOML_INTEGER,
	TOML_FLOAT,
	TOML_BOOLEAN,
	TOML_TIME, /* dates and times: no option takes one */
};

struct toml_position {
	int line, column;
};

struct toml_node {
	enum toml_type type;
	char *key; /* NULL in an array and for the root */
	struct toml_position key_at, at;
	char *text; /* TOML_STRING; never holds a NUL of its own */
	int64_t integer;
	double number; /* also the value of a TOML_INTEGER */
	bool boolean;
	struct toml_node *children; /* of a table, in the order of the document; of an array */
	size_t count;
};

/* `name` is what errors call the document: "NAME:LINE:COLUMN: text". */
int toml_parse(const char *text, size_t len, const char *name, struct toml_node **root,
	       struct error *e);
void *toml_free(struct toml_node *root); /* returns NULL */

const char *toml_type_name(enum toml_type type); /* "a string" */

#endif
