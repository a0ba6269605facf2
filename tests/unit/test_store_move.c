/* SPDX-License-Identifier: Apache-2.0 */
/* Export, import, rotation of keys; the cache of remote packs. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/store_kit.h"

#include "store/cache.h"

#include <dirent.h>
#include <pthread.h>

/* --- export and import --------------------------------------------------------------------- */

static int open_tar(void)
{
	int fd = open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	return fd;
}

static int import(struct store *s, int fd, struct error *e)
{
	struct store_meta meta = { 0 };
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	int r = store_import(s, fd, &meta, NULL, NULL, e);
	if (r == 0) {
		assert_string_equal(meta.session, SESSION);
		assert_string_equal(meta.user, "j\xc3\xbcrgen/x");
		assert_string_equal(meta.spec, "{\"a\": [1]}");
	}
	store_meta_deinit(&meta);
	return r;
}

struct progress {
	uint64_t done, total;
};

static void note_progress(uint64_t done, uint64_t total, void *arg)
{
	struct progress *p = arg;
	assert_true(done >= p->done && done <= total);
	*p = (struct progress) { done, total };
}

static void write_two(struct store *s, struct model *m)
{
	model_init(m, 2000);
	model_write(s, 1, m, NULL);
	m->memories[0].seeds[0]++;
	model_write(s, 2, m, NULL);
}

static void test_export_import(void **state)
{
	struct kit *k = *state;
	struct model m;
	struct error e = ERROR_INIT;
	struct progress p = { 0 };
	cleanup_fd int tar = open_tar();
	write_two(k->s, &m);
	if (store_export(k->s, SESSION, 2, tar, note_progress, &p, &e) < 0)
		fail_msg("%s", e.text);
	assert_true(p.done == p.total && p.total > 0);
	/* There already. */
	assert_int_equal(import(k->s, tar, &e), -EEXIST);
	/* In another store with the same master key; the older packs come along. */
	struct store *to = kit_open(k, "", k->key);
	struct store_meta meta;
	p = (struct progress) { 0 };
	assert_int_equal(lseek(tar, 0, SEEK_SET), 0);
	if (store_import(to, tar, &meta, note_progress, &p, &e) < 0)
		fail_msg("%s", e.text);
	assert_true(p.done == p.total && p.total > 0);
	assert_int_equal(meta.generation, 2);
	store_meta_deinit(&meta);
	model_check(to, 2, &m);
	assert_int_equal(kit_verify(to, 2, &e), 0);
	assert_int_equal(kit_newest(to), 2);
	assert_int_equal(kit_count(to, ".mark").count, 0);
	struct store_gc gc = { 0 };
	assert_int_equal(store_gc(to, &gc, &e), 0);
	assert_int_equal(gc.objects, 0);
	/* It goes on from there, sharing. */
	model_write(to, 3, &m, &meta);
	assert_int_equal(meta.basis, 2);
	store_meta_deinit(&meta);
	store_close(to);
	/* Back into the first one after it was removed there, beside what is still shared. */
	assert_int_equal(store_remove(k->s, SESSION, 2, &e), 0);
	assert_int_equal(import(k->s, tar, &e), 0);
	model_check(k->s, 2, &m);
	model_deinit(&m);
}

struct pump {
	struct store *s;
	int fd, r;
};

static void *run_export(void *arg)
{
	struct pump *p = arg;
	struct error e = ERROR_INIT;
	p->r = store_export(p->s, SESSION, 2, p->fd, NULL, NULL, &e);
	close(p->fd);
	return NULL;
}

static void test_through_a_pipe(void **state)
{
	struct kit *k = *state;
	struct model m;
	struct error e = ERROR_INIT;
	struct store_meta meta;
	pthread_t thread;
	int fds[2];
	write_two(k->s, &m);
	struct store *to = kit_open(k, "", k->key);
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	struct pump p = { .s = k->s, .fd = fds[1] };
	assert_int_equal(pthread_create(&thread, NULL, run_export, &p), 0);
	assert_int_equal(store_import(to, fds[0], &meta, NULL, NULL, &e), 0);
	pthread_join(thread, NULL);
	assert_int_equal(p.r, 0);
	close(fds[0]);
	store_meta_deinit(&meta);
	model_check(to, 2, &m);
	store_close(to);
	model_deinit(&m);
}

