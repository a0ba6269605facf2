/* SPDX-License-Identifier: Apache-2.0 */
#include "base/cleanup.h"
#include "node/move_wire.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { PAGE = 4096 };

static void test_headers(void **state)
{
	(void)state;
	static const struct {
		unsigned char bytes[MOVE_HEADER_BYTES];
		int result;
		struct move_header header;
	} table[] = {
		{ { 'E', 'M', MOVE_VERSION, MOVE_GIVE, 0, 0, 0, 0 }, 0, { MOVE_GIVE, 0 } },
		{ { 'E', 'M', MOVE_VERSION, MOVE_DATA, 1, 2, 3, 0 }, 0, { MOVE_DATA, 0x30201 } },
		{ { 'E', 'M', MOVE_VERSION, MOVE_DATA, 0, 0, 64, 0 },
		  0,
		  { MOVE_DATA, MOVE_BODY_MOST } },
		{ { 'E', 'M', MOVE_VERSION, MOVE_DATA, 1, 0, 64, 0 }, -EBADMSG },
		{ { 'E', 'M', MOVE_VERSION, 0, 0, 0, 0, 0 }, -EBADMSG },
		{ { 'E', 'M', MOVE_VERSION, MOVE_EARLY + 1, 0, 0, 0, 0 }, -EBADMSG },
		{ { 'E', 'M', MOVE_VERSION, MOVE_DATA + 1, 0, 0, 0, 0 }, -EBADMSG },
		{ { 'E', 'M', MOVE_VERSION - 1, MOVE_GIVE, 0, 0, 0, 0 }, -EPROTONOSUPPORT },
		{ { 'E', 'M', MOVE_VERSION + 1, 255, 1, 0, 0, 0 }, -EPROTONOSUPPORT },
		{ { 'E', 'M', MOVE_VERSION + 1, MOVE_GIVE, 1, 0, 64, 0 }, -EBADMSG },
		{ { 'H', 'T', 'T', 'P', 0, 0, 0, 0 }, -EBADMSG },
	};
	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		struct move_header h;
		unsigned char again[MOVE_HEADER_BYTES];
		assert_int_equal(move_header_read(table[i].bytes, &h, NULL), table[i].result);
		if (table[i].result < 0)
			continue;
		assert_int_equal(h.type, table[i].header.type);
		assert_int_equal(h.len, table[i].header.len);
		move_header_write(&h, again);
		assert_memory_equal(again, table[i].bytes, sizeof(again));
	}
}

static void test_texts(void **state)
{
	(void)state;
	const struct move_hello hello = { MOVE_VERSION, "d1", "s1", true };
	struct move_hello back;
	struct move_offer offer;
	cleanup_json json_t *json = wire_encode(&wire_move_hello, &hello);
	assert_int_equal(wire_decode(&wire_move_hello, json, &back, NULL), 0);
	assert_string_equal(back.departure, "d1");
	assert_string_equal(back.session, "s1");
	assert_true(back.control);
	wire_free(&wire_move_hello, &back);
	assert_int_equal(wire_decode_text(&wire_move_hello, "{}", 2, &back, NULL), -EINVAL);
	assert_int_equal(wire_decode_text(&wire_move_offer, "{}", 2, &offer, NULL), -EINVAL);
}

/* --- ranges ------------------------------------------------------------------------ */

