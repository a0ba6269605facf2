/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "node/sandbox.h"

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fs.h"
#include "init/init.h"
#include "node/inside.h"
#include "node/rootfs.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define START_TIMEOUT_MS 20000
#define DEFAULT_PATH     "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

/* Everything the child reads, owned. */
struct start {
	struct inside in;
	struct seccomp_program filter;
	char host_name[ROOTFS_NAME_SIZE];
	char *home_target;
	char *run_user;
	char **argv; /* the array is owned, its strings are not */
	char **env;  /* both are owned */
	int netns_fd;
	int go[2];
	int report[2];
	off_t log_start;
};

static void start_deinit(struct start *s)
{
	const int fds[] = { s->netns_fd, s->go[0], s->go[1], s->report[0], s->report[1] };
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		if (fds[i] >= 0)
			close(fds[i]);
	for (char **v = s->env; v && *v; v++)
		free(*v);
	free(s->env);
	free(s->argv);
	free(s->home_target);
	free(s->run_user);
	seccomp_program_deinit(&s->filter);
}

/* --- environment ---------------------------------------------------------------------- */

static const char *env_value(char *const *env, const char *name)
{
	size_t len = strlen(name);
	for (; env && *env; env++)
		if (strncmp(*env, name, len) == 0 && (*env)[len] == '=')
			return *env + len + 1;
	return NULL;
}

static size_t count_strings(char *const *v)
{
	size_t n = 0;
	while (v && v[n])
		n++;
	return n;
}

/* The session's, and what every program expects where it is missing. */
static int make_env(struct start *s, const struct session_spec *spec)
{
	char name[ROOTFS_NAME_SIZE];
	rootfs_plain_name(spec->user, name);
	const char *const defaults[][2] = { { "PATH", DEFAULT_PATH }, { "HOME", spec->home_inside },
					    { "USER", name },         { "LOGNAME", name },
					    { "SHELL", "/bin/bash" }, { "LANG", "C.UTF-8" } };
	size_t n = count_strings(spec->env);
	s->env = calloc(n + ARRAY_SIZE(defaults) + 1, sizeof(*s->env));
	if (!s->env)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		s->env[i] = strdup(spec->env[i]);
		if (!s->env[i])
			return -ENOMEM;
	}
	for (size_t i = 0; i < ARRAY_SIZE(defaults); i++) {
		if (env_value(s->env, defaults[i][0]))
			continue;
		s->env[n] = str_printf("%s=%s", defaults[i][0], defaults[i][1]);
		if (!s->env[n++])
			return -ENOMEM;
	}
	return 0;
}

static int make_argv(struct start *s, const struct session_spec *spec)
{
	size_t n = count_strings(spec->cmd);
	s->argv = calloc(n + 3, sizeof(*s->argv));
	if (!s->argv)
		return -ENOMEM;
	s->argv[0] = (char *)ROOTFS_INIT;
	s->argv[1] = (char *)"--";
	memcpy(s->argv + 2, spec->cmd, n * sizeof(*s->argv));
	return 0;
}

/* --- preparing the child ------------------------------------------------------------ */

static int prepare_strings(struct start *s, const struct sandbox *sb, struct error *e)
{
	const struct session_spec *spec = sb->spec;
	struct stat st;
	rootfs_plain_name(spec->user, s->host_name);
	s->home_target = str_printf("%s%s", sb->root, spec->home_inside);
	s->run_user = str_printf("run/user/%lld", (long long)spec->uid);
	s->log_start = stat(sb->log, &st) == 0 ? st.st_size : 0;
	if (!s->home_target || !s->run_user || make_env(s, spec) < 0 || make_argv(s, spec) < 0)
		return error_set(e, ENOMEM, "out of memory");
	return 0;
}

static int prepare_files(struct start *s, const struct sandbox *sb, struct error *e)
{
	s->netns_fd = open(sb->netns, O_RDONLY | O_CLOEXEC);
	if (s->netns_fd < 0)
		return error_errno(e, "cannot open the network namespace %s", sb->netns);
	if (pipe2(s->go, O_CLOEXEC) < 0 || pipe2(s->report, O_CLOEXEC) < 0)
		return error_errno(e, "cannot make a pipe");
	return 0;
}

static int prepare(struct start *s, const struct sandbox *sb, struct error *e)
{
	const struct session_spec *spec = sb->spec;
	if (!spec->cmd || !spec->cmd[0])
		return error_set(e, EINVAL, "session %s has no command", spec->id);
	int r = prepare_strings(s, sb, e);
	if (r == 0)
		r = prepare_files(s, sb, e);
	if (r == 0)
		r = seccomp_compile(&s->filter, e);
	if (r < 0)
		return r;
	s->in = (struct inside) { .root = sb->root,
				  .home = spec->home,
				  .home_target = s->home_target,
				  .home_inside = spec->home_inside,
				  .host_name = s->host_name,
				  .run_user = s->run_user,
				  .argv = s->argv,
				  .command = spec->cmd[0],
				  .path = env_value(s->env, "PATH"),
				  .env = s->env,
				  .uid = (uid_t)spec->uid,
				  .gid = (gid_t)spec->gid,
				  .netns_fd = s->netns_fd,
				  .go_fd = s->go[0],
				  .report_fd = s->report[1],
				  .filter = &s->filter };
	return 0;
}

