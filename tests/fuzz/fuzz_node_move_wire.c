/* SPDX-License-Identifier: Apache-2.0 */
/* What another node may send: the first byte says which of the readers gets the rest. What is read
 * and written again is read as the same. */
#include "base/cleanup.h"
#include "node/move_wire.h"
#include "tests/fuzz/fuzz.h"

#include <string.h>

enum { PAGE = 4096, COUNT = 40 };

static void try_header(const uint8_t *data, size_t size)
{
	struct move_header h;
	unsigned char again[MOVE_HEADER_BYTES];
	if (size < MOVE_HEADER_BYTES || move_header_read(data, &h, NULL) < 0)
		return;
	FUZZ_CHECK(h.len <= MOVE_BODY_MOST);
	move_header_write(&h, again);
	FUZZ_CHECK(memcmp(again, data, MOVE_HEADER_BYTES) == 0);
}

static void try_ranges(const uint8_t *data, size_t size)
{
	cleanup_free struct move_range *ranges = NULL;
	cleanup_buf struct buf b = BUF_INIT(1 << 20);
	size_t count;
	bool squeeze;
	if (move_ranges_read(data, size, &ranges, &count, &squeeze, NULL) < 0)
		return;
	FUZZ_CHECK(count > 0 && count <= MOVE_RANGES_MOST);
	FUZZ_CHECK(move_ranges_write(ranges, count, squeeze, &b, NULL) == 0);
	FUZZ_CHECK(b.len == size && memcmp(b.data + 4, data + 4, size - 4) == 0);
}

static void try_pages(const uint8_t *data, size_t size)
{
	static unsigned char pages[COUNT * PAGE], again[COUNT * PAGE];
	for (size_t count = 1; count <= COUNT; count += 13) {
		cleanup_buf struct buf b = BUF_INIT(MOVE_BODY_MOST);
		if (move_pages_read(data, size, pages, count, NULL) < 0)
			continue;
		FUZZ_CHECK(move_pages_write(pages, count, true, &b, NULL) == 0);
		FUZZ_CHECK(move_pages_read(b.data, b.len, again, count, NULL) == 0);
		FUZZ_CHECK(memcmp(pages, again, count * PAGE) == 0);
	}
}

static void try_part(const uint8_t *data, size_t size)
{
	static unsigned char pages[MOVE_PAGES_MOST * PAGE], again[MOVE_PAGES_MOST * PAGE];
	cleanup_free struct move_range *ranges = NULL;
	cleanup_free struct move_range *same = NULL;
	cleanup_buf struct buf b = BUF_INIT(MOVE_BODY_MOST);
	struct move_part part, other;
	size_t count, other_count;
	if (move_part_read(data, size, &part, &ranges, &count, pages, NULL) < 0)
		return;
	FUZZ_CHECK(count <= MOVE_PAGES_MOST && part.pages <= MOVE_PAGES_MOST);
	FUZZ_CHECK(move_part_write(&part, ranges, count, pages, true, &b, NULL) == 0);
	FUZZ_CHECK(move_part_read(b.data, b.len, &other, &same, &other_count, again, NULL) == 0);
	FUZZ_CHECK(other_count == count && other.pages == part.pages);
	FUZZ_CHECK(memcmp(ranges, same, count * sizeof(*same)) == 0);
	FUZZ_CHECK(memcmp(pages, again, part.pages * (size_t)PAGE) == 0);
}

static void try_tags(const uint8_t *data, size_t size)
{
	cleanup_free struct move_tag *tags = NULL;
	cleanup_buf struct buf b = BUF_INIT(1 << 20);
	unsigned char key[MOVE_KEY];
	size_t count;
	bool squeeze;
	if (move_tags_read(data, size, key, &tags, &count, &squeeze, NULL) < 0)
		return;
	FUZZ_CHECK(count > 0 && count <= MOVE_PAGES_MOST);
	FUZZ_CHECK(move_tags_write(key, tags, count, squeeze, &b, NULL) == 0);
	FUZZ_CHECK(b.len == size && memcmp(b.data + 4, data + 4, size - 4) == 0);
}

static void try_same(const uint8_t *data, size_t size)
{
	static unsigned char pages[16 * PAGE];
	static const struct move_tag tags[] = { { { 1, 1, 0x1000 }, true, "" },
						{ { 1, 2, 0x4000 }, false, "" },
						{ { 1, 13, 0x10000 }, true, "" } };
	cleanup_buf struct buf b = BUF_INIT(MOVE_BODY_MOST);
	bool same[3];
	size_t count;
	if (move_same_read(data, size, tags, 3, same, pages, &count, NULL) < 0)
		return;
	FUZZ_CHECK(count <= 16 && !same[1]);
	FUZZ_CHECK(move_same_write(same, 3, pages, count, false, &b, NULL) == 0);
}

static void try_piece(const uint8_t *data, size_t size)
{
	struct move_piece piece;
	cleanup_buf struct buf b = BUF_INIT(1 << 20);
	void *at;
	if (move_piece_read(data, size, &piece, NULL) < 0)
		return;
	size_t bytes = move_piece_bytes(&piece);
	FUZZ_CHECK(bytes <= size && piece.name[0] != '/' && strcmp(piece.name, "..") != 0);
	FUZZ_CHECK(move_piece_write(&piece, &b, &at, NULL) == 0);
	memcpy(at, piece.data, piece.len);
	FUZZ_CHECK(b.len == bytes && memcmp(b.data, data, bytes) == 0);
}

static void try_texts(const uint8_t *data, size_t size)
{
	static const struct wire_struct *const types[] = { &wire_move_hello, &wire_move_offer,
							   &wire_move_skeleton,
							   &wire_move_failure };
	union {
		struct move_hello hello;
		struct move_offer offer;
		struct move_skeleton skeleton;
		struct move_failure failure;
	} to;
	for (size_t i = 0; i < ARRAY_SIZE(types); i++)
		if (wire_decode_text(types[i], (const char *)data, size, &to, NULL) == 0)
			wire_free(types[i], &to);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static void (*const readers[])(const uint8_t *data, size_t size) = {
		try_header, try_ranges, try_pages, try_texts,
		try_part,   try_tags,   try_same,  try_piece,
	};
	if (size > 0)
		readers[data[0] % ARRAY_SIZE(readers)](data + 1, size - 1);
	return 0;
}
