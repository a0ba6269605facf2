/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_BASE_NAMES_H
#define ELSA_BASE_NAMES_H

/*
 * Enum <-> name tables: one array of strings indexed by the enum's values.
 * Thread-safe.
 */

#include <stddef.h>
#include <string.h>

/* The name of `value`, or "?" outside the table. */
static inline const char *name_of(const char *const *names, size_t count, int value)
{
	return value >= 0 && (size_t)value < count && names[value] ? names[value] : "?";
}

/* The value called `name`, or -1. */
static inline int value_of(const char *const *names, size_t count, const char *name)
{
	for (size_t i = 0; name && i < count; i++)
		if (names[i] && strcmp(names[i], name) == 0)
			return (int)i;
	return -1;
}

#endif
