/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
/* A node is killed at each step of a departure, and of taking it back: whose the session is then is
 * what its journal says and what the other node was told, and never both nodes'. */
#include "tests/unit/depart_world.h"

#include <sys/mman.h>
#include <sys/wait.h>

enum { SAID_NOTHING, SAID_YES, SAID_NO };

struct told {
	int freeze, give;
};

/* What the node that is about to be killed does, and what it says to the other one. */
static void depart_until_killed(const char *fault, struct told *told)
{
	struct peer p;
	assert_int_equal(begin_node(), 0);
	assert_int_equal(fault_parse(fault, &node.fault, NULL), 0);
	assert_int_equal(grant(d1), 0);
	assert_int_equal(call(&p, TO, d1, FIRST, true), 0);
	told->freeze = freeze(&p) == 0 ? SAID_YES : SAID_NO;
	told->give = say(&p, MOVE_GIVE, MOVE_OK) == 0 ? SAID_YES : SAID_NO;
	if (strncmp(fault, "return:", 7) == 0)
		ask(ask_back, d1);
	/* Its last steps are behind the answer. */
	sleep(20);
	_exit(1);
}

static void kill_at(struct box *box, const char *fault, struct told *told)
{
	int status;
	end_node();
	*told = (struct told) { 0 };
	pid_t pid = fork();
	if (pid == 0)
		depart_until_killed(fault, told);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL)
		fail_msg("%s: it was not killed there (%d)", fault, status);
	assert_int_equal(begin_node(), 0);
	(void)box;
}

static void wait_for_rest(void)
{
	for (int i = 0; i < 2000 && pool_load(node.pool); i++)
		usleep(10000);
	assert_int_equal(pool_load(node.pool), 0);
}

/* The links to deleted files, images and layers are gone, whatever became of the session. */
static void expect_tidy(void)
{
	cleanup_free char *near = str_printf("%s/images/" FIRST, config->node.run_dir);
	cleanup_free char *far = node_path(&node, "images", FIRST, "");
	assert_int_equal(access(near, F_OK), -1);
	assert_int_equal(access(far, F_OK), -1);
}

static void expect_own(struct box *box, const struct told *told, const char *fault)
{
	struct peer p;
	if (told->give == SAID_YES)
		fail_msg("%s: it was given, and runs on", fault);
	expect_runs(box);
	expect_status(true, NULL);
	expect_journal(NULL);
	expect_tidy();
	/* Asked again, the other node is told the same. */
	assert_true(call(&p, TO, d1, FIRST, true) < 0);
	hang_up(&p);
}

static void expect_given(struct box *box, const struct told *told, const char *fault)
{
	struct peer p;
	if (told->give == SAID_NO)
		fail_msg("%s: the other node was told no, and it was given", fault);
	expect_still(box);
	expect_status(false, TO);
	expect_tidy();
	assert_int_equal(call(&p, TO, d1, FIRST, true), 0);
	expect_pages(box, &p);
	assert_int_equal(say(&p, MOVE_GIVE, MOVE_OK), 0);
	assert_int_equal(say(&p, MOVE_ARRIVED, MOVE_OK), 0);
	hang_up(&p);
	assert_false(cgroup_exists(&box->sb.cgroup));
}

static bool is_given_now(void)
{
	pthread_mutex_lock(&node.lock);
	struct session *s = session_find(&node, FIRST);
	bool given = s && session_is_given(s);
	pthread_mutex_unlock(&node.lock);
	return given;
}

/* `last`: the last step before which it is this node's. */
static void try_step(const struct plan *plan, size_t i, const char *when, struct told *told)
{
	struct box box;
	char fault[64];
	snprintf(fault, sizeof(fault), "%s:%s:%s", plan->name, plan->steps[i].name, when);
	box_run(&box);
	kill_at(&box, fault, told);
	wait_for_rest();
	bool given = is_given_now();
	bool committed =
		i > plan->commit - 1 || (i == plan->commit - 1 && strcmp(when, "after") == 0);
	assert_int_equal(given, (plan == &plan_depart) == committed);
	if (plan == &plan_return)
		told->give = SAID_NOTHING; /* elsad has taken that back */
	if (given)
		expect_given(&box, told, fault);
	else
		expect_own(&box, told, fault);
	if (given)
		sandbox_deinit(&box.sb);
	else
		box_stop(&box);
}

static void try_all(const struct plan *plan)
{
	struct told *told =
		mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_true(told != MAP_FAILED);
	need_root();
	for (size_t i = 0; i < plan->count; i++) {
		try_step(plan, i, "before", told);
		try_step(plan, i, "after", told);
	}
	munmap(told, PAGE);
}

static void test_depart(void **state)
{
	(void)state;
	try_all(&plan_depart);
}

static void test_return(void **state)
{
	(void)state;
	try_all(&plan_return);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_depart),
		cmocka_unit_test(test_return),
	};
	return cmocka_run_group_tests(tests, set_up_node, tear_down_node);
}
