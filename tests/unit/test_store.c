/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "store_kit.h"

#include <pthread.h>

/* --- there and back ------------------------------------------------------------------- */

static void test_round_trip(void **state)
{
	struct kit *k = *state;
	struct model m;
	struct error e = ERROR_INIT;
	struct store_meta meta;
	model_init(&m, 3000);
	model_write(k->s, 1, &m, &meta);
	assert_int_equal(meta.generation, 1);
	assert_int_equal(meta.basis, 0);
	assert_true(meta.stored_bytes > 0 && meta.objects >= 2);
	store_meta_deinit(&meta);
	model_check(k->s, 1, &m);
	assert_int_equal(kit_verify(k->s, 1, &e), 0);
	assert_int_equal(kit_count(k->s, ".mark").count, 0);
	assert_int_equal(kit_newest(k->s), 1);
	model_deinit(&m);
}

static void test_meta(void **state)
{
	struct kit *k = *state;
	struct model m;
	struct error e = ERROR_INIT;
	struct store_read *read;
	model_init(&m, 10);
	model_write(k->s, 3, &m, NULL);
	assert_int_equal(store_read_open(k->s, SESSION, 3, &read, &e), 0);
	const struct store_meta *meta = store_read_meta(read);
	assert_string_equal(meta->session, SESSION);
	assert_int_equal(meta->generation, 3);
	assert_int_equal(meta->created_at, 1700000000000);
	assert_int_equal(meta->memory_bytes, 12345);
	assert_string_equal(meta->user, "j\xc3\xbcrgen/x");
	assert_string_equal(meta->server, "");
	assert_string_equal(meta->cpu, "sse avx");
	assert_string_equal(meta->criu, "4.2");
	assert_string_equal(meta->spec, "{\"a\": [1]}");
	assert_false(meta->aside);
	store_read_free(read);
	model_deinit(&m);
}

static void test_nothing_in_it(void **state)
{
	struct kit *k = *state;
	struct model m = { 0 };
	model_write(k->s, 1, &m, NULL);
	model_check(k->s, 1, &m);
}

static void test_one_file(void **state)
{
	struct kit *k = *state;
	struct model m;
	struct error e = ERROR_INIT;
	struct store_read *read;
	model_init(&m, 10);
	model_write(k->s, 1, &m, NULL);
	assert_int_equal(store_read_open(k->s, SESSION, 1, &read, &e), 0);
	for (size_t i = 0; i < m.file_count; i++) {
		cleanup_free char *name = str_printf("f/%zu", i);
		cleanup_free unsigned char *data = model_file(&m, i);
		cleanup_free char *path = str_printf("%s/out", k->dir);
		cleanup_fd int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
		assert_int_equal(store_read_file(read, name, fd, &e), 0);
		assert_true(file_is(path, data, model_file_size(&m, i)));
	}
	assert_int_equal(store_read_file(read, "f/none", -1, &e), -ENOENT);
	store_read_free(read);
	model_deinit(&m);
}

static bool skip_big(const char *name, void *arg)
{
	(void)arg;
	return strcmp(name, "f/3") == 0;
}

static void test_skip(void **state)
{
	struct kit *k = *state;
	struct model m;
	struct error e = ERROR_INIT;
	struct store_read *read;
	cleanup_free char *dir = str_printf("%s/out", k->dir);
	cleanup_free char *there = str_printf("%s/out/f/2", k->dir);
	cleanup_free char *skipped = str_printf("%s/out/f/3", k->dir);
	model_init(&m, 10);
	model_write(k->s, 1, &m, NULL);
	assert_int_equal(store_read_open(k->s, SESSION, 1, &read, &e), 0);
	/* Twice, as after a crash of the first. */
	for (int i = 0; i < 2; i++)
		assert_int_equal(store_read_lay_out(read, dir, skip_big, NULL, &e), 0);
	assert_int_equal(access(there, F_OK), 0);
	assert_int_equal(access(skipped, F_OK), -1);
	store_read_free(read);
	model_deinit(&m);
}

