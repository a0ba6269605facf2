/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "base/fs.h"

#include "base/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

char *str_printf(const char *format, ...)
{
	char *text = NULL;
	va_list args;
	va_start(args, format);
	if (vasprintf(&text, format, args) < 0)
		text = NULL;
	va_end(args);
	return text;
}

char *fs_join(const char *a, const char *b)
{
	return str_printf("%s/%s", a, b);
}

int fs_read(const char *path, struct buf *to, struct error *e)
{
	cleanup_fd int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return error_errno(e, "cannot open %s", path);
	for (;;) {
		char chunk[16384];
		ssize_t n = read(fd, chunk, sizeof(chunk));
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return error_errno(e, "cannot read %s", path);
		if (n == 0)
			return 0;
		int r = buf_append(to, chunk, (size_t)n);
		if (r < 0)
			return error_set(e, -r, "%s is larger than %zu bytes", path, to->cap);
	}
}

int fs_write_all(int fd, const char *data, size_t len)
{
	while (len) {
		ssize_t n = write(fd, data, len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -1;
		data += n;
		len -= (size_t)n;
	}
	return 0;
}

ssize_t fs_read_up_to(int fd, void *to, size_t len)
{
	size_t done = 0;
	while (done < len) {
		ssize_t n = read(fd, (char *)to + done, len - done);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -1;
		if (n == 0)
			break;
		done += (size_t)n;
	}
	return (ssize_t)done;
}

int fs_sync_dir(const char *path, struct error *e)
{
	cleanup_fd int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || fsync(fd) < 0)
		return error_errno(e, "cannot sync directory %s", path);
	return 0;
}

static int sync_parent(const char *path, struct error *e)
{
	const char *slash = strrchr(path, '/');
	if (!slash)
		return fs_sync_dir(".", e);
	cleanup_free char *parent = strndup(path, slash == path ? 1 : (size_t)(slash - path));
	if (!parent)
		return error_set(e, ENOMEM, "out of memory");
	return fs_sync_dir(parent, e);
}

static int replace(const char *path, const void *data, size_t len, mode_t mode, bool sync,
		   struct error *e)
{
	cleanup_free char *tmp = str_printf("%s.XXXXXX", path);
	if (!tmp)
		return error_set(e, ENOMEM, "out of memory");
	cleanup_fd int fd = mkostemp(tmp, O_CLOEXEC);
	if (fd < 0)
		return error_errno(e, "cannot create a temporary file beside %s", path);
	if (fs_write_all(fd, data, len) < 0 || fchmod(fd, mode) < 0 || (sync && fsync(fd) < 0) ||
	    rename(tmp, path) < 0) {
		int r = error_errno(e, "cannot write %s", path);
		unlink(tmp);
		return r;
	}
	return sync ? sync_parent(path, e) : 0;
}

int fs_replace(const char *path, const void *data, size_t len, mode_t mode, struct error *e)
{
	return replace(path, data, len, mode, true, e);
}

int fs_replace_soon(const char *path, const void *data, size_t len, mode_t mode, struct error *e)
{
	return replace(path, data, len, mode, false, e);
}

int fs_write(const char *path, const char *text, struct error *e)
{
	cleanup_fd int fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return error_errno(e, "cannot open %s", path);
	if (write(fd, text, strlen(text)) < 0)
		return error_errno(e, "cannot write \"%s\" to %s", text, path);
	return 0;
}

int fs_mkdirs(const char *path, mode_t mode, struct error *e)
{
	cleanup_free char *copy = strdup(path);
	if (!copy)
		return error_set(e, ENOMEM, "out of memory");
	for (char *p = copy + 1; *p; p++) {
		if (*p != '/')
			continue;
		*p = '\0';
		if (mkdir(copy, 0755) < 0 && errno != EEXIST)
			return error_errno(e, "cannot create directory %s", copy);
		*p = '/';
	}
	if (mkdir(copy, mode) < 0 && errno != EEXIST)
		return error_errno(e, "cannot create directory %s", path);
	return 0;
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)ftw;
	int r = type == FTW_DP ? rmdir(path) : unlink(path);
	return r < 0 && errno != ENOENT ? -1 : 0;
}

int fs_remove_tree(const char *path, struct error *e)
{
	if (nftw(path, remove_entry, 32, FTW_DEPTH | FTW_PHYS | FTW_MOUNT) < 0 && errno != ENOENT)
		return error_errno(e, "cannot remove %s", path);
	return 0;
}

/* nftw has no argument for its callback, hence one per thread. */
static _Thread_local uint64_t tree_bytes;

static int count_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)path;
	(void)ftw;
	if (type != FTW_NS)
		tree_bytes += (uint64_t)st->st_blocks * 512;
	return 0;
}

int fs_tree_bytes(const char *path, uint64_t *bytes, struct error *e)
{
	tree_bytes = 0;
	if (nftw(path, count_entry, 32, FTW_PHYS | FTW_MOUNT) < 0)
		return error_errno(e, "cannot walk %s", path);
	*bytes = tree_bytes;
	return 0;
}
