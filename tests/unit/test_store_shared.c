/* SPDX-License-Identifier: Apache-2.0 */
/* What a checkpoint has in common with those before it is not stored again; what will be wanted
 * together stands together. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/store_kit.h"

/* --- what need not be stored ------------------------------------------------------------ */

static void test_unchanged_pages_are_shared(void **state)
{
	struct kit *k = *state;
	struct model m;
	struct store_meta first;
	struct store_meta second;
	model_init(&m, 8000);
	m.file_count = 0;
	model_write(k->s, 1, &m, &first);
	for (uint64_t i = 0; i < 8000; i += 800)
		m.memories[0].seeds[i] += 1000001;
	model_write(k->s, 2, &m, &second);
	assert_int_equal(second.basis, 1);
	assert_true(second.stored_bytes * 20 < first.stored_bytes);
	assert_true(second.shared_bytes * 10 > first.stored_bytes * 9);
	model_check(k->s, 2, &m);
	/* And once more on top of both. */
	m.memories[0].seeds[5] += 1000001;
	model_write(k->s, 7, &m, NULL);
	model_check(k->s, 7, &m);
	store_meta_deinit(&first);
	store_meta_deinit(&second);
	model_deinit(&m);
}

static void test_zero_pages_cost_nothing(void **state)
{
	struct kit *k = *state;
	struct model m;
	struct store_meta meta;
	model_init(&m, 20000);
	m.file_count = 0;
	memset(m.memories[0].seeds, 0, 20000 * sizeof(uint32_t));
	memset(m.memories[1].seeds, 0, 40 * sizeof(uint32_t));
	model_write(k->s, 1, &m, &meta);
	assert_true(meta.stored_bytes < 4096);
	model_check(k->s, 1, &m);
	/* Zeros where there was something, and the other way round. */
	m.memories[0].seeds[100] = 3;
	model_write(k->s, 2, &m, NULL);
	m.memories[0].seeds[100] = 0;
	model_write(k->s, 3, &m, NULL);
	model_check(k->s, 3, &m);
	m.memories[0].seeds[100] = 3;
	model_check(k->s, 2, &m);
	store_meta_deinit(&meta);
	model_deinit(&m);
}

static void test_unchanged_files_are_shared(void **state)
{
	struct kit *k = *state;
	struct model m;
	struct store_meta first;
	struct store_meta second;
	model_init(&m, 10);
	m.file_count = 20;
	model_write(k->s, 1, &m, &first);
	model_write(k->s, 2, &m, &second);
	assert_true(second.stored_bytes < 4096);
	assert_true(second.shared_bytes > first.stored_bytes / 2);
	model_check(k->s, 2, &m);
	/* The last one is longer now and another one has its number: no part of it is as it was. */
	m.file_count = 21;
	model_write(k->s, 3, &m, NULL);
	model_check(k->s, 3, &m);
	store_meta_deinit(&first);
	store_meta_deinit(&second);
	model_deinit(&m);
}

/* A memory that has grown, shrunk, moved and been cut up since. */
static void test_changed_extents(void **state)
{
	struct kit *k = *state;
	struct model m;
	model_init(&m, 3000);
	model_write(k->s, 1, &m, NULL);
	struct model_memory *mm = &m.memories[0];
	static const struct store_extent cut[] = {
		{ 0x400000, 1, 1 },
		{ 0x501000, 1, 0 },
		{ 0x7effffff0000, 32, 2 },
		{ 0x7f0000064000, 2000, 2 },
	};
	uint32_t *seeds = calloc(2034, sizeof(*seeds));
	seeds[0] = mm->seeds[0];
	seeds[1] = mm->seeds[2];
	for (size_t i = 0; i < 16; i++)
		seeds[2 + i] = 7000 + (uint32_t)i;
	for (size_t i = 0; i < 16; i++)
		seeds[18 + i] = mm->seeds[3 + i];
	for (size_t i = 0; i < 2000; i++)
		seeds[34 + i] = mm->seeds[3 + 100 + i];
	free(mm->seeds);
	mm->seeds = seeds;
	mm->extent_count = 4;
	memcpy(mm->extents, cut, sizeof(cut));
	struct store_meta meta;
	model_write(k->s, 2, &m, &meta);
	assert_true(meta.stored_bytes < 100 * 1024);
	store_meta_deinit(&meta);
	model_check(k->s, 2, &m);
	model_deinit(&m);
}

