/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "io/job.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fs.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cmocka.h>

#define cleanup_result cleanup(job_result_deinit)
#define ARGV(...)                                                                                  \
	.argv = (const char *const[])                                                              \
	{                                                                                          \
		__VA_ARGS__, NULL                                                                  \
	}
#define SH(script) ARGV("sh", "-c", script)

/* --- what comes out ------------------------------------------------------- */

static const struct {
	const char *script;
	const char *input;
	int status;
	const char *out;
	const char *err;
} ends[] = {
	{ "true", NULL, 0, "", "" },
	{ "exit 3", NULL, 3, "", "" },
	{ "echo out; echo err >&2; exit 1", NULL, 1, "out\n", "err\n" },
	{ "printf 'no newline'", NULL, 0, "no newline", "" },
	{ "cat", NULL, 0, "", "" },
	{ "cat", "", 0, "", "" },
	{ "cat", "some input\n", 0, "some input\n", "" },
	{ "exit 0", "input that nobody reads", 0, "", "" },
	{ "kill -9 $$", NULL, 128 + 9, "", "" },
	{ "kill -TERM $$", NULL, 128 + 15, "", "" },
	{ "echo early; (sleep 0.01; echo late) &", NULL, 0, "early\nlate\n", "" },
	{ "exec >&- 2>&-; sleep 0.01; exit 5", NULL, 5, "", "" },
};

static void test_ends(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(ends); i++) {
		cleanup_result struct job_result result;
		struct error e = ERROR_INIT;
		struct job_options o = JOB_OPTIONS(SH(ends[i].script), .input = ends[i].input);
		if (job_run(&o, &result, &e) < 0)
			fail_msg("%s: %s", ends[i].script, e.text);
		assert_int_equal(result.status, ends[i].status);
		assert_false(result.timed_out);
		assert_string_equal(buf_text(&result.out), ends[i].out);
		assert_string_equal(buf_text(&result.err), ends[i].err);
	}
}

static void test_large_input(void **state)
{
	(void)state;
	enum { SIZE = 3 << 20 };
	cleanup_free char *input = malloc(SIZE + 1);
	assert_non_null(input);
	memset(input, 'x', SIZE);
	input[SIZE] = '\0';
	cleanup_result struct job_result result;
	struct job_options o = JOB_OPTIONS(ARGV("wc", "-c"), .input = input);
	assert_int_equal(job_run(&o, &result, NULL), 0);
	assert_string_equal(buf_text(&result.out), "3145728\n");
}

static void test_output_is_capped_and_read_to_its_end(void **state)
{
	(void)state;
	cleanup_result struct job_result result;
	struct job_options o =
		JOB_OPTIONS(SH("head -c 3000000 /dev/zero; head -c 3000000 /dev/zero >&2; exit 4"));
	assert_int_equal(job_run(&o, &result, NULL), 0);
	assert_int_equal(result.status, 4);
	assert_int_equal(result.out.len, 1 << 20);
	assert_int_equal(result.err.len, 256 << 10);
}

/* --- what cannot be run --------------------------------------------------- */

static void assert_not_run(const struct job_options *o, int r, const char *text)
{
	cleanup_result struct job_result result;
	struct error e = ERROR_INIT;
	assert_int_equal(job_run(o, &result, &e), r);
	assert_string_equal(e.text, text);
}

static void test_cannot_run(void **state)
{
	(void)state;
	struct error e = ERROR_INIT;
	struct job_options missing = JOB_OPTIONS(ARGV("no-such-program"));
	assert_not_run(&missing, -ENOENT, "cannot run no-such-program: No such file or directory");
	assert_int_equal(job_check(&missing, &e), -ENOENT);
	assert_int_equal(e.fault, FAULT_INTERNAL);
	struct job_options missing_path = JOB_OPTIONS(ARGV("/no/such"));
	assert_not_run(&missing_path, -ENOENT,
		       "cannot run /no/such: cannot execute it: No such file or directory");
	struct job_options directory = JOB_OPTIONS(ARGV("/proc"));
	assert_not_run(&directory, -EACCES,
		       "cannot run /proc: cannot execute it: Permission denied");
	struct job_options nothing = JOB_OPTIONS(ARGV(NULL));
	assert_not_run(&nothing, -EINVAL, "no program given");
	struct job_options stdio =
		JOB_OPTIONS(ARGV("true"), .keep_fds = (const int[]) { 1 }, .keep_fd_count = 1);
	assert_not_run(&stdio, -EINVAL, "descriptor 1 cannot be handed to a job");
	struct job_options closed =
		JOB_OPTIONS(ARGV("true"), .keep_fds = (const int[]) { 987654 }, .keep_fd_count = 1);
	assert_not_run(&closed, -EBADF,
		       "cannot run true: cannot hand over its descriptors: Bad file descriptor");
	struct job_options netns = JOB_OPTIONS(ARGV("true"));
	netns.netns_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	assert_not_run(&netns, -EINVAL,
		       "cannot run true: cannot enter its network namespace: Invalid argument");
	close(netns.netns_fd);
}