static void test_ranges(void **state)
{
	(void)state;
	static const struct {
		struct move_range ranges[2];
		size_t count;
		int result;
	} table[] = {
		{ { { 1, 1, 0 } }, 1, 0 },
		{ { { 7, 512, 0x7f0000001000 } }, 1, 0 },
		{ { { 1, 500, 0x1000 }, { 1, 12, 0x1000 } }, 2, 0 },
		{ { { 1, 500, 0x1000 }, { 1, 13, 0x1000 } }, 2, -EBADMSG },
		{ { { 1, 513, 0x1000 } }, 1, -EBADMSG },
		{ { { 1, 0, 0x1000 } }, 1, -EBADMSG },
		{ { { 0, 1, 0x1000 } }, 1, -EBADMSG },
		{ { { -1, 1, 0x1000 } }, 1, -EBADMSG },
		{ { { 1, 1, 0x1001 } }, 1, -EBADMSG },
		{ { { 1, 2, UINT64_MAX - PAGE + 1 } }, 1, -EBADMSG },
		{ { { 1, 1, 0 } }, 0, -EBADMSG },
	};
	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		cleanup_buf struct buf b = BUF_INIT(1 << 20);
		cleanup_free struct move_range *back = NULL;
		size_t count;
		bool squeeze;
		assert_int_equal(
			move_ranges_write(table[i].ranges, table[i].count, i % 2, &b, NULL), 0);
		assert_int_equal(move_ranges_read(b.data, b.len, &back, &count, &squeeze, NULL),
				 table[i].result);
		if (table[i].result < 0)
			continue;
		assert_int_equal(count, table[i].count);
		assert_int_equal(squeeze, i % 2);
		assert_memory_equal(back, table[i].ranges, count * sizeof(*back));
		free(steal_ptr(&back));
		assert_int_equal(move_ranges_read(b.data, b.len - 1, &back, &count, &squeeze, NULL),
				 -EBADMSG);
	}
}

/* --- pages --------------------------------------------------------------------------- */

static unsigned char *make_pages(const char *kinds)
{
	size_t count = strlen(kinds);
	unsigned char *pages = calloc(count, PAGE);
	uint32_t noise = 1;
	assert_non_null(pages);
	for (size_t i = 0; i < count * PAGE; i++) {
		noise = noise * 1664525 + 1013904223;
		if (kinds[i / PAGE] == 'n')
			pages[i] = (unsigned char)(noise >> 24);
		else if (kinds[i / PAGE] == 't')
			pages[i] = (unsigned char)("hello world "[i % 12]);
	}
	/* One byte makes the difference, wherever it is. */
	for (size_t i = 0; i < count; i++)
		if (kinds[i] == 'l')
			pages[i * PAGE + PAGE - 1] = 1;
	return pages;
}

static size_t there_and_back(const char *kinds, bool squeeze)
{
	size_t count = strlen(kinds);
	cleanup_free unsigned char *pages = make_pages(kinds);
	cleanup_free unsigned char *back = malloc(count * PAGE + 1);
	cleanup_buf struct buf b = BUF_INIT(MOVE_BODY_MOST);
	assert_int_equal(move_pages_write(pages, count, squeeze, &b, NULL), 0);
	memset(back, 0x55, count * PAGE);
	assert_int_equal(move_pages_read(b.data, b.len, back, count, NULL), 0);
	assert_memory_equal(back, pages, count * PAGE);
	for (size_t cut = 0; cut < b.len; cut += cut < 64 ? 1 : 997)
		assert_int_equal(move_pages_read(b.data, cut, back, count, NULL), -EBADMSG);
	assert_int_equal(buf_append(&b, "x", 1), 0);
	assert_int_equal(move_pages_read(b.data, b.len, back, count, NULL), -EBADMSG);
	return b.len - 1;
}

static void test_pages(void **state)
{
	(void)state;
	static const struct {
		const char *kinds; /* 0: zeros, n: noise, t: text, l: zeros but for its last byte */
		size_t least, most;     /* bytes, */
		size_t least_q, most_q; /* ... squeezed */
	} table[] = {
		{ "0", 2, 2, 2, 2 },
		{ "00000000", 2, 2, 2, 2 },
		{ "000000000", 3, 3, 3, 3 },
		{ "l", PAGE + 2, PAGE + 2, 3, 200 },
		{ "n", PAGE + 2, PAGE + 2, PAGE + 2, PAGE + 2 },
		{ "t0t0t0t0", 4 * PAGE + 2, 4 * PAGE + 2, 3, 400 },
		{ "0tttttttttttttttttttttttttttttttttt0", 34 * PAGE + 6, 34 * PAGE + 6, 7, 1000 },
		{ "ttttttttttttttttnnnnnnnnnnnnnnnn", 32 * PAGE + 5, 32 * PAGE + 5, 16 * PAGE,
		  16 * PAGE + 1000 },
		{ "t0tttttttttttttttttnnnnnnnnnnnnnnnnn00000l", 36 * PAGE, 38 * PAGE, 16 * PAGE,
		  20 * PAGE },
	};
	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		assert_in_range(there_and_back(table[i].kinds, false), table[i].least,
				table[i].most);
		assert_in_range(there_and_back(table[i].kinds, true), table[i].least_q,
				table[i].most_q);
	}
}

