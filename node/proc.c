/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "node/proc.h"

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/fs.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>

int proc_boot_id(char to[BOOT_ID_SIZE], struct error *e)
{
	cleanup_buf struct buf text = BUF_INIT(BOOT_ID_SIZE - 1);
	int r = fs_read("/proc/sys/kernel/random/boot_id", &text, e);
	if (r < 0)
		return r;
	snprintf(to, BOOT_ID_SIZE, "%s", buf_text(&text));
	to[strcspn(to, "\n")] = '\0';
	return 0;
}

int proc_parse_stat(const char *text, char *state, uint64_t *ticks)
{
	/* The name, in parentheses, may hold anything, parentheses and spaces too. */
	const char *p = strrchr(text, ')');
	if (!p ||
	    sscanf(p + 1,
		   " %c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d"
		   " %" SCNu64,
		   state, ticks) != 2)
		return -EINVAL;
	return 0;
}

static int read_stat(pid_t pid, char *state, uint64_t *ticks)
{
	char path[64];
	cleanup_buf struct buf text = BUF_INIT(4096);
	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	if (pid <= 0 || fs_read(path, &text, NULL) < 0)
		return -ESRCH;
	return proc_parse_stat(buf_text(&text), state, ticks) < 0 ? -ESRCH : 0;
}

int proc_start_time(pid_t pid, uint64_t *ticks)
{
	char state;
	return read_stat(pid, &state, ticks);
}

bool proc_is(pid_t pid, uint64_t ticks)
{
	uint64_t now;
	char state;
	return read_stat(pid, &state, &now) == 0 && now == ticks && state != 'Z' && state != 'X';
}

int proc_open(pid_t pid, uint64_t ticks)
{
	cleanup_fd int fd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (fd < 0)
		return -errno;
	/* Only now: the descriptor holds on to whatever had the pid at that moment. */
	if (!proc_is(pid, ticks))
		return -ESRCH;
	return steal_fd(&fd);
}

static bool has_args(pid_t pid, const char *first, const char *second)
{
	char path[64];
	cleanup_buf struct buf text = BUF_INIT(256 << 10);
	snprintf(path, sizeof(path), "/proc/%d/cmdline", pid);
	fs_read(path, &text, NULL);
	const char *end = buf_text(&text) + text.len;
	for (const char *p = buf_text(&text); p < end; p += strlen(p) + 1) {
		const char *next = p + strlen(p) + 1;
		if (strcmp(p, first) == 0 && next < end && strcmp(next, second) == 0)
			return true;
	}
	return false;
}

int proc_each_with_args(const char *first, const char *second, int (*each)(pid_t pid, void *arg),
			void *arg)
{
	cleanup_dir DIR *dir = opendir("/proc");
	if (!dir)
		return -errno;
	for (struct dirent *d; (d = readdir(dir));) {
		pid_t pid = (pid_t)strtol(d->d_name, NULL, 10);
		if (pid <= 0 || !has_args(pid, first, second))
			continue;
		int r = each(pid, arg);
		if (r)
			return r;
	}
	return 0;
}
