/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "store/index.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { CAP = 64 << 20 };

/* A small one of everything, anew for each use, so that a case may spoil it. */
struct world {
	uint64_t packs[3];
	struct index_frame frames[5];
	uint32_t a_frames[2], b_frames[1];
	struct index_file files[3];
	struct store_extent x_extents[2], y_extents[1];
	uint32_t x_pages[6], y_pages[2];
	uint8_t x_slots[6], y_slots[2];
	unsigned char x_digests[6 * SEAL_DIGEST], y_digests[2 * SEAL_DIGEST];
	unsigned char a_digests[2 * SEAL_DIGEST], b_digests[SEAL_DIGEST];
	struct index_memory memories[2];
	struct index index;
};

static const struct index_frame sample_frames[] = {
	{ .at = { .pack = 0, .offset = 0, .stored = 100 }, .len = 70 },
	{ .at = { .pack = 0, .offset = 100, .stored = 200, .pages = 16, .hot = true },
	  .len = 65536 },
	{ .at = { .pack = 0, .offset = 4000, .stored = 96, .pages = 2 }, .len = 8192 },
	{ .at = { .pack = 2, .offset = 7, .stored = 17 }, .len = INDEX_MAX_FRAME },
	{ .at = { .pack = 2, .offset = 100, .stored = UINT32_MAX - 100, .pages = 1 }, .len = 4096 },
};

static void make(struct world *w)
{
	*w = (struct world) {
		.packs = { 4096, 1, UINT32_MAX },
		.a_frames = { 3, 0 },
		.b_frames = { 0 },
		.files = { { .name = "a",
			     .size = INDEX_MAX_FRAME + 70,
			     .mode = 0644,
			     .frames = w->a_frames,
			     .digests = w->a_digests,
			     .frame_count = 2 },
			   { .name = "a/b",
			     .size = 70,
			     .mode = 07777,
			     .frames = w->b_frames,
			     .digests = w->b_digests,
			     .frame_count = 1 },
			   { .name = "empty", .frames = NULL } },
		.x_extents = { { 0x1000, 2, 0 }, { 0x7ffff000, 4, UINT32_MAX } },
		.y_extents = { { UINT64_C(0xffffffffffffd000), 2, 3 } },
		.x_pages = { 1, STORE_ZERO, 1, 2, 2, 1 },
		.x_slots = { 0, 9, 15, 0, 1, 3 },
		.y_pages = { 4, 1 },
		.y_slots = { 0, 14 },
		.memories = { { .m = { .name = "10/x",
				       .extents = w->x_extents,
				       .extent_count = 2,
				       .pages = 6,
				       .frames = w->x_pages,
				       .slots = w->x_slots },
				.digests = w->x_digests },
			      { .m = { .name = "9",
				       .extents = w->y_extents,
				       .extent_count = 1,
				       .pages = 2,
				       .frames = w->y_pages,
				       .slots = w->y_slots },
				.digests = w->y_digests } },
		.index = { .spec = "{}",
			   .frames = w->frames,
			   .frame_count = 5,
			   .files = w->files,
			   .file_count = 3,
			   .memories = w->memories,
			   .memory_count = 2 },
	};
	memcpy(w->frames, sample_frames, sizeof(sample_frames));
	for (size_t i = 0; i < sizeof(w->x_digests); i++)
		w->x_digests[i] = (unsigned char)(i * 7 + 1);
	for (size_t i = 0; i < sizeof(w->y_digests); i++)
		w->y_digests[i] = (unsigned char)(i * 5 + 2);
	for (size_t i = 0; i < sizeof(w->a_digests); i++)
		w->a_digests[i] = (unsigned char)(i * 3 + 1);
}

static int decode(struct world *w, struct index *found, struct error *e)
{
	cleanup_buf struct buf text = BUF_INIT(CAP);
	assert_int_equal(index_encode(&w->index, &text, NULL), 0);
	cleanup_free char *exact = malloc(text.len);
	memcpy(exact, text.data, text.len);
	return index_decode(exact, text.len, w->packs, ARRAY_SIZE(w->packs), found, e);
}