static const struct {
	const char *script;
	const char *error;
} checks[] = {
	{ "exit 2", "sh failed with status 2" },
	{ "echo why; exit 1", "sh failed with status 1: why" },
	{ "echo noise; printf '1\\n2\\n3\\n4\\n5\\n6\\tand\\n7\\n\\n' >&2; exit 1",
	  "sh failed with status 1: 2|3|4|5|6 and|7" },
	{ "kill -9 $$", "sh failed with status 137 (Killed)" },
	{ "exit 255", "sh failed with status 255" },
};

static void test_check(void **state)
{
	(void)state;
	struct job_options fine = JOB_OPTIONS(ARGV("true"));
	assert_int_equal(job_check(&fine, NULL), 0);
	for (size_t i = 0; i < ARRAY_SIZE(checks); i++) {
		struct error e = ERROR_INIT;
		struct job_options o = JOB_OPTIONS(SH(checks[i].script));
		assert_int_equal(job_check(&o, &e), -EIO);
		assert_string_equal(e.text, checks[i].error);
	}
	struct error e = ERROR_INIT;
	struct job_options wide = JOB_OPTIONS(SH("head -c 100000 /dev/zero | tr '\\0' x; exit 1"));
	assert_int_equal(job_check(&wide, &e), -EIO);
	assert_in_range(strlen(e.text), 600, 700);
}

/* --- deadlines ------------------------------------------------------------ */

/* On a busy machine the time may be over before the shell has come to the point: then it gets more.
 */
static void assert_times_out(const char *script, const char *out, int status)
{
	for (int ms = 100;; ms *= 2) {
		cleanup_result struct job_result result;
		struct error e = ERROR_INIT;
		struct job_options o = JOB_OPTIONS(SH(script), .timeout_ms = ms);
		cleanup_free char *text = str_printf("sh did not end within %d ms", ms);
		assert_int_equal(job_run(&o, &result, &e), -ETIMEDOUT);
		assert_true(result.timed_out);
		assert_int_equal(e.fault, FAULT_TIMEOUT);
		assert_string_equal(e.text, text);
		if (ms < 10000 &&
		    (strcmp(buf_text(&result.out), out) != 0 || result.status != status))
			continue;
		assert_string_equal(buf_text(&result.out), out);
		assert_int_equal(result.status, status);
		return;
	}
}

static void test_deadline(void **state)
{
	(void)state;
	/* SIGTERM is enough: none of them is waited for any further. */
	assert_times_out("echo begun; exec sleep 60", "begun\n", 128 + SIGTERM);
	/* Waiting for a grandchild that holds the output is part of the job, too. */
	assert_times_out("(trap 'echo bye; exit' TERM; sleep 60 & wait) & exit 7", "bye\n", 7);
	assert_times_out("trap 'echo bye; exit 9' TERM; sleep 60 & wait", "bye\n", 9);
	/* ... and has its time to end when the program itself takes none. */
	assert_times_out("(trap 'sleep 0.2; echo bye; exit' TERM; sleep 60 & wait) & exec sleep 60",
			 "bye\n", 128 + SIGTERM);
}

/* One that ignores SIGTERM beside one that has left the process group with the output in its hands,
 * which is nobody's business but must not hold the job up. */
static void test_deadline_kills(void **state)
{
	(void)state;
	mono_us start = clock_mono();
	assert_times_out("setsid sleep 100 & trap '' TERM; while :; do sleep "
			 "1; done >&-",
			 "", 128 + SIGKILL);
	assert_true(clock_mono() - start < 90 * 1000000LL);
}

