/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "node/program.h"

#include "base/cleanup.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Seen from our own program: in the build tree (beside it, or beside the tests' directories), or
 * installed under whatever prefix. */
static const char *const places[] = { "", "../../", "../libexec/elsa/" };

static int open_own_dir(void)
{
	char path[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 1);
	path[n > 0 ? n : 0] = '\0';
	char *slash = strrchr(path, '/');
	if (!slash)
		return -1;
	slash[1] = '\0';
	return open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
}

int program_open(const char *name, struct error *e)
{
	char path[PATH_MAX];
	cleanup_fd int dir = open_own_dir();
	for (size_t i = 0; i < ARRAY_SIZE(places) && dir >= 0; i++) {
		snprintf(path, sizeof(path), "%s%s", places[i], name);
		int fd = openat(dir, path, O_RDONLY | O_CLOEXEC);
		if (fd >= 0)
			return fd;
	}
	snprintf(path, sizeof(path), ELSA_LIBEXEC_DIR "/%s", name);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0)
		return fd;
	int r = error_fault(e, FAULT_UNAVAILABLE, "there is no %s", name);
	return error_remedy(e, r, "It belongs to elsa-node and lies at %s: install Elsa anew.",
			    path);
}

int program_path(const char *name, char **path, struct error *e)
{
	char link[32], target[PATH_MAX];
	cleanup_fd int fd = program_open(name, e);
	if (fd < 0)
		return fd;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	ssize_t n = readlink(link, target, sizeof(target) - 1);
	target[n > 0 ? n : 0] = '\0';
	*path = n > 0 ? strdup(target) : NULL;
	return *path ? 0 : error_errno(e, "cannot find %s", name);
}