static void same_memory(const struct index_memory *a, const struct index_memory *b)
{
	static const unsigned char zeros[SEAL_DIGEST];
	assert_string_equal(a->m.name, b->m.name);
	assert_int_equal(a->m.extent_count, b->m.extent_count);
	for (size_t i = 0; i < a->m.extent_count; i++) {
		assert_true(a->m.extents[i].vaddr == b->m.extents[i].vaddr);
		assert_int_equal(a->m.extents[i].pages, b->m.extents[i].pages);
		assert_int_equal(a->m.extents[i].flags, b->m.extents[i].flags);
	}
	assert_int_equal(a->m.pages, b->m.pages);
	assert_memory_equal(a->m.frames, b->m.frames, a->m.pages * 4);
	for (size_t i = 0; i < a->m.pages; i++) {
		bool zero = a->m.frames[i] == STORE_ZERO;
		assert_int_equal(b->m.slots[i], zero ? 0 : a->m.slots[i]);
		assert_memory_equal(b->digests + i * SEAL_DIGEST,
				    zero ? zeros : a->digests + i * SEAL_DIGEST, SEAL_DIGEST);
	}
}

static void they_come_back(void **state)
{
	(void)state;
	struct world w;
	struct index found;
	struct error e = ERROR_INIT;
	make(&w);
	if (decode(&w, &found, &e) < 0)
		fail_msg("%s", e.text);
	assert_string_equal(found.spec, "{}");
	assert_int_equal(found.frame_count, 5);
	for (size_t i = 0; i < 5; i++) {
		assert_int_equal(found.frames[i].at.pack, w.frames[i].at.pack);
		assert_int_equal(found.frames[i].at.offset, w.frames[i].at.offset);
		assert_int_equal(found.frames[i].at.stored, w.frames[i].at.stored);
		assert_int_equal(found.frames[i].at.pages, w.frames[i].at.pages);
		assert_int_equal(found.frames[i].at.hot, w.frames[i].at.hot);
		assert_int_equal(found.frames[i].len, w.frames[i].len);
	}
	assert_int_equal(found.file_count, 3);
	for (size_t i = 0; i < 3; i++) {
		assert_string_equal(found.files[i].name, w.files[i].name);
		assert_int_equal(found.files[i].size, w.files[i].size);
		assert_int_equal(found.files[i].mode, w.files[i].mode);
		assert_int_equal(found.files[i].frame_count, w.files[i].frame_count);
		if (w.files[i].frame_count)
			assert_memory_equal(found.files[i].frames, w.files[i].frames,
					    w.files[i].frame_count * 4);
		if (w.files[i].frame_count)
			assert_memory_equal(found.files[i].digests, w.files[i].digests,
					    w.files[i].frame_count * SEAL_DIGEST);
	}
	assert_int_equal(found.memory_count, 2);
	for (size_t i = 0; i < 2; i++)
		same_memory(&w.memories[i], &found.memories[i]);
	index_deinit(&found);
	index_deinit(&found);
}

/* Without what only the next writer wants. */
static void bare_ones_come_back(void **state)
{
	(void)state;
	struct world w;
	struct index found;
	struct error e = ERROR_INIT;
	cleanup_buf struct buf text = BUF_INIT(CAP);
	make(&w);
	assert_int_equal(index_encode(&w.index, &text, NULL), 0);
	size_t len = index_bare_len(&w.index);
	assert_true(len < text.len);
	if (index_decode(text.data, len, w.packs, ARRAY_SIZE(w.packs), &found, &e) < 0)
		fail_msg("%s", e.text);
	assert_true(found.bare);
	assert_null(found.memories[0].digests);
	assert_memory_equal(found.memories[0].m.frames, w.memories[0].m.frames, 6 * 4);
	assert_int_equal(index_bare_len(&found), len);
	index_deinit(&found);
}

static void an_empty_one_comes_back(void **state)
{
	(void)state;
	struct world w = { .index = { .spec = NULL } };
	struct index found;
	assert_int_equal(decode(&w, &found, NULL), 0);
	assert_null(found.spec);
	assert_int_equal(found.frame_count + found.file_count + found.memory_count, 0);
	index_deinit(&found);
}

#define SPOIL(name, what)                                                                          \
	static void name(struct world *w)                                                          \
	{                                                                                          \
		what;                                                                              \
	}
