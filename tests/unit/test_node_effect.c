/* SPDX-License-Identifier: Apache-2.0 */
#include "base/cleanup.h"
#include "base/fs.h"
#include "node/effect.h"
#include "node/journal.h"
#include "node/node.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

/* --- plans ------------------------------------------------------------------------ */

static void test_plans(void **state)
{
	(void)state;
	for (int kind = EFFECT_NONE; kind < EFFECT_KIND_COUNT; kind++) {
		const struct plan *plan = effect_plan((enum effect_kind)kind);
		assert_non_null(plan);
		assert_non_null(plan->resume);
		assert_true(plan->commit < plan->count);
		/* Nothing is told that can still be undone. */
		assert_true(plan->told == 0 ||
			    (plan->told >= plan->commit && plan->told < plan->count));
		if (kind != EFFECT_NONE)
			assert_string_equal(plan->name, effect_kind_names[kind]);
		for (size_t i = 0; i < plan->count; i++) {
			assert_non_null(plan->steps[i].run);
			assert_int_equal(plan_step(plan, plan->steps[i].name), i);
			/* What is past the commit is never undone. */
			assert_true(i < plan->commit || !plan->steps[i].undo);
		}
		assert_int_equal(plan_step(plan, "no such step"), plan->count);
		assert_int_equal(plan_step(plan, NULL), plan->count);
	}
}

static void test_commits(void **state)
{
	(void)state;
	const struct plan *p = &plan_hibernate;
	assert_string_equal(p->steps[p->commit - 1].name, "commit");
	assert_string_equal(p->steps[p->commit].name, "kill");
	p = &plan_restore;
	assert_string_equal(p->steps[p->commit - 1].name, "thaw");
	assert_string_equal(p->steps[p->told - 1].name, "thaw");
	assert_true(plan_step(p, "record") + 1 == plan_step(p, "release"));
	assert_true(plan_step(p, "release") + 1 == plan_step(p, "thaw"));
	/* Packets are held only while nothing runs. */
	p = &plan_hibernate;
	assert_true(plan_step(p, "freeze") < plan_step(p, "hold"));
	/* A snapshot lets the session run before anything that can wait, and whatever becomes of
	 * it. */
	p = &plan_snapshot;
	assert_string_equal(p->steps[p->commit - 1].name, "commit");
	assert_true(plan_step(p, "layers") + 1 == plan_step(p, "let-run"));
	assert_true(plan_step(p, "let-run") < plan_step(p, "images"));
	/* Nothing of a session that departs is let go of before another node has it, and what can
	 * take long comes before it stands still. */
	p = &plan_depart;
	assert_string_equal(p->steps[p->commit - 1].name, "give");
	assert_true(plan_step(p, "arrive") < plan_step(p, "freeze"));
	assert_true(plan_step(p, "freeze") < plan_step(p, "hold"));
	assert_true(plan_step(p, "layers") < plan_step(p, "let-go"));
	p = &plan_return;
	assert_string_equal(p->steps[p->commit - 1].name, "take");
	assert_true(plan_step(p, "release") < plan_step(p, "thaw"));
	assert_int_equal(plan_stop.commit, 0);
	assert_int_equal(plan_forget.commit, 0);
}

/* --- faults ------------------------------------------------------------------------- */

static void test_fault_plans(void **state)
{
	(void)state;
	struct fault_plan plan;
	struct error e = ERROR_INIT;
	assert_int_equal(fault_parse(NULL, &plan, &e), 0);
	assert_int_equal(plan.when, FAULT_NEVER);
	assert_int_equal(fault_parse("", &plan, &e), 0);
	assert_int_equal(fault_parse("hibernate:dump:fail", &plan, &e), 0);
	assert_true(fault_hit(&plan, "hibernate", "dump", FAULT_FAIL));
	assert_false(fault_hit(&plan, "hibernate", "dump", FAULT_AFTER));
	assert_false(fault_hit(&plan, "hibernate", "commit", FAULT_FAIL));
	assert_false(fault_hit(&plan, "restore", "dump", FAULT_FAIL));
	assert_true(fault_hit(&plan, "hibernate", "dump", FAULT_FAIL));
	assert_int_equal(fault_parse("hibernate:dump:once", &plan, NULL), 0);
	assert_false(fault_hit(&plan, "hibernate", "dump", FAULT_BEFORE));
	assert_true(fault_hit(&plan, "hibernate", "dump", FAULT_FAIL));
	assert_false(fault_hit(&plan, "hibernate", "dump", FAULT_FAIL));
	static const char *const bad[] = {
		"hibernate", "hibernate:dump", "hibernate:dump:sometimes", ":", "a:b:", "::before"
	};
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(fault_parse(bad[i], &plan, &e), -EINVAL);
}

