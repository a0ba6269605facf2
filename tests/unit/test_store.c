/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/fs.h"
#include "store/store.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define SESSION       "0123456789abcdef"
#define OTHER_SESSION "fedcba9876543210"

enum { MIB = 1 << 20, CHUNK = 16 * MIB };

struct fixture {
	char dir[64];
	char root[80]; /* of the file store; "" for one in memory */
	struct store *s;
};

static int open_fixture(void **state, bool memory)
{
	struct error e = ERROR_INIT;
	struct fixture *f = calloc(1, sizeof(*f));
	snprintf(f->dir, sizeof(f->dir), "/tmp/elsa-test.XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	if (!memory)
		snprintf(f->root, sizeof(f->root), "%s/store", f->dir);
	cleanup_free char *url = memory ? strdup("memory:") : str_printf("file://%s", f->root);
	assert_int_equal(store_open(url, &f->s, &e), 0);
	*state = f;
	return 0;
}

static int open_file_store(void **state)
{
	return open_fixture(state, false);
}

static int open_memory_store(void **state)
{
	return open_fixture(state, true);
}

static int close_store(void **state)
{
	struct fixture *f = *state;
	store_close(f->s);
	assert_int_equal(fs_remove_tree(f->dir, NULL), 0);
	free(f);
	return 0;
}

/* Content that differs at every offset and between files. */
static void fill(char *to, size_t len, uint64_t offset, unsigned seed)
{
	for (size_t i = 0; i < len; i++)
		to[i] = (char)((offset + i) * 2654435761u >> 13 ^ seed);
}

static void append(int fd, size_t len, uint64_t offset, unsigned seed)
{
	static char part[MIB];
	while (len) {
		size_t n = len < sizeof(part) ? len : sizeof(part);
		fill(part, n, offset, seed);
		assert_int_equal(write(fd, part, n), n);
		offset += n;
		len -= n;
	}
}

static void make_file(const char *dir, const char *name, size_t len, unsigned seed, mode_t mode)
{
	cleanup_free char *path = fs_join(dir, name);
	cleanup_free char *parent = strdup(path);
	*strrchr(parent, '/') = '\0';
	assert_int_equal(fs_mkdirs(parent, 0700, NULL), 0);
	cleanup_fd int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
	assert_true(fd >= 0);
	append(fd, len, 0, seed);
}

static void assert_file(const char *dir, const char *name, size_t len, unsigned seed)
{
	static char found[MIB];
	static char wanted[MIB];
	struct stat st;
	cleanup_free char *path = fs_join(dir, name);
	cleanup_fd int fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_size, len);
	for (size_t at = 0; at < len; at += MIB) {
		size_t n = len - at < MIB ? len - at : MIB;
		assert_int_equal(pread(fd, found, n, (off_t)at), n);
		fill(wanted, n, at, seed);
		assert_memory_equal(found, wanted, n);
	}
}

static struct store_write *begin(struct store *s, int64_t generation)
{
	struct error e = ERROR_INIT;
	struct store_write *w = NULL;
	if (store_write_begin(s, SESSION, generation, &w, &e) < 0)
		fail_msg("%s", e.text);
	return w;
}

static int commit(struct store_write *w, struct error *e)
{
	struct store_meta meta = {
		.created_at = 1700000000000,
		.memory_bytes = 12345,
		.user = strdup("j\xc3\xbcrgen/x"),
		.server = strdup(""),
		.spec = strdup("{\"a\": [1]}"),
	};
	int r = store_write_commit(w, &meta, STORE_VERIFY_SAMPLE, e);
	store_meta_deinit(&meta);
	return r;
}