static void test_most_pages(void **state)
{
	(void)state;
	char kinds[MOVE_PAGES_MOST + 1];
	memset(kinds, 'n', MOVE_PAGES_MOST);
	kinds[MOVE_PAGES_MOST] = '\0';
	assert_in_range(there_and_back(kinds, true), MOVE_PAGES_MOST * PAGE, MOVE_BODY_MOST);
	cleanup_buf struct buf b = BUF_INIT(MOVE_BODY_MOST);
	assert_int_equal(move_pages_write(kinds, MOVE_PAGES_MOST + 1, false, &b, NULL), -EINVAL);
}

static void test_bad_pages(void **state)
{
	(void)state;
	static unsigned char to[16 * PAGE];
	static const struct {
		unsigned char bytes[8];
		size_t len, count;
	} table[] = {
		{ { 2, 0 }, 2, 1 },                     /* an unknown form */
		{ { 0, 2 }, 2, 1 },                     /* a bit behind the last page */
		{ { 0 }, 1, 1 },                        /* no map */
		{ { 1, 1, 0, 0, 0 }, 5, 1 },            /* cut in the length */
		{ { 1, 1, 0, 0, 0, 0 }, 6, 1 },         /* no bytes */
		{ { 1, 1, 255, 255, 255, 255 }, 6, 1 }, /* more than there are */
		{ { 1, 1, 1, 0, 0, 0, 9 }, 7, 1 },      /* squeezed in no known way */
	};
	for (size_t i = 0; i < ARRAY_SIZE(table); i++)
		assert_int_equal(
			move_pages_read(table[i].bytes, table[i].len, to, table[i].count, NULL),
			-EBADMSG);
}

/* --- memory ahead ---------------------------------------------------------------------- */

static void test_parts(void **state)
{
	(void)state;
	static const struct {
		struct move_part part;
		struct move_range ranges[2];
		size_t count;
		int result;
	} table[] = {
		{ { .round = 3,
		    .last = true,
		    .left_ms = -1,
		    .took_us = 7,
		    .link_per_s = 9,
		    .seen_bytes = 1,
		    .all_bytes = 2,
		    .sent_bytes = 3 },
		  { { 0 } },
		  0,
		  0 },
		{ { .tracked = true, .left_ms = 5, .all_bytes = UINT64_MAX, .pages = 3 },
		  { { 1, 2, 0x1000 }, { 2, 1, 0x7f0000000000 } },
		  2,
		  0 },
		{ { .pages = 3 }, { { 1, 2, 0x1000 } }, 1, -EBADMSG },
		{ { .pages = 1 }, { { 0, 1, 0x1000 } }, 1, -EBADMSG },
		{ { .pages = 1 }, { { 0 } }, 0, -EBADMSG },
	};
	static unsigned char back[MOVE_PAGES_MOST * PAGE];
	cleanup_free unsigned char *pages = make_pages("ntl");
	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		cleanup_buf struct buf b = BUF_INIT(1 << 20);
		cleanup_free struct move_range *ranges = NULL;
		struct move_part part;
		size_t count;
		assert_int_equal(move_part_write(&table[i].part, table[i].ranges, table[i].count,
						 pages, i % 2, &b, NULL),
				 0);
		int r = move_part_read(b.data, b.len, &part, &ranges, &count, back, NULL);
		assert_int_equal(r, table[i].result);
		if (r < 0)
			continue;
		assert_int_equal(count, table[i].count);
		assert_int_equal(part.round, table[i].part.round);
		assert_int_equal(part.last, table[i].part.last);
		assert_int_equal(part.tracked, table[i].part.tracked);
		assert_int_equal(part.left_ms, table[i].part.left_ms);
		assert_int_equal(part.link_per_s, table[i].part.link_per_s);
		assert_int_equal(part.all_bytes, table[i].part.all_bytes);
		assert_memory_equal(ranges, table[i].ranges, count * sizeof(*ranges));
		assert_memory_equal(back, pages, part.pages * (size_t)PAGE);
		move_part_set_took(&b, 12345);
		for (size_t cut = 0; cut < b.len; cut += cut < 100 ? 1 : 997) {
			struct move_range *none = NULL;
			assert_int_equal(
				move_part_read(b.data, cut, &part, &none, &count, back, NULL),
				-EBADMSG);
			assert_null(none);
		}
		free(steal_ptr(&ranges));
		assert_int_equal(move_part_read(b.data, b.len, &part, &ranges, &count, back, NULL),
				 0);
		assert_int_equal(part.took_us, 12345);
	}
}

