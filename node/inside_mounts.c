/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "node/inside_mounts.h"

#include "base/cleanup.h"

#include <errno.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

/* Relative paths: the working directory is the new root. In this order. */
static const struct {
	const char *target;
	const char *type;
	unsigned long flags;
	const char *options;
	mode_t mode; /* != 0: a directory to make first */
} mounts[] = {
	{ "proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL, 0 },
	{ "dev", "tmpfs", MS_NOSUID | MS_NOEXEC, "mode=755,size=1m,nr_inodes=1024", 0 },
	{ "dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=620,gid=5",
	  0755 },
	/* Dumped by CRIU with the processes; its size counts against the memory limit. */
	{ "dev/shm", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777", 01777 },
	{ "run", "tmpfs", MS_NOSUID | MS_NODEV, "mode=755,size=64m", 0 },
};

static const struct {
	const char *path;
	unsigned minor;
	unsigned major;
} devices[] = {
	{ "dev/null", 3, 1 },   { "dev/zero", 5, 1 },    { "dev/full", 7, 1 },
	{ "dev/random", 8, 1 }, { "dev/urandom", 9, 1 }, { "dev/tty", 0, 5 },
};

static const struct {
	const char *path, *target;
} links[] = {
	{ "dev/ptmx", "pts/ptmx" },          { "dev/fd", "/proc/self/fd" },
	{ "dev/stdin", "/proc/self/fd/0" },  { "dev/stdout", "/proc/self/fd/1" },
	{ "dev/stderr", "/proc/self/fd/2" },
};

static int mount_file_systems(const char **what)
{
	for (size_t i = 0; i < ARRAY_SIZE(mounts); i++) {
		*what = mounts[i].target;
		if (mounts[i].mode && mkdir(mounts[i].target, mounts[i].mode) < 0)
			return -errno;
		if (mount(mounts[i].type, mounts[i].target, mounts[i].type, mounts[i].flags,
			  mounts[i].options) < 0)
			return -errno;
	}
	return 0;
}

static int fill_dev(const char **what)
{
	for (size_t i = 0; i < ARRAY_SIZE(devices); i++) {
		*what = devices[i].path;
		if (mknod(devices[i].path, S_IFCHR | 0666,
			  makedev(devices[i].major, devices[i].minor)) < 0)
			return -errno;
	}
	for (size_t i = 0; i < ARRAY_SIZE(links); i++) {
		*what = links[i].path;
		if (symlink(links[i].target, links[i].path) < 0)
			return -errno;
	}
	return 0;
}

static int fill_run(const struct inside *in, const char **what)
{
	*what = "run/user";
	if (mkdir("run/lock", 01777) < 0 || mkdir("run/user", 0755) < 0 ||
	    mkdir(in->run_user, 0700) < 0 || chown(in->run_user, in->uid, in->gid) < 0)
		return -errno;
	return 0;
}

static int change_root(const char **what)
{
	*what = "change to the session's root";
	/* Both at the same place: the old root ends up above the new one and is taken away. */
	if (syscall(SYS_pivot_root, ".", ".") < 0 || umount2(".", MNT_DETACH) < 0 || chdir("/") < 0)
		return -errno;
	return 0;
}

int inside_mount_all(const struct inside *in, const char **what)
{
	*what = "make the mounts private";
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return -errno;
	*what = "bind the home directory";
	if (mount(in->home, in->home_target, NULL, MS_BIND, NULL) < 0)
		return -errno;
	*what = "enter the overlay";
	if (chdir(in->root) < 0)
		return -errno;
	umask(0);
	int r = mount_file_systems(what);
	if (r == 0)
		r = fill_dev(what);
	if (r == 0)
		r = fill_run(in, what);
	return r == 0 ? change_root(what) : r;
}
