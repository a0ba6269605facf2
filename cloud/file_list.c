/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "base/cleanup.h"
#include "base/fs.h"
#include "cloud/backends.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

struct listing {
	size_t root_len;
	int (*each)(const char *key, const struct object_stat *st, void *arg);
	void *arg;
	struct error *e;
};

struct names {
	char **names;
	size_t count, room;
};

static void names_deinit(struct names *n)
{
	for (size_t i = 0; i < n->count; i++)
		free(n->names[i]);
	free(n->names);
}

static int names_add(struct names *n, const char *name, bool is_dir)
{
	if (n->count == n->room) {
		size_t room = n->room ? n->room * 2 : 32;
		char **names = realloc(n->names, room * sizeof(*names));
		if (!names)
			return -ENOMEM;
		n->names = names;
		n->room = room;
	}
	n->names[n->count] = str_printf("%s%s", name, is_dir ? "/" : "");
	return n->names[n->count] ? (n->count++, 0) : -ENOMEM;
}

static int compare(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static bool is_dir(int fd, const struct dirent *entry)
{
	struct stat st;
	if (entry->d_type != DT_UNKNOWN)
		return entry->d_type == DT_DIR;
	return fstatat(fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode);
}

/* Directories get their '/' here: it takes part in the order of keys ("a-b" < "a/b"). */
static int read_names(const char *path, struct names *n, struct error *e)
{
	cleanup_dir DIR *dir = opendir(path);
	if (!dir && (errno == ENOENT || errno == ENOTDIR))
		return 0;
	if (!dir)
		return error_errno(e, "cannot list %s", path);
	struct dirent *entry;
	while ((errno = 0, entry = readdir(dir))) {
		if (!object_key_valid(entry->d_name))
			continue;
		if (names_add(n, entry->d_name, is_dir(dirfd(dir), entry)) < 0)
			return error_set(e, ENOMEM, "out of memory");
	}
	if (errno)
		return error_errno(e, "cannot list %s", path);
	if (n->count)
		qsort(n->names, n->count, sizeof(*n->names), compare);
	return 0;
}

static int visit_file(const struct listing *l, const char *path)
{
	struct stat st;
	int r = stat(path, &st);
	if (r < 0 && errno != ENOENT && errno != ENOTDIR)
		return error_errno(l->e, "cannot look at %s", path);
	if (r < 0 || !S_ISREG(st.st_mode))
		return 0; /* removed meanwhile, or none of ours */
	struct object_stat found = {
		.size = (uint64_t)st.st_size,
		.modified_at = (int64_t)st.st_mtim.tv_sec * 1000 + st.st_mtim.tv_nsec / 1000000,
	};
	return l->each(path + l->root_len + 1, &found, l->arg);
}

/* `path` ends in '/'. */
static int visit_dir(const struct listing *l, const char *path)
{
	cleanup(names_deinit) struct names n = { 0 };
	if (strlen(path) - l->root_len > OBJECT_KEY_MAX)
		return 0;
	int r = read_names(path, &n, l->e);
	for (size_t i = 0; i < n.count && r == 0; i++) {
		cleanup_free char *child = str_printf("%s%s", path, n.names[i]);
		if (!child)
			return error_set(l->e, ENOMEM, "out of memory");
		r = child[strlen(child) - 1] == '/' ? visit_dir(l, child) : visit_file(l, child);
	}
	return r;
}

int file_store_list(const char *root, const char *prefix,
		    int (*each)(const char *key, const struct object_stat *st, void *arg),
		    void *arg, struct error *e)
{
	struct listing l = { .root_len = strlen(root), .each = each, .arg = arg, .e = e };
	cleanup_free char *top = fs_join(root, prefix);
	if (!top)
		return error_set(e, ENOMEM, "out of memory");
	return visit_dir(&l, top);
}
