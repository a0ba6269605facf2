/* SPDX-License-Identifier: Apache-2.0 */
/* The page service ended or killed, and taken up. */
#define _GNU_SOURCE
#include "tests/unit/pages_kit.h"

#include "node/pages_index.h"
#include "node/pages_keeper.h"
#include "node/vault.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* --- ended ---------------------------------------------------------------------------------- */

/* What a fork that has ended left in the vault, when a program was killed before it had tidied up,
 * is not taken for what another fork has. */
static void test_numbers_are_not_used_again(void **state)
{
	(void)state;
	struct error e = ERROR_INIT;
	cleanup(vault_close) struct vault v;
	cleanup_fd int ended = make_userfaultfd();
	listen_only();
	restore_processes();
	do_it(0, "nothing");
	must(pages_settle(w.pages, w.init, &e), &e);
	w.pages = pages_free(w.pages);
	assert_int_equal(vault_open(w.init, &v, NULL), 0);
	assert_int_equal(vault_put(&v, -1, ended, NULL), 0);
	int before = in_vault();
	atomic_store(&w.control->hang, 1);
	assert_true(resume());
	ask(0, "fork 200");
	while (in_vault() == before)
		usleep(1000);
	w.pages = pages_free(w.pages);
	assert_true(resume());
	atomic_store(&w.control->hang, 0);
	expect(0, "ok");
	let_go_and_check();
}

/* What is still being read when the service ends is not taken for what is there. Its lives become
 * longer: however slow we are, it gets through. */
static void test_ended_and_taken_up(void **state)
{
	(void)state;
	uint64_t seed = 17;
	for (int round = 0; round < 10; round++) {
		bool more = true;
		atomic_store(&w.control->delay_us, 10000);
		wake_up();
		for (uint64_t most_us = 20000; more; most_us += 1000) {
			ask(0, "page %d", (int)random_below(&seed, PAGES));
			usleep((useconds_t)random_below(&seed, most_us));
			w.pages = pages_free(w.pages);
			more = resume();
			expect(0, "ok");
		}
		assert_int_equal(in_vault(), 0);
		do_it(0, "check");
		do_it(1, "check");
		tear_down(state);
		set_up(state);
	}
}

/* Forks that have ended are forgotten, and do not fill the vault. */
static void test_ended_forks_are_forgotten(void **state)
{
	(void)state;
	wake_up_hanging();
	for (int i = 0; i < 600; i++)
		do_it(0, "nothing");
	w.pages = pages_free(w.pages);
	assert_true(in_vault() < 300);
	atomic_store(&w.control->hang, 0);
	assert_true(resume());
	let_go_and_check();
}

/* --- in many pieces -------------------------------------------------------------------------- */

enum { PIECES = 300000 };

/* Every second page of a process's memory: each is a piece by itself. */
static void make_pieces(struct store_memory *m, struct store_frame **frames)
{
	*m = (struct store_memory) { .name = strdup("pagemap-10.img"),
				     .pages = PIECES,
				     .extents = calloc(PIECES, sizeof(*m->extents)),
				     .extent_count = PIECES,
				     .frames = calloc(PIECES, sizeof(*m->frames)),
				     .slots = calloc(PIECES, sizeof(*m->slots)) };
	*frames = calloc(PIECES / STORE_FRAME_PAGES, sizeof(**frames));
	assert_true(m->name && m->extents && m->frames && m->slots && *frames);
	for (uint32_t i = 0; i < PIECES; i++) {
		m->extents[i] = (struct store_extent) { .vaddr = BASE + 2 * (uint64_t)i * PAGE,
							.pages = 1,
							.flags = PAGES_LAZY };
		m->frames[i] = i / STORE_FRAME_PAGES;
		m->slots[i] = (uint8_t)(i % STORE_FRAME_PAGES);
	}
	for (size_t i = 0; i < PIECES / STORE_FRAME_PAGES; i++)
		(*frames)[i].pages = STORE_FRAME_PAGES;
}

static int read_none(void *from, const uint32_t *frames, size_t count,
		     int (*each)(uint32_t frame, const void *pages, size_t len, void *arg),
		     void *arg, struct error *e)
{
	(void)from, (void)frames, (void)count, (void)each, (void)arg;
	return error_set(e, EHOSTDOWN, "nothing can be read");
}

static void *free_none(void *from)
{
	(void)from;
	return NULL;
}