/* Nothing of a bad archive stays, whatever is wrong with it. */
static void test_bad_archives(void **state)
{
	struct kit *k = *state;
	struct model m;
	struct error e = ERROR_INIT;
	struct stat st;
	cleanup_fd int tar = open_tar();
	write_two(k->s, &m);
	assert_int_equal(store_export(k->s, SESSION, 2, tar, NULL, NULL, &e), 0);
	assert_int_equal(fstat(tar, &st), 0);
	for (int i = 0; i < 24; i++) {
		cleanup_fd int bad = open_tar();
		struct store *to = kit_open(k, "", k->key);
		char *data = malloc((size_t)st.st_size);
		assert_int_equal(pread(tar, data, (size_t)st.st_size, 0), st.st_size);
		size_t len = (size_t)st.st_size;
		/* Cut short, or with a bit of a pack turned over: the middle of each 1/12 is far
		 * from tar's own padding. */
		size_t at = len / 12 * (size_t)(i % 12) + len / 24;
		if (i < 12)
			len = at;
		else
			data[at] ^= 1;
		assert_int_equal(fs_write_all(bad, data, len), 0);
		free(data);
		error_clear(&e);
		int r = import(to, bad, &e);
		if (r >= 0)
			fail_msg("case %d was taken", i);
		assert_true(e.text[0]);
		assert_int_equal(kit_count(to, "/2/").count + kit_count(to, "/1/").count, 0);
		store_close(to);
	}
	/* None at all. */
	cleanup_fd int empty = open_tar();
	struct store *to = kit_open(k, "", k->key);
	assert_int_equal(import(to, empty, &e), -EBADMSG);
	assert_int_equal(fs_write_all(empty, "not a tar at all", 16), 0);
	assert_int_equal(import(to, empty, &e), -EBADMSG);
	assert_int_equal(kit_count(to, "").count, 0);
	store_close(to);
	model_deinit(&m);
}

static void test_import_with_another_master(void **state)
{
	struct kit *k = *state;
	struct model m;
	struct error e = ERROR_INIT;
	char hex[65];
	cleanup_fd int tar = open_tar();
	cleanup_free char *other = str_printf("%s/other", k->dir);
	write_two(k->s, &m);
	assert_int_equal(store_export(k->s, SESSION, 2, tar, NULL, NULL, &e), 0);
	memset(hex, 'b', 64);
	assert_int_equal(fs_replace(other, hex, 64, 0600, NULL), 0);
	struct store *to = kit_open(k, "", other);
	assert_int_equal(import(to, tar, &e), -EKEYREJECTED);
	/* The session can be stored there all the same. */
	assert_int_equal(kit_count(to, "").count, 0);
	model_write(to, 1, &m, NULL);
	/* Then it has a key of its own, and the archive is not of it. */
	assert_true(import(to, tar, &e) < 0);
	model_check(to, 1, &m);
	assert_int_equal(kit_count(to, "/2/").count, 0);
	store_close(to);
	model_deinit(&m);
}

/* --- keys ------------------------------------------------------------------------------------- */