/* What it has started can do nothing any more when the job is over, nor hold it up. */
static void test_killed(void **state)
{
	(void)state;
	cleanup_result struct job_result result;
	struct error e = ERROR_INIT;
	struct job_options o = JOB_OPTIONS(SH("sleep 1000 & echo $!; kill -KILL $$"));
	if (job_run(&o, &result, &e) < 0)
		fail_msg("%s", e.text);
	assert_int_equal(result.status, 128 + SIGKILL);
	pid_t started = (pid_t)strtol(buf_text(&result.out), NULL, 10);
	assert_true(started > 0 && kill(started, 0) < 0);
}

/* --- what it inherits ----------------------------------------------------- */

static void assert_prints(const struct job_options *o, const char *expected)
{
	cleanup_result struct job_result result;
	struct error e = ERROR_INIT;
	if (job_run(o, &result, &e) < 0)
		fail_msg("%s", e.text);
	assert_string_equal(buf_text(&result.err), "");
	assert_string_equal(buf_text(&result.out), expected);
}

static void test_environment(void **state)
{
	(void)state;
	struct job_options o =
		JOB_OPTIONS(ARGV("env"), .env = (const char *const[]) { "A=1", "B=", NULL });
	assert_prints(&o, "A=1\nB=\n");
	setenv("ELSA_TEST", "inherited", 1);
	struct job_options ours = JOB_OPTIONS(SH("echo $ELSA_TEST"));
	assert_prints(&ours, "inherited\n");
}

static void test_descriptors(void **state)
{
	(void)state;
	cleanup_fd int leaky = open("/dev/null", O_RDONLY); /* NOLINT: not close-on-exec */
	cleanup_fd int kept = fcntl(leaky, F_DUPFD_CLOEXEC, 40);
	cleanup_fd int kept_too = fcntl(leaky, F_DUPFD, 50);
	assert_true(kept >= 0 && kept_too >= 0);
	/* The shell expands the pattern without opening anything of its own but the directory, 3.
	 */
	char expected[64];
	snprintf(expected, sizeof(expected), "0 1 2 3 %d %d\n", kept, kept_too);
	struct job_options o =
		JOB_OPTIONS(SH("cd /proc/self/fd && echo *"),
			    .keep_fds = (const int[]) { kept_too, kept }, .keep_fd_count = 2);
	assert_prints(&o, expected);
}

static void test_signals(void **state)
{
	(void)state;
	sigset_t set, before;
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	pthread_sigmask(SIG_BLOCK, &set, &before);
	signal(SIGPIPE, SIG_IGN);
	struct job_options o =
		JOB_OPTIONS(ARGV("grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status"));
	assert_prints(&o, "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n");
	/* ... and the caller's own mask is what it was. */
	sigset_t now;
	pthread_sigmask(SIG_SETMASK, &before, &now);
	assert_true(sigismember(&now, SIGUSR1));
	assert_false(sigismember(&now, SIGUSR2));
	signal(SIGPIPE, SIG_DFL);
}

/* A daemon may have been started with its standard descriptors closed; the pipes then get those
 * very numbers. */
