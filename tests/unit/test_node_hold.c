/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "base/cleanup.h"
#include "base/fs.h"
#include "node/cgroup.h"
#include "node/hold.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

/* A process in a control group, as a session's. */
struct place {
	char dir[64];
	char name[32];
	struct config config;
	struct node node;
	struct session session;
	struct cgroup cg;
	pid_t child;
};

static void put_child(struct place *p)
{
	p->child = fork();
	if (p->child == 0)
		for (;;)
			pause();
	assert_int_equal(cgroup_adopt(&p->cg, p->child, NULL), 0);
	p->session.journal.pid = p->child;
}

static int set_up(void **state)
{
	struct place *p = calloc(1, sizeof(*p));
	struct session_limits none = { 0 };
	struct error e = ERROR_INIT;
	*state = p;
	snprintf(p->dir, sizeof(p->dir), "/tmp/elsa-hold-XXXXXX");
	snprintf(p->name, sizeof(p->name), "elsa-hold-%d", (int)getpid());
	snprintf(p->session.id, sizeof(p->session.id), "0123456789abcdef");
	if (!mkdtemp(p->dir))
		return -1;
	p->config.node.run_dir = p->dir;
	p->config.node.cgroup = p->name;
	p->node.config = &p->config;
	snprintf(p->node.boot_id, sizeof(p->node.boot_id), "boot-1");
	if (geteuid() != 0)
		return 0;
	if (cgroup_host_setup(p->name, &e) < 0 ||
	    cgroup_init(&p->cg, p->name, p->session.id, &e) < 0 ||
	    cgroup_create(&p->cg, &none, &e) < 0)
		fail_msg("%s", e.text);
	put_child(p);
	return hold_init(&p->node, NULL);
}

static int tear_down(void **state)
{
	struct place *p = *state;
	if (p->child) {
		cgroup_thaw(&p->cg, NULL);
		kill(p->child, SIGKILL);
		waitpid(p->child, NULL, 0);
		cgroup_remove(&p->cg, NULL);
		cgroup_host_teardown(p->name, NULL);
	}
	cgroup_deinit(&p->cg);
	int r = fs_remove_tree(p->dir, NULL);
	free(p);
	return r;
}

static struct place *need_root(void **state)
{
	struct place *p = *state;
	if (!p->child)
		skip();
	return p;
}

/* Processes stop one by one. */
static bool becomes(struct place *p, bool wanted)
{
	bool frozen = !wanted;
	for (int i = 0; i < 20000 && frozen != wanted; i++) {
		assert_int_equal(cgroup_frozen(&p->cg, &frozen, NULL), 0);
		usleep(1000);
	}
	return frozen == wanted;
}

static bool is_frozen(struct place *p)
{
	bool frozen = false;
	assert_int_equal(cgroup_frozen(&p->cg, &frozen, NULL), 0);
	return frozen;
}

static void test_runs_when_no_reason_is_left(void **state)
{
	struct place *p = need_root(state);
	struct node *node = &p->node;
	struct session *s = &p->session;
	assert_int_equal(hold_drop(node, s, HOLD_LEASE, NULL), 0);
	assert_int_equal(hold_take(node, s, HOLD_LEASE, NULL), 0);
	assert_int_equal(hold_take(node, s, HOLD_LEASE, NULL), 0);
	assert_int_equal(hold_take(node, s, HOLD_EVACUATION, NULL), 0);
	assert_true(becomes(p, true));
	assert_true(hold_has(node, s, HOLD_LEASE));
	assert_int_equal(hold_drop(node, s, HOLD_LEASE, NULL), 0);
	assert_true(is_frozen(p) && hold_any(node, s) && !hold_has(node, s, HOLD_LEASE));
	assert_int_equal(hold_drop(node, s, HOLD_EVACUATION, NULL), 0);
	assert_true(becomes(p, false));
	assert_false(hold_any(node, s));
}

static void test_an_effect_owns_the_freezer(void **state)
{
	struct place *p = need_root(state);
	struct node *node = &p->node;
	struct session *s = &p->session;
	hold_own(node, s);
	assert_int_equal(hold_take(node, s, HOLD_LEASE, NULL), 0);
	assert_false(is_frozen(p));
	assert_int_equal(hold_settle(node, s, NULL), 0);
	assert_true(becomes(p, true));
	/* Let go of while it has the freezer: not thawed under its hands. */
	hold_own(node, s);
	assert_int_equal(hold_drop(node, s, HOLD_LEASE, NULL), 0);
	assert_true(is_frozen(p));
	assert_int_equal(hold_settle(node, s, NULL), 0);
	assert_true(becomes(p, false));
	hold_own(node, s);
	assert_int_equal(cgroup_freeze(&p->cg, 1000, NULL), 0);
	hold_give_back(node, s);
	assert_true(is_frozen(p));
	assert_int_equal(cgroup_thaw(&p->cg, NULL), 0);
	hold_give_back(node, s);
	assert_false(is_frozen(p));
}

