/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "node/sockets.h"

#include "base/cleanup.h"

#include <dirent.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/socket.h>

typedef void on_socket(int fd);

static int tcp_option(int fd, int name)
{
	int value = 0;
	socklen_t len = sizeof(value);
	return getsockopt(fd, IPPROTO_TCP, name, &value, &len) < 0 ? -1 : value;
}

static void end_repair(int fd)
{
	const int off = TCP_REPAIR_OFF_NO_WP;
	if (tcp_option(fd, TCP_REPAIR) > 0)
		setsockopt(fd, IPPROTO_TCP, TCP_REPAIR, &off, sizeof(off));
}

/* No more than that is changed: the option is off already. */
static void push(int fd)
{
	const int off = 0;
	if (tcp_option(fd, TCP_CORK) == 0)
		setsockopt(fd, IPPROTO_TCP, TCP_CORK, &off, sizeof(off));
}

static bool is_socket(int dir, const char *name)
{
	char target[64];
	ssize_t n = readlinkat(dir, name, target, sizeof(target));
	return n > 7 && strncmp(target, "socket:", 7) == 0;
}

static int look_at(pid_t pid, void *arg)
{
	on_socket *each = *(on_socket **)arg;
	char path[64];
	snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
	cleanup_fd int pidfd = pidfd_open(pid, 0);
	cleanup_dir DIR *dir = opendir(path);
	if (!dir || pidfd < 0)
		return 0;
	for (struct dirent *d; (d = readdir(dir));) {
		if (!is_socket(dirfd(dir), d->d_name))
			continue;
		cleanup_fd int copy = pidfd_getfd(pidfd, (int)strtol(d->d_name, NULL, 10), 0);
		if (copy >= 0)
			each(copy);
	}
	return 0;
}

void sockets_end_repair(const struct cgroup *cg)
{
	on_socket *each = end_repair;
	cgroup_processes(cg, look_at, &each, NULL);
}

void sockets_push(const struct cgroup *cg)
{
	on_socket *each = push;
	cgroup_processes(cg, look_at, &each, NULL);
}