static void test_closed_stdio(void **state)
{
	(void)state;
	pid_t pid = fork();
	if (pid == 0) {
		for (int fd = 0; fd <= 2; fd++)
			close(fd);
		struct job_result result;
		struct job_options o = JOB_OPTIONS(SH("cat; echo err >&2"), .input = "in");
		bool ok = job_run(&o, &result, NULL) == 0 &&
			  strcmp(buf_text(&result.out), "in") == 0 &&
			  strcmp(buf_text(&result.err), "err\n") == 0;
		job_result_deinit(&result);
		_exit(ok ? 0 : 1);
	}
	int status;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

/* A network namespace lives as long as the descriptor does, without its thread. */
static void *open_new_netns(void *arg)
{
	int *fd = arg;
	if (unshare(CLONE_NEWNET) == 0)
		*fd = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	return NULL;
}

static void test_netns(void **state)
{
	(void)state;
	cleanup_fd int fd = -1;
	pthread_t thread;
	assert_int_equal(pthread_create(&thread, NULL, open_new_netns, &fd), 0);
	pthread_join(thread, NULL);
	if (fd < 0)
		skip(); /* not root */
	struct stat st;
	assert_int_equal(fstat(fd, &st), 0);
	char expected[64];
	snprintf(expected, sizeof(expected), "net:[%ju]\n", (uintmax_t)st.st_ino);
	struct job_options o = JOB_OPTIONS(ARGV("readlink", "/proc/self/ns/net"));
	o.netns_fd = fd;
	assert_prints(&o, expected);
}

/* --- threads and other children ------------------------------------------- */

static void *terminate_when_running(void *arg)
{
	volatile pid_t *pid = arg;
	pid_t p;
	while ((p = __atomic_load_n(pid, __ATOMIC_SEQ_CST)) == 0)
		sched_yield();
	kill(p, SIGTERM);
	return NULL;
}

static void test_pid_is_told(void **state)
{
	(void)state;
	volatile pid_t pid = 0;
	pthread_t thread;
	assert_int_equal(pthread_create(&thread, NULL, terminate_when_running, (void *)&pid), 0);
	cleanup_result struct job_result result;
	struct job_options o = JOB_OPTIONS(ARGV("sleep", "60"), .pid_out = &pid);
	assert_int_equal(job_run(&o, &result, NULL), 0);
	pthread_join(thread, NULL);
	assert_int_equal(result.status, 128 + SIGTERM);
	assert_false(result.timed_out);
	assert_int_equal(pid, 0);
}

static void *run_several(void *arg)
{
	size_t *wrong = arg;
	for (int i = 0; i < 10; i++) {
		cleanup_result struct job_result result;
		struct job_options o = JOB_OPTIONS(SH("cat; exit 6"), .input = "hello");
		if (job_run(&o, &result, NULL) < 0 || result.status != 6 ||
		    strcmp(buf_text(&result.out), "hello") != 0)
			(*wrong)++;
	}
	return NULL;
}

static void test_many_threads_beside_another_child(void **state)
{
	(void)state;
	pid_t other = fork();
	if (other == 0)
		_exit(23);
	pthread_t threads[8];
	size_t wrong[ARRAY_SIZE(threads)] = { 0 };
	for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
		assert_int_equal(pthread_create(&threads[i], NULL, run_several, &wrong[i]), 0);
	for (size_t i = 0; i < ARRAY_SIZE(threads); i++) {
		pthread_join(threads[i], NULL);
		assert_int_equal(wrong[i], 0);
	}
	int status;
	assert_int_equal(waitpid(other, &status, 0), other);
	assert_int_equal(WEXITSTATUS(status), 23);
	/* Nothing of ours is left. */
	assert_int_equal(waitpid(-1, &status, WNOHANG), -1);
	assert_int_equal(errno, ECHILD);
}

static void test_no_descriptor_is_left(void **state)
{
	(void)state;
	cleanup_fd int before = open("/dev/null", O_RDONLY | O_CLOEXEC);
	struct job_options fine = JOB_OPTIONS(ARGV("true"), .input = "x");
	struct job_options missing = JOB_OPTIONS(ARGV("/no/such"), .input = "x");
	struct job_options unknown = JOB_OPTIONS(ARGV("no-such-program"));
	job_check(&fine, NULL);
	job_check(&missing, NULL);
	job_check(&unknown, NULL);
	cleanup_fd int after = open("/dev/null", O_RDONLY | O_CLOEXEC);
	assert_int_equal(after, before + 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ends),
		cmocka_unit_test(test_large_input),
		cmocka_unit_test(test_output_is_capped_and_read_to_its_end),
		cmocka_unit_test(test_cannot_run),
		cmocka_unit_test(test_check),
		cmocka_unit_test(test_deadline),
		cmocka_unit_test(test_deadline_kills),
		cmocka_unit_test(test_environment),
		cmocka_unit_test(test_descriptors),
		cmocka_unit_test(test_signals),
		cmocka_unit_test(test_killed),
		cmocka_unit_test(test_closed_stdio),
		cmocka_unit_test(test_netns),
		cmocka_unit_test(test_pid_is_told),
		cmocka_unit_test(test_many_threads_beside_another_child),
		cmocka_unit_test(test_no_descriptor_is_left),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