static void test_fault_kills(void **state)
{
	(void)state;
	struct fault_plan plan;
	assert_int_equal(fault_parse("stop:end:before", &plan, NULL), 0);
	pid_t pid = fork();
	if (pid == 0) {
		fault_hit(&plan, "stop", "end", FAULT_BEFORE);
		_exit(0);
	}
	int status;
	waitpid(pid, &status, 0);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

/* --- the journal -------------------------------------------------------------------- */

static char id[] = "0123456789abcdef";

struct place {
	char dir[64];
	char run_dir[80];
	struct config config;
	struct node node;
};

static int set_up(void **state)
{
	struct place *p = calloc(1, sizeof(*p));
	snprintf(p->dir, sizeof(p->dir), "/tmp/elsa-journal-XXXXXX");
	if (!mkdtemp(p->dir))
		return -1;
	p->config.node.state_dir = p->dir;
	p->config.node.run_dir = p->run_dir;
	snprintf(p->run_dir, sizeof(p->run_dir), "%s/run", p->dir);
	p->node.config = &p->config;
	snprintf(p->node.boot_id, sizeof(p->node.boot_id), "boot-1");
	cleanup_free char *saved = fs_join(p->dir, "journal");
	cleanup_free char *noted = journal_dir(&p->node);
	*state = p;
	int r = fs_mkdirs(saved, 0700, NULL);
	return r < 0 ? r : fs_mkdirs(noted, 0700, NULL);
}

static int tear_down(void **state)
{
	struct place *p = *state;
	int r = fs_remove_tree(p->dir, NULL);
	free(p);
	return r;
}

static struct journal example(void)
{
	struct journal j = { .session = session_spec_of(id),
			     .pid = 42,
			     .start_time = 77,
			     .generation = 3,
			     .kind = EFFECT_HIBERNATE,
			     .released = 2 };
	struct journal copy = j;
	/* Owned strings throughout, as everywhere but here. */
	copy.session = (struct session_spec) { 0 };
	j.session.cmd = (char *[]) { "python3", NULL };
	j.session.port = 1;
	assert_int_equal(journal_copy_spec(&copy.session, &j.session, NULL), 0);
	journal_set(&copy.effect, "e1", NULL);
	journal_set(&copy.step, "dump", NULL);
	return copy;
}

static void test_journal_round_trip(void **state)
{
	struct place *p = *state;
	struct error e = ERROR_INIT;
	struct journal j = example(), read;
	j.results = calloc(1, sizeof(*j.results));
	j.result_count = 1;
	journal_set(&j.results[0].id, "e0", NULL);
	journal_set(&j.results[0].text, "what \xff went wrong", NULL);
	assert_int_equal(journal_save(&p->node, &j, &e), 0);
	assert_int_equal(journal_load(&p->node, id, &read, &e), 0);
	assert_int_equal(read.pid, 42);
	assert_int_equal(read.start_time, 77);
	assert_int_equal(read.kind, EFFECT_HIBERNATE);
	assert_int_equal(read.released, 2);
	assert_string_equal(read.effect, "e1");
	assert_string_equal(read.step, "dump");
	assert_int_equal(read.result_count, 1);
	assert_string_equal(read.results[0].id, "e0");
	assert_string_equal(read.session.cmd[0], "python3");
	journal_deinit(&read);
	journal_deinit(&j);
	assert_int_equal(journal_remove(&p->node, id, &e), 0);
	assert_int_equal(journal_remove(&p->node, id, &e), 0);
	assert_int_equal(journal_load(&p->node, id, &read, &e), -ENOENT);
}

static int count(const char *found, void *arg)
{
	assert_string_equal(found, id);
	++*(int *)arg;
	return 0;
}

/* The machine goes down and comes up again: what was only noted is of the past. */
static void reboot(struct place *p)
{
	snprintf(p->node.boot_id, sizeof(p->node.boot_id), "boot-2");
	cleanup_free char *noted = journal_dir(&p->node);
	assert_int_equal(fs_mkdirs(noted, 0700, NULL), 0);
}

static void expect_step(struct place *p, const char *step)
{
	struct journal read;
	struct error e = ERROR_INIT;
	int r = journal_load(&p->node, id, &read, &e);
	if (r < 0)
		fail_msg("%s", e.text);
	assert_string_equal(read.step, step);
	journal_deinit(&read);
}

static void test_journal_noted(void **state)
{
	struct place *p = *state;
	struct error e = ERROR_INIT;
	struct journal j = example(), read;
	int found = 0;
	assert_int_equal(journal_note(&p->node, &j, &e), 0);
	expect_step(p, "dump");
	assert_int_equal(journal_each(&p->node, count, &found, NULL), 0);
	assert_int_equal(found, 1);
	journal_set(&j.step, "commit", NULL);
	assert_int_equal(journal_save(&p->node, &j, &e), 0);
	expect_step(p, "commit");
	journal_set(&j.step, "kill", NULL);
	assert_int_equal(journal_note(&p->node, &j, &e), 0);
	expect_step(p, "kill");
	found = 0;
	assert_int_equal(journal_each(&p->node, count, &found, NULL), 0);
	assert_int_equal(found, 1);
	reboot(p);
	expect_step(p, "commit");
	assert_int_equal(journal_remove(&p->node, id, &e), 0);
	assert_int_equal(journal_load(&p->node, id, &read, &e), -ENOENT);
	assert_int_equal(journal_note(&p->node, &j, &e), 0);
	assert_int_equal(journal_remove(&p->node, id, &e), 0);
	assert_int_equal(journal_load(&p->node, id, &read, &e), -ENOENT);
	journal_deinit(&j);
}

static void test_journal_listing(void **state)
{
	struct place *p = *state;
	struct journal j = example();
	int found = 0;
	assert_int_equal(journal_save(&p->node, &j, NULL), 0);
	static const char *const others[] = { "0123456789abcdef.json.Xa1b2c", "x.json",
					      "ZZZZZZZZZZZZZZZZ.json" };
	for (size_t i = 0; i < ARRAY_SIZE(others); i++) {
		cleanup_free char *path = str_printf("%s/journal/%s", p->dir, others[i]);
		assert_int_equal(fs_replace(path, "", 0, 0600, NULL), 0);
	}
	assert_int_equal(journal_each(&p->node, count, &found, NULL), 0);
	assert_int_equal(found, 1);
	journal_deinit(&j);
}

static void test_journal_damage(void **state)
{
	struct place *p = *state;
	static const char *const bad[] = { "", "{}", "[", "{\"session\": {}}" };
	cleanup_free char *path = str_printf("%s/journal/%s.json", p->dir, id);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct journal j;
		struct error e = ERROR_INIT;
		assert_int_equal(fs_replace(path, bad[i], strlen(bad[i]), 0600, NULL), 0);
		assert_true(journal_load(&p->node, id, &j, &e) < 0);
		assert_non_null(strstr(e.text, path));
		journal_deinit(&j);
	}
}

