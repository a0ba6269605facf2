/* SPDX-License-Identifier: Apache-2.0 */
/* When what is due of a lease; and the guard as a program, on directories that look like freezers.
 */
#define _GNU_SOURCE
#include "base/cleanup.h"
#include "base/fs.h"
#include "guard/guard.h"
#include "node/program.h"

#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define S INT64_C(1000000)
/* For what must happen, however busy the machine is. */
#define AT_LAST (60 * S)

static void test_times(void **state)
{
	(void)state;
	const struct lease_time t = { .sent_us = 100 * S, .lease_us = 30 * S, .skew_us = 7 * S };
	assert_int_equal(lease_renew_at(&t), 105 * S);
	assert_int_equal(lease_freeze_at(&t), 124 * S);
	assert_int_equal(lease_guard_at(&t), 127 * S);
	assert_int_equal(lease_ends_at(&t), 130 * S);
	static const struct {
		int64_t now;
		bool held;
	} cases[] = { { 99 * S, false },     { 100 * S, true },  { 123 * S, true },
		      { 124 * S - 1, true }, { 124 * S, false }, { 200 * S, false },
		      { INT64_MAX, false } };
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		assert_int_equal(lease_is_held(&t, cases[i].now), cases[i].held);
	const struct lease_time none = { 0 };
	assert_false(lease_is_held(&none, 0));
	assert_false(lease_is_held(&none, 5));
	/* Whatever elsad takes to answer: the node's ends before elsad's. */
	for (int64_t lease = 2 * S; lease < 3600 * S; lease = lease * 3 / 2) {
		const struct lease_time any = { .sent_us = 5, .lease_us = lease };
		assert_true(lease_renew_at(&any) < lease_freeze_at(&any));
		assert_true(lease_freeze_at(&any) < lease_guard_at(&any));
		assert_true(lease_guard_at(&any) < lease_ends_at(&any));
		/* Several answers may be lost before anything happens. */
		assert_true((lease_freeze_at(&any) - any.sent_us) /
				    (lease_renew_at(&any) - any.sent_us) >=
			    4);
	}
}

static void test_wall_clock(void **state)
{
	(void)state;
	const struct lease_time t = { .sent_us = 100 * S, .lease_us = 30 * S, .skew_us = 50 * S };
	assert_int_equal(lease_now(&t, 110 * S, 160 * S), 110 * S);
	/* A little is what time services do. */
	assert_int_equal(lease_now(&t, 110 * S, 161 * S), 110 * S);
	/* Set forward: that much may have gone by unseen. */
	assert_int_equal(lease_now(&t, 110 * S, 180 * S), 130 * S);
	assert_false(lease_is_held(&t, lease_now(&t, 110 * S, 180 * S)));
	/* Set back: says nothing. */
	assert_int_equal(lease_now(&t, 110 * S, 20 * S), 110 * S);
	const struct lease_time none = { 0 };
	assert_int_equal(lease_now(&none, 110 * S, 999 * S), 110 * S);
}

/* --- the program ---------------------------------------------------------------------------- */

struct world {
	char dir[64];
	char page_path[PATH_MAX], freezer[PATH_MAX];
	bool v2;
	struct guard_page *page;
	pid_t guard;
};

static int64_t boot_us(void)
{
	struct timespec t;
	clock_gettime(CLOCK_BOOTTIME, &t);
	return t.tv_sec * S + t.tv_nsec / 1000;
}

static int64_t real_us(void)
{
	struct timespec t;
	clock_gettime(CLOCK_REALTIME, &t);
	return t.tv_sec * S + t.tv_nsec / 1000;
}

static void put(const struct world *w, const char *name, const char *text)
{
	cleanup_free char *path = fs_join(w->freezer, name);
	cleanup_fd int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
}

static bool was_asked(const struct world *w)
{
	cleanup_free char *path = fs_join(w->freezer, w->v2 ? "cgroup.freeze" : "freezer.state");
	cleanup_buf struct buf text = BUF_INIT(256);
	assert_int_equal(fs_read(path, &text, NULL), 0);
	return strncmp(buf_text(&text), w->v2 ? "1" : "FROZEN", w->v2 ? 1 : 6) == 0;
}

