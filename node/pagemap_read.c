/* SPDX-License-Identifier: Apache-2.0 */
#include "node/pagemap_image.h"

#include "base/cleanup.h"
#include "node/pages.h"
#include "node/protobuf.h"

#include <errno.h>

/* criu/include/magic.h */
#define PAGEMAP_MAGIC 0x56084025U

enum { HEAD_PAGES_ID = 1 };
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

/* `flags`: only such pages; 0: all. */
static int read_extents(struct span *s, uint32_t flags, struct store_extent **extents,
			size_t *count, struct error *e)
{
	cleanup_free struct store_extent *list = NULL;
	struct span message;
	uint64_t end = 0;
	size_t n = 0;
	int r;
	while ((r = protobuf_message(s, &message)) > 0) {
		struct store_extent x;
		if (!read_entry(message, &x) || !is_sane(&x, end))
			return error_set(e, EBADMSG, "a pagemap image makes no sense");
		end = x.vaddr + x.pages * STORE_PAGE;
		if ((x.flags & flags) == flags && !append(&list, &n, &x))
			return error_set(e, ENOMEM, "out of memory");
	}
	if (r < 0)
		return error_set(e, EBADMSG, "a pagemap image is cut short");
	*extents = steal_ptr(&list);
	*count = n;
	return 0;
}

static bool read_head(struct span *s, uint32_t *pages_id)
{
	struct span message;
	struct field f;
	*pages_id = 0;
	if (!protobuf_image(s, PAGEMAP_MAGIC) || protobuf_message(s, &message) <= 0)
		return false;
	while (protobuf_next(&message, &f) > 0)
		if (f.number == HEAD_PAGES_ID)
			*pages_id = (uint32_t)f.value;
	return true;
}

static int read_image(const void *image, size_t len, uint32_t flags, uint32_t *pages_id,
		      struct store_extent **extents, size_t *count, struct error *e)
{
	struct span s = { image, (const uint8_t *)image + len };
	if (!read_head(&s, pages_id))
		return error_set(e, EBADMSG, "this is no pagemap image");
	return read_extents(&s, flags, extents, count, e);
}

int pagemap_lazy_extents(const void *image, size_t len, struct store_extent **extents,
			 size_t *count, struct error *e)
{
	uint32_t ignored;
	return read_image(image, len, PAGES_LAZY, &ignored, extents, count, e);
}

int pagemap_extents(const void *image, size_t len, uint32_t *pages_id,
		    struct store_extent **extents, size_t *count, struct error *e)
{
	return read_image(image, len, 0, pages_id, extents, count, e);
}