/* What an effect takes back itself does not move the session before the freezer is given back, and
 * other reasons stay. */
static void test_an_effect_clears_a_reason(void **state)
{
	struct place *p = need_root(state);
	struct node *node = &p->node;
	struct session *s = &p->session;
	hold_own(node, s);
	assert_int_equal(hold_clear(node, s, HOLD_DOZE, NULL), 0);
	assert_int_equal(hold_take(node, s, HOLD_DOZE, NULL), 0);
	assert_int_equal(hold_take(node, s, HOLD_LEASE, NULL), 0);
	assert_int_equal(cgroup_freeze(&p->cg, 1000, NULL), 0);
	assert_int_equal(hold_clear(node, s, HOLD_DOZE, NULL), 0);
	assert_true(is_frozen(p) && !hold_has(node, s, HOLD_DOZE));
	assert_int_equal(hold_settle(node, s, NULL), 0);
	assert_true(is_frozen(p));
	s->held = 0;
	hold_recover(node, s);
	assert_true(hold_has(node, s, HOLD_LEASE) && !hold_has(node, s, HOLD_DOZE));
	hold_own(node, s);
	assert_int_equal(hold_clear(node, s, HOLD_LEASE, NULL), 0);
	assert_int_equal(hold_settle(node, s, NULL), 0);
	assert_true(becomes(p, false));
}

/* What is cut short in a way that leaves open whether it is a checkpoint now must not run. */
static void test_undecided_stays(void **state)
{
	struct place *p = need_root(state);
	static char effect[] = "e1";
	assert_int_equal(hold_take(&p->node, &p->session, HOLD_EVACUATION, NULL), 0);
	p->session.journal.effect = effect;
	assert_int_equal(hold_drop(&p->node, &p->session, HOLD_EVACUATION, NULL), 0);
	p->session.journal.effect = NULL;
	assert_true(becomes(p, true));
}

/* The lease lapses while what ends a session is at its last steps. */
static void test_no_process_is_held(void **state)
{
	struct place *p = need_root(state);
	hold_own(&p->node, &p->session);
	hold_forget(&p->node, &p->session);
	p->session.journal.pid = 0;
	assert_int_equal(hold_take(&p->node, &p->session, HOLD_LEASE, NULL), 0);
	/* Left open: nobody knows whether there is one. */
	static char effect[] = "e1";
	p->session.journal.effect = effect;
	hold_give_back(&p->node, &p->session);
	assert_true(hold_any(&p->node, &p->session) && becomes(p, true));
	p->session.journal.effect = NULL;
	hold_give_back(&p->node, &p->session);
	assert_false(hold_any(&p->node, &p->session));
	hold_recover(&p->node, &p->session);
	assert_false(hold_any(&p->node, &p->session));
}

static void test_outlives_the_program(void **state)
{
	struct place *p = need_root(state);
	struct node *node = &p->node;
	struct session *s = &p->session;
	assert_int_equal(hold_take(node, s, HOLD_EVACUATION, NULL), 0);
	/* By another program, which knows the names only. */
	assert_int_equal(hold_note(p->dir, "boot-1", s->id, HOLD_LEASE, NULL), 0);
	s->held = 0;
	assert_int_equal(cgroup_thaw(&p->cg, NULL), 0);
	hold_recover(node, s);
	assert_true(becomes(p, true));
	assert_true(hold_has(node, s, HOLD_LEASE) && hold_has(node, s, HOLD_EVACUATION));
	hold_forget(node, s);
	assert_false(hold_any(node, s));
	hold_recover(node, s);
	assert_false(hold_any(node, s));
	/* Not the machine. */
	assert_int_equal(hold_take(node, s, HOLD_LEASE, NULL), 0);
	snprintf(node->boot_id, sizeof(node->boot_id), "boot-2");
	hold_recover(node, s);
	assert_false(hold_any(node, s));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_runs_when_no_reason_is_left, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(test_an_effect_owns_the_freezer, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_an_effect_clears_a_reason, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_undecided_stays, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_no_process_is_held, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_outlives_the_program, set_up, tear_down),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