/* A checkpoint of three files, the last bigger than a chunk. */
static void store_one(struct store *s, int64_t generation)
{
	struct error e = ERROR_INIT;
	struct store_write *w = begin(s, generation);
	make_file(store_write_dir(w), "inventory.img", 100, 1, 0640);
	make_file(store_write_dir(w), "upper/empty", 0, 0, 0600);
	make_file(store_write_dir(w), "pages-1.img", CHUNK + 4096, 2, 0600);
	if (commit(w, &e) < 0)
		fail_msg("%s", e.text);
	store_write_free(w);
}

static int verify(struct store *s, int64_t generation, struct error *e)
{
	struct store_read *read = NULL;
	int r = store_read_open(s, SESSION, generation, &read, e);
	if (r == 0)
		r = store_read_verify(read, NULL, NULL, e);
	store_read_free(read);
	return r;
}

static int64_t newest(struct store *s)
{
	int64_t generation = -1;
	int r = store_newest(s, SESSION, &generation, NULL);
	return r < 0 ? r : generation;
}

/* nftw() passes nothing to its callback. */
static struct {
	const char *end;
	char *found;
	int files;
} look;

static int look_at(const char *path, const struct stat *st, int type, struct FTW *at)
{
	(void)st;
	(void)at;
	if (type != FTW_F)
		return 0;
	look.files++;
	size_t end = strlen(look.end);
	if (strlen(path) >= end && strcmp(path + strlen(path) - end, look.end) == 0) {
		assert_null(look.found);
		look.found = strdup(path);
	}
	return 0;
}

/* The file below the store's root whose path ends so, which is there once. */
static char *stored(const struct fixture *f, const char *end)
{
	cleanup_free char *top = str_printf("%s/s", f->root);
	look.end = end;
	look.found = NULL;
	assert_int_equal(nftw(top, look_at, 16, FTW_PHYS), 0);
	assert_non_null(look.found);
	return look.found;
}

static int count_files(const struct fixture *f, const char *below)
{
	cleanup_free char *top = str_printf("%s/%s", f->root, below);
	look.end = "/"; /* no file's */
	look.files = 0;
	int r = nftw(top, look_at, 16, FTW_PHYS);
	assert_true(r == 0 || errno == ENOENT);
	return look.files;
}

static void last_progress(uint64_t done, uint64_t total, void *arg)
{
	*(bool *)arg = done == total;
}

