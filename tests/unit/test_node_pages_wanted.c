/* SPDX-License-Identifier: Apache-2.0 */
/* What the page service brings first: the working set, what is likely, what follows. */
#define _GNU_SOURCE
#include "tests/unit/pages_kit.h"

#include "node/working_set.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* --- the working set --------------------------------------------------------------------- */

static bool in_set(const struct working_set *list, size_t count, int pid, uint64_t page)
{
	char name[32];
	snprintf(name, sizeof(name), "pagemap-%d.img", pid);
	for (size_t i = 0; i < count; i++)
		for (size_t k = 0; k < list[i].count && strcmp(list[i].memory, name) == 0; k++)
			if (list[i].pages[k] == BASE + page * PAGE)
				return true;
	return false;
}

static void test_working_set(void **state)
{
	(void)state;
	struct working_set *list = NULL;
	size_t count = 0;
	/* The first wake finds out: also what CRIU touches, */
	listen_only();
	settle();
	do_it(0, "page 128");
	atomic_store(&w.control->hang, 1);
	pages_go(w.pages);
	ask(0, "page 640");
	ask(1, "page 2000");
	wait_hanging(2); /* the time in which they wait is not counted */
	atomic_store(&w.control->hang, 0);
	expect(0, "ok");
	expect(1, "ok");
	while (working_set_load(w.dir, &list, &count, NULL) < 0)
		usleep(1000);
	assert_true(in_set(list, count, 10, 640) && in_set(list, count, 10, 128));
	assert_true(in_set(list, count, 20, 2000));
	assert_false(in_set(list, count, 20, 640));
	/* What came with them was not asked for. */
	assert_false(in_set(list, count, 10, 644) || in_set(list, count, 20, 2004));
	working_set_free(list, count);
	let_go_and_check();
	for (size_t i = 0; i < PROCESSES; i++) {
		end_process(w.process[i]);
		close(w.orders[i]);
	}
	/* ... and the second one has it before it runs. */
	atomic_store(&w.arrived, 0);
	listen_only();
	settle();
	atomic_store(&w.control->hang, 1);
	int before = atomic_load(&w.control->reads);
	do_it(0, "page 640");
	do_it(0, "page 128");
	do_it(1, "page 2000");
	assert_int_equal(atomic_load(&w.control->reads), before);
	atomic_store(&w.control->hang, 0);
	pages_go(w.pages);
	let_go_and_check();
}

static int ascending(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
	return (x > y) - (x < y);
}

/* What is likely to be wanted has been read before anybody asks, and who asks is noted. */
static void test_likely(void **state)
{
	(void)state;
	struct working_set *list = NULL;
	size_t count = 0;
	const uint32_t likely[] = { frame_of(0, 640), frame_of(0, 1280), frame_of(1, 2000) };
	memcpy(w.likely, likely, sizeof(likely));
	qsort(w.likely, ARRAY_SIZE(likely), sizeof(*likely), ascending);
	w.likely_count = ARRAY_SIZE(likely);
	listen_only();
	/* The last one is being kept by then: it is not asked for. */
	while (atomic_load(&w.control->frames_read) < (int)ARRAY_SIZE(likely))
		usleep(1000);
	settle();
	atomic_store(&w.control->hang, 1);
	int before = atomic_load(&w.control->reads);
	if (w.likely[2] != frame_of(0, 640))
		do_it(0, "page 640");
	if (w.likely[2] != frame_of(0, 1280))
		do_it(0, "page 1280");
	if (w.likely[2] != frame_of(1, 2000))
		do_it(1, "page 2000");
	assert_int_equal(atomic_load(&w.control->reads), before);
	atomic_store(&w.control->hang, 0);
	pages_go(w.pages);
	while (working_set_load(w.dir, &list, &count, NULL) < 0)
		usleep(1000);
	size_t noted = in_set(list, count, 10, 640) + in_set(list, count, 10, 1280) +
		       in_set(list, count, 20, 2000);
	assert_int_equal(noted, 2);
	assert_false(in_set(list, count, 10, 644) || in_set(list, count, 20, 2004));
	working_set_free(list, count);
	let_go_and_check();
}

static bool is_recorded(void)
{
	struct working_set *list = NULL;
	size_t count = 0;
	if (working_set_load(w.dir, &list, &count, NULL) < 0)
		return false;
	working_set_free(list, count);
	return true;
}

/* The rest stands back while it is recorded what is wanted, and comes when that has ended, also
 * when nobody waits for it. */
static void test_recording_ends(void **state)
{
	(void)state;
	struct pages_status s;
	wake_up();
	do_it(0, "page 640");
	for (pages_status(w.pages, &s); !is_recorded(); pages_status(w.pages, &s)) {
		assert_int_equal(s.missing, s.total);
		usleep(1000);
	}
	for (int i = 0; i < 20000 && !s.arrived; i++) {
		usleep(1000);
		pages_status(w.pages, &s);
	}
	assert_true(s.arrived && s.missing == 0);
	let_go_and_check();
}

/* Who waits for all of it does not wait for that, */
static void test_nobody_waits_for_the_recording(void **state)
{
	(void)state;
	struct error e = ERROR_INIT;
	wake_up();
	ask(0, "walk 4 500");
	must(pages_wait(w.pages, 60000, &e), &e);
	expect(0, "ok");
	let_go_and_check();
}

/* ... nor does it go on for ever when nothing comes, nor hold up the end. */
static void test_recording_a_stall(void **state)
{
	(void)state;
	atomic_store(&w.control->fail, EIO);
	wake_up();
	ask(0, "page 640");
	wait_stalled("the store is away");
	w.pages = pages_free(w.pages);
	for (int i = 0; i < 20000 && atomic_load(&w.control->freed) == 0; i++)
		usleep(1000);
	assert_int_equal(atomic_load(&w.control->freed), 1);
}

static uint32_t frames_read(void)
{
	return atomic_load(&w.control->frames_read);
}

/* Who goes from one end to the other finds there what was never asked for. The session has not been
 * let run, so nothing but read-ahead brings that. It may be so far ahead of who reads that nothing
 * is asked for any more: so it is looked for all the way. */
static void test_read_ahead(void **state)
{
	enum { TOUCHED = 8 * STORE_FRAME_PAGES };
	uint32_t touched = 0;
	(void)state;
	listen_only();
	settle();
	for (int page = 0; page < TOUCHED && frames_read() <= touched; page++) {
		ask(0, "page %d", page);
		expect(0, "ok");
		touched = (uint32_t)page / STORE_FRAME_PAGES + 1;
	}
	for (int i = 0; i < 20000 && frames_read() <= touched; i++)
		usleep(1000);
	assert_true(frames_read() > touched);
	pages_go(w.pages);
	let_go_and_check();
}

static int run(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_working_set, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_likely, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_recording_ends, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_nobody_waits_for_the_recording, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(test_recording_a_stall, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_read_ahead, set_up, tear_down),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

int main(int argc, char **argv)
{
	return pages_main(argc, argv, run);
}
