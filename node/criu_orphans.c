/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "node/criu.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fs.h"
#include "node/proc.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* --- what an earlier life of this program has left ------------------------- */

static bool is_restore(pid_t pid)
{
	char path[64];
	cleanup_buf struct buf text = BUF_INIT(64 << 10);
	snprintf(path, sizeof(path), "/proc/%d/cmdline", pid);
	fs_read(path, &text, NULL);
	size_t first = strlen(buf_text(&text)) + 1;
	return first < text.len && strcmp(text.data + first, "restore") == 0;
}

/* A restored process has CRIU's command line until it gets its own: it goes, too. */
static int end_orphan(pid_t pid, void *arg)
{
	size_t *count = arg;
	(*count)++;
	if (is_restore(pid))
		kill(pid, SIGKILL);
	return 0;
}

/* Whoever waits for a word in this directory gets a "no". */
static void say_no(const char *work)
{
	cleanup_free char *path = fs_join(work, "verdict");
	cleanup_fd int fd = path ? open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC) : -1;
	if (fd >= 0 && write(fd, "no\n", 3) == 3)
		poll(NULL, 0, 20); /* for the reader to take it */
}

int criu_end_orphans(const char *work, int timeout_ms, struct error *e)
{
	mono_us deadline = clock_mono() + timeout_ms * 1000LL;
	/* With it goes the last of a CRIU's work. */
	if (access(work, F_OK) < 0 && errno == ENOENT)
		return 0;
	for (;;) {
		size_t count = 0;
		proc_each_with_args("--work-dir", work, end_orphan, &count);
		say_no(work);
		if (count == 0)
			return 0;
		if (clock_mono() >= deadline)
			return error_set(e, ETIMEDOUT,
					 "an earlier CRIU for this session does not end");
		poll(NULL, 0, 20);
	}
}

static int is_any(pid_t pid, void *arg)
{
	(void)pid;
	(void)arg;
	return 1;
}

bool criu_has_orphans(const char *work)
{
	return proc_each_with_args("--work-dir", work, is_any, NULL) > 0;
}

/* It leads a process group with what it has started in it. */
static int kill_group(pid_t pid, void *arg)
{
	size_t *count = arg;
	(*count)++;
	if (kill(-pid, SIGKILL) < 0)
		kill(pid, SIGKILL);
	return 0;
}

void criu_kill_orphans(const char *work)
{
	/* Mostly they are gone at once, and the session stands still meanwhile. */
	for (size_t count = 1, i = 0; count && i < 500; i++) {
		count = 0;
		proc_each_with_args("--work-dir", work, kill_group, &count);
		if (count)
			poll(NULL, 0, i < 10 ? 1 : 10);
	}
}