static void checkpoints_come_back(void **state)
{
	struct fixture *f = *state;
	struct error e = ERROR_INIT;
	struct store_read *read;
	bool complete = false;
	struct stat st;
	cleanup_free char *out = str_printf("%s/out/x", f->dir);
	cleanup_free char *inventory = fs_join(out, "inventory.img");
	assert_int_equal(newest(f->s), -ENOENT);
	store_one(f->s, 3);
	assert_int_equal(newest(f->s), 3);
	assert_int_equal(store_read_open(f->s, SESSION, 3, &read, &e), 0);
	const struct store_meta *meta = store_read_meta(read);
	assert_string_equal(meta->session, SESSION);
	assert_int_equal(meta->generation, 3);
	assert_int_equal(meta->created_at, 1700000000000);
	assert_int_equal(meta->memory_bytes, 12345);
	assert_int_equal(meta->stored_bytes, CHUNK + 4096 + 100);
	assert_int_equal(meta->objects, 3);
	assert_string_equal(meta->user, "j\xc3\xbcrgen/x");
	assert_string_equal(meta->server, "");
	assert_string_equal(meta->spec, "{\"a\": [1]}");
	assert_null(meta->cpu);
	assert_int_equal(store_read_lay_out(read, out, &e), 0);
	assert_int_equal(store_read_lay_out(read, out, &e), 0); /* again, after a crash */
	assert_file(out, "inventory.img", 100, 1);
	assert_file(out, "upper/empty", 0, 0);
	assert_file(out, "pages-1.img", CHUNK + 4096, 2);
	assert_int_equal(stat(inventory, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0640);
	assert_int_equal(store_read_verify(read, last_progress, &complete, &e), 0);
	assert_true(complete);
	/* What is laid out stays readable when the checkpoint is removed. */
	assert_int_equal(store_remove(f->s, SESSION, 3, &e), 0);
	assert_file(out, "pages-1.img", CHUNK + 4096, 2);
	store_read_free(read);
	assert_int_equal(newest(f->s), -ENOENT);
	assert_int_equal(store_read_open(f->s, SESSION, 3, &read, &e), -ENOENT);
}

static void names_need_not_be_keys(void **state)
{
	struct fixture *f = *state;
	struct error e = ERROR_INIT;
	struct store_read *read;
	cleanup_free char *out = str_printf("%s/out", f->dir);
	static const char *const names[] = { ".bashrc",       "a b",   "d/\xc3\xa4",
					     "manifest.json", "aside", "x/.staging/y" };
	struct store_write *w = begin(f->s, 1);
	for (unsigned i = 0; i < ARRAY_SIZE(names); i++)
		make_file(store_write_dir(w), names[i], 10 + i, i, 0600);
	assert_int_equal(commit(w, &e), 0);
	store_write_free(w);
	assert_int_equal(store_read_open(f->s, SESSION, 1, &read, &e), 0);
	assert_false(store_read_meta(read)->aside);
	assert_int_equal(store_read_lay_out(read, out, &e), 0);
	for (unsigned i = 0; i < ARRAY_SIZE(names); i++)
		assert_file(out, names[i], 10 + i, i);
	store_read_free(read);
}

static void an_empty_checkpoint_is_one(void **state)
{
	struct fixture *f = *state;
	struct error e = ERROR_INIT;
	struct store_write *w = begin(f->s, 0);
	assert_int_equal(commit(w, &e), 0);
	assert_int_equal(commit(w, &e), -EINVAL);
	store_write_free(w);
	assert_int_equal(verify(f->s, 0, &e), 0);
}

static void only_files_are_stored(void **state)
{
	struct fixture *f = *state;
	struct error e = ERROR_INIT;
	struct store_write *w = begin(f->s, 1);
	cleanup_free char *path = fs_join(store_write_dir(w), "pipe");
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_int_equal(commit(w, &e), -EINVAL);
	assert_non_null(strstr(e.text, "pipe is neither a file nor a directory"));
	store_write_free(w);
	assert_int_equal(newest(f->s), -ENOENT);
}

static void only_sessions_are_stored(void **state)
{
	struct fixture *f = *state;
	struct error e = ERROR_INIT;
	struct store_write *w = NULL;
	struct store_read *read = NULL;
	int64_t generation;
	assert_int_equal(store_write_begin(f->s, "../etc", 1, &w, &e), -EINVAL);
	assert_int_equal(store_write_begin(f->s, SESSION, -1, &w, &e), -EINVAL);
	assert_int_equal(store_read_open(f->s, "", 1, &read, &e), -EINVAL);
	assert_int_equal(store_remove(f->s, "x/y", 1, &e), -EINVAL);
	assert_int_equal(store_newest(f->s, "..", &generation, &e), -EINVAL);
}

/* What is abandoned leaves nothing. */
static void abandoned_writes_are_gone(void **state)
{
	struct fixture *f = *state;
	struct store_write *w = begin(f->s, 1);
	make_file(store_write_dir(w), "pages-1.img", 2 * CHUNK, 1, 0600);
	cleanup_free char *dir = strdup(store_write_dir(w));
	store_write_free(w);
	assert_int_equal(access(dir, F_OK), -1);
	assert_int_equal(newest(f->s), -ENOENT);
}

/* Hashed while it grows, in uneven steps, beside files that CRIU would seek in. */
static void growing_files_are_hashed(void **state)
{
	struct fixture *f = *state;
	struct error e = ERROR_INIT;
	enum { TOTAL = 5 * CHUNK + 12345 };
	uint64_t done = 0;
	uint64_t total = 0;
	struct store_write *w = begin(f->s, 1);
	make_file(store_write_dir(w), "images/pages-7.img", 0, 0, 0600);
	cleanup_free char *path = fs_join(store_write_dir(w), "images/pages-7.img");
	cleanup_fd int fd = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);
	for (size_t at = 0, step = 1; at < TOTAL; at += step, step = step * 3 % (3 * MIB) + 1) {
		step = step < TOTAL - at ? step : TOTAL - at;
		append(fd, step, at, 9);
	}
	for (int i = 0; i < 2000 && done < 5 * CHUNK; i++) {
		usleep(10000);
		store_write_progress(w, &done, &total);
	}
	assert_int_equal(done, 5 * CHUNK);
	assert_int_equal(total, TOTAL);
	append(fd, CHUNK, TOTAL, 9);
	assert_int_equal(commit(w, &e), 0);
	store_write_progress(w, &done, &total);
	assert_int_equal(done, TOTAL + CHUNK);
	assert_int_equal(total, TOTAL + CHUNK);
	store_write_free(w);
	assert_int_equal(verify(f->s, 1, &e), 0);
}

