/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "base/cleanup.h"
#include "base/fs.h"
#include "node/images.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* A regular file and a pipe, as CRIU 4.2 writes them. */
static const uint8_t files[] = {
	0x19,
	0x43,
	0x56,
	0x54,
	0x38,
	0x31,
	0x30,
	0x56,
	/* an entry of 29 bytes: type 1, id 5, and as "reg" 23 bytes: */
	29,
	0,
	0,
	0,
	0x08,
	1,
	0x10,
	5,
	0x1a,
	23,
	/* id 5, flags 2, pos 0, fown {}, name "/h/a", */
	0x08,
	5,
	0x10,
	2,
	0x18,
	0,
	0x2a,
	0,
	0x32,
	4,
	'/',
	'h',
	'/',
	'a',
	/* size 300, mode 0100644, mnt_id 7 */
	0x40,
	0xac,
	0x02,
	0x50,
	0xa4,
	0x83,
	0x02,
	0x38,
	0x0e,
	/* an entry of 9 bytes: type 2, id 6, pipe {id 6} */
	9,
	0,
	0,
	0,
	0x08,
	2,
	0x10,
	6,
	0x92,
	0x01,
	2,
	0x08,
	6,
};

struct seen {
	uint32_t flags;
	char paths[4][64];
	uint32_t modes[4];
	int count;
	int answer;
};

static int note(const struct image_file *file, void *arg)
{
	struct seen *seen = arg;
	snprintf(seen->paths[seen->count], 64, "%.63s", file->path);
	seen->flags = file->flags;
	seen->modes[seen->count++] = file->mode;
	return seen->answer;
}

static void test_reading(void **state)
{
	(void)state;
	struct seen seen = { 0 };
	struct error e = ERROR_INIT;
	assert_int_equal(images_files(files, sizeof(files), note, &seen, NULL, &e), 0);
	assert_int_equal(seen.count, 1);
	assert_string_equal(seen.paths[0], "h/a");
	assert_int_equal(seen.modes[0], 0100644);
	assert_int_equal(seen.flags, 2);
}

static void test_copy_is_the_same(void **state)
{
	(void)state;
	struct seen seen = { 0 };
	cleanup_buf struct buf to = BUF_INIT(1000);
	assert_int_equal(images_files(files, sizeof(files), note, &seen, &to, NULL), 0);
	assert_int_equal(to.len, sizeof(files));
	assert_memory_equal(to.data, files, sizeof(files));
}

static void test_size_is_left_out(void **state)
{
	(void)state;
	struct seen seen = { .answer = 1 }, again = { 0 };
	cleanup_buf struct buf to = BUF_INIT(1000);
	assert_int_equal(images_files(files, sizeof(files), note, &seen, &to, NULL), 0);
	assert_int_equal(to.len, sizeof(files) - 3);
	assert_null(memmem(to.data, to.len, "\x40\xac\x02", 3));
	assert_int_equal(images_files(to.data, to.len, note, &again, NULL, NULL), 0);
	assert_string_equal(again.paths[0], "h/a");
	assert_int_equal(again.modes[0], 0100644);
}

/* Cut anywhere and flipped anywhere: an answer, and nothing read beyond the end. */
static void test_damage(void **state)
{
	(void)state;
	const size_t len = sizeof(files);
	for (size_t cut = 0; cut < len; cut++) {
		uint8_t *data = malloc(cut + 1);
		struct seen seen = { 0 };
		memcpy(data, files, cut);
		int r = images_files(data, cut, note, &seen, NULL, NULL);
		assert_true(r == 0 || r == -EBADMSG);
		free(data);
	}
	for (size_t i = 0; i < len * 8; i++) {
		uint8_t *data = malloc(len);
		struct seen seen = { 0 };
		cleanup_buf struct buf to = BUF_INIT(1000);
		memcpy(data, files, len);
		data[i / 8] ^= (uint8_t)(1 << i % 8);
		int r = images_files(data, len, note, &seen, &to, NULL);
		assert_true(r == 0 || r == -EBADMSG);
		free(data);
	}
}

static void put_file(const char *path, const void *data, size_t len)
{
	assert_int_equal(fs_replace(path, data, len, 0600, NULL), 0);
}

/* What a restore that was killed has left of a deleted file; and what only looks like that. */
static void test_ghosts(void **state)
{
	(void)state;
	char top[] = "/tmp/images-XXXXXX", path[64];
	static const struct {
		const char *name;
		bool stays;
	} in_home[] = { { "a.cr.1f.ghost", false },
			{ "a.cr.20.ghost", true },
			{ "b.cr.1f.ghost", true },
			{ "a", true } };
	assert_non_null(mkdtemp(top));
	struct session_spec spec = { .home = top, .home_inside = (char *)"/h" };
	snprintf(path, sizeof(path), "%s/criu", top);
	assert_int_equal(fs_mkdirs(path, 0700, NULL), 0);
	snprintf(path, sizeof(path), "%s/criu/files.img", top);
	put_file(path, files, sizeof(files));
	snprintf(path, sizeof(path), "%s/criu/ghost-file-1f.img", top);
	put_file(path, "", 0);
	for (size_t i = 0; i < ARRAY_SIZE(in_home); i++) {
		snprintf(path, sizeof(path), "%s/%s", top, in_home[i].name);
		put_file(path, "x", 1);
	}
	assert_int_equal(images_prepare(top, &spec, NULL), 0);
	for (size_t i = 0; i < ARRAY_SIZE(in_home); i++) {
		snprintf(path, sizeof(path), "%s/%s", top, in_home[i].name);
		assert_int_equal(access(path, F_OK) == 0, in_home[i].stays);
	}
	assert_int_equal(fs_remove_tree(top, NULL), 0);
}

/* One that was deleted has a name that CRIU has given it, wherever it was. */
static void test_links(void **state)
{
	(void)state;
	static const char name[] = "/tmp/link_remap.1";
	enum { NAME = sizeof(name) - 1, REG = 10 + NAME, ENTRY = 6 + REG };
	uint8_t linked[8 + 4 + ENTRY];
	const uint8_t entry[] = { ENTRY, 0, 0,    0, 0x08, 1, 0x10, 5, 0x1a, REG,
				  0x08,  5, 0x10, 2, 0x18, 0, 0x2a, 0, 0x32, NAME };
	char top[] = "/tmp/images-XXXXXX", path[64];
	bool any;
	assert_non_null(mkdtemp(top));
	snprintf(path, sizeof(path), "%s/criu", top);
	assert_int_equal(fs_mkdirs(path, 0700, NULL), 0);
	snprintf(path, sizeof(path), "%s/criu/files.img", top);
	assert_int_equal(images_have_links(top, &any, NULL), -ENOENT);
	put_file(path, files, sizeof(files));
	assert_int_equal(images_have_links(top, &any, NULL), 0);
	assert_false(any);
	memcpy(linked, files, 8);
	memcpy(linked + 8, entry, sizeof(entry));
	memcpy(linked + 8 + sizeof(entry), name, NAME);
	assert_int_equal(8 + sizeof(entry) + NAME, sizeof(linked));
	put_file(path, linked, sizeof(linked));
	assert_int_equal(images_have_links(top, &any, NULL), 0);
	assert_true(any);
	assert_int_equal(fs_remove_tree(top, NULL), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_reading),          cmocka_unit_test(test_copy_is_the_same),
		cmocka_unit_test(test_size_is_left_out), cmocka_unit_test(test_damage),
		cmocka_unit_test(test_ghosts),           cmocka_unit_test(test_links),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
