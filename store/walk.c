/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "base/fs.h"
#include "store/internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>

struct walk {
	size_t top; /* length of the directory's path and its '/' */
	bool strict;
	int (*each)(const struct walk_file *file, void *arg);
	void *arg;
	struct error *e;
};

enum { DEPTH_MAX = 64 };

static int visit_dir(const struct walk *w, const char *dir, int depth);

static int visit(const struct walk *w, const char *path, int depth)
{
	struct walk_file file = { .name = path + w->top, .path = path };
	if (lstat(path, &file.st) < 0)
		return errno == ENOENT ? 0 : error_errno(w->e, "cannot look at %s", path);
	if (S_ISDIR(file.st.st_mode))
		return visit_dir(w, path, depth + 1);
	if (S_ISREG(file.st.st_mode))
		return w->each(&file, w->arg);
	return w->strict ? error_set(w->e, EINVAL, "%s is neither a file nor a directory", path)
			 : 0;
}

static int visit_dir(const struct walk *w, const char *path, int depth)
{
	cleanup_dir DIR *dir = opendir(path);
	if (!dir && errno == ENOENT && depth)
		return 0;
	if (!dir)
		return error_errno(w->e, "cannot list %s", path);
	if (depth > DEPTH_MAX)
		return error_set(w->e, ELOOP, "%s is too deep", path);
	struct dirent *entry;
	while ((errno = 0, entry = readdir(dir))) {
		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		cleanup_free char *child = fs_join(path, entry->d_name);
		if (!child)
			return error_set(w->e, ENOMEM, "out of memory");
		int r = visit(w, child, depth);
		if (r)
			return r;
	}
	return errno ? error_errno(w->e, "cannot list %s", path) : 0;
}

int store_walk(const char *dir, bool strict, int (*each)(const struct walk_file *file, void *arg),
	       void *arg, struct error *e)
{
	struct walk w = {
		.top = strlen(dir) + 1, .strict = strict, .each = each, .arg = arg, .e = e
	};
	return visit_dir(&w, dir, 0);
}
