/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
/*
 * Objects as files below a directory, under their keys. What is not yet an
 * object is below ROOT/.staging, which no key can name. A new name is durable
 * once its directory and all directories above have been fsynced.
 */
#include "base/cleanup.h"
#include "base/fs.h"
#include "base/id.h"
#include "cloud/backends.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define STAGING ".staging"

struct file_store {
	struct object_store base;
	char *root;
};

static const char *root_of(struct object_store *s)
{
	return ((struct file_store *)s)->root;
}

static int fail_memory(struct error *e)
{
	return error_set(e, ENOMEM, "out of memory");
}

/* By errno, in words for the operator. */
static int fail(struct object_store *s, const char *key, const char *doing, struct error *e)
{
	int code = errno ? errno : EIO;
	int r = error_set(e, code, "object %s: cannot %s: %s", key, doing, strerror(code));
	switch (code) {
	case ENOSPC:
	case EDQUOT:
	case EFBIG:
		if (e)
			e->fault = FAULT_FULL;
		return error_remedy(e, r,
				    "free space where %s is, or remove old checkpoints with "
				    "`elsa store rm`",
				    root_of(s));
	case EACCES:
	case EPERM:
	case EROFS:
		if (e)
			e->fault = FAULT_DENIED;
		return error_remedy(e, r,
				    "make %s writable for elsa-node, or set store.url to a "
				    "directory that is",
				    root_of(s));
	case ENOENT:
		if (e)
			snprintf(e->text, sizeof(e->text), "object %s is missing", key);
		return r;
	case EIO:
		return error_remedy(e, r, "look at the kernel's log: the disk of %s may be failing",
				    root_of(s));
	default:
		return r;
	}
}

static char *path_of(struct object_store *s, const char *key)
{
	return fs_join(root_of(s), key);
}

/* Makes the directories above ROOT/key. */
static int make_parents(const char *path, size_t root_len)
{
	cleanup_free char *copy = strdup(path);
	if (!copy)
		return -1;
	for (char *p = copy + root_len + 1; (p = strchr(p, '/')); p++) {
		*p = '\0';
		if (mkdir(copy, 0700) < 0 && errno != EEXIST)
			return -1;
		*p = '/';
	}
	return 0;
}

/* All directories from that of `path` up to and with the root. A directory that somebody else made
 * a moment ago may not be durable yet, so none is skipped for having been there. */