/* A file that was cut back or replaced after a part was hashed is hashed anew. */
static void rewritten_files_are_hashed_anew(void **state)
{
	struct fixture *f = *state;
	struct error e = ERROR_INIT;
	uint64_t done = 0;
	uint64_t total;
	struct store_write *w = begin(f->s, 1);
	cleanup_free char *one = fs_join(store_write_dir(w), "pages-1.img");
	cleanup_free char *two = fs_join(store_write_dir(w), "pages-2.img");
	make_file(store_write_dir(w), "pages-1.img", 2 * CHUNK, 1, 0600);
	make_file(store_write_dir(w), "pages-2.img", 2 * CHUNK, 2, 0600);
	for (int i = 0; i < 2000 && done < 4 * CHUNK; i++) {
		usleep(10000);
		store_write_progress(w, &done, &total);
	}
	assert_int_equal(unlink(one), 0);
	make_file(store_write_dir(w), "pages-1.img", 2 * CHUNK, 3, 0600);
	assert_int_equal(truncate(two, CHUNK / 2), 0);
	assert_int_equal(commit(w, &e), 0);
	store_write_free(w);
	if (verify(f->s, 1, &e) < 0)
		fail_msg("%s", e.text);
}

static void assert_damage(struct fixture *f, const char *text)
{
	struct error e = ERROR_INIT;
	int r = verify(f->s, 1, &e);
	if (r != -EBADMSG || e.fault != FAULT_CORRUPT || !strstr(e.text, text))
		fail_msg("%d \"%s\", not \"%s\"", r, e.text, text);
}

static void flip(const char *path, off_t offset)
{
	char byte;
	cleanup_fd int fd = open(path, O_RDWR | O_CLOEXEC);
	assert_int_equal(pread(fd, &byte, 1, offset), 1);
	byte ^= 4;
	assert_int_equal(pwrite(fd, &byte, 1, offset), 1);
}

static void damaged_objects_are_named(void **state)
{
	struct fixture *f = *state;
	struct error e = ERROR_INIT;
	store_one(f->s, 1);
	cleanup_free char *pages = stored(f, "/pages-1.img");
	cleanup_free char *inventory = stored(f, "/inventory.img");
	cleanup_free char *key = str_printf("object %s: ", pages + strlen(f->root) + 1);
	cleanup_free char *flipped = str_printf(
		"%s4096 bytes at offset 16777216 differ from the manifest's SHA-256", key);
	flip(pages, CHUNK + 77);
	assert_damage(f, flipped);
	flip(pages, CHUNK + 77);
	assert_int_equal(verify(f->s, 1, &e), 0);
	assert_int_equal(truncate(pages, CHUNK), 0);
	cleanup_free char *cut =
		str_printf("%shas 16777216 bytes, and 16781312 in the manifest", key);
	assert_damage(f, cut);
	assert_int_equal(truncate(pages, CHUNK + 4096), 0);
	assert_damage(f, flipped);
	assert_int_equal(unlink(inventory), 0);
	assert_damage(f, "/inventory.img is missing");
	struct store_read *read;
	cleanup_free char *out = fs_join(f->dir, "out");
	assert_int_equal(store_read_open(f->s, SESSION, 1, &read, &e), 0);
	assert_int_equal(store_read_lay_out(read, out, &e), -EBADMSG);
	assert_int_equal(e.fault, FAULT_CORRUPT);
	store_read_free(read);
	assert_int_equal(newest(f->s), 1); /* nothing was thrown away */
}

