/* SPDX-License-Identifier: Apache-2.0 */
#include "node/pagemap_image.h"

#include "node/protobuf.h"

#include <errno.h>

/* criu/include/magic.h */
#define PAGEMAP_MAGIC 0x56084025U

enum { HEAD_PAGES_ID = 1 };
/* CRIU 4.1 has 32 bits for the number of pages, in a field that has to be there to this day. */
enum { ENTRY_VADDR = 1, ENTRY_PAGES_32 = 2, ENTRY_FLAGS = 4, ENTRY_PAGES = 5 };

/* A protobuf message of numbers, with its length before it (criu/protobuf.c). */
struct record {
	uint8_t bytes[64];
	size_t len;
};

static void put_varint(struct record *r, uint64_t value)
{
	do {
		r->bytes[r->len++] = (uint8_t)((value & 0x7f) | (value > 0x7f ? 0x80 : 0));
		value >>= 7;
	} while (value);
}

static void put(struct record *r, unsigned field, uint64_t value)
{
	put_varint(r, field << 3); /* wire type 0: a varint */
	put_varint(r, value);
}

static int append_u32(struct buf *to, uint32_t value)
{
	return buf_append(to, &value, sizeof(value)); /* the host's order, as CRIU writes it */
}

static int append(struct buf *to, const struct record *r)
{
	int result = append_u32(to, (uint32_t)r->len);
	return result < 0 ? result : buf_append(to, r->bytes, r->len);
}

int pagemap_image(const struct store_memory *memory, uint32_t pages_id, struct buf *to)
{
	struct record head = { .len = 0 };
	put(&head, HEAD_PAGES_ID, pages_id);
	int r = append_u32(to, PROTOBUF_IMAGE_MAGIC);
	if (r == 0)
		r = append_u32(to, PAGEMAP_MAGIC);
	if (r == 0)
		r = append(to, &head);
	for (size_t i = 0; r == 0 && i < memory->extent_count; i++) {
		const struct store_extent *x = &memory->extents[i];
		struct record entry = { .len = 0 };
		put(&entry, ENTRY_VADDR, x->vaddr);
		put(&entry, ENTRY_PAGES_32, x->pages & UINT32_MAX);
		put(&entry, ENTRY_FLAGS, x->flags);
		put(&entry, ENTRY_PAGES, x->pages);
		r = append(to, &entry);
	}
	return r;
}