static void test_tree(void **state)
{
	struct kit *k = *state;
	struct error e = ERROR_INIT;
	struct store_meta meta;
	struct store_write *w;
	struct store_read *read;
	cleanup_free char *deep = str_printf("%s/tree/a/b", k->dir);
	cleanup_free char *file = str_printf("%s/tree/a/b/c", k->dir);
	cleanup_free char *top = str_printf("%s/tree", k->dir);
	cleanup_free char *out = str_printf("%s/out", k->dir);
	cleanup_free char *found = str_printf("%s/out/criu/a/b/c", k->dir);
	assert_int_equal(fs_mkdirs(deep, 0700, NULL), 0);
	assert_int_equal(fs_replace(file, "abc", 3, 0600, NULL), 0);
	assert_int_equal(store_write_begin(k->s, SESSION, 1, &w, &e), 0);
	assert_int_equal(store_write_tree(w, "criu", top, &e), 0);
	assert_int_equal(kit_commit(w, STORE_VERIFY_ALL, &meta, &e), 0);
	store_write_free(w);
	store_meta_deinit(&meta);
	assert_int_equal(store_read_open(k->s, SESSION, 1, &read, &e), 0);
	assert_int_equal(store_read_lay_out(read, out, NULL, NULL, &e), 0);
	assert_true(file_is(found, "abc", 3));
	store_read_free(read);
	/* Links have no business in it. */
	cleanup_free char *link = str_printf("%s/tree/link", k->dir);
	assert_int_equal(symlink("/etc/passwd", link), 0);
	assert_int_equal(store_write_begin(k->s, SESSION, 2, &w, &e), 0);
	assert_int_equal(store_write_tree(w, "criu", top, &e), -EINVAL);
	store_write_free(w);
}

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

static int feed_one(void *to, size_t len, void *arg, struct error *e)
{
	(void)e;
	for (size_t i = 0; i < len; i += STORE_PAGE)
		page_fill((unsigned char *)to + i, (*(uint32_t *)arg)++);
	return 0;
}

/* Extents of one page each go into frames together all the same. */
static void test_small_extents(void **state)
{
	struct kit *k = *state;
	struct error e = ERROR_INIT;
	struct store_write *w;
	struct store_memory_write *m;
	struct store_meta meta;
	struct store_read *read;
	const struct store_frame *frames;
	const struct store_memory *memories;
	uint32_t seed = 1;
	assert_int_equal(store_write_begin(k->s, SESSION, 1, &w, &e), 0);
	assert_int_equal(store_memory_begin(w, "m", &m, &e), 0);
	for (uint64_t i = 0; i < 1000; i++)
		assert_int_equal(
			store_memory_extent(m, i * 3 * STORE_PAGE, 1, 0, feed_one, &seed, &e), 0);
	/* What follows with the same flags is the same extent; backwards is none. */
	assert_int_equal(
		store_memory_extent(m, (999 * 3 + 1) * STORE_PAGE, 1, 0, feed_one, &seed, &e), 0);
	assert_int_equal(store_memory_end(m, &e), 0);
	assert_int_equal(kit_commit(w, STORE_VERIFY_ALL, &meta, &e), 0);
	store_meta_deinit(&meta);
	store_write_free(w);
	assert_int_equal(store_read_open(k->s, SESSION, 1, &read, &e), 0);
	assert_int_equal(store_read_memories(read, &memories), 1);
	assert_int_equal(memories[0].extent_count, 1000);
	assert_int_equal(memories[0].pages, 1001);
	assert_int_equal(store_read_frames(read, &frames), 63);
	store_read_free(read);
}