/* --- hot pages ------------------------------------------------------------------------ */

enum { HOT = 100 };

static void write_hot(struct kit *k, int64_t generation, const struct model *m, uint64_t first,
		      struct store_meta *meta)
{
	struct error e = ERROR_INIT;
	struct store_write *w;
	uint64_t pages[HOT];
	for (size_t i = 0; i < HOT; i++)
		pages[i] = 0x7f0000000000 + (first + i * 20) * STORE_PAGE;
	assert_int_equal(store_write_begin(k->s, SESSION, generation, &w, &e), 0);
	assert_int_equal(store_write_hot(w, m->memories[0].name, pages, HOT, &e), 0);
	for (size_t i = 0; i < m->memory_count; i++)
		assert_int_equal(put_memory(w, &m->memories[i], &e), 0);
	assert_int_equal(kit_commit(w, STORE_VERIFY_ALL, meta, &e), 0);
	store_write_free(w);
}

/* Frames of hot pages; that all hot pages are in them and nothing else is in new ones. */
static size_t count_hot(struct kit *k, int64_t generation, const struct model *m, uint64_t first)
{
	struct error e = ERROR_INIT;
	struct store_read *read;
	const struct store_frame *frames;
	const struct store_memory *memories;
	size_t hot = 0;
	assert_int_equal(store_read_open(k->s, SESSION, generation, &read, &e), 0);
	size_t count = store_read_frames(read, &frames);
	size_t n = store_read_memories(read, &memories);
	for (size_t i = 0; i < count; i++)
		hot += frames[i].hot;
	while (strcmp(memories[n - 1].name, m->memories[0].name) != 0)
		n--;
	for (size_t i = 0; i < HOT; i++) {
		uint32_t frame = memories[n - 1].frames[3 + first + i * 20];
		assert_true(frame == STORE_ZERO || frames[frame].hot);
	}
	store_read_free(read);
	return hot;
}

static void test_hot_pages(void **state)
{
	struct kit *k = *state;
	struct model m;
	struct store_meta meta;
	model_init(&m, 3000);
	m.file_count = 0;
	write_hot(k, 1, &m, 0, &meta);
	store_meta_deinit(&meta);
	size_t first = count_hot(k, 1, &m, 0);
	assert_int_equal(first, HOT / STORE_FRAME_PAGES + 1);
	model_check(k->s, 1, &m);
	/* The same ones again: they stay where they are. */
	write_hot(k, 2, &m, 0, &meta);
	assert_true(meta.stored_bytes < 64 * 1024); /* the index */
	store_meta_deinit(&meta);
	assert_int_equal(count_hot(k, 2, &m, 0), first);
	/* Others, unchanged, are stored again, near each other. */
	write_hot(k, 3, &m, 8, &meta);
	assert_true(meta.stored_bytes > HOT * STORE_PAGE);
	store_meta_deinit(&meta);
	count_hot(k, 3, &m, 8);
	model_check(k->s, 3, &m);
	model_deinit(&m);
}

/* Every 50th page, each in an extent of its own. */
static void write_soon(struct kit *k, int64_t generation, const struct model *m,
		       struct store_meta *meta)
{
	struct error e = ERROR_INIT;
	struct store_write *w;
	struct store_memory_write *mw;
	const struct model_memory *mm = &m->memories[0];
	uint64_t pages = model_pages(mm), at = 0;
	assert_int_equal(store_write_begin(k->s, SESSION, generation, &w, &e), 0);
	assert_int_equal(store_memory_begin(w, mm->name, &mw, &e), 0);
	for (uint64_t n; at < pages; at += n) {
		uint32_t flags = at % 50 ? 2 : STORE_SOON;
		uint32_t seed = (uint32_t)at + 1;
		n = flags == 2 && pages - at > 49 ? 49 : 1;
		for (uint64_t i = 0; i < n; i++) {
			seed = (uint32_t)(at + i) + 1;
			assert_int_equal(store_memory_extent(mw, (at + i) * STORE_PAGE, 1, flags,
							     feed_one, &seed, &e),
					 0);
		}
	}
	assert_int_equal(store_memory_end(mw, &e), 0);
	assert_int_equal(kit_commit(w, STORE_VERIFY_ALL, meta, &e), 0);
	store_write_free(w);
}

