/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_SIM_NAMES_H
#define ELSA_SIM_NAMES_H

/*
 * Names and their numbers, from 0 on in the order in which they came. Not
 * thread-safe.
 */

#include <stddef.h>
#include <stdint.h>

#define NAMES_NONE UINT32_MAX

struct names {
	char **list; /* owned; by number */
	size_t count, size;
	uint32_t *slots; /* a hash table of numbers + 1 */
	size_t slot_count;
};

uint32_t names_find(const struct names *n, const char *name, size_t len);
/* Its number, new or not; NAMES_NONE: out of memory. */
uint32_t names_add(struct names *n, const char *name, size_t len);
void names_deinit(struct names *n);

#endif