static void test_rekey(void **state)
{
	struct kit *k = *state;
	struct model m;
	struct error e = ERROR_INIT;
	struct store *s;
	int64_t count = -1;
	char hex[65];
	cleanup_free char *new_key = str_printf("%s/new", k->dir);
	cleanup_free char *url = str_printf("file://%s", k->root);
	const char *const old[] = { k->key, NULL };
	write_two(k->s, &m);
	memset(hex, 'c', 64);
	assert_int_equal(fs_replace(new_key, hex, 64, 0600, NULL), 0);
	struct store_options options = { .url = url, .key_file = new_key, .old_key_files = old };
	assert_int_equal(store_open(&options, &s, &e), 0);
	model_check(s, 2, &m);
	assert_int_equal(store_rekey(s, &count, NULL, NULL, &e), 0);
	assert_int_equal(count, 1);
	assert_int_equal(store_rekey(s, &count, NULL, NULL, &e), 0);
	assert_int_equal(count, 0);
	store_close(s);
	/* The old one is not needed any more. */
	s = kit_open(k, k->root, new_key);
	assert_int_equal(kit_verify(s, 1, &e), 0);
	model_check(s, 2, &m);
	store_close(s);
	model_deinit(&m);
}

/* --- the cache ----------------------------------------------------------------------------------
 */

static atomic_int reads;

static int count_reads(enum hook_call call, int number, const char *key, int *after, void *arg)
{
	(void)number;
	(void)after;
	(void)arg;
	struct store_object o;
	store_key_parse(key, &o);
	if (call == HOOK_READ && o.kind == STORE_KIND_PACK)
		atomic_fetch_add(&reads, 1);
	return 0;
}

/* As if the store were far away. */
static void make_remote(struct kit *k, uint64_t bytes)
{
	k->s->local = false;
	k->s->cache = cache_open(k->cache, bytes);
	assert_non_null(k->s->cache);
	hook_on(k->s);
	hook.before = count_reads;
	atomic_store(&reads, 0);
}

static int reads_of_all(struct kit *k, const struct model *m)
{
	atomic_store(&reads, 0);
	model_check(k->s, 2, m);
	return atomic_load(&reads);
}

static uint64_t cache_size(const struct kit *k, void (*each)(const char *path))
{
	uint64_t bytes = 0;
	cleanup_dir DIR *d = opendir(k->cache);
	struct dirent *entry;
	while (d && (entry = readdir(d))) {
		struct stat st;
		cleanup_free char *path = fs_join(k->cache, entry->d_name);
		if (lstat(path, &st) < 0 || !S_ISREG(st.st_mode))
			continue;
		bytes += (uint64_t)st.st_size;
		assert_int_equal(st.st_mode & 077, 0);
		if (each)
			each(path);
	}
	return bytes;
}

static void test_cache(void **state)
{
	struct kit *k = *state;
	struct model m;
	write_two(k->s, &m);
	make_remote(k, 64 * MIB);
	assert_true(reads_of_all(k, &m) > 0);
	assert_int_equal(reads_of_all(k, &m), 0);
	/* It outlives the program. */
	cache_free(k->s->cache);
	k->s->cache = cache_open(k->cache, 64 * MIB);
	assert_int_equal(reads_of_all(k, &m), 0);
	/* verify reads what the store has. */
	struct error e = ERROR_INIT;
	assert_int_equal(kit_verify(k->s, 2, &e), 0);
	assert_true(atomic_load(&reads) > 0);
	model_deinit(&m);
}

static void spoil_file(const char *path)
{
	char byte;
	cleanup_fd int fd = open(path, O_RDWR | O_CLOEXEC);
	assert_int_equal(pread(fd, &byte, 1, 1000), 1);
	byte ^= 1;
	assert_int_equal(pwrite(fd, &byte, 1, 1000), 1);
}

static void cut_file(const char *path)
{
	assert_int_equal(truncate(path, 100), 0);
}

static void replace_by_link(const char *path)
{
	assert_int_equal(unlink(path), 0);
	assert_int_equal(symlink("/etc/passwd", path), 0);
}

static void test_cache_garbage(void **state)
{
	struct kit *k = *state;
	struct model m;
	static void (*const spoilers[])(const char *path) = { spoil_file, cut_file,
							      replace_by_link };
	write_two(k->s, &m);
	make_remote(k, 64 * MIB);
	reads_of_all(k, &m);
	for (size_t i = 0; i < ARRAY_SIZE(spoilers); i++) {
		assert_true(cache_size(k, spoilers[i]) > 0);
		/* What is wrong is fetched again, and then right. */
		assert_true(reads_of_all(k, &m) > 0);
		reads_of_all(k, &m);
		assert_int_equal(reads_of_all(k, &m), 0);
	}
	model_deinit(&m);
}

