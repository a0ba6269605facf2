/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "io/job_spawn.h"

#include "base/cleanup.h"
#include "base/fs.h"
#include "base/names.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

/* What the child needs, made ready before the fork: behind it, in a copy of one thread of many,
 * only async-signal-safe calls are allowed. All descriptors are above standard error. */
struct plan {
	const struct job_options *options;
	char *path;
	int in, out, err, failure; /* the child's ends */
};

static void plan_deinit(struct plan *p)
{
	free(p->path);
	cleanup_close_fd(&p->in);
	cleanup_close_fd(&p->out);
	cleanup_close_fd(&p->err);
	cleanup_close_fd(&p->failure);
}

/* --- in the child --------------------------------------------------------- */

/* The system call, since glibc refuses the two signals that it keeps for itself, and posix_spawn()
 * leaves those ignored in whatever make or systemd starts. */
void job_reset_signals(void)
{
	static const unsigned long normal[4]; /* the kernel's struct sigaction; SIG_DFL is 0 */
	for (int i = 1; i < NSIG; i++)
		syscall(SYS_rt_sigaction, i, normal, NULL, NSIG / 8);
	sigset_t none;
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

static int keep_only(const int *fds, size_t count)
{
	if (close_range(STDERR_FILENO + 1, ~0U, CLOSE_RANGE_CLOEXEC) < 0)
		return -1;
	for (size_t i = 0; i < count; i++)
		if (fcntl(fds[i], F_SETFD, 0) < 0)
			return -1;
	return 0;
}

static bool set_stdio(const struct plan *p)
{
	return dup2(p->in, STDIN_FILENO) >= 0 && dup2(p->out, STDOUT_FILENO) >= 0 &&
	       dup2(p->err, STDERR_FILENO) >= 0;
}

/* Returns where it failed. The namespace comes first: its descriptor may be any number. The program
 * is executed last, when close-on-exec has become true of everything else. */
static enum job_step become_program(const struct plan *p)
{
	const struct job_options *o = p->options;
	setpgid(0, 0);
	if (o->netns_fd >= 0 && setns(o->netns_fd, CLONE_NEWNET) < 0)
		return JOB_STEP_NETNS;
	if (!set_stdio(p))
		return JOB_STEP_STDIO;
	if (keep_only(o->keep_fds, o->keep_fd_count) < 0)
		return JOB_STEP_FDS;
	job_reset_signals();
	execve(p->path, (char *const *)o->argv, o->env ? (char *const *)o->env : environ);
	return JOB_STEP_EXEC;
}

static _Noreturn void child_main(const struct plan *p)
{
	struct job_failure failure = { .step = become_program(p), .code = errno };
	ssize_t n = write(p->failure, &failure, sizeof(failure));
	_exit(n == sizeof(failure) ? 127 : 126);
}

/* --- in the parent -------------------------------------------------------- */

static const char *const step_names[] = {
	[JOB_STEP_NETNS] = "cannot enter its network namespace",
	[JOB_STEP_STDIO] = "cannot set up its standard input and output",
	[JOB_STEP_FDS] = "cannot hand over its descriptors",
	[JOB_STEP_EXEC] = "cannot execute it",
};

const char *job_step_name(enum job_step step)
{
	return name_of(step_names, ARRAY_SIZE(step_names), (int)step);
}

static bool is_program(const char *path)
{
	struct stat st;
	return stat(path, &st) == 0 && S_ISREG(st.st_mode) &&
	       faccessat(AT_FDCWD, path, X_OK, AT_EACCESS) == 0;
}

/* The first program of that name in PATH; NULL with errno set. */
static char *find_program(const char *name)
{
	const char *dir = getenv("PATH");
	if (strchr(name, '/'))
		return strdup(name);
	if (!dir || !*dir)
		dir = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
	while (*dir) {
		size_t len = strcspn(dir, ":");
		cleanup_free char *path = str_printf("%.*s/%s", (int)len, dir, name);
		if (path && is_program(path))
			return steal_ptr(&path);
		dir += len + (dir[len] == ':');
	}
	errno = ENOENT;
	return NULL;
}

int job_above_stdio(int *fd)
{
	if (*fd > STDERR_FILENO)
		return 0;
	int moved = fcntl(*fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
	if (moved < 0)
		return -1;
	close(*fd);
	*fd = moved;
	return 0;
}

static int make_pipe(int *read_end, int *write_end)
{
	int ends[2];
	if (pipe2(ends, O_CLOEXEC) < 0)
		return -1;
	*read_end = ends[0];
	*write_end = ends[1];
	if (job_above_stdio(write_end) < 0)
		return -1;
	return fcntl(*read_end, F_SETFL, O_NONBLOCK);
}

/* A file in memory rather than a pipe: nobody has to feed it, and a program that does not read its
 * input gives no SIGPIPE. */
static int open_input(const char *text)
{
	if (!text)
		return open("/dev/null", O_RDONLY | O_CLOEXEC);
	cleanup_fd int fd = memfd_create("job-input", MFD_CLOEXEC);
	size_t len = strlen(text);
	for (size_t done = 0; fd >= 0 && done < len;) {
		ssize_t n = write(fd, text + done, len - done);
		if (n < 0 && errno != EINTR)
			return -1;
		done += n > 0 ? (size_t)n : 0;
	}
	if (fd >= 0 && lseek(fd, 0, SEEK_SET) < 0)
		return -1;
	return steal_fd(&fd);
}

static int make_plan(const struct job_options *options, struct plan *p, struct job_child *child)
{
	p->options = options;
	p->path = find_program(options->argv[0]);
	if (!p->path)
		return -1;
	p->in = open_input(options->input);
	if (p->in < 0 || job_above_stdio(&p->in) < 0)
		return -1;
	if (make_pipe(&child->out, &p->out) < 0 || make_pipe(&child->err, &p->err) < 0)
		return -1;
	return make_pipe(&child->failure, &p->failure);
}

static int check_options(const struct job_options *options, struct error *e)
{
	for (size_t i = 0; i < options->keep_fd_count; i++)
		if (options->keep_fds[i] <= STDERR_FILENO)
			return error_set(e, EINVAL, "descriptor %d cannot be handed to a job",
					 options->keep_fds[i]);
	if (!options->argv || !options->argv[0])
		return error_set(e, EINVAL, "no program given");
	return 0;
}

/* All signals are held back until the child has reset its handlers: those of the parent must not
 * run in it. */
static pid_t fork_plan(const struct plan *p)
{
	sigset_t all, before;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	pid_t pid = fork();
	if (pid == 0)
		child_main(p);
	int code = errno;
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	errno = code;
	return pid;
}

int job_spawn(const struct job_options *options, struct job_child *child, struct error *e)
{
	*child = JOB_CHILD_INIT;
	int r = check_options(options, e);
	if (r < 0)
		return r;
	cleanup(plan_deinit) struct plan plan = { .in = -1, .out = -1, .err = -1, .failure = -1 };
	if (make_plan(options, &plan, child) < 0) {
		r = error_errno(e, "cannot run %s", options->argv[0]);
		job_child_deinit(child);
		/* A program that is missing here is not a thing the caller asked for and misnamed.
		 */
		if (e && e->fault == FAULT_NOT_FOUND)
			e->fault = FAULT_INTERNAL;
		return r;
	}
	child->pid = fork_plan(&plan);
	if (child->pid < 0) {
		r = error_errno(e, "cannot start a process for %s", options->argv[0]);
		job_child_deinit(child);
		return r;
	}
	/* In the child as well: whoever comes first, the group exists before anybody signals it. */
	setpgid(child->pid, child->pid);
	child->pidfd = pidfd_open(child->pid, 0);
	if (child->pidfd >= 0)
		return 0;
	r = error_errno(e, "cannot watch the process of %s", options->argv[0]);
	kill(child->pid, SIGKILL);
	waitpid(child->pid, NULL, 0);
	job_child_deinit(child);
	return r;
}

void job_child_deinit(struct job_child *child)
{
	cleanup_close_fd(&child->pidfd);
	cleanup_close_fd(&child->out);
	cleanup_close_fd(&child->err);
	cleanup_close_fd(&child->failure);
	*child = JOB_CHILD_INIT;
}
