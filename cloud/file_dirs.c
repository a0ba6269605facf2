/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "cloud/file_dirs.h"

#include "base/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/stat.h>

enum { KEPT = 32 };

struct file_dir {
	struct file_dir *next; /* the last used comes first */
	char *path;
	int fd;
	unsigned users;
	bool gone; /* not in the list any more */
};

struct file_dirs {
	char *path;
	int root;
	struct stat identity;
	pthread_mutex_t lock;
	struct file_dir *list;
};

static struct file_dir *dir_new(const char *path, int fd)
{
	struct file_dir *dir = calloc(1, sizeof(*dir));
	if (!dir || !(dir->path = strdup(path))) {
		free(dir);
		close(fd);
		errno = ENOMEM;
		return NULL;
	}
	dir->fd = fd;
	return dir;
}

static void dir_free(struct file_dir *dir)
{
	close(dir->fd);
	free(dir->path);
	free(dir);
}

int file_dirs_new(const char *root, struct file_dirs **dirs)
{
	struct file_dirs *d = calloc(1, sizeof(*d));
	if (!d || !(d->path = strdup(root))) {
		free(d);
		errno = ENOMEM;
		return -1;
	}
	pthread_mutex_init(&d->lock, NULL);
	d->root = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (d->root < 0 || fstat(d->root, &d->identity) < 0) {
		int failure = errno;
		file_dirs_free(d);
		errno = failure;
		return -1;
	}
	*dirs = d;
	return 0;
}

void *file_dirs_free(struct file_dirs *d)
{
	if (!d)
		return NULL;
	for (struct file_dir *dir = d->list, *next; dir; dir = next) {
		next = dir->next;
		dir_free(dir);
	}
	if (d->root >= 0)
		close(d->root);
	pthread_mutex_destroy(&d->lock);
	free(d->path);
	free(d);
	return NULL;
}

int file_dirs_root(const struct file_dirs *d)
{
	return d->root;
}

int file_dirs_check(const struct file_dirs *d)
{
	struct stat now;
	if (stat(d->path, &now) < 0) {
		if (errno == ENOENT || errno == ENOTDIR)
			errno = ENODEV;
		return -1;
	}
	if (now.st_dev == d->identity.st_dev && now.st_ino == d->identity.st_ino)
		return 0;
	errno = ENODEV;
	return -1;
}

/* To the front of the list, where it is found soonest and dropped last. */
static struct file_dir *find(struct file_dirs *d, const char *path)
{
	for (struct file_dir **at = &d->list; *at; at = &(*at)->next) {
		struct file_dir *dir = *at;
		if (strcmp(dir->path, path) != 0)
			continue;
		*at = dir->next;
		dir->next = d->list;
		d->list = dir;
		return dir;
	}
	return NULL;
}

static void drop(struct file_dir **at)
{
	struct file_dir *dir = *at;
	*at = dir->next;
	dir->gone = true;
	if (dir->users == 0)
		dir_free(dir);
}

static void drop_oldest(struct file_dirs *d)
{
	size_t count = 0;
	struct file_dir **oldest = NULL;
	for (struct file_dir **at = &d->list; *at; at = &(*at)->next) {
		count++;
		if ((*at)->users == 0)
			oldest = at;
	}
	if (count > KEPT && oldest)
		drop(oldest);
}

static void leave(struct file_dirs *d, struct file_dir *dir, bool gone)
{
	dir->users--;
	if (dir->gone) {
		if (dir->users == 0)
			dir_free(dir);
		return;
	}
	for (struct file_dir **at = &d->list; gone && *at; at = &(*at)->next) {
		if (*at == dir) {
			drop(at);
			return;
		}
	}
	drop_oldest(d);
}

static bool removed(int failure)
{
	return failure == ENOENT || failure == ESTALE;
}

/* Its own name is synced even when it was there already: whoever made it may not have come to that
 * yet. */
static int open_below(int parent, const char *name)
{
	if ((mkdirat(parent, name, 0700) < 0 && errno != EEXIST) || fsync(parent) < 0)
		return -1;
	return openat(parent, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

/* The root's own name, and those above as far as they are ours to open: the root may have been made
 * a moment ago, too. */
static int open_root(const struct file_dirs *d)
{
	cleanup_free char *path = strdup(d->path);
	if (!path)
		return -1;
	for (char *slash; (slash = strrchr(path, '/')) && slash > path;) {
		*slash = '\0';
		cleanup_fd int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (fd < 0)
			break;
		/* Some file systems that cannot be written to refuse even this. */
		if (fsync(fd) < 0 && errno != EROFS && errno != EINVAL)
			return -1;
	}
	return fcntl(d->root, F_DUPFD_CLOEXEC, 0);
}

static struct file_dir *enter(struct file_dirs *d, const char *path);

static int open_dir(struct file_dirs *d, const char *path)
{
	if (!*path)
		return open_root(d);
	const char *slash = strrchr(path, '/');
	cleanup_free char *above = strndup(path, slash ? (size_t)(slash - path) : 0);
	struct file_dir *parent = above ? enter(d, above) : NULL;
	if (!parent)
		return -1;
	int fd = open_below(parent->fd, slash ? slash + 1 : path);
	int failure = errno;
	leave(d, parent, fd < 0 && removed(failure));
	errno = failure;
	return fd;
}

static struct file_dir *enter(struct file_dirs *d, const char *path)
{
	struct file_dir *dir = find(d, path);
	if (!dir) {
		int fd = open_dir(d, path);
		dir = fd < 0 ? NULL : dir_new(path, fd);
		if (!dir)
			return NULL;
		dir->next = d->list;
		d->list = dir;
	}
	dir->users++;
	return dir;
}

int file_dirs_enter(struct file_dirs *d, const char *path, struct file_dir **dir)
{
	pthread_mutex_lock(&d->lock);
	*dir = enter(d, path);
	pthread_mutex_unlock(&d->lock);
	return *dir ? 0 : -1;
}

int file_dir_fd(const struct file_dir *dir)
{
	return dir->fd;
}

void file_dirs_leave(struct file_dirs *d, struct file_dir *dir, bool gone)
{
	if (!dir)
		return;
	pthread_mutex_lock(&d->lock);
	leave(d, dir, gone);
	pthread_mutex_unlock(&d->lock);
}
