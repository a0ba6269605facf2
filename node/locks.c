/* SPDX-License-Identifier: Apache-2.0 */
#include "node/locks.h"

#include "base/cleanup.h"
#include "base/fs.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

bool locks_told(const char *fdinfo)
{
	return strncmp(fdinfo, "lock:", 5) == 0 || strstr(fdinfo, "\nlock:");
}

struct look {
	const char *home;
	struct error *e;
};

static bool is_below(const char *path, const char *top)
{
	size_t len = strlen(top);
	return strncmp(path, top, len) == 0 && (path[len] == '/' || path[len] == '\0');
}

/* What is closed meanwhile has no lock any more. */
static bool has_lock(pid_t pid, const char *fd)
{
	char path[64];
	cleanup_buf struct buf text = BUF_INIT(64 << 10);
	snprintf(path, sizeof(path), "/proc/%d/fdinfo/%.20s", (int)pid, fd);
	return fs_read(path, &text, NULL) == 0 && locks_told(buf_text(&text));
}

static int check_fd(const struct look *look, pid_t pid, const char *fd)
{
	char path[64], to[PATH_MAX];
	snprintf(path, sizeof(path), "/proc/%d/fd/%.20s", (int)pid, fd);
	ssize_t len = readlink(path, to, sizeof(to) - 1);
	if (len < 0)
		return 0;
	to[len] = '\0';
	if (!is_below(to, look->home) || !has_lock(pid, fd))
		return 0;
	int r = error_fault(look->e, FAULT_REFUSED,
			    "it has a lock on %s, which it would not get on the other node", to);
	return error_remedy(look->e, r,
			    "Try again when it has let go of that, or hibernate it and wake it "
			    "there.");
}

static int check_process(pid_t pid, void *arg)
{
	char path[64];
	int r = 0;
	snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
	DIR *dir = opendir(path);
	if (!dir)
		return 0;
	for (const struct dirent *d; r == 0 && (d = readdir(dir));)
		if (d->d_name[0] != '.')
			r = check_fd(arg, pid, d->d_name);
	closedir(dir);
	return r;
}

int locks_check(const struct cgroup *cg, const char *home, struct error *e)
{
	struct look look = { .home = home, .e = e };
	return cgroup_processes(cg, check_process, &look, e);
}
