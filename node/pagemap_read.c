/* SPDX-License-Identifier: Apache-2.0 */
#include "node/pagemap_image.h"

#include "base/cleanup.h"
#include "node/pages.h"
#include "node/protobuf.h"

#include <errno.h>

/* criu/include/magic.h */
#define IMG_COMMON_MAGIC 0x54564319U
#define PAGEMAP_MAGIC    0x56084025U

/* CRIU 4.1 has 32 bits for the number of pages. */
enum { ENTRY_VADDR = 1, ENTRY_PAGES_32 = 2, ENTRY_FLAGS = 4, ENTRY_PAGES = 5 };

static bool read_entry(struct span message, struct store_extent *to)
{
	struct field f;
	uint64_t pages_32 = 0;
	int r;
	*to = (struct store_extent) { 0 };
	while ((r = protobuf_next(&message, &f)) > 0) {
		if (f.number == ENTRY_VADDR)
			to->vaddr = f.value;
		if (f.number == ENTRY_PAGES_32)
			pages_32 = f.value;
		if (f.number == ENTRY_FLAGS)
			to->flags = (uint32_t)f.value;
		if (f.number == ENTRY_PAGES)
			to->pages = f.value;
	}
	if (to->pages == 0)
		to->pages = pages_32;
	return r == 0;
}

static bool is_sane(const struct store_extent *x, uint64_t end)
{
	return x->vaddr % STORE_PAGE == 0 && x->vaddr >= end && x->pages > 0 &&
	       x->pages <= (UINT64_MAX - x->vaddr) / STORE_PAGE;
}

/* Room grows by doubling. */
static bool append(struct store_extent **list, size_t *count, const struct store_extent *x)
{
	if ((*count & (*count + 1)) == 0) {
		void *more = realloc(*list, (2 * *count + 1) * sizeof(**list));
		if (!more)
			return false;
		*list = more;
	}
	(*list)[(*count)++] = *x;
	return true;
}

int pagemap_lazy_extents(const void *image, size_t len, struct store_extent **extents,
			 size_t *count, struct error *e)
{
	struct span s = { image, (const uint8_t *)image + len }, message;
	cleanup_free struct store_extent *list = NULL;
	uint32_t common, magic;
	uint64_t end = 0;
	size_t n = 0;
	int r;
	if (!protobuf_u32(&s, &common) || !protobuf_u32(&s, &magic) || common != IMG_COMMON_MAGIC ||
	    magic != PAGEMAP_MAGIC || protobuf_message(&s, &message) <= 0)
		return error_set(e, EBADMSG, "this is no pagemap image");
	while ((r = protobuf_message(&s, &message)) > 0) {
		struct store_extent x;
		if (!read_entry(message, &x) || !is_sane(&x, end))
			return error_set(e, EBADMSG, "a pagemap image makes no sense");
		end = x.vaddr + x.pages * STORE_PAGE;
		if (x.flags & PAGES_LAZY && !append(&list, &n, &x))
			return error_set(e, ENOMEM, "out of memory");
	}
	if (r < 0)
		return error_set(e, EBADMSG, "a pagemap image is cut short");
	*extents = steal_ptr(&list);
	*count = n;
	return 0;
}