static void test_bad_extents(void **state)
{
	struct kit *k = *state;
	static const struct {
		uint64_t vaddr, pages;
	} bad[] = {
		{ 0x1000, 1 }, /* before the last one's end */
		{ 0x3001, 1 }, { 0x4000, 0 }, { 0x4000, UINT64_MAX }, { UINT64_MAX - 4095, 2 },
	};
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct error e = ERROR_INIT;
		struct store_write *w;
		struct store_memory_write *m;
		struct store_meta meta;
		uint32_t seed = 1;
		assert_int_equal(store_write_begin(k->s, SESSION, 1, &w, &e), 0);
		assert_int_equal(store_memory_begin(w, "m", &m, &e), 0);
		assert_int_equal(store_memory_extent(m, 0x1000, 2, 0, feed_one, &seed, &e), 0);
		assert_int_equal(
			store_memory_extent(m, bad[i].vaddr, bad[i].pages, 0, feed_one, &seed, &e),
			-EINVAL);
		/* The first failure is that of everything after it. */
		struct error again = ERROR_INIT;
		assert_int_equal(store_memory_end(m, &again), -EINVAL);
		assert_int_equal(kit_commit(w, STORE_VERIFY_SAMPLE, &meta, &again), -EINVAL);
		assert_string_equal(again.text, e.text);
		store_meta_deinit(&meta);
		store_write_free(w);
		assert_int_equal(kit_count(k->s, "/1/").count, 0);
	}
}

static int feed_then_fail(void *to, size_t len, void *arg, struct error *e)
{
	int *calls = arg;
	if (++*calls == 3)
		return error_set(e, EPIPE, "the source has gone");
	memset(to, *calls, len);
	return 0;
}

static void test_source_fails(void **state)
{
	struct kit *k = *state;
	struct error e = ERROR_INIT;
	struct store_write *w;
	struct store_memory_write *m;
	struct store_meta meta;
	int calls = 0;
	assert_int_equal(store_write_begin(k->s, SESSION, 1, &w, &e), 0);
	assert_int_equal(store_memory_begin(w, "m", &m, &e), 0);
	assert_int_equal(store_memory_extent(m, 0, 2000, 0, feed_then_fail, &calls, &e), -EPIPE);
	assert_int_equal(kit_commit(w, STORE_VERIFY_SAMPLE, &meta, &e), -EPIPE);
	assert_string_equal(e.text, "the source has gone");
	store_meta_deinit(&meta);
	store_write_free(w);
	assert_int_equal(kit_count(k->s, "/1/").count, 0);
}

