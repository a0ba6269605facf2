/* SPDX-License-Identifier: Apache-2.0 */
/* The vault in a real elsa-init, and what else is asked of a pid 1. */
#define _GNU_SOURCE
#include "base/cleanup.h"
#include "init/init.h"
#include "node/vault.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#include <cmocka.h>

static void init_path(char path[PATH_MAX])
{
	ssize_t n = readlink("/proc/self/exe", path, PATH_MAX - 32);
	assert_true(n > 0);
	path[n] = '\0';
	memcpy(strrchr(path, '/'), "/../../elsa-init", sizeof("/../../elsa-init"));
}

/* Pid 1 of a pid namespace, as in a session; *out reads what it and its command write. */
static pid_t start_init(const char *const *command, int *out)
{
	char path[PATH_MAX];
	const char *argv[16] = { path, "--" };
	int ends[2];
	init_path(path);
	for (size_t i = 0; command[i]; i++)
		argv[i + 2] = command[i];
	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	pid_t pid = (pid_t)syscall(SYS_clone, CLONE_NEWPID | SIGCHLD, NULL, NULL, NULL, NULL);
	assert_true(pid >= 0);
	if (pid == 0) {
		dup2(ends[1], 1);
		dup2(ends[1], 2);
		execv(path, (char *const *)argv);
		_exit(99);
	}
	close(ends[1]);
	*out = ends[0];
	return pid;
}
#define COMMAND(...) ((const char *const[]) { __VA_ARGS__, NULL })

static int end_of(pid_t pid)
{
	int status;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

static void read_all(int fd, char *to, size_t size)
{
	size_t len = 0;
	ssize_t n;
	while ((n = read(fd, to + len, size - 1 - len)) > 0)
		len += (size_t)n;
	to[len] = '\0';
	close(fd);
}

/* --- pid 1 ------------------------------------------------------------------------- */

static void test_ends_as_its_command(void **state)
{
	(void)state;
	static const struct {
		const char *script;
		int code;
		const char *says;
	} cases[] = {
		{ "exit 0", 0, "" },
		{ "echo hello; exit 7", 7, "hello\n" },
		{ "kill -KILL $$", 128 + SIGKILL, "" },
		/* Orphans of a child that has ended are reaped, and do not end init. */
		{ "(sh -c 'exit 3' & ) ; sleep 0.05; ls /proc/self >/dev/null; exit 5", 5, "" },
	};
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		char text[256];
		int out;
		pid_t pid = start_init(COMMAND("sh", "-c", cases[i].script), &out);
		read_all(out, text, sizeof(text));
		int status = end_of(pid);
		assert_true(WIFEXITED(status));
		assert_int_equal(WEXITSTATUS(status), cases[i].code);
		assert_string_equal(text, cases[i].says);
	}
}

static void test_says_why_not(void **state)
{
	(void)state;
	char text[256];
	int out;
	pid_t pid = start_init(COMMAND("/no/such/program"), &out);
	read_all(out, text, sizeof(text));
	assert_int_equal(WEXITSTATUS(end_of(pid)), 127);
	assert_string_equal(text, INIT_REFUSAL
			    "cannot execute /no/such/program: No such file or directory\n");
}

static void test_hands_signals_on(void **state)
{
	(void)state;
	char line[16];
	int out;
	pid_t pid = start_init(COMMAND("sh", "-c",
				       "trap 'echo hup' HUP; trap 'exit 9' TERM; echo up;"
				       " while :; do sleep 0.01; done"),
			       &out);
	assert_int_equal(read(out, line, sizeof(line)), 3);
	kill(pid, SIGHUP);
	assert_int_equal(read(out, line, sizeof(line)), 4);
	assert_memory_equal(line, "hup\n", 4);
	kill(pid, SIGTERM);
	assert_int_equal(WEXITSTATUS(end_of(pid)), 9);
	close(out);
}

/* --- the vault ------------------------------------------------------------------------ */

static pid_t init_pid;
static int init_out;

static int start(void **state)
{
	char line[8];
	struct pollfd p = { .events = POLLIN };
	(void)state;
	init_pid = start_init(COMMAND("sh", "-c", "echo up; exec sleep 1000"), &init_out);
	p.fd = init_out;
	assert_int_equal(poll(&p, 1, 20000), 1);
	assert_int_equal(read(init_out, line, sizeof(line)), 3);
	return 0;
}

static int stop(void **state)
{
	(void)state;
	kill(init_pid, SIGKILL);
	end_of(init_pid);
	close(init_out);
	return 0;
}

static int file_of(int32_t number)
{
	int fd = memfd_create("test", MFD_CLOEXEC);
	assert_int_equal(write(fd, &number, sizeof(number)), sizeof(number));
	return fd;
}

struct seen {
	int32_t numbers[2048];
	size_t count;
};

static int note(int32_t number, int fd, void *arg)
{
	struct seen *seen = arg;
	int32_t inside = 0;
	assert_int_equal(pread(fd, &inside, sizeof(inside), 0), sizeof(inside));
	assert_int_equal(inside, number);
	close(fd);
	seen->numbers[seen->count++] = number;
	return 0;
}