SPOIL(overlap, w->frames[1].at.offset = 99)
SPOIL(backwards, w->frames[3].at.pack = 0)
SPOIL(no_pack, w->frames[4].at.pack = 3)
SPOIL(beyond_pack, w->frames[2].at.stored = 97)
SPOIL(beyond_short_pack, w->packs[0] = 4095)
SPOIL(beyond_all, w->frames[4].at.stored = UINT32_MAX)
SPOIL(only_tag, w->frames[0].at.stored = SEAL_TAG)
SPOIL(many_pages, (w->frames[1].at.pages = 17, w->frames[1].len = 17 * 4096))
SPOIL(short_pages, w->frames[2].len = 8191)
SPOIL(no_bytes, w->frames[0].len = 0)
SPOIL(long_frame, w->frames[3].len = INDEX_MAX_FRAME + 1)
SPOIL(file_twice, w->files[1].name = "a")
SPOIL(file_order, w->files[1].name = "Z")
SPOIL(file_above, w->files[1].name = "../b")
SPOIL(file_absolute, w->files[0].name = "/a")
SPOIL(file_nameless, w->files[0].name = "")
SPOIL(file_of_pages, w->b_frames[0] = 1)
SPOIL(file_nowhere, w->b_frames[0] = 5)
SPOIL(file_far, w->b_frames[0] = UINT32_MAX)
SPOIL(file_short, w->files[1].size = 71)
SPOIL(file_long, w->files[2].size = 1)
SPOIL(file_huge, w->files[2].size = INDEX_MAX_FILE_SIZE + 1)
SPOIL(file_mode, w->files[2].mode = 010000)
SPOIL(memory_order, w->memories[1].m.name = "10")
SPOIL(memory_name, w->memories[1].m.name = "9/.")
SPOIL(extent_empty, w->x_extents[0].pages = 0)
SPOIL(extent_over, w->x_extents[1].vaddr = 0x2000)
SPOIL(extent_order, w->x_extents[1].vaddr = 0)
SPOIL(extent_end, w->y_extents[0].vaddr = UINT64_C(0xfffffffffffff000))
SPOIL(extent_long, w->x_extents[0].pages = 3)
SPOIL(extent_short, w->x_extents[1].pages = 3)
SPOIL(extent_huge, w->x_extents[1].pages = UINT64_MAX)
SPOIL(page_slot, w->x_slots[3] = 2)
SPOIL(page_frame_none, w->x_pages[3] = 5)
SPOIL(page_frame_of_file, w->x_pages[3] = 0)

static const struct {
	void (*spoil)(struct world *w);
	const char *error;
} bad[] = {
	{ overlap, "a frame is not inside its pack" },
	{ backwards, "a frame is not inside its pack" },
	{ no_pack, "a frame is in a pack that is not listed" },
	{ beyond_pack, "a frame is not inside its pack" },
	{ beyond_short_pack, "a frame is not inside its pack" },
	{ beyond_all, "a frame is not inside its pack" },
	{ only_tag, "a frame is not inside its pack" },
	{ many_pages, "a frame's length is out of range" },
	{ short_pages, "a frame's length is out of range" },
	{ no_bytes, "a frame's length is out of range" },
	{ long_frame, "a frame's length is out of range" },
	{ file_twice, "names are not in order" },
	{ file_order, "names are not in order" },
	{ file_above, "a name would leave" },
	{ file_absolute, "a name would leave" },
	{ file_nameless, "a name would leave" },
	{ file_of_pages, "a file is in a frame that is none of its kind" },
	{ file_nowhere, "a file is in a frame that is none of its kind" },
	{ file_far, "a file is in a frame that is none of its kind" },
	{ file_short, "a file's frames are not as long" },
	{ file_long, "a file's frames are not as long" },
	{ file_huge, "a file's size or mode" },
	{ file_mode, "a file's size or mode" },
	{ memory_order, "names are not in order" },
	{ memory_name, "a name would leave" },
	{ extent_empty, "an extent is out of range" },
	{ extent_over, "an extent is out of range" },
	{ extent_order, "an extent is out of range" },
	{ extent_end, "an extent is out of range" },
	{ extent_long, "its extents have not as many pages" },
	{ extent_short, "its extents have not as many pages" },
	{ extent_huge, "an extent is out of range" },
	{ page_slot, "a page is where there is none" },
	{ page_frame_none, "a page is where there is none" },
	{ page_frame_of_file, "a page is where there is none" },
};