static void make_world(struct world *w, bool v2)
{
	*w = (struct world) { .v2 = v2 };
	snprintf(w->dir, sizeof(w->dir), "/tmp/elsa-test.XXXXXX");
	assert_non_null(mkdtemp(w->dir));
	snprintf(w->page_path, sizeof(w->page_path), "%s/lease", w->dir);
	snprintf(w->freezer, sizeof(w->freezer), "%s/freezer", w->dir);
	assert_int_equal(mkdir(w->freezer, 0700), 0);
	if (v2) {
		put(w, "cgroup.freeze", "0");
		put(w, "cgroup.events", "populated 1\nfrozen 0\n");
	} else {
		put(w, "freezer.state", "THAWED\n");
	}
	cleanup_fd int fd = open(w->page_path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	assert_int_equal(ftruncate(fd, sizeof(*w->page)), 0);
	w->page = mmap(NULL, sizeof(*w->page), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_true(w->page != MAP_FAILED);
	w->page->magic = GUARD_MAGIC;
	w->page->settled_us = -1;
}

static void grant(struct world *w, int64_t lease_us)
{
	const struct lease_time t = { boot_us(), lease_us, real_us() - boot_us() };
	guard_page_put(w->page, &t);
}

static pid_t start(struct world *w)
{
	char name[] = GUARD_PROGRAM;
	char *argv[] = { name, w->page_path, w->freezer, NULL };
	int program = program_open(GUARD_PROGRAM, NULL);
	assert_true(program >= 0);
	pid_t pid = fork();
	if (pid == 0) {
		fexecve(program, argv, environ);
		_exit(99);
	}
	close(program);
	return pid;
}

static int status_of(pid_t pid)
{
	int status;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static void end_world(struct world *w)
{
	const struct lease_time none = { 0 };
	guard_page_put(w->page, &none);
	kill(w->guard, SIGTERM);
	status_of(w->guard);
	munmap(w->page, sizeof(*w->page));
	assert_int_equal(fs_remove_tree(w->dir, NULL), 0);
}

static bool comes(const struct world *w, bool (*what)(const struct world *w), int64_t within_us)
{
	for (int64_t until = boot_us() + within_us; boot_us() < until; usleep(2000))
		if (what(w))
			return true;
	return what(w);
}

static bool is_even_again(const struct world *w)
{
	uint32_t freezes = atomic_load(&w->page->freezes);
	return freezes > 0 && freezes % 2 == 0;
}

/* Locked: it looks at the page. */
static bool is_up(const struct world *w)
{
	struct flock whole = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	cleanup_fd int fd = open(w->page_path, O_RDWR | O_CLOEXEC);
	assert_int_equal(fcntl(fd, F_GETLK, &whole), 0);
	return whole.l_type != F_UNLCK;
}

/* How long after the last renewal it froze. Much too long when we have been too slow ourselves. */
static int64_t freezes_after(bool v2)
{
	struct world w;
	int64_t begun = boot_us();
	bool in_time = true;
	make_world(&w, v2);
	grant(&w, 2 * S);
	w.guard = start(&w);
	/* Renewed twice. */
	for (int i = 0; i < 2; i++) {
		usleep(500000);
		bool asked = was_asked(&w);
		int64_t before = begun;
		begun = boot_us();
		grant(&w, 2 * S);
		in_time &= boot_us() - before < 18 * S / 10;
		assert_true(!in_time || !asked);
	}
	assert_true(comes(&w, was_asked, AT_LAST));
	int64_t took = boot_us() - begun;
	assert_true(comes(&w, is_even_again, AT_LAST));
	end_world(&w);
	return in_time ? took : INT64_MAX;
}

/* Never before its time; and not too late, but for what else the machine may be doing. */
static void test_freezes_in_time(void **state)
{
	(void)state;
	for (int v2 = 0; v2 < 2; v2++) {
		int64_t took = INT64_MAX;
		for (int tries = 0; tries < 20 && took >= 2 * S; tries++) {
			took = freezes_after(v2);
			assert_true(took > 17 * S / 10);
		}
		assert_true(took < 2 * S);
	}
}

/* elsa-node has seen to it itself. */
static void test_settled(void **state)
{
	(void)state;
	struct world w;
	make_world(&w, true);
	grant(&w, S);
	atomic_store(&w.page->settled_us, atomic_load(&w.page->sent_us));
	w.guard = start(&w);
	assert_true(comes(&w, is_up, AT_LAST));
	usleep(1300000);
	assert_false(was_asked(&w));
	/* Of that lease only. */
	grant(&w, S);
	assert_true(comes(&w, was_asked, AT_LAST));
	end_world(&w);
}

static void test_one_of_them(void **state)
{
	(void)state;
	struct world w;
	make_world(&w, false);
	grant(&w, 3600 * S);
	w.guard = start(&w);
	assert_true(comes(&w, is_up, AT_LAST));
	assert_int_equal(status_of(start(&w)), 0);
	assert_int_equal(kill(w.guard, 0), 0);
	/* It is told to end. */
	const struct lease_time none = { 0 };
	guard_page_put(w.page, &none);
	kill(w.guard, SIGKILL);
	status_of(w.guard);
	w.guard = start(&w);
	assert_int_equal(status_of(w.guard), 0);
	assert_false(was_asked(&w));
	/* What one before it was killed in the middle of is ended. */
	atomic_store(&w.page->freezes, 3);
	grant(&w, 3600 * S);
	w.guard = start(&w);
	assert_true(comes(&w, is_even_again, AT_LAST));
	end_world(&w);
}

static void test_wrong_files(void **state)
{
	(void)state;
	struct world w;
	make_world(&w, false);
	w.page->magic++;
	assert_int_equal(status_of(start(&w)), 1);
	w.page->magic--;
	grant(&w, S);
	snprintf(w.freezer, sizeof(w.freezer), "%s/nothing", w.dir);
	assert_int_equal(status_of(start(&w)), 1);
	snprintf(w.freezer, sizeof(w.freezer), "%s/freezer", w.dir);
	w.guard = start(&w);
	end_world(&w);
}

/* Whoever reads while it is written is told so. */
static void test_page(void **state)
{
	(void)state;
	struct guard_page page = { 0 };
	struct lease_time t;
	const struct lease_time given = { 1, 2, 3 };
	assert_true(guard_page_get(&page, &t));
	guard_page_put(&page, &given);
	assert_true(guard_page_get(&page, &t));
	assert_memory_equal(&t, &given, sizeof(t));
	atomic_fetch_add(&page.change, 1);
	assert_false(guard_page_get(&page, &t));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_times),       cmocka_unit_test(test_wall_clock),
		cmocka_unit_test(test_page),        cmocka_unit_test(test_freezes_in_time),
		cmocka_unit_test(test_settled),     cmocka_unit_test(test_one_of_them),
		cmocka_unit_test(test_wrong_files),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