static void test_misuse(void **state)
{
	struct kit *k = *state;
	struct error e = ERROR_INIT;
	struct store_write *w;
	struct store_memory_write *m;
	struct store_memory_write *same;
	struct store_meta meta;
	assert_int_equal(store_write_begin(k->s, "../../etc/passwd", 1, &w, &e), -EINVAL);
	assert_int_equal(store_write_begin(k->s, SESSION, -1, &w, &e), -EINVAL);
	assert_int_equal(store_write_begin(k->s, SESSION, 1, &w, &e), 0);
	assert_int_equal(store_memory_begin(w, "../m", &m, &e), -EINVAL);
	assert_int_equal(store_memory_begin(w, "m", &m, &e), 0);
	assert_int_equal(store_memory_begin(w, "m", &same, &e), -EINVAL);
	/* The memory was not ended. */
	assert_int_equal(kit_commit(w, STORE_VERIFY_SAMPLE, &meta, &e), -EINVAL);
	store_meta_deinit(&meta);
	assert_int_equal(kit_commit(w, STORE_VERIFY_SAMPLE, &meta, &e), -EINVAL);
	store_meta_deinit(&meta);
	store_write_free(w);
	cleanup_fd int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	assert_int_equal(store_write_begin(k->s, SESSION, 1, &w, &e), 0);
	for (int i = 0; i < 2; i++)
		assert_int_equal(store_write_file(w, "same", 0600, fd, &e), 0);
	assert_int_equal(kit_commit(w, STORE_VERIFY_SAMPLE, &meta, &e), -EINVAL);
	assert_non_null(strstr(e.text, "same"));
	store_meta_deinit(&meta);
	store_write_free(w);
	assert_int_equal(kit_count(k->s, "/1/").count, 0);
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

/* --- the house ------------------------------------------------------------------------- */

struct seen {
	int64_t generations[16];
	bool aside[16];
	size_t count, damaged;
	struct error why;
};

static int see(const struct store_meta *meta, void *arg)
{
	struct seen *s = arg;
	assert_null(meta->spec);
	assert_string_equal(meta->user, "j\xc3\xbcrgen/x");
	s->aside[s->count] = meta->aside;
	s->generations[s->count++] = meta->generation;
	return 0;
}

static int see_damage(const char *session, int64_t generation, const struct error *why, void *arg)
{
	struct seen *s = arg;
	assert_string_equal(session, SESSION);
	assert_int_equal(generation, 2);
	s->damaged++;
	s->why = *why;
	return 0;
}

static void test_list_and_newest(void **state)
{
	struct kit *k = *state;
	struct model m;
	struct error e = ERROR_INIT;
	struct seen seen = { 0 };
	static const int64_t generations[] = { 1, 2, 9, 10, 100 };
	model_init(&m, 10);
	assert_int_equal(kit_newest(k->s), -ENOENT);
	for (size_t i = 0; i < 5; i++)
		model_write(k->s, generations[i], &m, NULL);
	assert_int_equal(store_set_aside(k->s, SESSION, 100, &e), 0);
	assert_int_equal(store_set_aside(k->s, SESSION, 100, &e), 0);
	assert_int_equal(store_set_aside(k->s, SESSION, 50, &e), -ENOENT);
	assert_int_equal(kit_newest(k->s), 10);
	assert_int_equal(store_list(k->s, NULL, see, NULL, &seen, &e), 0);
	assert_int_equal(seen.count, 5);
	for (size_t i = 0; i < 5; i++) {
		assert_int_equal(seen.generations[i], generations[i]);
		assert_int_equal(seen.aside[i], generations[i] == 100);
	}
	seen.count = 0;
	assert_int_equal(store_list(k->s, OTHER_SESSION, see, NULL, &seen, &e), 0);
	assert_int_equal(seen.count, 0);
	/* A damaged one hides no other. */
	assert_int_equal(object_put(k->s->objects, "s/" SESSION "/2/manifest", "x", 1, false, &e),
			 0);
	assert_int_equal(store_list(k->s, SESSION, see, see_damage, &seen, &e), 0);
	assert_int_equal(seen.count, 4);
	assert_int_equal(seen.damaged, 1);
	assert_int_equal(seen.why.fault, FAULT_CORRUPT);
	assert_non_null(strstr(seen.why.text, "s/" SESSION "/2/manifest"));
	seen.count = 0;
	assert_int_equal(store_list(k->s, SESSION, see, NULL, &seen, &e), -EBADMSG);
	assert_int_equal(seen.count, 4);
	/* One that is set aside is no basis. */
	struct store_meta meta;
	model_write(k->s, 101, &m, &meta);
	assert_int_equal(meta.basis, 10);
	store_meta_deinit(&meta);
	model_deinit(&m);
}

static void test_remove_and_forget(void **state)
{
	struct kit *k = *state;
	struct model m;
	struct error e = ERROR_INIT;
	struct store_read *read;
	model_init(&m, 100);
	model_write(k->s, 1, &m, NULL);
	m.memories[0].seeds[0]++;
	model_write(k->s, 2, &m, NULL);
	assert_int_equal(store_remove(k->s, SESSION, 77, &e), 0);
	assert_int_equal(store_set_aside(k->s, SESSION, 1, &e), 0);
	assert_int_equal(store_remove(k->s, SESSION, 1, &e), 0);
	assert_int_equal(kit_count(k->s, "aside").count, 0);
	assert_int_equal(store_read_open(k->s, SESSION, 1, &read, &e), -ENOENT);
	model_check(k->s, 2, &m);
	assert_int_equal(store_remove(k->s, SESSION, 2, &e), 0);
	assert_int_equal(kit_count(k->s, "").count, 1); /* the key */
	model_write(k->s, 3, &m, NULL);
	assert_int_equal(store_forget(k->s, SESSION, &e), 0);
	assert_int_equal(kit_count(k->s, "").count, 0);
	assert_int_equal(store_read_open(k->s, SESSION, 3, &read, &e), -ENOENT);
	/* It may come again. */
	model_write(k->s, 1, &m, NULL);
	model_check(k->s, 1, &m);
	model_deinit(&m);
}

/* --- several at once -------------------------------------------------------------------- */

static void test_two_writers(void **state)
{
	struct kit *k = *state;
	struct model m;
	struct error e = ERROR_INIT;
	struct store_write *a;
	struct store_write *b;
	struct store_meta meta;
	model_init(&m, 500);
	assert_int_equal(store_write_begin(k->s, SESSION, 1, &a, &e), 0);
	assert_int_equal(store_write_begin(k->s, SESSION, 1, &b, &e), 0);
	for (size_t i = 0; i < m.memory_count; i++) {
		assert_int_equal(put_memory(a, &m.memories[i], &e), 0);
		assert_int_equal(put_memory(b, &m.memories[i], &e), 0);
	}
	assert_int_equal(put_files(a, &m, &e), 0);
	assert_int_equal(kit_commit(a, STORE_VERIFY_SAMPLE, &meta, &e), 0);
	store_meta_deinit(&meta);
	assert_int_equal(kit_commit(b, STORE_VERIFY_SAMPLE, &meta, &e), -EEXIST);
	assert_non_null(strstr(e.text, "another writer"));
	store_meta_deinit(&meta);
	store_write_free(a);
	store_write_free(b);
	model_check(k->s, 1, &m);
	assert_int_equal(kit_count(k->s, ".mark").count, 0);
	assert_int_equal(model_try(k->s, 1, &m, NULL, &e), -EEXIST);
	model_deinit(&m);
}

struct putter {
	pthread_t thread;
	struct store_write *w;
	struct model m;
	char name[32];
	int r;
};

static void *put_one(void *arg)
{
	struct putter *p = arg;
	struct error e = ERROR_INIT;
	p->r = put_memory(p->w, &p->m.memories[0], &e);
	return NULL;
}

struct reader {
	pthread_t thread;
	struct store_read *read;
	const struct model *m;
	int r;
};

static void *read_one(void *arg)
{
	struct reader *r = arg;
	struct error e = ERROR_INIT;
	r->r = read_memories(r->read, r->m, &e);
	return NULL;
}

static void test_threads(void **state)
{
	struct kit *k = *state;
	struct error e = ERROR_INIT;
	struct putter putters[4];
	struct reader readers[3];
	struct store_write *w;
	struct store_meta meta;
	struct model all = { 0 };
	uint64_t done;
	uint64_t total;
	assert_int_equal(store_write_begin(k->s, SESSION, 1, &w, &e), 0);
	for (size_t i = 0; i < 4; i++) {
		struct putter *p = &putters[i];
		*p = (struct putter) { .w = w };
		snprintf(p->name, sizeof(p->name), "m/%zu", i);
		model_add(&p->m, p->name, 1500, (uint32_t)(10000 * i + 1));
		all.memories[all.memory_count++] = p->m.memories[0];
		assert_int_equal(pthread_create(&p->thread, NULL, put_one, p), 0);
	}
	store_write_progress(w, &done, &total);
	assert_true(done <= total);
	for (size_t i = 0; i < 4; i++) {
		pthread_join(putters[i].thread, NULL);
		assert_int_equal(putters[i].r, 0);
	}
	assert_int_equal(kit_commit(w, STORE_VERIFY_ALL, &meta, &e), 0);
	store_write_progress(w, &done, &total);
	assert_int_equal(total, (uint64_t)4 * 1500 * STORE_PAGE);
	assert_int_equal(done, total);
	store_meta_deinit(&meta);
	store_write_free(w);
	struct store_read *read;
	assert_int_equal(store_read_open(k->s, SESSION, 1, &read, &e), 0);
	for (size_t i = 0; i < 3; i++) {
		readers[i] = (struct reader) { .read = read, .m = &all };
		assert_int_equal(pthread_create(&readers[i].thread, NULL, read_one, &readers[i]),
				 0);
	}
	for (size_t i = 0; i < 3; i++) {
		pthread_join(readers[i].thread, NULL);
		assert_int_equal(readers[i].r, 0);
	}
	store_read_free(read);
	for (size_t i = 0; i < 4; i++)
		model_deinit(&putters[i].m);
}

/* More memories begun at once than there are batches, by one thread. */
static void test_many_memories_open(void **state)
{
	struct kit *k = *state;
	struct error e = ERROR_INIT;
	struct store_write *w;
	struct store_memory_write *m[40];
	struct store_meta meta;
	uint32_t seed = 1;
	assert_int_equal(store_write_begin(k->s, SESSION, 1, &w, &e), 0);
	for (size_t i = 0; i < 40; i++) {
		char name[16];
		snprintf(name, sizeof(name), "m%zu", i);
		assert_int_equal(store_memory_begin(w, name, &m[i], &e), 0);
	}
	for (uint64_t k2 = 0; k2 < 3; k2++)
		for (size_t i = 0; i < 40; i++)
			assert_int_equal(store_memory_extent(m[i], k2 * 0x100000, 10, 0, feed_one,
							     &seed, &e),
					 0);
	for (size_t i = 0; i < 40; i++)
		assert_int_equal(store_memory_end(m[i], &e), 0);
	assert_int_equal(kit_commit(w, STORE_VERIFY_ALL, &meta, &e), 0);
	store_meta_deinit(&meta);
	store_write_free(w);
}

static void test_abandoned(void **state)
{
	struct kit *k = *state;
	struct model m;
	struct error e = ERROR_INIT;
	struct store_write *w;
	struct store_memory_write *open;
	uint32_t seed = 1;
	model_init(&m, 9000);
	assert_int_equal(store_write_begin(k->s, SESSION, 1, &w, &e), 0);
	assert_int_equal(put_memory(w, &m.memories[0], &e), 0);
	assert_int_equal(store_memory_begin(w, "open", &open, &e), 0);
	assert_int_equal(store_memory_extent(open, 0, 10, 0, feed_one, &seed, &e), 0);
	store_write_free(w);
	assert_int_equal(kit_count(k->s, "/1/").count, 0);
	model_deinit(&m);
}

/* --- large ones ------------------------------------------------------------------------- */

enum { LARGE = 300000 }; /* pages, so that the index has several pieces */

static int feed_numbers(void *to, size_t len, void *arg, struct error *e)
{
	(void)e;
	uint64_t *next = arg;
	memset(to, 7, len);
	for (size_t i = 0; i < len; i += STORE_PAGE, ++*next)
		memcpy((char *)to + i, next, sizeof(*next));
	return 0;
}

static size_t peak_kib(void)
{
	char line[256];
	size_t kib = 0;
	cleanup_file FILE *f = fopen("/proc/self/status", "re");
	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "VmHWM: %zu", &kib) == 1)
			break;
	return kib;
}

