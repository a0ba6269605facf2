/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/names.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { FIRST_SLOTS = 1024 };

static uint64_t hash(const char *name, size_t len)
{
	uint64_t h = 0xcbf29ce484222325u; /* FNV-1a */
	for (size_t i = 0; i < len; i++)
		h = (h ^ (unsigned char)name[i]) * 0x100000001b3u;
	return h ^ (h >> 32);
}

/* Where it is, or where it would go. */
static size_t slot_of(const struct names *n, const char *name, size_t len)
{
	size_t i = hash(name, len) & (n->slot_count - 1);
	for (; n->slots[i]; i = (i + 1) & (n->slot_count - 1)) {
		const char *there = n->list[n->slots[i] - 1];
		if (strncmp(there, name, len) == 0 && !there[len])
			break;
	}
	return i;
}

uint32_t names_find(const struct names *n, const char *name, size_t len)
{
	if (!n->slot_count)
		return NAMES_NONE;
	uint32_t found = n->slots[slot_of(n, name, len)];
	return found ? found - 1 : NAMES_NONE;
}

/* At most half of the slots are taken. */
static int grow(struct names *n)
{
	size_t slot_count = n->slot_count ? n->slot_count * 2 : FIRST_SLOTS;
	char **list = reallocarray(n->list, slot_count / 2, sizeof(*list));
	uint32_t *slots = calloc(slot_count, sizeof(*slots));
	if (list)
		n->list = list;
	if (!list || !slots) {
		free(slots);
		return -ENOMEM;
	}
	free(n->slots);
	n->slots = slots;
	n->slot_count = slot_count;
	n->size = slot_count / 2;
	for (size_t i = 0; i < n->count; i++)
		n->slots[slot_of(n, list[i], strlen(list[i]))] = (uint32_t)i + 1;
	return 0;
}

uint32_t names_add(struct names *n, const char *name, size_t len)
{
	uint32_t found = names_find(n, name, len);
	if (found != NAMES_NONE)
		return found;
	if (n->count == n->size && grow(n) < 0)
		return NAMES_NONE;
	char *own = strndup(name, len);
	if (!own)
		return NAMES_NONE;
	n->slots[slot_of(n, name, len)] = (uint32_t)n->count + 1;
	n->list[n->count] = own;
	return (uint32_t)n->count++;
}

void names_deinit(struct names *n)
{
	for (size_t i = 0; i < n->count; i++)
		free(n->list[i]);
	free(n->list);
	free(n->slots);
	*n = (struct names) { 0 };
}
