/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_CONFIG_OPTIONS_H
#define ELSA_CONFIG_OPTIONS_H

/*
 * The table of all options. Private to config/: everybody else uses
 * config/config.h. Constant; thread-safe.
 */

#include "config/values.h"

#include <stdbool.h>
#include <stddef.h>

enum option_type {
	OPTION_STRING,   /* char * */
	OPTION_STRINGS,  /* char **, NULL-terminated */
	OPTION_BOOLEAN,  /* bool */
	OPTION_INTEGER,  /* int64_t, like the next two */
	OPTION_DURATION, /* milliseconds */
	OPTION_SIZE,     /* bytes */
	OPTION_NUMBER,   /* double */
};

struct option {
	const char *section; /* "hub"; OPTION_RULE for what a [[idle.rule]] takes; ... */
	const char *key;
	enum option_type type;
	size_t offset;       /* in struct config, or in what the list is of */
	const char *initial; /* its default, in TOML; NULL in a list: none, or [idle]'s */
	double min, max;     /* of numbers, in the unit kept */
	const char *choices; /* of strings: "a b c" */
	value_check *check;  /* of strings, and of each of a list */
	const char *doc;     /* lines separated by '\n' */
};

/* Lists: sections with any number of entries. */
#define OPTION_RULE   "idle.rule"    /* struct config_rule */
#define OPTION_CLASS  "size.class"   /* struct config_class */
#define OPTION_BUDGET "budget.group" /* struct config_budget */

extern const struct option options[];
extern const size_t option_count;

/* A line about each section, in the order of the table. */
struct option_section {
	const char *name, *doc;
};
extern const struct option_section option_sections[];
extern const size_t option_section_count;

const struct option *option_find(const char *section, const char *key);
bool option_is_section(const char *name);
bool option_is_list(const char *section); /* OPTION_RULE, ... */

/* What the writer of an unknown name may have meant: a name in `section` (NULL: a section) spelled
 * alike, or the same key elsewhere. Writes "" or "section.key" or "key" to `to`. */
void option_suggest(const char *section, const char *key, char *to, size_t size);

#endif
