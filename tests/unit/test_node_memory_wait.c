/* SPDX-License-Identifier: Apache-2.0 */
/* What the kernel makes of it: a process that waits at its group's limit. On version 1. */
#define _GNU_SOURCE
#include "base/cleanup.h"
#include "base/clock.h"
#include "node/cgroup.h"
#include "node/cgroup_ops.h"

#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum { LIMIT = 16 << 20, TOUCHED = 48 << 20 };
enum { ENOUGH = 16 * TOUCHED }; /* a sanitizer has memory of its own for each byte */

struct place {
	char name[32];
	struct cgroup cg;
	pid_t child;
	int fd; /* of notices */
};

static const struct session_limits limits = { .memory_bytes = LIMIT };

static void __attribute__((noreturn)) grow(const struct place *p)
{
	char *at = mmap(NULL, TOUCHED, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (at == MAP_FAILED || cgroup_adopt(&p->cg, getpid(), NULL) < 0)
		_exit(1);
	for (size_t i = 0; i < TOUCHED; i += 4096)
		at[i] = 1;
	_exit(0);
}

static int set_up(void **state)
{
	struct place *p = calloc(1, sizeof(*p));
	struct error e = ERROR_INIT;
	*state = p;
	p->fd = -1;
	snprintf(p->name, sizeof(p->name), "elsa-wait-%d", (int)getpid());
	if (geteuid() != 0)
		return 0;
	if (cgroup_host_setup(p->name, &e) < 0 ||
	    cgroup_init(&p->cg, p->name, "0123456789abcdef", &e) < 0 ||
	    cgroup_create(&p->cg, &(struct session_limits) { 0 }, &e) < 0)
		fail_msg("%s", e.text);
	return 0;
}

static int tear_down(void **state)
{
	struct place *p = *state;
	cleanup_close_fd(&p->fd);
	if (p->child > 0) {
		cgroup_thaw(&p->cg, NULL);
		kill(p->child, SIGKILL);
		waitpid(p->child, NULL, 0);
	}
	if (p->cg.ops) {
		cgroup_remove(&p->cg, NULL);
		cgroup_host_teardown(p->name, NULL);
	}
	cgroup_deinit(&p->cg);
	free(p);
	return 0;
}

static struct place *begin(void **state)
{
	struct place *p = *state;
	const int64_t marks[] = { LIMIT / 2 };
	if (!p->cg.ops || p->cg.ops->version != 1 || !p->cg.dirs[CGROUP_MEMORY])
		skip();
	assert_int_equal(cgroup_create(&p->cg, &limits, NULL), 0);
	assert_int_equal(cgroup_set_swap(&p->cg, CGROUP_SWAP_NONE, NULL), 0);
	assert_int_equal(cgroup_at_limit(&p->cg, &limits, CGROUP_WAITS, NULL), 0);
	p->fd = cgroup_notices_open(&p->cg, NULL);
	assert_true(p->fd >= 0);
	assert_int_equal(cgroup_notices_add(&p->cg, p->fd, marks, 1, NULL), 0);
	p->child = fork();
	if (p->child == 0)
		grow(p);
	return p;
}

static struct cgroup_usage usage_of(struct place *p)
{
	struct cgroup_usage usage;
	assert_int_equal(cgroup_usage(&p->cg, &usage, NULL), 0);
	return usage;
}

static void wait_until_it_waits(struct place *p)
{
	mono_us until = clock_mono() + 20000000;
	while (!usage_of(p).waiting && clock_mono() < until)
		usleep(1000);
	assert_true(usage_of(p).waiting);
	assert_int_equal(waitpid(p->child, NULL, WNOHANG), 0);
	assert_true(usage_of(p).memory_bytes <= LIMIT);
}

static int end_of(struct place *p)
{
	int status;
	pid_t ended = 0;
	for (mono_us until = clock_mono() + 60000000; !ended && clock_mono() < until;) {
		usleep(1000);
		ended = waitpid(p->child, &status, WNOHANG);
	}
	assert_int_equal(ended, p->child);
	p->child = 0;
	return status;
}

static void test_waits_until_there_is_more(void **state)
{
	struct place *p = begin(state);
	struct pollfd told = { .fd = p->fd, .events = POLLIN };
	assert_int_equal(poll(&told, 1, 20000), 1);
	wait_until_it_waits(p);
	cgroup_notices_clear(p->fd);
	const struct session_limits more = { .memory_bytes = ENOUGH };
	assert_int_equal(cgroup_create(&p->cg, &more, NULL), 0);
	assert_int_equal(end_of(p), 0);
	assert_int_equal(usage_of(p).oom_kills, 0);
	assert_true(usage_of(p).waits);
}

/* Frozen where it waits, and as it was when it is thawed. */
static void test_is_frozen_where_it_waits(void **state)
{
	struct place *p = begin(state);
	wait_until_it_waits(p);
	for (int i = 0; i < 20; i++) {
		struct error e = ERROR_INIT;
		if (cgroup_freeze(&p->cg, 10000, &e) < 0)
			fail_msg("%s", e.text);
		assert_false(usage_of(p).waiting);
		assert_int_equal(cgroup_ease(&p->cg, &limits, i % 2, NULL), 0);
		assert_int_equal(cgroup_ease(&p->cg, &limits, false, NULL), 0);
		assert_int_equal(cgroup_thaw(&p->cg, NULL), 0);
		wait_until_it_waits(p);
	}
	assert_int_equal(cgroup_at_limit(&p->cg, &limits, CGROUP_ENDS, NULL), 0);
	int status = end_of(p);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	assert_int_equal(usage_of(p).oom_kills, 1);
}

static void test_dies_where_it_waits(void **state)
{
	struct place *p = begin(state);
	wait_until_it_waits(p);
	kill(p->child, SIGKILL);
	assert_true(WIFSIGNALED(end_of(p)));
	assert_int_equal(usage_of(p).oom_kills, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_waits_until_there_is_more, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_is_frozen_where_it_waits, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_dies_where_it_waits, set_up, tear_down),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