static void test_soon_pages(void **state)
{
	struct kit *k = *state;
	struct model m;
	struct store_meta meta;
	struct store_read *read;
	struct error e = ERROR_INIT;
	const struct store_frame *frames;
	const struct store_memory *memories;
	model_init(&m, 3000);
	for (int64_t generation = 1; generation < 3; generation++) {
		size_t soon = 0, hot = 0;
		write_soon(k, generation, &m, &meta);
		assert_int_equal(store_read_open(k->s, SESSION, generation, &read, &e), 0);
		size_t count = store_read_frames(read, &frames);
		assert_int_equal(store_read_memories(read, &memories), 1);
		for (uint64_t i = 0; i < memories[0].pages; i++) {
			bool is_soon = i % 50 == 0;
			if (memories[0].frames[i] == STORE_ZERO)
				continue;
			soon += is_soon;
			assert_int_equal(frames[memories[0].frames[i]].hot, is_soon);
		}
		for (size_t i = 0; i < count; i++)
			hot += frames[i].hot;
		for (size_t i = 0; i < memories[0].extent_count; i++)
			assert_true((memories[0].extents[i].flags & STORE_SOON) == 0);
		assert_int_equal(hot, (soon + STORE_FRAME_PAGES - 1) / STORE_FRAME_PAGES);
		if (generation == 2) /* unchanged, they stay where they are */
			assert_true(meta.stored_bytes < 64 * 1024);
		store_read_free(read);
		store_meta_deinit(&meta);
	}
	model_deinit(&m);
}

/* --- packs that are hardly used any more ----------------------------------------------- */

static bool names_generation(struct store *s, int64_t generation, int64_t named)
{
	struct manifest m;
	bool found = false;
	assert_int_equal(store_manifest_read(s, SESSION, generation, NULL, &m, NULL), 0);
	for (size_t i = 0; i < m.pack_count; i++)
		found |= m.packs[i].generation == named;
	manifest_deinit(&m);
	return found;
}

static void test_worn_packs_are_left(void **state)
{
	struct kit *k = *state;
	struct model m;
	struct store_meta meta;
	model_init(&m, 4000);
	m.file_count = 0;
	model_write(k->s, 1, &m, NULL);
	for (size_t i = 0; i < 3600; i++)
		m.memories[0].seeds[i] += 2000001;
	model_write(k->s, 2, &m, &meta);
	assert_true(names_generation(k->s, 2, 1));
	store_meta_deinit(&meta);
	model_write(k->s, 3, &m, &meta);
	assert_false(names_generation(k->s, 3, 1));
	assert_true(names_generation(k->s, 3, 2));
	store_meta_deinit(&meta);
	model_check(k->s, 3, &m);
	/* What nothing names goes with the checkpoints that named it. */
	assert_int_equal(store_remove(k->s, SESSION, 1, NULL), 0);
	assert_true(kit_count(k->s, "/1/").count > 0);
	model_check(k->s, 2, &m);
	assert_int_equal(store_remove(k->s, SESSION, 2, NULL), 0);
	assert_int_equal(kit_count(k->s, "/1/").count, 0);
	assert_true(kit_count(k->s, "/2/").count > 0);
	model_check(k->s, 3, &m);
	model_deinit(&m);
}

/* However many generations there are, what is kept for the last is bounded. */
static void test_many_generations(void **state)
{
	struct kit *k = *state;
	struct model m;
	struct store_meta meta;
	int64_t one = 0;
	model_init(&m, 600);
	m.file_count = 1;
	for (int g = 1; g <= 60; g++) {
		for (size_t i = 0; i < 20; i++)
			m.memories[0].seeds[((size_t)g * 37 + i * 13) % 600] =
				(uint32_t)(g * 10000 + (int)i * 2 + 1);
		model_write(k->s, g, &m, &meta);
		if (g == 1)
			one = meta.stored_bytes;
		store_meta_deinit(&meta);
		if (g > 2)
			assert_int_equal(store_remove(k->s, SESSION, g - 2, NULL), 0);
	}
	model_check(k->s, 60, &m);
	struct count all = kit_count(k->s, "s/");
	assert_true((int64_t)all.bytes < one * 5);
	model_deinit(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		BOTH(test_unchanged_pages_are_shared),
		BOTH(test_zero_pages_cost_nothing),
		BOTH(test_unchanged_files_are_shared),
		BOTH(test_changed_extents),
		BOTH(test_hot_pages),
		BOTH(test_soon_pages),
		BOTH(test_worn_packs_are_left),
		BOTH(test_many_generations),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
