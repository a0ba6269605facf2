/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A session of a test's own, put into stores and compared with what comes out;
 * and a store whose requests can be made to fail, wait or lie. For
 * test_store_*.c, after cmocka.h.
 */
#include "base/cleanup.h"
#include "base/fs.h"
#include "store/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/stat.h>

#define SESSION       "0123456789abcdef"
#define OTHER_SESSION "fedcba9876543210"

enum { MIB = 1 << 20 };

struct kit {
	char dir[64];
	char root[80]; /* of the file store; "" for one in memory */
	char key[80];
	char cache[80];
	struct store *s;
};

static inline struct store *kit_open(const struct kit *k, const char *root, const char *key)
{
	struct error e = ERROR_INIT;
	struct store *s = NULL;
	cleanup_free char *url = root[0] ? str_printf("file://%s", root) : strdup("memory:");
	struct store_options options = { .url = url, .key_file = key };
	(void)k;
	if (store_open(&options, &s, &e) < 0)
		fail_msg("%s", e.text);
	return s;
}

static inline int kit_setup(void **state, bool memory)
{
	struct kit *k = calloc(1, sizeof(*k));
	snprintf(k->dir, sizeof(k->dir), "/tmp/elsa-test.XXXXXX");
	assert_non_null(mkdtemp(k->dir));
	snprintf(k->key, sizeof(k->key), "%s/key", k->dir);
	snprintf(k->cache, sizeof(k->cache), "%s/cache", k->dir);
	if (!memory)
		snprintf(k->root, sizeof(k->root), "%s/store", k->dir);
	k->s = kit_open(k, k->root, k->key);
	*state = k;
	return 0;
}

static inline int kit_file(void **state)
{
	return kit_setup(state, false);
}

static inline int kit_memory(void **state)
{
	return kit_setup(state, true);
}

static inline int kit_close(void **state)
{
	struct kit *k = *state;
	store_close(k->s);
	assert_int_equal(fs_remove_tree(k->dir, NULL), 0);
	free(k);
	return 0;
}

/* --- a session ---------------------------------------------------------------------- */

/* What a page is made of: 0: zeros; others by seed, half of them compressible. */
static inline void page_fill(unsigned char *to, uint32_t seed)
{
	uint64_t x = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
	for (size_t i = 0; i < STORE_PAGE; i += 8) {
		x ^= x << 13, x ^= x >> 7, x ^= x << 17;
		uint64_t word = seed == 0 ? 0 : seed % 2 ? x : x % 16;
		memcpy(to + i, &word, 8);
	}
}

enum { KIT_EXTENTS = 4 };

struct model_memory {
	const char *name;
	struct store_extent extents[KIT_EXTENTS];
	size_t extent_count;
	uint32_t *seeds; /* of all pages */
};

struct model {
	struct model_memory memories[4];
	size_t memory_count;
	size_t file_count; /* files "f/N" of N * 70000 bytes, and one of 3 MiB */
	size_t last_file;  /* ... or of so many bytes */
	uint32_t file_seed;
};

static inline uint64_t model_pages(const struct model_memory *m)
{
	uint64_t n = 0;
	for (size_t i = 0; i < m->extent_count; i++)
		n += m->extents[i].pages;
	return n;
}

static inline void model_add(struct model *m, const char *name, uint64_t pages, uint32_t seed)
{
	struct model_memory *mm = &m->memories[m->memory_count++];
	*mm = (struct model_memory) { .name = name, .extent_count = 3 };
	mm->extents[0] = (struct store_extent) { 0x400000, 1, 1 };
	mm->extents[1] = (struct store_extent) { 0x500000, 2, 0 };
	mm->extents[2] = (struct store_extent) { 0x7f0000000000, pages - 3, 2 };
	mm->seeds = calloc(pages, sizeof(*mm->seeds));
	for (uint64_t i = 0; i < pages; i++)
		mm->seeds[i] = i % 5 == 4 ? 0 : seed + (uint32_t)i;
}

static inline void model_init(struct model *m, uint64_t pages)
{
	*m = (struct model) { .file_count = 4, .file_seed = 77 };
	model_add(m, "pagemap-12.img", pages, 1000);
	model_add(m, "pagemap-7.img", 40, 500000);
}

static inline void model_deinit(struct model *m)
{
	for (size_t i = 0; i < m->memory_count; i++)
		free(m->memories[i].seeds);
}

struct feed {
	const uint32_t *seeds;
};

