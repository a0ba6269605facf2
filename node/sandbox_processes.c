/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "node/sandbox.h"

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fs.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define KILL_TIMEOUT_MS 20000

/* "NSpid:\t1234\t1": its pid in every namespace from ours down to its own. */
static bool is_init(pid_t pid)
{
	char path[64];
	cleanup_buf struct buf status = BUF_INIT(65536);
	snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	if (fs_read(path, &status, NULL) < 0)
		return false;
	const char *line = strstr(buf_text(&status), "\nNSpid:");
	if (!line)
		return false;
	long last = 0;
	int count = 0;
	char *end;
	for (const char *p = line + strlen("\nNSpid:"); *p == '\t'; p = end, count++)
		last = strtol(p + 1, &end, 10);
	return count > 1 && last == 1;
}

static int find_init(pid_t pid, void *arg)
{
	if (!is_init(pid))
		return 0;
	*(pid_t *)arg = pid;
	return 1;
}

int sandbox_find_init(struct sandbox *sb, pid_t *init, struct error *e)
{
	*init = 0;
	int r = cgroup_processes(&sb->cgroup, find_init, init, e);
	return r > 0 ? 0 : r;
}

static int kill_one(pid_t pid, void *arg)
{
	*(bool *)arg = true;
	kill(pid, SIGKILL);
	return 0;
}

/* Until nothing is left in the group. */
static int kill_rest(struct sandbox *sb, mono_us deadline, struct error *e)
{
	for (;;) {
		bool any = false;
		int r = cgroup_processes(&sb->cgroup, kill_one, &any, e);
		if (r < 0 || !any)
			return r;
		/* A frozen process (version 1) dies when it is thawed, not before. */
		r = cgroup_thaw(&sb->cgroup, e);
		if (r < 0)
			return r;
		if (clock_mono() > deadline)
			return error_fault(e, FAULT_TIMEOUT,
					   "processes of session %s do not die: one "
					   "may be waiting for a disk or a network file system",
					   sb->spec->id);
		usleep(2000);
	}
}

/* When pid 1 is dead, the kernel has killed and reaped everything else in its pid namespace, and
 * their memory and mounts are gone. */
static void wait_for_death(int pidfd, mono_us deadline)
{
	struct pollfd p = { .fd = pidfd, .events = POLLIN };
	int64_t left_ms = (deadline - clock_mono()) / 1000;
	while (left_ms > 0 && poll(&p, 1, (int)left_ms) < 0 && errno == EINTR)
		left_ms = (deadline - clock_mono()) / 1000;
}

static int open_init(struct sandbox *sb, pid_t *init, struct error *e)
{
	int r = sandbox_find_init(sb, init, e);
	if (r < 0 || *init == 0)
		return r < 0 ? r : -ESRCH;
	int fd = (int)syscall(SYS_pidfd_open, *init, 0);
	/* Between the two it may have died and its pid been given away. */
	if (fd >= 0 && !is_init(*init)) {
		close(fd);
		return -ESRCH;
	}
	return fd < 0 ? -errno : fd;
}

int sandbox_kill(struct sandbox *sb, struct error *e)
{
	mono_us deadline = clock_mono() + (mono_us)KILL_TIMEOUT_MS * 1000;
	pid_t init;
	if (!cgroup_exists(&sb->cgroup))
		return 0;
	cleanup_fd int pidfd = open_init(sb, &init, e);
	if (pidfd >= 0) {
		bool any;
		syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0);
		/* All of them before any is thawed: a frozen session may live on in a checkpoint,
		 * and must not do another step here while its init dies. */
		cgroup_processes(&sb->cgroup, kill_one, &any, NULL);
		int r = cgroup_thaw(&sb->cgroup, e);
		if (r < 0)
			return r;
		wait_for_death(pidfd, deadline);
	}
	return kill_rest(sb, deadline, e);
}

int sandbox_end(struct sandbox *sb, int grace_ms, struct error *e)
{
	pid_t init;
	if (!cgroup_exists(&sb->cgroup))
		return 0;
	cleanup_fd int pidfd = open_init(sb, &init, e);
	if (pidfd >= 0 && grace_ms > 0) {
		/* elsa-init hands it to the command. */
		syscall(SYS_pidfd_send_signal, pidfd, SIGTERM, NULL, 0);
		cgroup_thaw(&sb->cgroup, NULL);
		wait_for_death(pidfd, clock_mono() + (mono_us)grace_ms * 1000);
	}
	return sandbox_kill(sb, e);
}
