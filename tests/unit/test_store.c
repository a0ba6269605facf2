/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/store_kit.h"

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

/* --- what is written, and what is not ------------------------------------------------- */

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
	const struct CMUnitTest tests[] = {
		BOTH(test_round_trip),
		BOTH(test_meta),
		BOTH(test_nothing_in_it),
		BOTH(test_one_file),
		BOTH(test_skip),
		BOTH(test_tree),
		BOTH(test_small_extents),
		BOTH(test_bad_extents),
		BOTH(test_source_fails),
		BOTH(test_misuse),
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