static inline int feed_pages(void *to, size_t len, void *arg, struct error *e)
{
	(void)e;
	struct feed *f = arg;
	for (size_t i = 0; i < len; i += STORE_PAGE)
		page_fill((unsigned char *)to + i, *f->seeds++);
	return 0;
}

/* Pages of the seeds from *arg on, which it counts up. */
static inline int feed_one(void *to, size_t len, void *arg, struct error *e)
{
	(void)e;
	for (size_t i = 0; i < len; i += STORE_PAGE)
		page_fill((unsigned char *)to + i, (*(uint32_t *)arg)++);
	return 0;
}

static inline int put_memory(struct store_write *w, const struct model_memory *mm, struct error *e)
{
	struct store_memory_write *m;
	struct feed feed = { mm->seeds };
	int r = store_memory_begin(w, mm->name, &m, e);
	if (r < 0)
		return r;
	for (size_t i = 0; i < mm->extent_count && r == 0; i++)
		r = store_memory_extent(m, mm->extents[i].vaddr, mm->extents[i].pages,
					mm->extents[i].flags, feed_pages, &feed, e);
	int end = store_memory_end(m, r == 0 ? e : NULL);
	return r < 0 ? r : end;
}

static inline size_t model_file_size(const struct model *m, size_t i)
{
	if (i + 1 < m->file_count)
		return i * 70000;
	return m->last_file ? m->last_file : 3 * MIB + 5;
}

static inline unsigned char *model_file(const struct model *m, size_t i)
{
	size_t size = model_file_size(m, i);
	unsigned char *data = malloc(size + STORE_PAGE);
	for (size_t at = 0; at < size; at += STORE_PAGE)
		page_fill(data + at, m->file_seed + (uint32_t)(i * 1000 + at / STORE_PAGE));
	return data;
}

static inline int put_files(struct store_write *w, const struct model *m, struct error *e)
{
	int r = 0;
	for (size_t i = 0; i < m->file_count && r == 0; i++) {
		char name[32];
		cleanup_free unsigned char *data = model_file(m, i);
		cleanup_fd int fd = open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
		assert_true(fd >= 0);
		assert_int_equal(fs_write_all(fd, (char *)data, model_file_size(m, i)), 0);
		assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
		snprintf(name, sizeof(name), "f/%zu", i);
		r = store_write_file(w, name, 0640, fd, e);
	}
	return r;
}

static inline int kit_commit(struct store_write *w, enum store_verify verify,
			     struct store_meta *meta, struct error *e)
{
	*meta = (struct store_meta) {
		.created_at = 1700000000000,
		.memory_bytes = 12345,
		.user = strdup("j\xc3\xbcrgen/x"),
		.server = strdup(""),
		.cpu = strdup("sse avx"),
		.criu = strdup("4.2"),
		.kernel = strdup("6.1"),
		.spec = strdup("{\"a\": [1]}"),
	};
	return store_write_commit(w, meta, verify, e);
}

/* Writes the whole model as a generation. *meta (may be NULL) is to be freed. */
static inline int model_try(struct store *s, int64_t generation, const struct model *m,
			    struct store_meta *meta, struct error *e)
{
	cleanup(store_write_freep) struct store_write *w = NULL;
	struct store_meta own = { 0 };
	int r = store_write_begin(s, SESSION, generation, &w, e);
	if (r == 0)
		r = put_files(w, m, e);
	for (size_t i = 0; i < m->memory_count && r == 0; i++)
		r = put_memory(w, &m->memories[i], e);
	if (r == 0)
		r = kit_commit(w, STORE_VERIFY_SAMPLE, &own, e);
	if (meta)
		*meta = own;
	else
		store_meta_deinit(&own);
	return r;
}

static inline void model_write(struct store *s, int64_t generation, const struct model *m,
			       struct store_meta *meta)
{
	struct error e = ERROR_INIT;
	if (model_try(s, generation, m, meta, &e) < 0)
		fail_msg("%s", e.text);
}

/* --- and back ------------------------------------------------------------------------ */

/* Which pages of a memory a frame holds. */
struct compare {
	const struct store_read *read;
	const struct model *m;
	const struct store_memory *memories;
	size_t memory_count;
	uint64_t pages; /* compared */
	uint64_t wrong;
};

static inline const struct model_memory *model_find(const struct model *m, const char *name)
{
	for (size_t i = 0; i < m->memory_count; i++)
		if (strcmp(m->memories[i].name, name) == 0)
			return &m->memories[i];
	return NULL;
}