static void test_many_pieces(void **state)
{
	(void)state;
	struct error e = ERROR_INIT;
	struct store_memory memory;
	struct store_frame *frames;
	const int32_t pid = 10;
	const uint32_t finished = 0x52535446;
	make_pieces(&memory, &frames);
	const struct page_source source = { .memories = &memory,
					    .memory_count = 1,
					    .frames = frames,
					    .frame_count = PIECES / STORE_FRAME_PAGES,
					    .read = read_none,
					    .free = free_none };
	struct pages_options o = options();
	must(pages_listen(&o, w.dir, &source, &w.pages, &e), &e);
	int criu = connect_as_criu();
	cleanup_fd int fd = make_userfaultfd();
	assert_int_equal(write(criu, &pid, sizeof(pid)), sizeof(pid));
	send_descriptor(criu, fd);
	assert_int_equal(write(criu, &finished, sizeof(finished)), sizeof(finished));
	must(pages_settle(w.pages, w.init, &e), &e);
	w.pages = pages_free(w.pages);
	struct pages_status status;
	must(pages_resume(&o, w.init, &source, &w.pages, &e), &e);
	pages_status(w.pages, &status);
	assert_int_equal(status.missing, (uint64_t)PIECES * PAGE);
	w.pages = pages_free(w.pages);
	while (pages_left() > 0)
		usleep(1000);
	close(criu);
	free(memory.name);
	free(memory.extents);
	free(memory.frames);
	free(memory.slots);
	free(frames);
}

/* Of what may have been told since nothing is known: nobody goes on by it. */
static void test_torn(void **state)
{
	(void)state;
	struct error e = ERROR_INIT;
	struct pages *again = NULL;
	struct page_source source;
	struct pages_options o = options();
	cleanup(vault_close) struct vault v;
	struct pages_record record;
	make_checkpoint(w.control, &source);
	w.sources++;
	assert_int_equal(
		pages_record_make(&record, pages_index_total(&source), source.frame_count, 0, NULL),
		0);
	assert_int_equal(vault_open(w.init, &v, NULL), 0);
	assert_int_equal(vault_put(&v, 0, record.fd, NULL), 0);
	assert_false(pages_record_is_torn(&record));
	pages_record_tear(&record);
	assert_int_equal(pages_resume(&o, w.init, &source, &again, &e), -EIO);
	pages_record_close(&record);
}

/* --- killed ---------------------------------------------------------------------------------- */

static void test_killed_at_random(void **state)
{
	enum { KILLS = 12, TAKEN_UP = 3 };
	uint64_t seed = 4711;
	for (int round = 0; round < 6; round++) {
		bool answered[PROCESSES] = { false };
		int taken_up = 0;
		atomic_store(&w.control->delay_us, 40000);
		/* However slow we are, not all is in before so many kills. */
		atomic_store(&w.control->bad, (int)frame_of(0, 7));
		struct service s = serve_and_restore();
		ask(0, "stress 1500 %d", round * 2 + 1);
		ask(1, "stress 1500 %d", round * 2 + 2);
		for (int kills = 0; kills < KILLS; kills++) {
			usleep((useconds_t)random_below(&seed, 40000));
			kill_service(&s);
			if (kills == TAKEN_UP)
				atomic_store(&w.control->bad, -1);
			s = start_service("resume");
			const char *word = hear(&s, 20000);
			if (strcmp(word, "complete") != 0) {
				assert_string_equal(word, "serving");
				taken_up++;
			}
			for (size_t i = 0; i < PROCESSES; i++) {
				if (!answered[i] && is_answered(i, 0)) {
					expect(i, "ok");
					answered[i] = true;
				}
			}
		}
		assert_true(taken_up >= TAKEN_UP);
		for (size_t i = 0; i < PROCESSES; i++) {
			if (!answered[i])
				expect(i, "ok");
			do_it(i, "check");
		}
		kill_service(&s);
		s = start_service("resume");
		if (strcmp(hear(&s, 20000), "serving") == 0)
			assert_string_equal(hear(&s, 60000), "arrived");
		assert_int_equal(in_vault(), 0);
		kill_service(&s);
		tear_down(state);
		set_up(state);
	}
}

/* Nobody serves for a while: all wait, nothing is zeros. */
static void test_killed_and_away(void **state)
{
	(void)state;
	atomic_store(&w.control->hang, 1);
	struct service s = serve_and_restore();
	do_it(0, "empty 1000 3");
	do_it(0, "move 10 50");
	kill_service(&s);
	ask(0, "check");
	ask(1, "check");
	assert_false(is_answered(0, 300));
	assert_false(is_answered(1, 0));
	atomic_store(&w.control->hang, 0);
	s = start_service("resume");
	assert_string_equal(hear(&s, 20000), "serving");
	expect(0, "ok");
	expect(1, "ok");
	assert_string_equal(hear(&s, 60000), "arrived");
	kill_service(&s);
	s = start_service("resume");
	assert_string_equal(hear(&s, 20000), "complete");
	kill_service(&s);
}

