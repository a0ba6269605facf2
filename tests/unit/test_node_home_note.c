/* SPDX-License-Identifier: Apache-2.0 */
#include "base/cleanup.h"
#include "base/fs.h"
#include "node/home_note.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define ID    "0123456789abcdef"
#define NOTE  "SAVE-YOUR-WORK." ID ".txt"
#define USER  12345
#define GROUP 23456

static char home[] = "/tmp/home-note-XXXXXX";
static struct session_spec spec = { .id = ID, .uid = USER, .gid = GROUP, .home = home };

static int set_up(void **state)
{
	(void)state;
	memset(home + strlen(home) - 6, 'X', 6);
	return mkdtemp(home) && chown(home, USER, GROUP) == 0 && chmod(home, 0700) == 0 ? 0 : -1;
}

static int tear_down(void **state)
{
	(void)state;
	return fs_remove_tree(home, NULL);
}

static char *at(const char *name)
{
	return fs_join(home, name);
}

static bool is_there(const char *name)
{
	cleanup_free char *path = at(name);
	struct stat st;
	return lstat(path, &st) == 0;
}

static void expect_content(const char *path, const char *content)
{
	cleanup_buf struct buf text = BUF_INIT(4096);
	assert_int_equal(fs_read(path, &text, NULL), 0);
	assert_string_equal(buf_text(&text), content);
}

/* Nobody but root acts as others. */
static void only_root(void)
{
	if (geteuid() != 0)
		skip();
}

static void test_written_and_removed(void **state)
{
	struct stat st;
	struct error e = ERROR_INIT;
	(void)state;
	only_root();
	cleanup_free char *path = at(NOTE);
	for (int i = 0; i < 2; i++) {
		if (home_note_write(&spec, i ? "two" : "one", &e) < 0)
			fail_msg("%s", e.text);
		expect_content(path, i ? "two" : "one");
		assert_int_equal(lstat(path, &st), 0);
		assert_true(st.st_uid == USER && st.st_gid == GROUP && (st.st_mode & 0777) == 0600);
	}
	assert_false(is_there("." NOTE));
	assert_int_equal(home_note_remove(&spec, NULL), 0);
	assert_false(is_there(NOTE));
	assert_int_equal(home_note_remove(&spec, NULL), 0);
	/* This thread is itself again. */
	assert_int_equal(open(home, O_RDONLY | O_DIRECTORY | O_CLOEXEC) >= 0, 1);
	assert_int_equal(mkdir(path, 0700), 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_uid, 0);
}

static void test_links_lead_nowhere(void **state)
{
	(void)state;
	only_root();
	cleanup_free char *target = at("target"), *path = at(NOTE), *temporary = at("." NOTE);
	assert_int_equal(fs_replace(target, "kept", 4, 0644, NULL), 0);
	assert_int_equal(symlink(target, path), 0);
	assert_int_equal(symlink(target, temporary), 0);
	/* What is not a file of the user's stays. */
	assert_int_equal(home_note_remove(&spec, NULL), 0);
	assert_true(is_there(NOTE));
	assert_int_equal(home_note_write(&spec, "note", NULL), 0);
	expect_content(target, "kept");
	expect_content(path, "note");
	assert_int_equal(unlink(path), 0);
	assert_int_equal(link(target, path), 0); /* root's */
	assert_int_equal(home_note_remove(&spec, NULL), 0);
	assert_true(is_there(NOTE));
}

static void test_no_more_rights_than_the_users(void **state)
{
	struct error e = ERROR_INIT;
	(void)state;
	only_root();
	assert_int_equal(chown(home, 0, GROUP), 0);
	assert_int_equal(chmod(home, 0750), 0);
	assert_true(home_note_write(&spec, "note", &e) < 0);
	assert_int_equal(e.fault, FAULT_DENIED);
	assert_false(is_there(NOTE));
	/* Never as root. */
	struct session_spec root = spec;
	root.uid = 0;
	assert_true(home_note_write(&root, "note", NULL) < 0);
	root = spec;
	root.home = "/nowhere/at/all";
	assert_true(home_note_write(&root, "note", NULL) < 0);
	assert_true(home_note_remove(&root, NULL) < 0);
}

static void test_what_it_says(void **state)
{
	(void)state;
	spec.server = "";
	cleanup_free char *plain = home_note_text(&spec, 1795406706789, "CRIU: odd socket", 0);
	assert_non_null(strstr(plain, "Your session ends at 2026-11-23"));
	assert_non_null(strstr(plain, "CRIU: odd socket\n"));
	assert_non_null(strstr(plain, "is lost.\n"));
	spec.server = "lab";
	cleanup_free char *named = home_note_text(&spec, 1795406706789, NULL, 1795406700000);
	assert_non_null(strstr(named, "Your session \"lab\" ends at"));
	assert_non_null(strstr(named, "the machine gives no reason"));
	assert_non_null(strstr(named, "goes back to how it was at 2026-11-23"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_written_and_removed, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_links_lead_nowhere, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_no_more_rights_than_the_users, set_up,
						tear_down),
		cmocka_unit_test(test_what_it_says),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