/* --- the parent's side --------------------------------------------------------------- */

static int read_report(int fd, mono_us deadline, struct inside_report *to, struct error *e)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	for (;;) {
		int64_t left_ms = (deadline - clock_mono()) / 1000;
		int r = left_ms > 0 ? poll(&p, 1, (int)left_ms) : 0;
		if (r < 0 && errno == EINTR)
			continue;
		if (r <= 0)
			return error_fault(e, FAULT_TIMEOUT,
					   "the session's first process did not "
					   "start within %d s",
					   START_TIMEOUT_MS / 1000);
		ssize_t n = read(fd, to, sizeof(*to));
		if (n == 0)
			return 0;
		if (n == sizeof(*to))
			return 1;
		if (n > 0 || errno != EINTR)
			return error_set(e, EIO, "the session's first process broke off");
	}
}

/* Until the exec of pid 1 has closed the pipe, or somebody has said what failed. */
static int follow(struct start *s, pid_t *init, struct error *e)
{
	mono_us deadline = clock_mono() + (mono_us)START_TIMEOUT_MS * 1000;
	struct inside_report report = { 0 };
	int r;
	close(s->report[1]);
	s->report[1] = -1;
	while ((r = read_report(s->report[0], deadline, &report, e)) > 0) {
		if (report.code)
			return error_set(e, report.code,
					 "the session could not start: cannot %s: %s", report.what,
					 strerror(report.code));
		*init = report.pid;
	}
	if (r == 0 && *init == 0)
		r = error_set(e, EIO, "the session's helper process ended without a word");
	return r;
}

static int run_helper(struct start *s, struct sandbox *sb, pid_t *init, struct error *e)
{
	pid_t helper = fork();
	if (helper < 0)
		return error_errno(e, "cannot fork");
	if (helper == 0)
		inside_run(&s->in);
	int r = cgroup_adopt(&sb->cgroup, helper, e);
	if (r == 0 && write(s->go[1], "", 1) != 1)
		r = error_errno(e, "cannot write to the session's helper process");
	/* Unadopted, the helper reads the end of the pipe and leaves. */
	close(s->go[1]);
	s->go[1] = -1;
	if (r == 0)
		r = follow(s, init, e);
	while (waitpid(helper, NULL, 0) < 0 && errno == EINTR)
		;
	return r;
}

/* --- did the command start? ----------------------------------------------------------- */

static pid_t first_child(pid_t pid)
{
	char path[64];
	cleanup_buf struct buf text = BUF_INIT(65536);
	snprintf(path, sizeof(path), "/proc/%d/task/%d/children", (int)pid, (int)pid);
	return fs_read(path, &text, NULL) < 0 ? 0 : (pid_t)strtol(buf_text(&text), NULL, 10);
}

static ino_t executable(pid_t pid)
{
	char path[64];
	struct stat st;
	snprintf(path, sizeof(path), "/proc/%d/exe", (int)pid);
	return stat(path, &st) < 0 ? 0 : st.st_ino;
}

/* Its child has become another program. */
static bool command_runs(pid_t init)
{
	pid_t child = first_child(init);
	ino_t program = child ? executable(child) : 0;
	return program && program != executable(init);
}

/* What elsa-init has written when, say, an interpreter is missing. */
static int read_refusal(const struct start *s, const struct sandbox *sb, struct error *e)
{
	char text[512];
	cleanup_fd int fd = open(sb->log, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	ssize_t n = fd < 0 ? -1 : pread(fd, text, sizeof(text) - 1, s->log_start);
	if (n <= 0)
		return 0;
	text[n] = '\0';
	if (strncmp(text, INIT_REFUSAL, strlen(INIT_REFUSAL)) != 0)
		return 0;
	text[strcspn(text, "\n")] = '\0';
	return error_set(e, ENOEXEC, "the session could not start: %s",
			 text + strlen(INIT_REFUSAL));
}

static int wait_for_command(const struct start *s, const struct sandbox *sb, pid_t init,
			    struct error *e)
{
	mono_us deadline = clock_mono() + (mono_us)START_TIMEOUT_MS * 1000;
	cleanup_fd int pidfd = (int)syscall(SYS_pidfd_open, init, 0);
	struct pollfd p = { .fd = pidfd, .events = POLLIN };
	/* Ended: perhaps the command was never executed, perhaps it was a short one. */
	while (pidfd >= 0 && poll(&p, 1, 0) == 0 && !command_runs(init)) {
		if (clock_mono() > deadline)
			return error_fault(e, FAULT_TIMEOUT, "the session's command did not start");
		usleep(500);
	}
	return read_refusal(s, sb, e);
}

int sandbox_start(struct sandbox *sb, pid_t *init, struct error *e)
{
	struct start s = { .netns_fd = -1, .go = { -1, -1 }, .report = { -1, -1 } };
	*init = 0;
	int r = prepare(&s, sb, e);
	if (r == 0)
		r = run_helper(&s, sb, init, e);
	if (r == 0)
		r = wait_for_command(&s, sb, *init, e);
	if (r < 0) {
		*init = 0;
		sandbox_kill(sb, NULL);
	}
	start_deinit(&s);
	return r;
}
