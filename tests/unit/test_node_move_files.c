/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
/* Plain files from one end of a connection to the other. */
#include "base/cleanup.h"
#include "base/fs.h"
#include "io/job.h"
#include "node/move_files.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <cmocka.h>

struct world {
	char top[32];
	struct move_conn *here, *there;
	struct buf *has;
};

static void run_in(const struct world *w, const char *command)
{
	cleanup_free char *line = str_printf("cd %s && %s", w->top, command);
	const char *const argv[] = { "sh", "-c", line, NULL };
	struct error e = ERROR_INIT;
	if (job_check(&JOB_OPTIONS(.argv = argv), &e) < 0)
		fail_msg("%s", e.text);
}

static int setup(void **state)
{
	int ends[2];
	struct world *w = calloc(1, sizeof(*w));
	*w = (struct world) { .top = "/tmp/elsa-files-XXXXXX" };
	assert_non_null(mkdtemp(w->top));
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
	assert_int_equal(move_conn_plain(ends[0], "a", &w->here, NULL), 0);
	assert_int_equal(move_conn_plain(ends[1], "b", &w->there, NULL), 0);
	run_in(w, "mkdir from to");
	*state = w;
	return 0;
}

static int teardown(void **state)
{
	struct world *w = *state;
	move_conn_free(w->here);
	move_conn_free(w->there);
	fs_remove_tree(w->top, NULL);
	free(w);
	return 0;
}

static void *send_all(void *arg)
{
	struct world *w = arg;
	struct error e = ERROR_INIT;
	cleanup_free char *from = fs_join(w->top, "from");
	cleanup_free char *one = fs_join(w->top, "one");
	cleanup(move_sending_deinit) struct move_sending s = MOVE_SENDING(w->here);
	s.has = w->has;
	int r = move_sending_dir(&s, from, "d", &e);
	if (r == 0)
		r = move_sending_file(&s, one, "alone", &e);
	if (r == 0)
		r = move_sending_end(&s, &e);
	move_send(w->here, MOVE_OK, e.text, strlen(e.text), NULL);
	return NULL;
}

static void take_all(struct world *w)
{
	pthread_t thread;
	enum move_type type;
	struct error e = ERROR_INIT;
	struct move_taking t;
	cleanup_buf struct buf body = BUF_INIT(MOVE_BODY_MOST);
	cleanup_free char *to = fs_join(w->top, "to");
	assert_int_equal(move_taking_begin(&t, to, NULL), 0);
	assert_int_equal(pthread_create(&thread, NULL, send_all, w), 0);
	for (;;) {
		assert_int_equal(move_recv(w->there, &type, &body, 10000, NULL), 0);
		if (type != MOVE_DATA)
			break;
		if (move_taking_body(&t, &body, &e) < 0)
			fail_msg("%s", e.text);
	}
	pthread_join(thread, NULL);
	assert_string_equal(buf_text(&body), "");
	assert_int_equal(move_taking_end(&t, NULL), 0);
	move_taking_deinit(&t);
}

/* Small ones together, a large one over many messages, empty ones, and times. */
static void test_files(void **state)
{
	struct world *w = *state;
	run_in(w, "for i in $(seq 300); do echo $i >from/$i; done");
	run_in(w, "head -c 3000001 /dev/urandom >from/large; : >from/empty; : >one");
	run_in(w,
	       "touch -d '2001-02-03 04:05:06.789012345' from/1; touch -d 1960-01-01 from/empty");
	take_all(w);
	run_in(w, "diff -r from to/d && test -f to/alone && test ! -s to/alone");
	run_in(w, "cd from && stat -c '%n %s %y' * >../was && cd ../to/d &&"
		  " stat -c '%n %s %y' * | diff - ../../was");
	run_in(w, "test -z \"$(find to -type f ! -perm 600)\"");
}

static void test_missing(void **state)
{
	struct world *w = *state;
	run_in(w, "rmdir from");
	take_all(w);
	run_in(w, "rmdir to");
}

