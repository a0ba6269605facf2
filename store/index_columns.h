/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_STORE_INDEX_COLUMNS_H
#define ELSA_STORE_INDEX_COLUMNS_H

/*
 * Column after column, as each is of one kind and zstd likes that; numbers are
 * little-endian, and where the one before says much about the next only the
 * difference is kept:
 *
 *	header	8 numbers of 64 bits: below
 *	spec	text
 *	frames	u32 packs ahead, u32 bytes left free before, u32 stored, u32 len, u8 pages, u8 hot
 *	files	u64 size, u32 mode, u32 frames, u32 length of name; names; u32 frames' numbers
 *	memories u32 length of name, u32 extents; names
 *	extents	u64 pages left out before, u64 pages, u32 flags
 *	pages	u32 frame, u8 slot
 *	digests	of pages that are not zeros; of files' frames
 *
 * Private to index.c and index_decode.c.
 */

#include "store/index.h"

#include <string.h>

enum {
	H_MAGIC,
	H_SPEC, /* length + 1; 0: none */
	H_FRAMES,
	H_FILES,
	H_FILE_FRAMES, /* of all files */
	H_MEMORIES,
	H_EXTENTS, /* of all memories, as are those below */
	H_PAGES,
	H_COUNT
};
#define MAGIC UINT64_C(0x3178644961736c45) /* "ElsaIdx1" */

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "columns are copied as they are in memory"
#endif

/* A column that is written or read from front to back. */
struct column {
	unsigned char *at;
};

static inline void put(struct column *c, const void *value, size_t size)
{
	memcpy(c->at, value, size);
	c->at += size;
}
#define PUT(column, type, value) put(column, &(type) { (type)(value) }, sizeof(type))

static inline void get(struct column *c, void *value, size_t size)
{
	memcpy(value, c->at, size);
	c->at += size;
}
#define GET(column, type)                                                                          \
	({                                                                                         \
		type value_;                                                                       \
		get(column, &value_, sizeof(value_));                                              \
		value_;                                                                            \
	})

/* A page is mostly in the frame of the one before it, at the next place. STORE_ZERO is 0, another
 * frame 1 more than its distance, folded so that small ones in both directions are small. */
struct page_at {
	uint32_t frame;
	uint8_t slot;
};

static inline uint32_t page_code(struct page_at *last, uint32_t frame, uint8_t *slot)
{
	if (frame == STORE_ZERO) {
		*slot = 0;
		return 0;
	}
	uint32_t ahead = frame - last->frame;
	uint8_t expected = ahead ? 0 : (uint8_t)(last->slot + 1);
	*last = (struct page_at) { frame, *slot };
	*slot = (uint8_t)(*slot - expected);
	return (ahead << 1 ^ (uint32_t)((int32_t)ahead >> 31)) + 1;
}

static inline uint32_t page_frame(struct page_at *last, uint32_t code, uint8_t *slot)
{
	if (code == 0)
		return STORE_ZERO;
	code--;
	uint32_t ahead = code >> 1 ^ (0 - (code & 1));
	*slot = (uint8_t)(*slot + (ahead ? 0 : last->slot + 1));
	*last = (struct page_at) { last->frame + ahead, *slot };
	return last->frame;
}

/* As if a page had been in the last place of frame 0. */
#define PAGE_START ((struct page_at) { 0, UINT8_MAX })

static inline uint64_t not_zero(const struct store_memory *m)
{
	uint64_t count = 0;
	for (uint64_t i = 0; i < m->pages; i++)
		count += m->frames[i] != STORE_ZERO;
	return count;
}

static inline bool within_limits(const uint64_t header[H_COUNT])
{
	return header[H_SPEC] <= INDEX_MAX_SPEC + 1 && header[H_FRAMES] <= INDEX_MAX_FRAMES &&
	       header[H_FILES] <= INDEX_MAX_FILES && header[H_MEMORIES] <= INDEX_MAX_MEMORIES &&
	       header[H_EXTENTS] <= INDEX_MAX_PAGES && header[H_PAGES] <= INDEX_MAX_PAGES &&
	       header[H_FILE_FRAMES] <= INDEX_MAX_FRAMES;
}

#endif