/* --- processes ------------------------------------------------------------------------ */

static void test_process_identity(void **state)
{
	(void)state;
	uint64_t ticks = 0;
	char letter = 0;
	assert_int_equal(
		proc_parse_stat("7 (a) b) R 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 99 20",
				&letter, &ticks),
		0);
	assert_int_equal(letter, 'R');
	assert_int_equal(ticks, 99);
	assert_int_equal(proc_parse_stat("7 (a", &letter, &ticks), -EINVAL);
	assert_int_equal(proc_parse_stat("", &letter, &ticks), -EINVAL);
	assert_int_equal(proc_start_time(getpid(), &ticks), 0);
	assert_true(proc_is(getpid(), ticks));
	assert_false(proc_is(getpid(), ticks + 1));
	assert_false(proc_is(0, 0));
	int fd = proc_open(getpid(), ticks);
	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(proc_open(getpid(), ticks + 1), -ESRCH);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_plans),
		cmocka_unit_test(test_commits),
		cmocka_unit_test(test_fault_plans),
		cmocka_unit_test(test_fault_kills),
		cmocka_unit_test_setup_teardown(test_journal_round_trip, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_journal_noted, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_journal_listing, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_journal_damage, set_up, tear_down),
		cmocka_unit_test(test_process_identity),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
