/* SPDX-License-Identifier: Apache-2.0 */
/*
 * elsa-criu.so, loaded into a CRIU that dumps a session which is about to move.
 *
 * CRIU asks the kernel by PAGEMAP_SCAN which pages there are, and puts all of them into pipes. What
 * node/unseen.c has written down it is told it has not.
 *
 * And it asks, twice, which connections are tracked in the session's network. For an answer the
 * kernel walks a table that is the whole machine's, some milliseconds long. No rule in a session's
 * network tracks any: those that are about to be forgotten, which is asked in its place, are none
 * either, and soon found.
 *
 * Everything else goes straight to the kernel. Nothing is handed on to what CRIU starts.
 */
#define _GNU_SOURCE
#include "preload/unseen.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <linux/netlink.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* --- memory ---------------------------------------------------------------------------- */

static const struct unseen_range *ranges;
static size_t count;

static void take_ranges(const char *path)
{
	struct stat st;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	void *at = MAP_FAILED;
	if (fd >= 0 && fstat(fd, &st) == 0 && st.st_size > 0)
		at = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (fd >= 0)
		close(fd);
	if (at == MAP_FAILED)
		return;
	ranges = at;
	count = (size_t)st.st_size / sizeof(*ranges);
}

/* docs/criu.md, "prlimit without CAP_SYS_RESOURCE". */
static void take_ids(const char *ids)
{
	char *behind;
	unsigned long uid = strtoul(ids, &behind, 10);
	unsigned long gid = strtoul(behind, NULL, 10);
	if (setresgid((gid_t)gid, (gid_t)-1, (gid_t)-1) < 0 ||
	    setresuid((uid_t)uid, (uid_t)-1, (uid_t)-1) < 0)
		_exit(126);
}

__attribute__((constructor)) static void begin(void)
{
	const char *path = getenv(UNSEEN_FILE), *ids = getenv(UNSEEN_IDS);
	if (path)
		take_ranges(path);
	if (ids)
		take_ids(ids);
	unsetenv(UNSEEN_FILE);
	unsetenv(UNSEEN_IDS);
	unsetenv("LD_PRELOAD");
}

/* Of the process whose /proc/PID/pagemap that is; 0: it is nobody's. */
static int32_t pid_of(int fd)
{
	char link[64], path[64];
	int pid, end = 0;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	ssize_t n = readlink(link, path, sizeof(path) - 1);
	path[n > 0 ? n : 0] = '\0';
	return sscanf(path, "/proc/%d/pagemap%n", &pid, &end) == 1 && end == n ? pid : 0;
}

/* The first that ends behind `start`. */
static const struct unseen_range *find(int32_t pid, uint64_t start)
{
	for (size_t i = 0; i < count; i++)
		if (ranges[i].pid == pid && ranges[i].end > start)
			return &ranges[i];
	return NULL;
}

/* A scan may end early, and says so: whoever asks goes on from there. */
static long scan(int fd, struct pm_scan_arg *arg)
{
	const struct unseen_range *r = find(pid_of(fd), arg->start);
	uint64_t end = arg->end;
	if (r && r->start <= arg->start) {
		arg->walk_end = r->end < end ? r->end : end;
		return 0;
	}
	if (r && r->start < end)
		arg->end = r->start;
	long n = syscall(SYS_ioctl, fd, PAGEMAP_SCAN, arg);
	arg->end = end;
	return n;
}

int ioctl(int fd, unsigned long request, ...)
{
	va_list list;
	va_start(list, request);
	void *arg = va_arg(list, void *);
	va_end(list);
	if (request == PAGEMAP_SCAN && count)
		return (int)scan(fd, arg);
	return (int)syscall(SYS_ioctl, fd, request, arg);
}

/* --- connections ------------------------------------------------------------------------- */

enum {
	TRACKED = NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_GET,
	DYING = NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_GET_DYING,
};

static int option(int fd, int name)
{
	int value = -1;
	socklen_t len = sizeof(value);
	return getsockopt(fd, SOL_SOCKET, name, &value, &len) == 0 ? value : -1;
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
	struct nlmsghdr *h = message->msg_iovlen == 1 ? message->msg_iov->iov_base : NULL;
	if (h && message->msg_iov->iov_len >= sizeof(*h) && h->nlmsg_type == TRACKED &&
	    h->nlmsg_flags & NLM_F_DUMP && option(fd, SO_DOMAIN) == AF_NETLINK &&
	    option(fd, SO_PROTOCOL) == NETLINK_NETFILTER)
		h->nlmsg_type = DYING;
	return syscall(SYS_sendmsg, fd, message, flags);
}
