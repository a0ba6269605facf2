/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
/*
 * Objects as files below a directory, under their keys. What is not yet an
 * object is below ROOT/.staging, which no key can name. Bytes are durable before
 * they get their name, and names before a put returns (cloud/file_dirs.h).
 */
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fs.h"
#include "base/id.h"
#include "cloud/backends.h"
#include "cloud/file_dirs.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>

#define STAGING ".staging"

enum {
	/* How often to try again when somebody removes the directory just made. */
	TRIES = 100,
	/* The disk is set to work after so much, not only by the fdatasync at the end. */
	WRITE_PIECE = 2 << 20,
	LARGE = 8 << 20,   /* past the page cache from here on, */
	SMALL = 128 << 10, /* ... for reading up to here */
	BLOCK = 4096,      /* ... and in these */
	/* A put that has not ended by then never will. */
	STALE_MS = 24 * 3600 * 1000,
};

struct file_store {
	struct object_store base;
	char *root;
	struct file_dirs *dirs;
};

static struct file_store *self(struct object_store *s)
{
	return (struct file_store *)s;
}

static int root_fd(struct object_store *s)
{
	return file_dirs_root(self(s)->dirs);
}

static int fail_memory(struct error *e)
{
	return error_set(e, ENOMEM, "out of memory");
}

/* The store as a whole: what is in it cannot be told. */
static int fail_root(const char *root, struct error *e)
{
	int code = errno == ENODEV ? EHOSTDOWN : errno;
	const char *why = errno == ENODEV ? "it is not the directory it was" : strerror(code);
	int r = error_set(e, code, "cannot enter %s: %s", root, why);
	return error_remedy(
		e, r, "see that the file system of %s is mounted and elsa-node may enter it", root);
}

static int check_root(struct object_store *s, struct error *e)
{
	return file_dirs_check(self(s)->dirs) == 0 ? 0 : fail_root(self(s)->root, e);
}

/* Not there: which may be said only of a store that is. */
static int fail_missing(struct object_store *s, const char *key, struct error *e)
{
	int r = check_root(s, e);
	return r < 0 ? r : error_set(e, ENOENT, "object %s is missing", key);
}

/* By errno, in words for the operator. */
static int fail(struct object_store *s, const char *key, const char *doing, struct error *e)
{
	const char *root = self(s)->root;
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
				    root);
	case EACCES:
	case EPERM:
	case EROFS:
		if (e)
			e->fault = FAULT_DENIED;
		return error_remedy(e, r,
				    "make %s writable for elsa-node, or set store.url to a "
				    "directory that is",
				    root);
	case EIO:
		return error_remedy(e, r, "look at the kernel's log: the disk of %s may be failing",
				    root);
	default:
		return r;
	}
}

static bool absent(int failure)
{
	return failure == ENOENT || failure == ENOTDIR || failure == EISDIR;
}

static bool removed(int failure)
{
	return failure == ENOENT || failure == ESTALE;
}

/* --- put ---------------------------------------------------------------------- */

/* An object on its way: a file in the staging directory. */
struct staged {
	struct file_store *s;
	struct file_dir *staging;
	char name[ID_SIZE + 8];
	int fd;
};

static void staged_deinit(struct staged *f)
{
	if (f->fd >= 0) {
		close(f->fd);
		unlinkat(file_dir_fd(f->staging), f->name, 0); /* unless it was renamed */
	}
	file_dirs_leave(f->s->dirs, f->staging, false);
}