static inline int compare_frame(uint32_t frame, const void *pages, size_t len, void *arg)
{
	struct compare *c = arg;
	unsigned char wanted[STORE_PAGE];
	for (size_t i = 0; i < c->memory_count; i++) {
		const struct store_memory *m = &c->memories[i];
		const struct model_memory *mm = model_find(c->m, m->name);
		for (uint64_t p = 0; p < m->pages; p++) {
			if (m->frames[p] != frame)
				continue;
			page_fill(wanted, mm->seeds[p]);
			c->pages++;
			if ((m->slots[p] + 1u) * STORE_PAGE > len ||
			    memcmp((const char *)pages + m->slots[p] * (size_t)STORE_PAGE, wanted,
				   STORE_PAGE) != 0)
				c->wrong++;
		}
	}
	return 0;
}

static inline int read_memories(struct store_read *read, const struct model *m, struct error *e)
{
	const struct store_frame *frames;
	struct compare c = { .read = read, .m = m };
	uint64_t pages = 0;
	size_t count = store_read_frames(read, &frames);
	c.memory_count = store_read_memories(read, &c.memories);
	assert_int_equal(c.memory_count, m->memory_count);
	for (size_t i = 0; i < c.memory_count; i++) {
		const struct store_memory *sm = &c.memories[i];
		const struct model_memory *mm = model_find(m, sm->name);
		assert_non_null(mm);
		assert_int_equal(sm->extent_count, mm->extent_count);
		assert_memory_equal(sm->extents, mm->extents,
				    sm->extent_count * sizeof(*sm->extents));
		assert_int_equal(sm->pages, model_pages(mm));
		for (uint64_t p = 0; p < sm->pages; p++) {
			assert_int_equal(sm->frames[p] == STORE_ZERO, mm->seeds[p] == 0);
			pages += mm->seeds[p] != 0;
		}
	}
	cleanup_free uint32_t *all = calloc(count + 1, sizeof(*all));
	size_t n = 0;
	for (size_t i = 0; i < count; i++)
		if (frames[i].pages)
			all[n++] = (uint32_t)i;
	int r = store_read_pages(read, all, n, compare_frame, &c, e);
	assert_int_equal(c.wrong, 0); /* whatever happens, nothing wrong is given out */
	if (r == 0)
		assert_int_equal(c.pages, pages);
	return r;
}

static inline bool file_is(const char *path, const void *data, size_t len)
{
	cleanup_buf struct buf b = BUF_INIT(64 * MIB);
	return fs_read(path, &b, NULL) == 0 && b.len == len &&
	       (len == 0 || memcmp(b.data, data, len) == 0);
}

static inline int read_files(struct store_read *read, const struct model *m, struct error *e)
{
	char dir[] = "/tmp/elsa-test-out.XXXXXX";
	assert_non_null(mkdtemp(dir));
	int r = store_read_lay_out(read, dir, NULL, NULL, e);
	for (size_t i = 0; i < m->file_count && r == 0; i++) {
		struct stat st;
		cleanup_free unsigned char *data = model_file(m, i);
		cleanup_free char *path = str_printf("%s/f/%zu", dir, i);
		assert_true(file_is(path, data, model_file_size(m, i)));
		assert_int_equal(stat(path, &st), 0);
		assert_int_equal(st.st_mode & 07777, 0640);
	}
	fs_remove_tree(dir, NULL);
	return r;
}

/* Reads and compares all. */
static inline int model_read(struct store *s, int64_t generation, const struct model *m,
			     struct error *e)
{
	cleanup(store_read_freep) struct store_read *read = NULL;
	int r = store_read_open(s, SESSION, generation, &read, e);
	if (r == 0)
		r = read_memories(read, m, e);
	if (r == 0)
		r = read_files(read, m, e);
	return r;
}

static inline void model_check(struct store *s, int64_t generation, const struct model *m)
{
	struct error e = ERROR_INIT;
	if (model_read(s, generation, m, &e) < 0)
		fail_msg("%s", e.text);
}

static inline int kit_verify(struct store *s, int64_t generation, struct error *e)
{
	cleanup(store_read_freep) struct store_read *read = NULL;
	int r = store_read_open(s, SESSION, generation, &read, e);
	return r < 0 ? r : store_read_verify(read, NULL, NULL, e);
}