static void test_holes(void **state)
{
	struct world *w = *state;
	run_in(w, "truncate -s 64M from/all && truncate -s 64M from/end && truncate -s 64M "
		  "from/begin &&"
		  " echo here | dd of=from/end conv=notrunc status=none &&"
		  " echo here >>from/begin &&"
		  " echo here | dd of=from/begin seek=64K bs=512 conv=notrunc status=none");
	take_all(w);
	run_in(w, "cmp from/all to/d/all && cmp from/end to/d/end && cmp from/begin to/d/begin &&"
		  " test $(du -sm to | cut -f1) -lt 10");
}

static int take(struct move_taking *t, const struct move_piece *p)
{
	void *at;
	cleanup_buf struct buf body = BUF_INIT(1 << 16);
	assert_int_equal(move_piece_write(p, &body, &at, NULL), 0);
	memset(at, 'x', p->len);
	return move_taking_body(t, &body, NULL);
}

/* What would be put elsewhere, or is not whole. */
static void test_wrong(void **state)
{
	struct world *w = *state;
	struct move_taking t;
	cleanup_free char *to = fs_join(w->top, "to");
	cleanup_free char *nowhere = fs_join(w->top, "nowhere");
	const struct move_piece whole = { .name = "a", .size = 3, .len = 3 };
	const struct move_piece part = { .name = "b", .size = 6, .len = 3 };
	const struct move_piece other = { .name = "c", .size = 6, .offset = 3, .len = 3 };
	const struct move_piece again = { .name = "b", .size = 6, .offset = 2, .len = 3 };
	const struct move_piece rest = { .name = "b", .size = 6, .offset = 3, .len = 3 };
	const struct move_piece out = { .name = "link/x" };
	assert_int_equal(move_taking_begin(&t, nowhere, NULL), -ENOENT);
	assert_int_equal(move_taking_begin(&t, to, NULL), 0);
	assert_int_equal(take(&t, &whole), 0);
	assert_int_equal(take(&t, &whole), 0);
	assert_int_equal(take(&t, &part), 0);
	assert_int_equal(move_taking_end(&t, NULL), -EBADMSG);
	assert_int_equal(take(&t, &other), -EBADMSG);
	assert_int_equal(take(&t, &again), -EBADMSG);
	assert_int_equal(take(&t, &rest), 0);
	assert_int_equal(move_taking_end(&t, NULL), 0);
	run_in(w, "test $(cat to/b) = xxxxxx && mkdir out && ln -s ../out to/link");
	assert_true(take(&t, &out) < 0);
	run_in(w, "rmdir out");
	move_taking_deinit(&t);
}

/* What the other node has is left out if it is still the same. */
static void test_has(void **state)
{
	struct world *w = *state;
	cleanup_buf struct buf has = BUF_INIT(1 << 20);
	cleanup_free char *from = fs_join(w->top, "from");
	w->has = &has;
	run_in(w, "echo a >from/a; echo b >from/b; echo c >from/c; echo d >from/d");
	assert_int_equal(move_files_each(from, "d", move_files_note, &has, NULL), 0);
	run_in(w, "touch -d 2001-02-03 from/b; echo more >>from/c; mkdir to/d; echo old >to/d/c");
	run_in(w, "mv from/d from/e");
	take_all(w);
	run_in(w, "test \"$(ls to/d | tr -d '\\n')\" = bce && cmp from/c to/d/c");
}

/* One that is cut off meanwhile says so; a link is not followed. */
static void test_not_sent(void **state)
{
	struct world *w = *state;
	cleanup_free char *link = fs_join(w->top, "link");
	cleanup(move_sending_deinit) struct move_sending s = MOVE_SENDING(w->here);
	run_in(w, "echo secret >one && ln -s one link");
	assert_true(move_sending_file(&s, link, "link", NULL) < 0);
	assert_true(move_sending_file(&s, w->top, "directory", NULL) < 0);
	assert_int_equal(s.body.len, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_files, setup, teardown),
		cmocka_unit_test_setup_teardown(test_missing, setup, teardown),
		cmocka_unit_test_setup_teardown(test_holes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_wrong, setup, teardown),
		cmocka_unit_test_setup_teardown(test_has, setup, teardown),
		cmocka_unit_test_setup_teardown(test_not_sent, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
