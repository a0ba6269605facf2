/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "io/job.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "io/job_spawn.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

enum {
	TIMEOUT_DEFAULT_MS = 60000,
	TERM_GRACE_MS = 2000,
	REST_MS = 500,
	OUT_CAP = 1 << 20,
	ERR_CAP = 256 << 10,
	TAIL_LINES = 6,
	TAIL_BYTES = 600,
};

/* How far the deadline has brought it. */
enum stage { STAGE_RUNNING, STAGE_TERMINATED, STAGE_KILLED };

struct run {
	struct job_child child;
	struct job_result *result;
	struct buf failure; /* a struct job_failure, in bytes */
	mono_us deadline;   /* of the present stage */
	enum stage stage;
	bool exited;     /* but not reaped: its id still names its process group */
	bool rest_ended; /* what it had started was killed with it */
};

/* Reads what is there. What passes the cap is dropped: a program must not block on a full pipe
 * because we have read enough. */
static void read_stream(int *fd, struct buf *to)
{
	char chunk[65536];
	ssize_t n = read(*fd, chunk, sizeof(chunk));
	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return;
	if (n <= 0) {
		close(steal_fd(fd));
		return;
	}
	size_t room = to->cap - to->len;
	buf_append(to, chunk, (size_t)n < room ? (size_t)n : room);
}

static bool is_over(const struct run *run)
{
	if (!run->exited)
		return false;
	/* Something that left the process group may hold the output for ever. */
	if (run->stage == STAGE_KILLED)
		return true;
	return run->child.out < 0 && run->child.err < 0 && run->child.failure < 0;
}

static void next_stage(struct run *run)
{
	bool first = run->stage == STAGE_RUNNING;
	run->result->timed_out = true;
	run->stage = first ? STAGE_TERMINATED : STAGE_KILLED;
	run->deadline = first ? clock_mono() + TERM_GRACE_MS * 1000LL : INT64_MAX;
	kill(-run->child.pid, first ? SIGTERM : SIGKILL);
}

/* Milliseconds for poll(), rounded up so as not to spin through the last one. A killed process that
 * hangs in the kernel is waited for: to report an end that has not come would let its work be
 * started a second time beside it. */
static int poll_timeout(const struct run *run)
{
	if (run->deadline == INT64_MAX)
		return -1;
	int64_t ms = (run->deadline - clock_mono() + 999) / 1000;
	return ms < 0 ? 0 : ms > INT_MAX ? INT_MAX : (int)ms;
}

/* What it has started does not outlive its violent end: nobody would know what that still does.
 * Told to end by us, all of them have their time for that. */
static void end_rest(struct run *run)
{
	siginfo_t info = { 0 };
	if (run->stage != STAGE_RUNNING ||
	    waitid(P_PIDFD, (id_t)run->child.pidfd, &info, WEXITED | WNOWAIT) < 0 ||
	    info.si_code == CLD_EXITED)
		return;
	kill(-run->child.pid, SIGKILL);
	run->rest_ended = true;
}

/* Until the last of a killed group is gone, or for a while: the machine's init may be slow. */
static void wait_for_rest(pid_t group)
{
	for (int ms = 0; ms < REST_MS && kill(-group, 0) == 0; ms++)
		poll(NULL, 0, 1);
}

static void wait_for_end(struct run *run)
{
	struct job_child *c = &run->child;
	while (!is_over(run)) {
		struct pollfd fds[] = {
			{ .fd = c->out, .events = POLLIN },
			{ .fd = c->err, .events = POLLIN },
			{ .fd = c->failure, .events = POLLIN },
			{ .fd = run->exited ? -1 : c->pidfd, .events = POLLIN },
		};
		int n = poll(fds, ARRAY_SIZE(fds), poll_timeout(run));
		if (n > 0 && fds[0].revents)
			read_stream(&c->out, &run->result->out);
		if (n > 0 && fds[1].revents)
			read_stream(&c->err, &run->result->err);
		if (n > 0 && fds[2].revents)
			read_stream(&c->failure, &run->failure);
		if (n > 0 && fds[3].revents) {
			run->exited = true;
			end_rest(run);
		}
		if (!is_over(run) && clock_mono() >= run->deadline)
			next_stage(run);
	}
}

