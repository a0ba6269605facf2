/* SPDX-License-Identifier: Apache-2.0 */
/* The page service with real userfaultfds of real processes. */
#define _GNU_SOURCE
#include "tests/unit/pages_kit.h"

#include <errno.h>
#include <unistd.h>

/* --- right content ---------------------------------------------------------------------- */

static void test_all_comes_by_itself(void **state)
{
	(void)state;
	wake_up();
	let_go_and_check();
}

static void test_threads_at_random(void **state)
{
	(void)state;
	atomic_store(&w.control->delay_us, 200);
	wake_up();
	ask(0, "walk 8 2000");
	ask(1, "walk 4 2000");
	expect(0, "ok");
	expect(1, "ok");
	let_go_and_check();
}

static void test_faults_while_restored(void **state)
{
	(void)state;
	listen_only();
	settle();
	/* Not let run yet, but for what CRIU itself touches. */
	do_it(0, "page 77");
	do_it(1, "page 5");
	pages_go(w.pages);
	let_go_and_check();
}

static void test_events(void **state)
{
	(void)state;
	atomic_store(&w.control->delay_us, 5000);
	wake_up();
	do_it(0, "empty 1000 3");
	do_it(0, "move 10 50");
	do_it(0, "write 700");
	do_it(0, "unmap 20");
	do_it(0, "fork 200");
	do_it(0, "move 50 45");
	do_it(0, "empty 2890 1");
	do_it(0, "fork 200");
	do_it(0, "check");
	let_go_and_check();
}

static void test_stress(void **state)
{
	(void)state;
	for (int delay = 0; delay < 1000; delay += 300) {
		atomic_store(&w.control->delay_us, delay);
		wake_up();
		ask(0, "stress 1500 %d", delay + 1);
		ask(1, "stress 1500 %d", delay + 2);
		expect(0, "ok");
		expect(1, "ok");
		let_go_and_check();
		tear_down(state);
		set_up(state);
	}
}

/* Where a page is put, it may have moved on since: it is not taken for unmapped. */
static void test_moves_while_all_comes(void **state)
{
	for (int round = 0; round < 8; round++) {
		listen_only();
		settle();
		do_it(0, "thin");
		do_it(1, "thin");
		ask(0, "dance 5000");
		ask(1, "dance 5000");
		pages_go(w.pages);
		wait_all_in();
		expect(0, "ok");
		expect(1, "ok");
		let_go_and_check();
		tear_down(state);
		set_up(state);
	}
}

static void test_many_forks(void **state)
{
	(void)state;
	atomic_store(&w.control->delay_us, 1000);
	wake_up();
	do_it(0, "forks 300");
	do_it(1, "forks 300");
	let_go_and_check();
}

static void test_session_ends(void **state)
{
	(void)state;
	wake_up_hanging();
	for (size_t i = 0; i < PROCESSES; i++) {
		end_process(w.process[i]);
		w.process[i] = 0;
	}
	atomic_store(&w.control->hang, 0);
	wait_all_in();
	assert_true(atomic_load(&w.control->frames_read) < PROCESSES * FRAMES);
}

/* --- a store that fails ------------------------------------------------------------------ */

static void test_store_away_for_a_while(void **state)
{
	(void)state;
	struct error e = ERROR_INIT;
	listen_only();
	settle();
	atomic_store(&w.control->fail, EIO);
	pages_go(w.pages);
	ask(0, "check");
	wait_stalled("the store is away");
	assert_int_equal(pages_wait(w.pages, 100, &e), -EAGAIN);
	assert_non_null(strstr(e.text, "the store is away"));
	assert_false(is_answered(0, 300));
	/* It waits, and can still fork and move elsewhere. */
	do_it(1, "empty 100 2");
	do_it(1, "move 11 60");
	atomic_store(&w.control->fail, 0);
	expect(0, "ok");
	let_go_and_check();
}

static void test_damage(void **state)
{
	(void)state;
	uint64_t bad = 30 * CHUNK + 1;
	atomic_store(&w.control->bad, (int)frame_of(0, bad));
	wake_up();
	ask(0, "page %llu", (unsigned long long)bad);
	wait_stalled("object x is damaged");
	/* Everything else comes. */
	do_it(1, "check");
	for (uint64_t n = 0; n < 30 * CHUNK; n += 100) {
		struct pages_status s;
		pages_status(w.pages, &s);
		assert_true(s.missing > 0 && !s.arrived);
	}
	assert_false(is_answered(0, 200));
	atomic_store(&w.control->bad, -1);
	expect(0, "ok");
	let_go_and_check();
}

static void test_free_while_reads_hang(void **state)
{
	(void)state;
	wake_up_hanging();
	ask(0, "check");
	wait_hanging(1);
	for (size_t i = 0; i < PROCESSES; i++) {
		end_process(w.process[i]);
		w.process[i] = 0;
	}
	w.pages = pages_free(w.pages);
	assert_int_equal(atomic_load(&w.control->freed), 0);
	atomic_store(&w.control->hang, 0);
	while (atomic_load(&w.control->freed) == 0)
		usleep(1000);
	assert_int_equal(atomic_load(&w.arrived), 0);
}

static void test_restore_fails(void **state)
{
	(void)state;
	struct error e = ERROR_INIT;
	int32_t unknown = 77;
	listen_only();
	int criu = connect_as_criu();
	int fd = make_userfaultfd();
	assert_int_equal(write(criu, &unknown, sizeof(unknown)), sizeof(unknown));
	send_descriptor(criu, fd);
	assert_int_equal(pages_settle(w.pages, w.init, &e), -EBADMSG);
	assert_non_null(strstr(e.text, "77"));
	close(fd);
	close(criu);
	w.pages = pages_free(w.pages);
	listen_only();
	close(connect_as_criu());
	assert_int_equal(pages_settle(w.pages, w.init, &e), -EPIPE);
}

static int run(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_all_comes_by_itself, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_threads_at_random, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_faults_while_restored, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_events, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_stress, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_moves_while_all_comes, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_many_forks, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_session_ends, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_store_away_for_a_while, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_damage, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_free_while_reads_hang, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_restore_fails, set_up, tear_down),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

int main(int argc, char **argv)
{
	return pages_main(argc, argv, run);
}
