/* SPDX-License-Identifier: Apache-2.0 */
#include "node/pages_kept.h"

#include "base/cleanup.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void pages_kept_deinit(struct pages_kept *k)
{
	for (size_t i = k->next; i < k->count; i++)
		free(k->list[i].data);
	free(k->list);
	*k = (struct pages_kept) { 0 };
}

static bool make_room(struct pages_kept *k)
{
	if (k->count < k->size)
		return true;
	size_t size = k->size ? k->size * 2 : 64;
	struct pages_kept_frame *list = realloc(k->list, size * sizeof(*list));
	if (!list)
		return false;
	k->list = list;
	k->size = size;
	return true;
}

int pages_kept_add(struct pages_kept *k, uint32_t frame, const void *data, size_t len)
{
	unsigned char *copy = make_room(k) ? malloc(len) : NULL;
	if (!copy)
		return -ENOMEM;
	memcpy(copy, data, len);
	k->list[k->count++] = (struct pages_kept_frame) { frame, len, copy };
	k->bytes += len;
	return 0;
}

const struct pages_kept_frame *pages_kept_find(const struct pages_kept *k, uint32_t frame)
{
	for (size_t i = k->next; i < k->count; i++)
		if (k->list[i].frame == frame)
			return &k->list[i];
	return NULL;
}

bool pages_kept_take(struct pages_kept *k, struct pages_kept_frame *to)
{
	if (k->next == k->count)
		return false;
	*to = k->list[k->next];
	k->list[k->next++].data = NULL;
	k->bytes -= to->len;
	return true;
}