static void test_tags(void **state)
{
	(void)state;
	static const unsigned char key[MOVE_KEY] = "a key";
	static const struct {
		struct move_tag tags[2];
		size_t count;
		int result;
	} table[] = {
		{ { { { 1, 16, 0x10000 }, true, "abc" }, { { 2, 1, 0x2000 }, false, "" } }, 2, 0 },
		{ { { { 1, 500, 0x1000 }, true, "" }, { { 1, 13, 0x1000 }, true, "" } },
		  2,
		  -EBADMSG },
		{ { { { 0, 1, 0x1000 }, true, "" } }, 1, -EBADMSG },
		{ { { { 1, 1, 0x1000 }, true, "" } }, 0, -EBADMSG },
	};
	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		cleanup_buf struct buf b = BUF_INIT(1 << 20);
		cleanup_free struct move_tag *tags = NULL;
		unsigned char got[MOVE_KEY];
		size_t count;
		bool squeeze;
		assert_int_equal(
			move_tags_write(key, table[i].tags, table[i].count, i % 2, &b, NULL), 0);
		int r = move_tags_read(b.data, b.len, got, &tags, &count, &squeeze, NULL);
		assert_int_equal(r, table[i].result);
		if (r < 0)
			continue;
		assert_int_equal(count, table[i].count);
		assert_int_equal(squeeze, i % 2);
		assert_memory_equal(got, key, sizeof(key));
		for (size_t k = 0; k < count; k++) {
			assert_int_equal(tags[k].has, table[i].tags[k].has);
			assert_memory_equal(tags[k].tag, table[i].tags[k].tag, MOVE_TAG);
			assert_int_equal(tags[k].range.address, table[i].tags[k].range.address);
		}
		free(steal_ptr(&tags));
		assert_int_equal(
			move_tags_read(b.data, b.len - 1, got, &tags, &count, &squeeze, NULL),
			-EBADMSG);
	}
}

/* Only the pages of those that are not the same are there, and only what one has can be. */
static void test_same(void **state)
{
	(void)state;
	static const struct move_tag tags[] = { { { 1, 1, 0x1000 }, true, "" },
						{ { 1, 2, 0x4000 }, true, "" },
						{ { 1, 1, 0x8000 }, false, "" } };
	static const struct {
		bool same[3];
		size_t pages;
		int result;
	} table[] = {
		{ { false, false, false }, 4, 0 },       { { true, false, false }, 3, 0 },
		{ { true, true, false }, 1, 0 },         { { true, true, true }, 0, -EBADMSG },
		{ { false, true, false }, 3, -EBADMSG }, { { false, true, false }, 0, -EBADMSG },
	};
	cleanup_free unsigned char *pages = make_pages("ntln");
	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		cleanup_buf struct buf b = BUF_INIT(1 << 20);
		unsigned char back[4 * PAGE];
		bool same[3];
		size_t count;
		assert_int_equal(
			move_same_write(table[i].same, 3, pages, table[i].pages, false, &b, NULL),
			0);
		int r = move_same_read(b.data, b.len, tags, 3, same, back, &count, NULL);
		assert_int_equal(r, table[i].result);
		if (r < 0)
			continue;
		assert_int_equal(count, table[i].pages);
		assert_memory_equal(same, table[i].same, sizeof(same));
		assert_memory_equal(back, pages, count * PAGE);
		assert_int_equal(move_same_read(b.data, 0, tags, 3, same, back, &count, NULL),
				 -EBADMSG);
	}
	cleanup_buf struct buf b = BUF_INIT(16);
	static const bool all[] = { true, true };
	bool same[2];
	size_t count;
	assert_int_equal(move_same_write(all, 2, pages, 0, false, &b, NULL), 0);
	assert_int_equal(move_same_read(b.data, b.len, tags, 2, same, pages, &count, NULL), 0);
	assert_int_equal(count, 0);
}