static int staged_open(struct staged *f)
{
	char id[ID_SIZE];
	id_new(id);
	snprintf(f->name, sizeof(f->name), "put-%s", id);
	for (int i = 0; i < TRIES; i++) {
		if (file_dirs_enter(f->s->dirs, STAGING, &f->staging) == 0) {
			f->fd = openat(file_dir_fd(f->staging), f->name,
				       O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
			if (f->fd >= 0)
				return 0;
			int failure = errno;
			file_dirs_leave(f->s->dirs, f->staging, removed(failure));
			f->staging = NULL;
			errno = failure;
		}
		if (!removed(errno))
			return -1;
	}
	errno = EAGAIN;
	return -1;
}

/*
 * What is large goes to the disk past the page cache: nobody reads it soon, it
 * would drive out what others have there, and pages for it are not to be had for
 * nothing (on a virtual machine whose host takes back free memory they cost more
 * than the disk). All but the last, broken block; returns how much. Where a file
 * system, or the data's address, does not allow it, that is nothing.
 */
static size_t write_direct(int fd, const char *data, size_t len)
{
	size_t done = 0, whole = len / BLOCK * BLOCK;
	int flags = fcntl(fd, F_GETFL);
	if (len < LARGE || (uintptr_t)data % BLOCK || flags < 0 ||
	    fcntl(fd, F_SETFL, flags | O_DIRECT) < 0)
		return 0;
	while (done < whole) {
		ssize_t n = pwrite(fd, data + done, whole - done, (off_t)done);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0 || n % BLOCK)
			break;
		done += (size_t)n;
	}
	fcntl(fd, F_SETFL, flags);
	return lseek(fd, (off_t)done, SEEK_SET) < 0 ? 0 : done;
}

/* Durable, without a name. */
static int write_durably(int fd, const char *data, size_t len)
{
	for (size_t done = write_direct(fd, data, len); done < len;) {
		size_t piece = len - done < WRITE_PIECE ? len - done : WRITE_PIECE;
		if (fs_write_all(fd, data + done, piece) < 0)
			return -1;
		if (len > WRITE_PIECE)
			sync_file_range(fd, (off_t)done, (off_t)piece, SYNC_FILE_RANGE_WRITE);
		done += piece;
	}
	return fdatasync(fd);
}

static int name_in(const struct staged *f, const struct file_dir *dir, const char *name,
		   bool if_absent)
{
	int from = file_dir_fd(f->staging);
	int to = file_dir_fd(dir);
	int r = if_absent ? linkat(from, f->name, to, name, 0) : renameat(from, f->name, to, name);
	return r < 0 ? -1 : fsync(to);
}

/* Gives the file its key. */
static int name_durably(const struct staged *f, const char *key, bool if_absent)
{
	const char *slash = strrchr(key, '/');
	cleanup_free char *path = strndup(key, slash ? (size_t)(slash - key) : 0);
	if (!path)
		return -1;
	for (int i = 0; i < TRIES; i++) {
		struct file_dir *dir = NULL;
		int r = file_dirs_enter(f->s->dirs, path, &dir);
		if (r == 0)
			r = name_in(f, dir, slash ? slash + 1 : key, if_absent);
		int failure = errno;
		file_dirs_leave(f->s->dirs, dir, r < 0 && removed(failure));
		errno = failure;
		if (r == 0 || !removed(failure))
			return r;
		if (faccessat(file_dir_fd(f->staging), f->name, F_OK, 0) < 0)
			break; /* somebody has removed the file itself */
	}
	errno = EAGAIN;
	return -1;
}

static int file_put(struct object_store *s, const char *key, const void *data, size_t len,
		    bool if_absent, struct error *e)
{
	cleanup(staged_deinit) struct staged f = { .s = self(s), .fd = -1 };
	int r = check_root(s, e);
	if (r < 0)
		return r;
	if (staged_open(&f) < 0)
		return fail(s, key, "create a file", e);
	if (write_durably(f.fd, data, len) < 0 || name_durably(&f, key, if_absent) < 0)
		return fail(s, key, "write", e);
	return 0;
}

/* --- the rest ------------------------------------------------------------------- */

/*
 * A small piece of a large object that is not in the page cache is not put there
 * either: somebody waits for it, and a page for it costs more than it. Long runs
 * go through the cache; whoever wants them again soon finds them. Returns how much
 * was read, in whole blocks; what is wrong shows when it is read the other way.
 */
static size_t read_direct(int fd, uint64_t offset, char *to, size_t len)
{
	struct stat st;
	struct iovec all = { to, len };
	size_t whole = len / BLOCK * BLOCK;
	if (len > SMALL || whole == 0 || offset % BLOCK || (uintptr_t)to % BLOCK ||
	    fstat(fd, &st) < 0 || st.st_size < LARGE)
		return 0;
	if (preadv2(fd, &all, 1, (off_t)offset, RWF_NOWAIT) == (ssize_t)len)
		return len;
	int flags = fcntl(fd, F_GETFL);
	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_DIRECT) < 0)
		return 0;
	ssize_t n = pread(fd, to, whole, (off_t)offset);
	fcntl(fd, F_SETFL, flags);
	return n > 0 ? (size_t)n / BLOCK * BLOCK : 0;
}