static void write_large(struct kit *k, int64_t generation, struct store_meta *meta)
{
	struct error e = ERROR_INIT;
	struct store_write *w;
	struct store_memory_write *m;
	uint64_t next = 0;
	assert_int_equal(store_write_begin(k->s, SESSION, generation, &w, &e), 0);
	assert_int_equal(store_memory_begin(w, "m", &m, &e), 0);
	assert_int_equal(store_memory_extent(m, 0x10000, LARGE, 0, feed_numbers, &next, &e), 0);
	assert_int_equal(store_memory_end(m, &e), 0);
	assert_int_equal(kit_commit(w, STORE_VERIFY_SAMPLE, meta, &e), 0);
	store_write_free(w);
}

struct numbers {
	const struct store_memory *m;
	uint64_t seen;
};

static int see_numbers(uint32_t frame, const void *pages, size_t len, void *arg)
{
	struct numbers *n = arg;
	for (uint64_t p = 0; p < n->m->pages; p++) {
		uint64_t number;
		if (n->m->frames[p] != frame)
			continue;
		assert_true(n->m->slots[p] * (size_t)STORE_PAGE < len);
		memcpy(&number, (const char *)pages + n->m->slots[p] * (size_t)STORE_PAGE,
		       sizeof(number));
		assert_int_equal(number, p);
		n->seen++;
	}
	return 0;
}