/* --- files ------------------------------------------------------------------------ */

static void put_piece(const struct move_piece *piece, const char *data, struct buf *to)
{
	void *at;
	assert_int_equal(move_piece_write(piece, to, &at, NULL), 0);
	memcpy(at, data, piece->len);
}

static void test_pieces(void **state)
{
	(void)state;
	const struct move_piece first = { .name = "criu/core-1.img",
					  .size = UINT64_C(5) << 32,
					  .offset = UINT64_C(5) << 32 | 0,
					  .changed_ns = -7 };
	const struct move_piece second = { .name = "x", .size = 9, .offset = 4, .len = 5 };
	cleanup_buf struct buf b = BUF_INIT(1000);
	struct move_piece got;
	put_piece(&first, "", &b);
	put_piece(&second, "bytes", &b);
	assert_int_equal(move_piece_read(b.data, b.len, &got, NULL), 0);
	assert_string_equal(got.name, first.name);
	assert_true(got.size == first.size && got.offset == first.offset);
	assert_int_equal(got.changed_ns, -7);
	assert_int_equal(got.len, 0);
	size_t at = move_piece_bytes(&got);
	assert_int_equal(move_piece_read(b.data + at, b.len - at, &got, NULL), 0);
	assert_string_equal(got.name, "x");
	assert_int_equal(got.len, 5);
	assert_memory_equal(got.data, "bytes", 5);
	assert_int_equal(at + move_piece_bytes(&got), b.len);
	for (size_t cut = 1; cut < b.len - at; cut++)
		assert_int_equal(move_piece_read(b.data + at, cut, &got, NULL), -EBADMSG);
	/* More than there is of the file, or can be of any. */
	const struct move_piece wrong[] = {
		{ .name = "x", .size = 8, .offset = 4, .len = 5 },
		{ .name = "x", .size = 3, .offset = 4 },
		{ .name = "x", .size = UINT64_MAX, .offset = UINT64_MAX - 9, .len = 5 },
	};
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		buf_reset(&b);
		put_piece(&wrong[i], "bytes", &b);
		assert_int_equal(move_piece_read(b.data, b.len, &got, NULL), -EBADMSG);
	}
}

/* None leads anywhere else. */
static void test_piece_names(void **state)
{
	(void)state;
	static const struct {
		const char *name;
		int result;
	} table[] = {
		{ "a", 0 },
		{ "d/a", 0 },
		{ "...", 0 },
		{ "d/..a", 0 },
		{ "", -EBADMSG },
		{ ".", -EBADMSG },
		{ "..", -EBADMSG },
		{ "/a", -EBADMSG },
		{ "d/", -EBADMSG },
		{ "d/..", -EBADMSG },
		{ "../a", -EBADMSG },
		{ "./a", -EBADMSG },
		{ "d/e/a", -EBADMSG },
		{ "d//a", -EBADMSG },
		{ "/", -EBADMSG },
		{ "d/../a", -EBADMSG },
	};
	struct move_piece got;
	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		cleanup_buf struct buf b = BUF_INIT(1000);
		struct move_piece piece = { .len = 0 };
		memcpy(piece.name, table[i].name, strlen(table[i].name));
		put_piece(&piece, "", &b);
		assert_int_equal(move_piece_read(b.data, b.len, &got, NULL), table[i].result);
	}
	cleanup_buf struct buf b = BUF_INIT(2000);
	struct move_piece piece = { .len = 0 };
	memset(piece.name, 'n', 256);
	put_piece(&piece, "", &b);
	assert_int_equal(move_piece_read(b.data, b.len, &got, NULL), -EBADMSG);
	b.data[b.len - 1] = '\0';
	assert_int_equal(move_piece_read(b.data, b.len, &got, NULL), -EBADMSG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_headers),     cmocka_unit_test(test_texts),
		cmocka_unit_test(test_ranges),      cmocka_unit_test(test_pages),
		cmocka_unit_test(test_most_pages),  cmocka_unit_test(test_bad_pages),
		cmocka_unit_test(test_parts),       cmocka_unit_test(test_tags),
		cmocka_unit_test(test_same),        cmocka_unit_test(test_pieces),
		cmocka_unit_test(test_piece_names),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