static int count_one(const struct store_meta *meta, void *arg)
{
	(void)meta;
	++*(int *)arg;
	return 0;
}

static void damaged_manifests_are_named(void **state)
{
	struct fixture *f = *state;
	struct error e = ERROR_INIT;
	struct stat st;
	int count = 0;
	store_one(f->s, 1);
	store_one(f->s, 2);
	cleanup_free char *path = stored(f, "/1/manifest.json");
	assert_int_equal(stat(path, &st), 0);
	for (off_t at = 0; at < st.st_size; at += 7) {
		flip(path, at);
		assert_damage(f, "object s/" SESSION "/1/manifest.json: ");
		flip(path, at);
	}
	for (off_t len = st.st_size - 1; len >= 0; len -= 41) {
		assert_int_equal(truncate(path, len), 0);
		assert_damage(f, "object s/" SESSION "/1/manifest.json: ");
	}
	assert_int_equal(store_list(f->s, SESSION, count_one, &count, &e), -EBADMSG);
	assert_int_equal(count, 1); /* the other one is listed all the same */
	assert_int_equal(store_sweep(f->s, NULL, NULL, &e), 0);
	assert_int_equal(count_files(f, "s/" SESSION "/1"), 4);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(verify(f->s, 1, &e), -ENOENT);
}

/* A manifest of another generation, put in this one's place. */
static void foreign_manifests_are_refused(void **state)
{
	struct fixture *f = *state;
	struct error e = ERROR_INIT;
	store_one(f->s, 1);
	store_one(f->s, 2);
	cleanup_free char *one = stored(f, "/1/manifest.json");
	cleanup_free char *two = stored(f, "/2/manifest.json");
	assert_int_equal(rename(two, one), 0);
	assert_damage(f, "it belongs to generation 2 of session " SESSION);
	assert_int_equal(verify(f->s, 2, &e), -ENOENT);
}

struct writer {
	struct store_write *w;
	int r;
};

static void *commit_thread(void *arg)
{
	struct writer *writer = arg;
	writer->r = commit(writer->w, NULL);
	return NULL;
}

static void one_of_two_writers_wins(void **state)
{
	struct fixture *f = *state;
	struct error e = ERROR_INIT;
	struct writer writers[2] = { 0 };
	pthread_t threads[2];
	for (unsigned i = 0; i < 2; i++) {
		writers[i].w = begin(f->s, 1);
		make_file(store_write_dir(writers[i].w), "pages-1.img", MIB, i, 0600);
	}
	for (int i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, commit_thread, &writers[i]), 0);
	for (int i = 0; i < 2; i++) {
		pthread_join(threads[i], NULL);
		store_write_free(writers[i].w);
	}
	assert_int_equal(writers[0].r + writers[1].r, -EEXIST);
	assert_true(writers[0].r == 0 || writers[1].r == 0);
	assert_int_equal(verify(f->s, 1, &e), 0);
	struct store_write *late;
	assert_int_equal(store_write_begin(f->s, SESSION, 1, &late, &e), -EEXIST);
	assert_int_equal(e.fault, FAULT_CONFLICT);
	if (f->root[0])
		assert_int_equal(count_files(f, "s"), 2); /* the loser's are gone */
}