static void test_large(void **state)
{
	struct kit *k = *state;
	struct error e = ERROR_INIT;
	struct store_meta meta;
	struct store_read *read;
	const struct store_frame *frames;
	size_t before = peak_kib();
	for (int i = 1; i <= 2; i++) {
		write_large(k, i, &meta);
		/* The index is nearly all of the second one: its digests cannot be squeezed. */
		if (i == 2)
			assert_true(meta.stored_bytes < LARGE * 14 && meta.basis == 1);
		store_meta_deinit(&meta);
	}
	size_t grown = peak_kib() - before;
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
	assert_true(grown < 128 * 1024);
#else
	(void)grown;
#endif
	assert_int_equal(store_read_open(k->s, SESSION, 2, &read, &e), 0);
	struct numbers n = { 0 };
	assert_int_equal(store_read_memories(read, &n.m), 1);
	assert_int_equal(n.m->pages, LARGE);
	size_t count = store_read_frames(read, &frames);
	uint32_t some[40];
	for (size_t i = 0; i < ARRAY_SIZE(some); i++)
		some[i] = (uint32_t)(i * (count / ARRAY_SIZE(some)));
	assert_int_equal(store_read_pages(read, some, ARRAY_SIZE(some), see_numbers, &n, &e), 0);
	assert_true(n.seen >= ARRAY_SIZE(some));
	store_read_free(read);
	assert_int_equal(kit_verify(k->s, 2, &e), 0);
}

int main(void)
{
#define BOTH(test)                                                                                 \
	cmocka_unit_test_setup_teardown(test, kit_file, kit_close),                                \
		cmocka_unit_test_setup_teardown(test, kit_memory, kit_close)
	const struct CMUnitTest tests[] = {
		BOTH(test_round_trip),
		BOTH(test_meta),
		BOTH(test_nothing_in_it),
		BOTH(test_one_file),
		BOTH(test_skip),
		BOTH(test_tree),
		BOTH(test_unchanged_pages_are_shared),
		BOTH(test_zero_pages_cost_nothing),
		BOTH(test_unchanged_files_are_shared),
		BOTH(test_changed_extents),
		BOTH(test_small_extents),
		BOTH(test_bad_extents),
		BOTH(test_source_fails),
		BOTH(test_misuse),
		BOTH(test_hot_pages),
		BOTH(test_soon_pages),
		BOTH(test_worn_packs_are_left),
		BOTH(test_many_generations),
		BOTH(test_list_and_newest),
		BOTH(test_remove_and_forget),
		BOTH(test_two_writers),
		BOTH(test_threads),
		BOTH(test_many_memories_open),
		BOTH(test_abandoned),
		cmocka_unit_test_setup_teardown(test_large, kit_file, kit_close),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