static void bad_ones_are_refused(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct world w;
		struct index found;
		struct error e = ERROR_INIT;
		make(&w);
		bad[i].spoil(&w);
		int r = decode(&w, &found, &e);
		if (r != -EBADMSG || !strstr(e.text, bad[i].error))
			fail_msg("case %zu gave %d \"%s\", not \"%s\"", i, r, e.text, bad[i].error);
		assert_null(found.frames);
		assert_null(found.memories);
	}
}

/* Whatever is still accepted means what it says: written again it is the same. */
static void try_bytes(const struct world *w, const char *data, size_t len)
{
	cleanup_free char *exact = malloc(len + 1);
	cleanup_buf struct buf again = BUF_INIT(CAP);
	struct index found;
	memcpy(exact, data, len);
	if (index_decode(exact, len, w->packs, ARRAY_SIZE(w->packs), &found, NULL) < 0)
		return;
	assert_int_equal(index_encode(&found, &again, NULL), 0);
	assert_int_equal(again.len, len);
	assert_memory_equal(again.data, data, len);
	index_deinit(&found);
}

static void changed_bytes_do_no_harm(void **state)
{
	(void)state;
	struct world w;
	struct index found;
	cleanup_buf struct buf text = BUF_INIT(CAP);
	make(&w);
	assert_int_equal(index_encode(&w.index, &text, NULL), 0);
	for (size_t len = 0; len < text.len; len++)
		if (len != index_bare_len(&w.index))
			assert_int_equal(index_decode(text.data, len, w.packs, 3, &found, NULL),
					 -EBADMSG);
	for (size_t i = 0; i < text.len; i++) {
		char was = text.data[i];
		for (int v = 0; v < 256; v++) {
			text.data[i] = (char)v;
			try_bytes(&w, text.data, text.len);
		}
		text.data[i] = was;
	}
	assert_int_equal(buf_append(&text, "x", 1), 0);
	assert_int_equal(index_decode(text.data, text.len, w.packs, 3, &found, NULL), -EBADMSG);
}

static void names(void **state)
{
	(void)state;
	static const struct {
		const char *name;
		bool valid;
	} cases[] = {
		{ "a", true },     { "a/b.c", true },   { "...", true },   { ".a/..b", true },
		{ "", false },     { "/", false },      { "/a", false },   { "a/", false },
		{ "a//b", false }, { ".", false },      { "..", false },   { "a/.", false },
		{ "./a", false },  { "a/../b", false }, { "../a", false },
	};
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		if (index_name_valid(cases[i].name) != cases[i].valid)
			fail_msg("\"%s\"", cases[i].name);
	char name[INDEX_MAX_NAME + 2];
	memset(name, 'a', sizeof(name));
	for (size_t i = 200; i < sizeof(name); i += 200)
		name[i] = '/';
	name[INDEX_MAX_NAME + 1] = '\0';
	assert_false(index_name_valid(name));
	name[INDEX_MAX_NAME] = '\0';
	assert_true(index_name_valid(name));
	memset(name, 'a', 300);
	name[256] = '\0';
	assert_false(index_name_valid(name));
	name[255] = '\0';
	assert_true(index_name_valid(name));
}

static void too_large_ones_are_not_written(void **state)
{
	(void)state;
	struct world w;
	struct error e = ERROR_INIT;
	cleanup_buf struct buf text = BUF_INIT(100);
	make(&w);
	assert_int_equal(index_encode(&w.index, &text, &e), -EINVAL);
	assert_non_null(strstr(e.text, "larger than 100 bytes"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(they_come_back),
		cmocka_unit_test(bare_ones_come_back),
		cmocka_unit_test(an_empty_one_comes_back),
		cmocka_unit_test(bad_ones_are_refused),
		cmocka_unit_test(changed_bytes_do_no_harm),
		cmocka_unit_test(names),
		cmocka_unit_test(too_large_ones_are_not_written),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
