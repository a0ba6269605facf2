/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "node/inside.h"

#include "base/cleanup.h"
#include "io/job_spawn.h"
#include "node/inside_mounts.h"
#include "node/privileges.h"
#include "node/rootfs.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x00000080
#endif

/* The only descriptor above standard error that pid 1 has until its exec. */
#define REPORT_FD 3

static void report(int fd, pid_t pid, int code, const char *what, const char *name)
{
	struct inside_report r = { .pid = pid, .code = code };
	snprintf(r.what, sizeof(r.what), "%s%s%s", what, name ? " " : "", name ? name : "");
	/* Smaller than PIPE_BUF: whole or not at all. Nobody is left to tell if it fails. */
	if (write(fd, &r, sizeof(r)) < 0)
		_exit(1);
}

static void __attribute__((noreturn)) fail(int fd, int code, const char *what, const char *name)
{
	report(fd, 0, code, what, name);
	_exit(1);
}

static void reset_limits(void)
{
	struct rlimit files;
	struct rlimit core = { 0, RLIM_INFINITY };
	if (getrlimit(RLIMIT_CORE, &core) == 0) {
		core.rlim_cur = 0;
		setrlimit(RLIMIT_CORE, &core);
	}
	/* The same on every node, as a restore cannot raise a hard limit everywhere. */
	if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
		files.rlim_max = files.rlim_max < 524288 ? files.rlim_max : 524288;
		files.rlim_cur = files.rlim_max < 1024 ? files.rlim_max : 1024;
		setrlimit(RLIMIT_NOFILE, &files);
	}
	/* The node may be protected from the OOM killer; its sessions are not. */
	int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
	if (fd >= 0) {
		ssize_t n = write(fd, "0", 1);
		(void)n; /* best effort: only root with CAP_SYS_RESOURCE may lower it */
		close(fd);
	}
}

/* Standard descriptors must lie in the sandbox's own mounts or CRIU cannot dump them; nothing else
 * may stay open. */
static int reset_files(void)
{
	int null = open("/dev/null", O_RDONLY);
	if (null < 0 || dup2(null, 0) < 0)
		return -errno;
	int log = open(ROOTFS_LOG, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW, 0640);
	if (log < 0 || dup2(log, 1) < 0 || dup2(log, 2) < 0)
		return -errno;
	return close_range(REPORT_FD + 1, ~0U, 0) < 0 ? -errno : 0;
}

static int is_executable(const char *path)
{
	struct stat st;
	if (stat(path, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EACCES;
	return faccessat(AT_FDCWD, path, X_OK, AT_EACCESS) < 0 ? -errno : 0;
}

/* As execvp(3) will look it up. elsa-init would only write the failure into the log. */
static int find_command(const char *name, const char *path)
{
	char file[4096];
	int result = -ENOENT;
	if (strchr(name, '/'))
		return is_executable(name);
	for (const char *p = path; *p; p += *p == ':') {
		size_t len = strcspn(p, ":");
		snprintf(file, sizeof(file), "%.*s/%s", (int)len, p, name);
		int r = is_executable(file);
		if (r == 0)
			return 0;
		result = r == -EACCES ? r : result;
		p += len;
	}
	return result;
}

/* Pid 1 of the new pid namespace. Its report pipe is moved to a known place before the rest is
 * closed. */
static void __attribute__((noreturn)) run_init(const struct inside *in)
{
	int fd = in->report_fd;
	if (fd != REPORT_FD) {
		fd = dup3(in->report_fd, REPORT_FD, O_CLOEXEC);
		if (fd < 0)
			_exit(1);
	}
	const char *what = NULL;
	if (setsid() < 0)
		fail(fd, errno, "start a session", NULL);
	umask(022);
	reset_limits();
	if (sethostname(in->host_name, strlen(in->host_name)) < 0)
		fail(fd, errno, "set the host name", in->host_name);
	int r = inside_mount_all(in, &what);
	if (r < 0)
		fail(fd, -r, what, NULL);
	umask(022);
	r = reset_files();
	if (r < 0)
		fail(fd, -r, "open the session's log", NULL);
	r = privileges_drop(in->uid, in->gid, in->filter, &what);
	if (r < 0)
		fail(fd, -r, what, NULL);
	if (chdir(in->home_inside) < 0)
		fail(fd, errno, "enter the home directory", in->home_inside);
	r = find_command(in->command, in->path);
	if (r < 0)
		fail(fd, -r, "execute", in->command);
	/* Last: setuid() needs a signal where there are other threads, as under ThreadSanitizer. */
	job_reset_signals();
	execve(ROOTFS_INIT, in->argv, in->env);
	fail(fd, errno, "execute " ROOTFS_INIT, NULL);
}

/* A pid and a time namespace are for the children of who makes them: hence the process between. */
void inside_run(const struct inside *in)
{
	char byte;
	if (read(in->go_fd, &byte, 1) != 1)
		_exit(1);
	if (setns(in->netns_fd, CLONE_NEWNET) < 0)
		fail(in->report_fd, errno, "enter the network namespace", NULL);
	if (unshare(CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWPID | CLONE_NEWTIME) < 0)
		fail(in->report_fd, errno, "make the session's namespaces", NULL);
	pid_t pid = fork();
	if (pid < 0)
		fail(in->report_fd, errno, "fork", NULL);
	if (pid == 0)
		run_init(in);
	report(in->report_fd, pid, 0, "", NULL);
	_exit(0);
}