static int sync_parents(const char *path, size_t root_len)
{
	cleanup_free char *copy = strdup(path);
	if (!copy)
		return -1;
	char *slash;
	while ((slash = strrchr(copy, '/')) && (size_t)(slash - copy) >= root_len) {
		*slash = '\0';
		cleanup_fd int fd = open(copy, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (fd < 0 && errno == ENOENT)
			continue; /* the object was removed again */
		if (fd < 0 || fsync(fd) < 0)
			return -1;
	}
	return 0;
}

/* How often to try again when object_remove() takes away the directory just made. */
enum { TRIES = 100 };

static int move_into_place(struct object_store *s, const char *from, const char *path,
			   bool if_absent)
{
	for (int i = 0; i < TRIES; i++) {
		if (make_parents(path, strlen(root_of(s))) < 0) {
			if (errno != ENOENT)
				return -1;
			continue;
		}
		if ((if_absent ? link(from, path) : rename(from, path)) == 0)
			return 0;
		if (errno != ENOENT || access(from, F_OK) < 0)
			return -1;
	}
	return -1;
}

static int file_staging(struct object_store *s, char **path, struct error *e)
{
	char *staging = fs_join(root_of(s), STAGING);
	if (!staging)
		return fail_memory(e);
	if (mkdir(staging, 0700) < 0 && errno != EEXIST) {
		int r = fail(s, STAGING, "create its directory", e);
		free(staging);
		return r;
	}
	*path = staging;
	return 0;
}

static int file_put(struct object_store *s, const char *key, const void *data, size_t len,
		    bool if_absent, struct error *e)
{
	char id[ID_SIZE];
	cleanup_free char *staging = NULL;
	int r = file_staging(s, &staging, e);
	if (r < 0)
		return r;
	id_new(id);
	cleanup_free char *tmp = str_printf("%s/" OBJECT_STAGING_TEMP "%s", staging, id);
	cleanup_free char *path = path_of(s, key);
	if (!tmp || !path)
		return fail_memory(e);
	cleanup_fd int fd = open(tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return fail(s, key, "create a file", e);
	if (fs_write_all(fd, data, len) < 0 || fsync(fd) < 0 ||
	    move_into_place(s, tmp, path, if_absent) < 0)
		r = fail(s, key, "write", e);
	if (r < 0 || if_absent)
		unlink(tmp);
	if (r == 0 && sync_parents(path, strlen(root_of(s))) < 0)
		r = fail(s, key, "sync its directory", e);
	return r;
}

static size_t parent_len(const char *path)
{
	return (size_t)(strrchr(path, '/') - path);
}

static int file_put_files(struct object_store *s, const struct object_file *files, size_t count,
			  struct error *e)
{
	cleanup_free char *last = NULL; /* path of the previous file: same directory, one sync */
	for (size_t i = 0; i < count; i++) {
		char *path = path_of(s, files[i].key);
		if (!path)
			return fail_memory(e);
		bool same = last && parent_len(last) == parent_len(path) &&
			    strncmp(last, path, parent_len(path)) == 0;
		int r = 0;
		if (last && !same && sync_parents(last, strlen(root_of(s))) < 0)
			r = fail(s, files[i].key, "sync its directory", e);
		free(last);
		last = path;
		if (r == 0 && move_into_place(s, files[i].path, path, false) < 0)
			r = fail(s, files[i].key, "move it into place", e);
		if (r < 0)
			return r;
	}
	if (last && sync_parents(last, strlen(root_of(s))) < 0)
		return fail(s, files[count - 1].key, "sync its directory", e);
	return 0;
}

static int file_read(struct object_store *s, const char *key, uint64_t offset, void *to, size_t len,
		     struct error *e)
{
	cleanup_free char *path = path_of(s, key);
	if (!path)
		return fail_memory(e);
	cleanup_fd int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return fail(s, key, "open", e);
	for (size_t done = 0; done < len;) {
		ssize_t n = pread(fd, (char *)to + done, len - done, (off_t)(offset + done));
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return fail(s, key, "read", e);
		if (n == 0)
			return error_set(e, EBADMSG,
					 "object %s: ends at offset %" PRIu64 ", %zu bytes early",
					 key, offset + done, len - done);
		done += (size_t)n;
	}
	return 0;
}

static void fill_stat(const struct stat *from, struct object_stat *to)
{
	to->size = (uint64_t)from->st_size;
	to->modified_at = (int64_t)from->st_mtim.tv_sec * 1000 + from->st_mtim.tv_nsec / 1000000;
}

static int file_stat(struct object_store *s, const char *key, struct object_stat *st,
		     struct error *e)
{
	struct stat found;
	cleanup_free char *path = path_of(s, key);
	if (!path)
		return fail_memory(e);
	if (stat(path, &found) < 0)
		return fail(s, key, "look", e);
	if (!S_ISREG(found.st_mode))
		return error_set(e, ENOENT, "object %s is missing", key);
	fill_stat(&found, st);
	return 0;
}

/* Removes the object, then the directories above that this leaves empty. */
static int file_remove(struct object_store *s, const char *key, struct error *e)
{
	cleanup_free char *path = path_of(s, key);
	if (!path)
		return fail_memory(e);
	if (unlink(path) < 0 && errno != ENOENT && errno != ENOTDIR)
		return fail(s, key, "remove", e);
	do {
		*strrchr(path, '/') = '\0';
	} while (strlen(path) > strlen(root_of(s)) && (rmdir(path) == 0 || errno == ENOENT));
	cleanup_fd int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd >= 0 && fsync(fd) < 0)
		return fail(s, key, "sync its directory", e);
	return 0;
}

static int file_local_path(struct object_store *s, const char *key, char **path, struct error *e)
{
	struct object_stat st;
	int r = file_stat(s, key, &st, e);
	if (r < 0)
		return r;
	*path = path_of(s, key);
	return *path ? 0 : fail_memory(e);
}

static void file_free(struct object_store *s)
{
	free(((struct file_store *)s)->root);
	free(s);
}

static int file_list(struct object_store *s, const char *prefix,
		     int (*each)(const char *key, const struct object_stat *st, void *arg),
		     void *arg, struct error *e)
{
	return file_store_list(root_of(s), prefix, each, arg, e);
}

static const struct object_backend file_backend = {
	.name = "file",
	.put = file_put,
	.put_files = file_put_files,
	.read = file_read,
	.stat = file_stat,
	.list = file_list,
	.remove = file_remove,
	.local_path = file_local_path,
	.staging = file_staging,
	.free = file_free,
};

int file_store_open(const char *rest, struct object_store **store, struct error *e)
{
	size_t len = strlen(rest);
	while (len > 1 && rest[len - 1] == '/')
		len--;
	if (rest[0] != '/' || len < 2)
		return error_set(e, EINVAL, "\"file://%s\" does not name an absolute directory",
				 rest);
	struct file_store *s = calloc(1, sizeof(*s));
	if (!s)
		return fail_memory(e);
	s->base.backend = &file_backend;
	s->root = strndup(rest, len);
	int r = s->root ? fs_mkdirs(s->root, 0700, e) : fail_memory(e);
	if (r < 0) {
		file_free(&s->base);
		return error_remedy(e, r,
				    "make the directory of store.url, writable for elsa-node");
	}
	*store = &s->base;
	return 0;
}