/* A fork has been told of, and its descriptor is in our table only, when we are killed. */
static int orphan_main(pid_t init)
{
	struct vault v;
	struct pages_record record;
	struct pages_keeper *keeper;
	if (vault_open(init, &v, NULL) < 0 || pages_record_make(&record, 100, 10, 0, NULL) < 0 ||
	    pages_keeper_watch(&v, &keeper, NULL) < 0)
		return 1;
	pages_keeper_expect(keeper, &record);
	*pages_record_next(&record) = (struct pages_entry) {
		.number = 10,
		.child = -5,
		.message = { .event = UFFD_EVENT_FORK,
			     .arg.fork.ufd = (uint32_t)make_userfaultfd() },
	};
	kill(getpid(), SIGKILL);
	return 2;
}

/* Nothing has been told of when we are killed. Our keeper is our only child. */
static int silent_main(pid_t init)
{
	struct vault v;
	struct pages_record record;
	struct pages_keeper *keeper;
	if (vault_open(init, &v, NULL) < 0 || pages_record_make(&record, 100, 10, 0, NULL) < 0 ||
	    vault_put(&v, 0, record.fd, NULL) < 0 || pages_keeper_watch(&v, &keeper, NULL) < 0)
		return 1;
	pages_keeper_expect(keeper, &record);
	send(0, "ready", 5, 0);
	pause();
	return 2;
}

static int note_number(int32_t number, int fd, void *arg)
{
	char path[64], name[64] = "";
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	assert_true(readlink(path, name, sizeof(name) - 1) > 0);
	assert_string_equal(name, "anon_inode:[userfaultfd]");
	close(fd);
	*(int32_t *)arg = number;
	return 0;
}

static void test_keeper(void **state)
{
	(void)state;
	int status;
	int32_t number = 0;
	cleanup(vault_close) struct vault v;
	struct service s = start_service("orphan");
	assert_int_equal(waitpid(s.pid, &status, 0), s.pid);
	assert_true(WIFSIGNALED(status));
	close(s.told);
	assert_int_equal(vault_open(w.init, &v, NULL), 0);
	for (int i = 0; i < 20000 && number == 0; i++) {
		assert_int_equal(vault_each(&v, note_number, &number, NULL), 0);
		usleep(1000);
	}
	assert_int_equal(number, -5);
}

static pid_t only_child(pid_t pid)
{
	char path[64];
	int child = 0;
	snprintf(path, sizeof(path), "/proc/%d/task/%d/children", pid, pid);
	FILE *f = fopen(path, "re");
	assert_non_null(f);
	assert_int_equal(fscanf(f, "%d", &child), 1);
	fclose(f);
	return child;
}

static int take_record(int32_t number, int fd, void *arg)
{
	assert_int_equal(number, 0);
	*(int *)arg = fd;
	return 0;
}

/* A keeper so late that the next program has had a fork told of: it keeps its hands off that. */
static void test_late_keeper(void **state)
{
	(void)state;
	int fd = -1, status;
	cleanup(vault_close) struct vault v;
	struct pages_record record;
	struct service s = start_service("silent");
	assert_string_equal(hear(&s, 20000), "ready");
	pid_t keeper = only_child(s.pid);
	cleanup_fd int pidfd = (int)syscall(SYS_pidfd_open, keeper, 0);
	assert_true(pidfd >= 0);
	assert_int_equal(kill(keeper, SIGSTOP), 0);
	kill_service(&s);
	assert_int_equal(vault_open(w.init, &v, NULL), 0);
	assert_int_equal(vault_each(&v, take_record, &fd, NULL), 0);
	assert_int_equal(pages_record_open(&record, fd, 100, 10, NULL), 0);
	pages_record_take_turn(&record);
	*pages_record_next(&record) = (struct pages_entry) {
		.number = 10,
		.child = -5,
		.message = { .event = UFFD_EVENT_FORK, .arg.fork.ufd = 1 },
	};
	assert_int_equal(kill(keeper, SIGCONT), 0);
	struct pollfd ended = { .fd = pidfd, .events = POLLIN };
	assert_int_equal(poll(&ended, 1, 60000), 1);
	waitpid(keeper, &status, __WALL | WNOHANG); /* ours where we adopt orphans */
	assert_int_equal(in_vault(), 1);
	pages_record_close(&record);
}

static int run(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_numbers_are_not_used_again, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_ended_and_taken_up, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_ended_forks_are_forgotten, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_many_pieces, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_torn, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_killed_at_random, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_killed_and_away, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_keeper, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_late_keeper, set_up, tear_down),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

int main(int argc, char **argv)
{
	if (argc == 5 && strcmp(argv[1], "silent") == 0)
		return silent_main((pid_t)strtol(argv[4], NULL, 10));
	if (argc == 5 && strcmp(argv[1], "orphan") == 0)
		return orphan_main((pid_t)strtol(argv[4], NULL, 10));
	return pages_main(argc, argv, run);
}