static void expect(const struct vault *v, const int32_t *numbers, size_t count)
{
	static struct seen seen;
	seen.count = 0;
	assert_int_equal(vault_each(v, note, &seen, NULL), 0);
	assert_int_equal(seen.count, count);
	for (size_t i = 0; i < count; i++)
		assert_int_equal(seen.numbers[i], numbers[i]);
}
#define EXPECT(v, ...)                                                                             \
	expect(v, (const int32_t[]) { __VA_ARGS__ }, sizeof((int32_t[]) { __VA_ARGS__ }) / 4)

static void put(const struct vault *v, int32_t number)
{
	struct error e = ERROR_INIT;
	int fd = file_of(number);
	if (vault_put(v, number, fd, &e) < 0)
		fail_msg("%s", e.text);
	close(fd);
}

static bool is_even(int32_t number, void *arg)
{
	(void)arg;
	return number % 2 == 0;
}

static void test_keeps_descriptors(void **state)
{
	(void)state;
	cleanup(vault_close) struct vault v, again;
	assert_int_equal(vault_open(init_pid, &v, NULL), 0);
	expect(&v, NULL, 0);
	put(&v, 5);
	put(&v, -7);
	EXPECT(&v, 5, -7);
	EXPECT(&v, 5, -7); /* looking takes nothing out */
	/* Stopped or not, it is all the same to it. */
	kill(init_pid, SIGSTOP);
	put(&v, 8);
	assert_int_equal(vault_open(init_pid, &again, NULL), 0);
	EXPECT(&again, 5, -7, 8);
	assert_int_equal(vault_keep(&again, is_even, NULL, NULL), 0);
	EXPECT(&v, 8);
	kill(init_pid, SIGCONT);
	assert_int_equal(vault_empty(&v, NULL), 0);
	expect(&v, NULL, 0);
}

static void test_holds_many(void **state)
{
	(void)state;
	cleanup(vault_close) struct vault v;
	static int32_t numbers[1500];
	assert_int_equal(vault_open(init_pid, &v, NULL), 0);
	for (int32_t i = 0; i < (int32_t)ARRAY_SIZE(numbers); i++)
		put(&v, numbers[i] = i + 1);
	expect(&v, numbers, ARRAY_SIZE(numbers));
	assert_int_equal(vault_empty(&v, NULL), 0);
	expect(&v, NULL, 0);
}

/* Where no descriptor can be taken in, what is there is neither overlooked nor lost. */
static void test_no_room_here(void **state)
{
	(void)state;
	static struct seen seen;
	struct rlimit before, none;
	cleanup(vault_close) struct vault v;
	assert_int_equal(vault_open(init_pid, &v, NULL), 0);
	put(&v, 4);
	put(&v, 6);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	none = before;
	none.rlim_cur = 0;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	int seen_all = vault_each(&v, note, &seen, NULL);
	int kept = vault_keep(&v, is_even, NULL, NULL);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	assert_int_equal(seen_all, -EMFILE);
	assert_int_equal(kept, -EMFILE);
	EXPECT(&v, 4, 6);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	int emptied = vault_empty(&v, NULL);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	assert_int_equal(emptied, 0);
	expect(&v, NULL, 0);
}

static void test_without_a_vault(void **state)
{
	(void)state;
	cleanup(vault_close) struct vault v;
	pid_t pid = fork();
	if (pid == 0) {
		pause();
		_exit(0);
	}
	assert_int_equal(vault_open(pid, &v, NULL), -EBADF);
	kill(pid, SIGKILL);
	end_of(pid);
	assert_int_equal(vault_open(pid, &v, NULL), -ESRCH);
}

static int note_bits(int32_t number, int fd, void *arg)
{
	*(uint64_t *)arg |= UINT64_C(1) << number;
	close(fd);
	return 0;
}

static void shuffle_for_ever(void)
{
	struct vault v;
	if (vault_open(init_pid, &v, NULL) < 0)
		_exit(1);
	for (;;)
		vault_keep(&v, is_even, NULL, NULL);
}

/* Killed at whatever instant, nothing that was to stay is lost. */
static void test_killed_while_at_it(void **state)
{
	(void)state;
	cleanup(vault_close) struct vault v;
	assert_int_equal(vault_open(init_pid, &v, NULL), 0);
	for (int32_t i = 0; i < 20; i += 2)
		put(&v, i);
	for (int i = 0; i < 200; i++) {
		struct timespec t = { .tv_nsec = (i * 7919) % 2000000 };
		pid_t pid = fork();
		if (pid == 0)
			shuffle_for_ever();
		nanosleep(&t, NULL);
		kill(pid, SIGKILL);
		end_of(pid);
		uint64_t bits = 0;
		assert_int_equal(vault_each(&v, note_bits, &bits, NULL), 0);
		assert_true(bits == 0x55555);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ends_as_its_command),
		cmocka_unit_test(test_says_why_not),
		cmocka_unit_test(test_hands_signals_on),
		cmocka_unit_test_setup_teardown(test_keeps_descriptors, start, stop),
		cmocka_unit_test_setup_teardown(test_holds_many, start, stop),
		cmocka_unit_test_setup_teardown(test_no_room_here, start, stop),
		cmocka_unit_test(test_without_a_vault),
		cmocka_unit_test_setup_teardown(test_killed_while_at_it, start, stop),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