static inline int64_t kit_newest(struct store *s)
{
	int64_t generation = -1;
	int r = store_newest(s, SESSION, &generation, NULL);
	return r < 0 ? r : generation;
}

/* --- objects ------------------------------------------------------------------------- */

struct count {
	const char *part;
	size_t count;
	uint64_t bytes;
	char last[OBJECT_KEY_MAX + 1];
};

static inline int count_key(const char *key, const struct object_stat *st, void *arg)
{
	struct count *c = arg;
	if (strstr(key, c->part)) {
		c->count++;
		c->bytes += st->size;
		snprintf(c->last, sizeof(c->last), "%s", key);
	}
	return 0;
}

/* Objects with `part` in their keys. */
static inline struct count kit_count(struct store *s, const char *part)
{
	struct count c = { .part = part };
	assert_int_equal(object_list(s->objects, "", count_key, &c, NULL), 0);
	return c;
}

/* --- a store that fails ---------------------------------------------------------------- */

enum hook_call { HOOK_PUT, HOOK_READ, HOOK_STAT, HOOK_LIST, HOOK_REMOVE };

/* Called before each request, by its number; nonzero: that is its result. *after: the result once
 * it has been done all the same. */
typedef int hook_before(enum hook_call call, int number, const char *key, int *after, void *arg);

struct hook {
	const struct object_backend *real;
	atomic_int number;
	hook_before *_Atomic before;
	void (*spoil)(const char *key, uint64_t offset, void *data, size_t len, void *arg);
	void *arg;
};
static struct hook hook;

static inline int hook_fail(int r, const char *key, struct error *e)
{
	return error_set(e, -r, "object %s: the test says no", key);
}

#define HOOKED(call_, key_, real_)                                                                 \
	do {                                                                                       \
		int after = 0;                                                                     \
		hook_before *ask = hook.before;                                                    \
		int before = ask ? ask(call_, atomic_fetch_add(&hook.number, 1), key_, &after,     \
				       hook.arg)                                                   \
				 : 0;                                                              \
		if (before)                                                                        \
			return hook_fail(before, key_, e);                                         \
		int r = real_;                                                                     \
		return r == 0 && after ? hook_fail(after, key_, e) : r;                            \
	} while (0)

static inline int hook_put(struct object_store *s, const char *key, const void *data, size_t len,
			   bool if_absent, struct error *e)
{
	HOOKED(HOOK_PUT, key, hook.real->put(s, key, data, len, if_absent, e));
}

static inline int hook_read_now(struct object_store *s, const char *key, uint64_t offset, void *to,
				size_t len, struct error *e)
{
	int r = hook.real->read(s, key, offset, to, len, e);
	if (r == 0 && hook.spoil)
		hook.spoil(key, offset, to, len, hook.arg);
	return r;
}

static inline int hook_read(struct object_store *s, const char *key, uint64_t offset, void *to,
			    size_t len, struct error *e)
{
	HOOKED(HOOK_READ, key, hook_read_now(s, key, offset, to, len, e));
}

static inline int hook_stat(struct object_store *s, const char *key, struct object_stat *st,
			    struct error *e)
{
	HOOKED(HOOK_STAT, key, hook.real->stat(s, key, st, e));
}

static inline int hook_list(struct object_store *s, const char *prefix,
			    int (*each)(const char *key, const struct object_stat *st, void *arg),
			    void *arg, struct error *e)
{
	HOOKED(HOOK_LIST, prefix, hook.real->list(s, prefix, each, arg, e));
}

static inline int hook_remove(struct object_store *s, const char *key, struct error *e)
{
	HOOKED(HOOK_REMOVE, key, hook.real->remove(s, key, e));
}

/* Every request of the store, also those of its keyring, goes through `hook` from now on. */
static inline void hook_on(struct store *s)
{
	static struct object_backend hooked;
	if (s->objects->backend == &hooked)
		return;
	hook = (struct hook) { .real = s->objects->backend };
	hooked = *hook.real;
	hooked.put = hook_put;
	hooked.read = hook_read;
	hooked.stat = hook_stat;
	hooked.list = hook_list;
	hooked.remove = hook_remove;
	s->objects->backend = &hooked;
}

static inline void hook_off(struct store *s)
{
	s->objects->backend = hook.real;
}

/* A test on a store in files and on one in memory. */
#define BOTH(test)                                                                                 \
	cmocka_unit_test_setup_teardown(test, kit_file, kit_close),                                \
		cmocka_unit_test_setup_teardown(test, kit_memory, kit_close)