static void test_cache_limit(void **state)
{
	struct kit *k = *state;
	struct model m;
	write_two(k->s, &m);
	make_remote(k, 2 * CACHE_BLOCK + 1000);
	for (int i = 0; i < 3; i++) {
		assert_true(reads_of_all(k, &m) > 0);
		assert_true(cache_size(k, NULL) <= 2 * CACHE_BLOCK + 1000);
	}
	/* One that holds no block at all. */
	cache_free(k->s->cache);
	k->s->cache = cache_open(k->cache, 10);
	assert_true(reads_of_all(k, &m) > 0);
	assert_true(cache_size(k, NULL) <= 10);
	model_deinit(&m);
}

/* Nothing can be written there, as on a full disk. */
static void test_cache_cannot_be_written(void **state)
{
	struct kit *k = *state;
	struct model m;
	write_two(k->s, &m);
	make_remote(k, 64 * MIB);
	assert_int_equal(rmdir(k->cache), 0);
	cleanup_fd int in_the_way = open(k->cache, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	for (int i = 0; i < 2; i++)
		assert_true(reads_of_all(k, &m) > 0);
	unlink(k->cache);
	cache_free(k->s->cache);
	assert_null(cache_open("/proc/nowhere/cache", MIB));
	k->s->cache = NULL;
	assert_true(reads_of_all(k, &m) > 0);
	model_deinit(&m);
}

static void test_cache_is_made_again(void **state)
{
	struct kit *k = *state;
	struct model m;
	write_two(k->s, &m);
	make_remote(k, 64 * MIB);
	assert_true(reads_of_all(k, &m) > 0);
	assert_int_equal(fs_remove_tree(k->cache, NULL), 0);
	assert_true(reads_of_all(k, &m) > 0);
	assert_int_equal(reads_of_all(k, &m), 0);
	model_deinit(&m);
}

enum { READERS = 8 };

struct reader {
	struct kit *k;
	pthread_t thread;
	uint64_t offset;
	size_t len;
	int r;
};
static const char shared_key[] = "s/" SESSION "/1/aaaaaaaaaaaaaaaa-0";

static void *read_part(void *arg)
{
	struct reader *r = arg;
	struct error e = ERROR_INIT;
	cleanup_free unsigned char *to = malloc(r->len);
	r->r = cache_read(r->k->s->cache, r->k->s->objects, shared_key, 4 * CACHE_BLOCK, r->offset,
			  to, r->len, &e);
	for (size_t i = 0; i < r->len && r->r == 0; i++)
		if (to[i] != (unsigned char)((r->offset + i) / 1000))
			r->r = -EILSEQ;
	return NULL;
}

static int slowly(enum hook_call call, int number, const char *key, int *after, void *arg)
{
	int r = count_reads(call, number, key, after, arg);
	usleep(100000);
	return r;
}

static int fail_first(enum hook_call call, int number, const char *key, int *after, void *arg)
{
	slowly(call, number, key, after, arg);
	return number == 0 ? -EIO : 0;
}

static int read_side_by_side(struct kit *k, uint64_t shift)
{
	struct reader readers[READERS];
	int bad = 0;
	for (unsigned i = 0; i < READERS; i++) {
		readers[i] =
			(struct reader) { .k = k, .offset = i * shift, .len = 3 * CACHE_BLOCK };
		assert_int_equal(pthread_create(&readers[i].thread, NULL, read_part, &readers[i]),
				 0);
		usleep(5000);
	}
	for (unsigned i = 0; i < READERS; i++) {
		pthread_join(readers[i].thread, NULL);
		bad += readers[i].r != 0;
	}
	return bad;
}

/* Several who want the same blocks at once do not all ask for them. */
static void test_cache_side_by_side(void **state)
{
	struct kit *k = *state;
	struct error e = ERROR_INIT;
	cleanup_free unsigned char *data = malloc(4 * CACHE_BLOCK);
	for (size_t i = 0; i < 4 * CACHE_BLOCK; i++)
		data[i] = (unsigned char)(i / 1000);
	assert_int_equal(object_put(k->s->objects, shared_key, data, 4 * CACHE_BLOCK, true, &e), 0);
	make_remote(k, 64 * MIB);
	hook.before = slowly;
	/* One asks for three blocks, perhaps another for the fourth; or one who has looked for them
	 * just before they came. */
	assert_int_equal(read_side_by_side(k, CACHE_BLOCK / READERS), 0);
	assert_in_range(atomic_load(&reads), 1, READERS - 1);
	/* Whoever waited for one that fails asks himself. */
	assert_int_equal(fs_remove_tree(k->cache, NULL), 0);
	atomic_store(&hook.number, 0);
	hook.before = fail_first;
	assert_int_equal(read_side_by_side(k, 0), 1);
}

/* The block used last stays. */
static void test_cache_order(void **state)
{
	struct kit *k = *state;
	struct error e = ERROR_INIT;
	cleanup_free char *data = calloc(1, 4 * CACHE_BLOCK);
	cleanup_free char *to = malloc(CACHE_BLOCK);
	cleanup_free char *first = str_printf("%s/" SESSION "_1_aaaaaaaaaaaaaaaa-0_0", k->cache);
	static const char key[] = "s/" SESSION "/1/aaaaaaaaaaaaaaaa-0";
	assert_int_equal(object_put(k->s->objects, key, data, 4 * CACHE_BLOCK, true, &e), 0);
	struct cache *c = cache_open(k->cache, 3 * CACHE_BLOCK + CACHE_BLOCK / 2);
	for (uint64_t i = 0; i < 3; i++) {
		assert_int_equal(cache_read(c, k->s->objects, key, 4 * CACHE_BLOCK, i * CACHE_BLOCK,
					    to, 100, &e),
				 0);
	}
	struct timespec old[2] = { { .tv_sec = 1000 }, { .tv_sec = 1000 } };
	cleanup_free char *second = str_printf("%s/" SESSION "_1_aaaaaaaaaaaaaaaa-0_1", k->cache);
	assert_int_equal(utimensat(AT_FDCWD, first, old, 0), 0);
	old[1].tv_sec = 2000;
	assert_int_equal(utimensat(AT_FDCWD, second, old, 0), 0);
	/* Used again, the oldest is the newest. */
	assert_int_equal(cache_read(c, k->s->objects, key, 4 * CACHE_BLOCK, 5, to, 100, &e), 0);
	assert_int_equal(
		cache_read(c, k->s->objects, key, 4 * CACHE_BLOCK, 3 * CACHE_BLOCK, to, 100, &e),
		0);
	assert_int_equal(access(first, F_OK), 0);
	assert_int_equal(access(second, F_OK), -1);
	cache_free(c);
}

static void test_remote_write_and_read(void **state)
{
	struct kit *k = *state;
	struct model m;
	make_remote(k, 64 * MIB);
	write_two(k->s, &m);
	model_check(k->s, 2, &m);
	model_deinit(&m);
}

int main(void)
{
#define FILES(test)  cmocka_unit_test_setup_teardown(test, kit_file, kit_close)
#define MEMORY(test) cmocka_unit_test_setup_teardown(test, kit_memory, kit_close)
	const struct CMUnitTest tests[] = {
		FILES(test_export_import),
		MEMORY(test_through_a_pipe),
		MEMORY(test_bad_archives),
		MEMORY(test_import_with_another_master),
		FILES(test_rekey),
		MEMORY(test_cache),
		MEMORY(test_cache_garbage),
		MEMORY(test_cache_limit),
		MEMORY(test_cache_cannot_be_written),
		MEMORY(test_cache_is_made_again),
		MEMORY(test_cache_side_by_side),
		MEMORY(test_cache_order),
		MEMORY(test_remote_write_and_read),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