static int reap(struct run *run, const char *program, struct error *e)
{
	siginfo_t info = { 0 };
	while (waitid(P_PIDFD, (id_t)run->child.pidfd, &info, WEXITED) < 0)
		if (errno != EINTR)
			return error_errno(e, "cannot learn how %s ended", program);
	run->result->status = info.si_status + (info.si_code == CLD_EXITED ? 0 : 128);
	if (run->rest_ended)
		wait_for_rest(run->child.pid);
	return 0;
}

static int explain(const struct run *run, const struct job_options *options, struct error *e)
{
	const char *program = options->argv[0];
	struct job_failure failure;
	if (run->failure.len == sizeof(failure)) {
		memcpy(&failure, run->failure.data, sizeof(failure));
		error_fault(e, FAULT_INTERNAL, "cannot run %s: %s: %s", program,
			    job_step_name(failure.step), strerror(failure.code));
		return -failure.code;
	}
	char limit[CLOCK_TEXT_SIZE];
	int ms = options->timeout_ms ? options->timeout_ms : TIMEOUT_DEFAULT_MS;
	if (run->result->timed_out)
		return error_set(e, ETIMEDOUT, "%s did not end within %s", program,
				 clock_format_duration(ms, limit));
	return 0;
}

/* Atomically: the reader is another thread. */
static void tell_pid(const struct job_options *options, pid_t pid)
{
	if (options->pid_out)
		__atomic_store_n(options->pid_out, pid, __ATOMIC_SEQ_CST);
}

int job_run(const struct job_options *options, struct job_result *result, struct error *e)
{
	*result = (struct job_result) { .out = BUF_INIT(OUT_CAP), .err = BUF_INIT(ERR_CAP) };
	int64_t ms = options->timeout_ms ? options->timeout_ms : TIMEOUT_DEFAULT_MS;
	struct run run = { .result = result, .deadline = clock_mono() + ms * 1000 };
	run.failure = BUF_INIT(sizeof(struct job_failure));
	int r = job_spawn(options, &run.child, e);
	if (r < 0)
		return r;
	tell_pid(options, run.child.pid);
	wait_for_end(&run);
	tell_pid(options, 0); /* before its number can become another process's */
	r = reap(&run, options->argv[0], e);
	if (r == 0)
		r = explain(&run, options, e);
	job_child_deinit(&run.child);
	buf_deinit(&run.failure);
	return r;
}

void job_result_deinit(struct job_result *result)
{
	buf_deinit(&result->out);
	buf_deinit(&result->err);
}

/* The last lines as one, for an error message. */
static void format_tail(const struct buf *from, char to[TAIL_BYTES + 1])
{
	const char *text = buf_text(from);
	size_t end = from->len;
	while (end && strchr(" \t\r\n", text[end - 1]))
		end--;
	size_t begin = end;
	for (int lines = 0; begin && end - begin < TAIL_BYTES; begin--)
		if (text[begin - 1] == '\n' && ++lines == TAIL_LINES)
			break;
	for (size_t i = begin; i < end; i++)
		*to++ = (unsigned char)text[i] < ' ' ? (text[i] == '\n' ? '|' : ' ') : text[i];
	*to = '\0';
}

int job_check(const struct job_options *options, struct error *e)
{
	cleanup(job_result_deinit) struct job_result result;
	char tail[TAIL_BYTES + 1];
	int r = job_run(options, &result, e);
	if (r < 0 || result.status == 0)
		return r;
	format_tail(result.err.len ? &result.err : &result.out, tail);
	int number = result.status > 128 && result.status < 128 + NSIG ? result.status - 128 : 0;
	return error_fault(e, FAULT_INTERNAL, "%s failed with status %d%s%s%s%s%s",
			   options->argv[0], result.status, number ? " (" : "",
			   number ? strsignal(number) : "", number ? ")" : "", *tail ? ": " : "",
			   tail);
}
