/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
/* A directory that is copied, changed, and copied again as far as it has changed. */
#include "base/cleanup.h"
#include "base/fs.h"
#include "io/job.h"
#include "node/layers_ahead.h"
#include "node/tar.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

enum { TIMEOUT_MS = 30000 };

static char top[64];

/* `a` is the layer, `b` the copy. */
static int set_up(void **state)
{
	(void)state;
	snprintf(top, sizeof(top), "/var/tmp/elsa-layers-XXXXXX");
	return mkdtemp(top) ? 0 : -1;
}

static int tear_down(void **state)
{
	(void)state;
	return fs_remove_tree(top, NULL);
}

static void ok(int r, const struct error *e)
{
	if (r < 0)
		fail_msg("%s", e->text);
}

static void run(const char *script)
{
	struct error e = ERROR_INIT;
	cleanup_free char *text = str_printf("cd %s && %s", top, script);
	const char *const argv[] = { "sh", "-c", text, NULL };
	ok(job_check(&JOB_OPTIONS(.argv = argv), &e), &e);
}

static char *at(const char *name)
{
	return fs_join(top, name);
}

static const char before[] =
	"mkdir a b && cd a && mkdir -p dir/sub kept/deep gone/deep turns && "
	"echo same >kept/deep/file && echo old >dir/written && echo old >dir/appended && "
	"echo x >gone/deep/file && echo x >removed && echo x >becomes-dir && ln -s same link && "
	"ln -s old relinked && echo x >turns/file && echo one >first && ln first second && "
	"echo two >third && ln third fourth && touch -d 2020-01-01 kept/deep/file kept && "
	"printf 'a\\nb' >'new\nline' && mkfifo fifo && chmod 600 dir/written && "
	"if [ $(id -u) = 0 ]; then mknod whiteout c 0 0; fi";

static const char changes[] =
	"cd a && echo new >dir/written && echo more >>dir/appended && rm -r gone && rm removed && "
	"rm becomes-dir && mkdir becomes-dir && echo in >becomes-dir/file && rm -r turns && "
	"echo file >turns && ln -sfn new relinked && rm second && ln third fifth && "
	"mv kept/deep/file kept/moved && echo fresh >dir/sub/fresh && chmod 640 dir/written && "
	"rm fifo && echo file >fifo && touch -d 2021-01-01 dir && "
	"if [ $(id -u) = 0 ]; then rm link && mknod link c 0 0; fi";

/* All that there is to tell of two directories. */
static void expect_same(void)
{
	run("for d in a b; do (cd $d && find . -printf '%P %y %m %U %G %n %l %T@\\n' | "
	    "sed '/ d /s/ [0-9]* *\\([0-9.]*\\)$/ \\1/' | sort >../$d.list && "
	    "find . -type f -exec sha256sum {} + | sort >../$d.sums) || exit 1; done; "
	    "diff -u a.list b.list >diff 2>&1 && diff -u a.sums b.sums >>diff 2>&1 || "
	    "{ cat diff >&2; exit 1; }");
}

static void copy_ahead(void)
{
	struct error e = ERROR_INIT;
	struct tar *pack, *unpack;
	int from, into;
	char chunk[65536];
	cleanup_free char *a = at("a");
	cleanup_free char *b = at("b");
	const char *const args[] = { "-C", a, ".", NULL };
	ok(tar_pack(tar_live, args, TIMEOUT_MS, &pack, &from, &e), &e);
	ok(tar_unpack(tar_layer, b, TIMEOUT_MS, &unpack, &into, &e), &e);
	for (ssize_t n; (n = read(from, chunk, sizeof(chunk))) > 0;)
		assert_int_equal(fs_write_all(into, chunk, (size_t)n), 0);
	close(from);
	close(into);
	ok(tar_end(pack, 0, &e), &e);
	ok(tar_end(unpack, 0, &e), &e);
}

static void copy_rest(const struct layers_seen *seen)
{
	struct error e = ERROR_INIT;
	cleanup_free char *a = at("a");
	cleanup_free char *b = at("b");
	cleanup_free char *file = at("rest.tar");
	cleanup_free char *names = at("names");
	ok(layers_pack_since(a, seen, file, names, TIMEOUT_MS, &e), &e);
	ok(layers_prune(b, names, &e), &e);
	ok(tar_unpack_file(tar_layer, b, file, TIMEOUT_MS, &e), &e);
}

/* As if all of it were a minute old. */
static struct layers_seen *see(int64_t ahead_ns)
{
	struct error e = ERROR_INIT;
	struct layers_seen *seen;
	int64_t since;
	cleanup_free char *a = at("a");
	ok(layers_sync(a, &since, &e), &e);
	ok(layers_see(a, since + ahead_ns, &seen, &e), &e);
	return seen;
}

static void test_changes(void **state)
{
	(void)state;
	run(before);
	struct layers_seen *seen = see(60000000000);
	copy_ahead();
	expect_same();
	usleep(20000); /* a tick of the file system's clock */
	run(changes);
	copy_rest(seen);
	expect_same();
	/* Only what may have changed has come. */
	run("tar -tf rest.tar >list && grep -qx ./dir/written list && grep -qx ./kept/moved list "
	    "&& "
	    "! grep -q line list");
	layers_seen_free(seen);
}

static void test_nothing_changed(void **state)
{
	(void)state;
	run(before);
	struct layers_seen *seen = see(60000000000);
	copy_ahead();
	copy_rest(seen);
	expect_same();
	run("tar -tf rest.tar | grep -v '/$' >list; ! grep -q kept/deep/file list && "
	    "! grep -q dir/written list");
	layers_seen_free(seen);
}

/* What was changed just before may have been again just after, at the same time of the clock. */
static void test_too_new(void **state)
{
	(void)state;
	run(before);
	struct layers_seen *seen = see(0);
	copy_ahead();
	run("echo other >b/dir/written"); /* as if the copy had come too early */
	copy_rest(seen);
	expect_same();
	layers_seen_free(seen);
}

static void test_pays(void **state)
{
	(void)state;
	cleanup_free char *a = at("a");
	cleanup_free char *none = at("none");
	run("mkdir a");
	assert_false(layers_ahead_pays(a));
	assert_false(layers_ahead_pays(none));
	run("head -c 20M /dev/urandom >a/big");
	assert_true(layers_ahead_pays(a));
	assert_false(layers_ahead_pays("/dev/shm"));
}

/* The list comes from another node. */
static void test_bad_names(void **state)
{
	(void)state;
	struct error e = ERROR_INIT;
	cleanup_free char *b = at("b");
	cleanup_free char *names = at("names");
	run("mkdir b && echo x >b/file && echo y >outside && printf 'ffile\\0d../outside\\0' "
	    ">names");
	ok(layers_prune(b, names, &e), &e);
	run("test -s outside && test -s b/file");
	run("printf '\\0\\0' >names");
	assert_true(layers_prune(b, names, &e) < 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_changes, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_nothing_changed, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_too_new, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_pays, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_bad_names, set_up, tear_down),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