static bool is_live(const char *session, int64_t generation, void *arg)
{
	return strcmp(session, SESSION) == 0 && generation == *(int64_t *)arg;
}

/* Killed at any moment, the generation is whole or not there, and a sweep removes the rest. */
static void a_killed_commit_leaves_all_or_nothing(void **state)
{
	struct fixture *f = *state;
	struct error e = ERROR_INIT;
	int whole = 0;
	store_one(f->s, 1);
	for (int i = 0; i < 40; i++) {
		int64_t live = 2;
		pid_t child = fork();
		if (child == 0) {
			store_one(f->s, 2);
			_exit(0);
		}
		usleep((useconds_t)(i * 3000));
		kill(child, SIGKILL);
		waitpid(child, NULL, 0);
		bool exists = newest(f->s) == 2;
		if (exists && verify(f->s, 2, &e) < 0)
			fail_msg("%s", e.text);
		int before = count_files(f, "");
		assert_int_equal(store_sweep(f->s, is_live, &live, &e), 0);
		assert_int_equal(count_files(f, "s") + count_files(f, ".staging"), before);
		assert_int_equal(store_sweep(f->s, NULL, NULL, &e), 0);
		assert_int_equal(count_files(f, "s"), exists ? 8 : 4);
		assert_int_equal(newest(f->s), exists ? 2 : 1);
		whole += exists;
		assert_int_equal(store_remove(f->s, SESSION, 2, &e), 0);
	}
	assert_int_equal(verify(f->s, 1, &e), 0);
	assert_true(whole < 40);
}

static void a_sweep_spares_writers_at_work(void **state)
{
	struct fixture *f = *state;
	struct error e = ERROR_INIT;
	struct store_write *w = begin(f->s, 1);
	make_file(store_write_dir(w), "pages-1.img", 100, 1, 0600);
	assert_int_equal(store_sweep(f->s, NULL, NULL, &e), 0);
	assert_int_equal(commit(w, &e), 0);
	assert_int_equal(store_sweep(f->s, NULL, NULL, &e), 0);
	store_write_free(w);
	assert_int_equal(verify(f->s, 1, &e), 0);
}

static int collect(const struct store_meta *meta, void *arg)
{
	return buf_printf(arg, "%.2s:%d%s ", meta->session, (int)meta->generation,
			  meta->aside ? "!" : "");
}

static void houses_are_kept(void **state)
{
	struct fixture *f = *state;
	struct error e = ERROR_INIT;
	cleanup_buf struct buf found = BUF_INIT(1000);
	static const int64_t generations[] = { 2, 10, 9 };
	for (size_t i = 0; i < ARRAY_SIZE(generations); i++)
		store_one(f->s, generations[i]);
	struct store_write *w;
	assert_int_equal(store_write_begin(f->s, OTHER_SESSION, 1, &w, &e), 0);
	assert_int_equal(commit(w, &e), 0);
	store_write_free(w);
	assert_int_equal(newest(f->s), 10);
	assert_int_equal(store_set_aside(f->s, SESSION, 10, &e), 0);
	assert_int_equal(store_set_aside(f->s, SESSION, 10, &e), 0);
	assert_int_equal(store_set_aside(f->s, SESSION, 11, &e), -ENOENT);
	assert_int_equal(newest(f->s), 9);
	assert_int_equal(verify(f->s, 10, &e), 0);
	assert_int_equal(store_list(f->s, NULL, collect, &found, &e), 0);
	assert_string_equal(buf_text(&found), "01:2 01:9 01:10! fe:1 ");
	buf_reset(&found);
	assert_int_equal(store_remove(f->s, SESSION, 10, &e), 0);
	assert_int_equal(store_remove(f->s, SESSION, 10, &e), 0);
	assert_int_equal(store_list(f->s, SESSION, collect, &found, &e), 0);
	assert_string_equal(buf_text(&found), "01:2 01:9 ");
	assert_int_equal(store_sweep(f->s, NULL, NULL, &e), 0);
	assert_int_equal(verify(f->s, 2, &e), 0);
}

