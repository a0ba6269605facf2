/* SPDX-License-Identifier: Apache-2.0 */
#include "node/mm_image.h"

#include "base/cleanup.h"
#include "node/protobuf.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/mman.h>

/* criu/include/magic.h */
#define MM_MAGIC 0x57492820u

enum { MM_VMAS = 14 };
enum { VMA_START = 1, VMA_END = 2, VMA_MADV = 9 };

static bool read_vma(struct span message, struct mm_range *to, bool *wiped)
{
	struct field f;
	int r;
	*to = (struct mm_range) { 0 };
	*wiped = false;
	while ((r = protobuf_next(&message, &f)) > 0) {
		if (f.number == VMA_START)
			to->start = f.value;
		if (f.number == VMA_END)
			to->end = f.value;
		if (f.number == VMA_MADV)
			*wiped = f.value >> MADV_WIPEONFORK & 1;
	}
	return r == 0 && to->start < to->end;
}

/* Few, if any. */
static bool append(struct mm_range **list, size_t *count, const struct mm_range *range)
{
	struct mm_range *more = realloc(*list, (*count + 1) * sizeof(**list));
	if (!more)
		return false;
	*list = more;
	more[(*count)++] = *range;
	return true;
}

int mm_image_wiped(const void *image, size_t len, struct mm_range **ranges, size_t *count,
		   struct error *e)
{
	struct span message, s = { image, (const uint8_t *)image + len };
	cleanup_free struct mm_range *list = NULL;
	struct field f;
	size_t n = 0;
	int r;
	if (!protobuf_image(&s, MM_MAGIC) || protobuf_message(&s, &message) <= 0)
		return error_set(e, EBADMSG, "this is no image of mappings");
	while ((r = protobuf_next(&message, &f)) > 0) {
		struct mm_range range;
		bool wiped;
		if (f.number != MM_VMAS || !f.bytes.at)
			continue;
		if (!read_vma(f.bytes, &range, &wiped))
			return error_set(e, EBADMSG, "an image of mappings makes no sense");
		if (wiped && !append(&list, &n, &range))
			return error_set(e, ENOMEM, "out of memory");
	}
	if (r < 0)
		return error_set(e, EBADMSG, "an image of mappings is cut short");
	*ranges = steal_ptr(&list);
	*count = n;
	return 0;
}
