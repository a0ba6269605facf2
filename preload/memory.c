/* SPDX-License-Identifier: Apache-2.0 */
/*
 * CRIU asks the kernel by PAGEMAP_SCAN which pages there are, and puts all of them into pipes. What
 * node/unseen.c has written down it is told it has not. Everything else goes straight to the
 * kernel.
 */
#define _GNU_SOURCE
#include "preload/criu.h"
#include "preload/parts.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static const struct unseen_range *ranges;
static size_t count;

void memory_begin(const char *path)
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

INTERPOSED int ioctl(int fd, unsigned long request, ...)
{
	va_list list;
	va_start(list, request);
	void *arg = va_arg(list, void *);
	va_end(list);
	if (request == PAGEMAP_SCAN && count)
		return (int)scan(fd, arg);
	return (int)syscall(SYS_ioctl, fd, request, arg);
}