static int file_read(struct object_store *s, const char *key, uint64_t offset, void *to, size_t len,
		     struct error *e)
{
	cleanup_fd int fd = openat(root_fd(s), key, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return absent(errno) ? fail_missing(s, key, e) : fail(s, key, "open", e);
	for (size_t done = read_direct(fd, offset, to, len); done < len;) {
		ssize_t n = pread(fd, (char *)to + done, len - done, (off_t)(offset + done));
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return absent(errno) ? fail_missing(s, key, e) : fail(s, key, "read", e);
		if (n == 0)
			return error_set(e, EBADMSG,
					 "object %s: ends at offset %" PRIu64 ", %zu bytes early",
					 key, offset + done, len - done);
		done += (size_t)n;
	}
	return 0;
}

static int file_stat(struct object_store *s, const char *key, struct object_stat *st,
		     struct error *e)
{
	struct stat found;
	if (fstatat(root_fd(s), key, &found, 0) < 0)
		return absent(errno) ? fail_missing(s, key, e) : fail(s, key, "look", e);
	if (!S_ISREG(found.st_mode))
		return fail_missing(s, key, e);
	st->size = (uint64_t)found.st_size;
	st->modified_at = (int64_t)found.st_mtim.tv_sec * 1000 + found.st_mtim.tv_nsec / 1000000;
	return 0;
}

/* Removes the object, then the directories above that this leaves empty. */
static int file_remove(struct object_store *s, const char *key, struct error *e)
{
	cleanup_free char *path = strdup(key);
	int r = path ? check_root(s, e) : fail_memory(e);
	if (r < 0)
		return r;
	if (unlinkat(root_fd(s), path, 0) < 0 && errno != ENOENT && errno != ENOTDIR)
		return fail(s, key, "remove", e);
	char *slash;
	do {
		slash = strrchr(path, '/');
		*(slash ? slash : path) = '\0';
	} while (slash && (unlinkat(root_fd(s), path, AT_REMOVEDIR) == 0 || errno == ENOENT));
	cleanup_fd int fd =
		openat(root_fd(s), slash ? path : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd >= 0 && fsync(fd) < 0)
		return fail(s, key, "sync its directory", e);
	return 0;
}

static int file_list(struct object_store *s, const char *prefix,
		     int (*each)(const char *key, const struct object_stat *st, void *arg),
		     void *arg, struct error *e)
{
	int r = check_root(s, e);
	return r < 0 ? r : file_store_list(self(s)->root, prefix, each, arg, e);
}

static void file_free(struct object_store *s)
{
	file_dirs_free(self(s)->dirs);
	free(self(s)->root);
	free(s);
}

static const struct object_backend file_backend = {
	.name = "file",
	.local = true,
	.put = file_put,
	.read = file_read,
	.stat = file_stat,
	.list = file_list,
	.remove = file_remove,
	.free = file_free,
};

/* --- opening -------------------------------------------------------------------- */

/* What puts have left that were killed. */
static void clean_staging(struct file_store *s)
{
	int fd = openat(file_dirs_root(s->dirs), STAGING, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	cleanup_dir DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	if (!dir) {
		if (fd >= 0)
			close(fd);
		return;
	}
	for (struct dirent *entry; (entry = readdir(dir));) {
		struct stat st;
		if (strncmp(entry->d_name, "put-", 4) == 0 &&
		    fstatat(fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
		    (int64_t)st.st_mtim.tv_sec * 1000 + STALE_MS < clock_wall())
			unlinkat(fd, entry->d_name, 0);
	}
}

static int open_root(struct file_store *s, struct error *e)
{
	int r = fs_mkdirs(s->root, 0700, e);
	if (r < 0)
		return error_remedy(e, r,
				    "make the directory of store.url, writable for elsa-node");
	if (file_dirs_new(s->root, &s->dirs) < 0)
		return fail_root(s->root, e);
	clean_staging(s);
	return 0;
}

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
	int r = s->root ? open_root(s, e) : fail_memory(e);
	if (r < 0)
		file_free(&s->base);
	else
		*store = &s->base;
	return r;
}