/* Full while files are written, or only when they are to be made durable: told, and nothing left.
 */
static void a_full_disk_fails_the_commit(void **state)
{
	struct fixture *f = *state;
	struct error e = ERROR_INIT;
	struct store *s;
	struct store_write *w;
	cleanup_free char *dir = str_printf("%s/full", f->dir);
	cleanup_free char *url = str_printf("file://%s", dir);
	cleanup_free char *filler = str_printf("%s/filler", dir);
	assert_int_equal(mkdir(dir, 0700), 0);
	if (mount("none", dir, "tmpfs", 0, "size=4m") < 0)
		skip();
	assert_int_equal(store_open(url, &s, &e), 0);
	assert_int_equal(store_write_begin(s, SESSION, 1, &w, &e), 0);
	make_file(store_write_dir(w), "pages-1.img", MIB, 1, 0600);
	int fd = open(filler, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	static char part[4096];
	while (write(fd, part, sizeof(part)) > 0)
		;
	assert_int_equal(commit(w, &e), -ENOSPC);
	assert_int_equal(e.fault, FAULT_FULL);
	assert_true(e.remedy[0]);
	store_write_free(w);
	close(fd);
	assert_int_equal(unlink(filler), 0);
	assert_int_equal(newest(s), -ENOENT);
	assert_int_equal(store_write_begin(s, SESSION, 1, &w, &e), 0);
	make_file(store_write_dir(w), "pages-1.img", MIB, 1, 0600);
	assert_int_equal(commit(w, &e), 0);
	store_write_free(w);
	store_close(s);
	assert_int_equal(umount(dir), 0);
}

static void an_unwritable_store_fails_at_once(void **state)
{
	struct fixture *f = *state;
	store_one(f->s, 1);
	assert_int_equal(chmod(f->dir, 0755), 0);
	pid_t child = fork();
	if (child == 0) {
		struct error e = ERROR_INIT;
		struct store_write *w;
		cleanup_free char *staging = fs_join(f->root, ".staging");
		if (chmod(f->root, 0555) < 0 || chmod(staging, 0555) < 0 ||
		    (geteuid() == 0 && setresuid(65534, 65534, 65534) < 0))
			_exit(2);
		int r = store_write_begin(f->s, OTHER_SESSION, 1, &w, &e);
		_exit(r == -EACCES && e.fault == FAULT_DENIED && e.remedy[0] ? 0 : 1);
	}
	int status;
	waitpid(child, &status, 0);
	assert_int_equal(status, 0);
}

#define BOTH(test)                                                                                 \
	cmocka_unit_test_setup_teardown(test, open_file_store, close_store),                       \
		cmocka_unit_test_setup_teardown(test, open_memory_store, close_store)
#define FILES(test) cmocka_unit_test_setup_teardown(test, open_file_store, close_store)

int main(void)
{
	const struct CMUnitTest tests[] = {
		BOTH(checkpoints_come_back),
		BOTH(names_need_not_be_keys),
		BOTH(an_empty_checkpoint_is_one),
		BOTH(only_files_are_stored),
		BOTH(only_sessions_are_stored),
		BOTH(abandoned_writes_are_gone),
		FILES(growing_files_are_hashed),
		FILES(rewritten_files_are_hashed_anew),
		FILES(damaged_objects_are_named),
		FILES(damaged_manifests_are_named),
		FILES(foreign_manifests_are_refused),
		BOTH(one_of_two_writers_wins),
		FILES(a_killed_commit_leaves_all_or_nothing),
		BOTH(a_sweep_spares_writers_at_work),
		BOTH(houses_are_kept),
		FILES(a_full_disk_fails_the_commit),
		FILES(an_unwritable_store_fails_at_once),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
