/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "node/images.h"

#include "base/cleanup.h"
#include "base/fs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define REMAP "link_remap."

enum {
	FILES_MOST = 256 << 20,
	OPEN_MOST = 1 << 20,      /* bytes of an open file that is kept */
	OPEN_ALL_MOST = 16 << 20, /* ... of all together */
	GHOSTS_MOST = 256,        /* deleted files in one checkpoint that are looked after */
};

struct job {
	const struct session_spec *spec;
	const char *keep;  /* DIR/remap */
	struct buf *links; /* paths below the home, each ended by NUL; NULL where not wanted */
	int home;
	unsigned number;              /* of the file: its place in files.img */
	uint64_t content;             /* bytes of open files kept so far */
	unsigned ghosts[GHOSTS_MOST]; /* CRIU's numbers of deleted files */
	size_t ghost_count;
	struct error *e;
};

/* The part below the home, or NULL. */
static const char *below_home(const struct session_spec *spec, const char *path)
{
	const char *home = spec->home_inside + strspn(spec->home_inside, "/");
	size_t len = strlen(home);
	while (len && home[len - 1] == '/')
		len--;
	if (strncmp(path, home, len) != 0 || path[len] != '/')
		return NULL;
	return path + len + 1;
}

static int open_below(int home, const char *path, int flags, mode_t mode)
{
	struct open_how how = {
		.flags = (uint64_t)flags | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW,
		.mode = flags & O_CREAT ? mode : 0,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS,
	};
	return (int)syscall(SYS_openat2, home, path, &how, sizeof(how));
}

static const char *remap_name(const char *path)
{
	const char *slash = strrchr(path, '/');
	const char *name = slash ? slash + 1 : path;
	return strncmp(name, REMAP, strlen(REMAP)) == 0 ? name : NULL;
}

static int copy_content(int from, int to)
{
	enum { AT_ONCE = 1 << 30 };
	struct stat st;
	ssize_t n;
	/* The first shares blocks where a file system can, and gives up between two of them. */
	while ((n = copy_file_range(from, NULL, to, NULL, AT_ONCE, 0)) > 0)
		;
	while (n < 0 && (n = sendfile(to, from, NULL, AT_ONCE)) > 0)
		n = -1;
	if (n < 0 || fstat(from, &st) < 0)
		return -errno;
	const struct timespec times[2] = { st.st_atim, st.st_mtim };
	return futimens(to, times) < 0 ? -errno : 0;
}

static int read_files(const char *dir, struct buf *to, struct error *e)
{
	cleanup_free char *path = fs_join(dir, "criu/files.img");
	return path ? fs_read(path, to, e) : error_set(e, ENOMEM, "out of memory");
}

static int open_home(struct job *job)
{
	job->home = open(job->spec->home, O_PATH | O_DIRECTORY | O_CLOEXEC);
	return job->home < 0 ? error_errno(job->e, "cannot open the home %s", job->spec->home) : 0;
}

/* --- after a dump ------------------------------------------------------------- */

static int keep_content(const struct job *job, int from, const char *name)
{
	if (mkdir(job->keep, 0700) < 0 && errno != EEXIST)
		return error_errno(job->e, "cannot create directory %s", job->keep);
	cleanup_free char *copy = fs_join(job->keep, name);
	cleanup_fd int to = copy ? open(copy, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600) : -1;
	if (to < 0 || copy_content(from, to) < 0)
		return error_errno(job->e, "cannot keep a copy of a file in the home");
	return 0;
}

static int keep_deleted(const struct job *job, const struct image_file *file, const char *path)
{
	struct stat st;
	cleanup_fd int from = open_below(job->home, path, O_RDONLY, 0);
	if (from < 0 || fstat(from, &st) < 0 || !S_ISREG(st.st_mode))
		return error_errno(job->e, "cannot keep the deleted file %s", file->path);
	int r = keep_content(job, from, remap_name(path));
	if (r == 0 && buf_append(job->links, path, strlen(path) + 1) < 0)
		r = error_set(job->e, ENOMEM, "too many deleted files");
	return r;
}

static bool is_written(const struct image_file *file)
{
	return (file->flags & O_ACCMODE) != O_RDONLY;
}

/* Of the file with this place in files.img. */
static const char *open_name(unsigned number, char to[32])
{
	snprintf(to, 32, "open.%u", number);
	return to;
}

/* A file that is not there any more was deleted without a link: CRIU has that one in its images. */
static int keep_open(struct job *job, const char *path)
{
	char name[32];
	struct stat st;
	cleanup_fd int from = open_below(job->home, path, O_RDONLY, 0);
	if (from < 0 || fstat(from, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size > OPEN_MOST ||
	    job->content + (uint64_t)st.st_size > OPEN_ALL_MOST)
		return 0;
	job->content += (uint64_t)st.st_size;
	return keep_content(job, from, open_name(job->number, name));
}

static int keep_one(const struct image_file *file, void *arg)
{
	struct job *job = arg;
	const char *path = below_home(job->spec, file->path);
	job->number++;
	if (path && remap_name(path))
		return keep_deleted(job, file, path);
	return path && is_written(file) ? keep_open(job, path) : 0;
}

int images_keep(const char *dir, const struct session_spec *spec, const char *links,
		struct error *e)
{
	cleanup_buf struct buf files = BUF_INIT(FILES_MOST);
	cleanup_buf struct buf paths = BUF_INIT(FILES_MOST);
	cleanup_free char *keep = fs_join(dir, "remap");
	struct job job = { .spec = spec, .keep = keep, .links = &paths, .home = -1, .e = e };
	if (!keep)
		return error_set(e, ENOMEM, "out of memory");
	int r = read_files(dir, &files, e);
	if (r == 0)
		r = open_home(&job);
	if (r == 0)
		r = images_files(buf_text(&files), files.len, keep_one, &job, NULL, e);
	cleanup_close_fd(&job.home);
	if (r == 0 && paths.len)
		r = fs_replace(links, paths.data, paths.len, 0600, e);
	return r;
}

static int see_link(const struct image_file *file, void *arg)
{
	*(bool *)arg |= remap_name(file->path) != NULL;
	return 0;
}

int images_have_links(const char *dir, bool *any, struct error *e)
{
	cleanup_buf struct buf files = BUF_INIT(FILES_MOST);
	*any = false;
	int r = read_files(dir, &files, e);
	return r < 0 ? r : images_files(buf_text(&files), files.len, see_link, any, NULL, e);
}

static int drop_link(const struct job *job, char *path)
{
	char *slash = strrchr(path, '/');
	const char *name = remap_name(path);
	struct stat st;
	if (!name)
		return 0;
	if (slash)
		*slash = '\0';
	cleanup_fd int dir = open_below(job->home, slash ? path : ".", O_RDONLY | O_DIRECTORY, 0);
	if (dir < 0 || fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(st.st_mode))
		return 0; /* the home is the user's: it may have gone, or become something else */
	if (unlinkat(dir, name, 0) < 0 && errno != ENOENT)
		return error_errno(job->e, "cannot remove %s in the home", name);
	return 0;
}

int images_drop_links(const char *links, const struct session_spec *spec, struct error *e)
{
	cleanup_buf struct buf paths = BUF_INIT(FILES_MOST);
	struct job job = { .spec = spec, .home = -1, .e = e };
	if (access(links, F_OK) < 0 && errno == ENOENT)
		return 0;
	int r = fs_read(links, &paths, e);
	if (r == 0)
		r = open_home(&job);
	for (char *path = paths.data; r == 0 && path < paths.data + paths.len;) {
		char *next = path + strnlen(path, (size_t)(paths.data + paths.len - path)) + 1;
		r = drop_link(&job, path);
		path = next;
	}
	cleanup_close_fd(&job.home);
	if (r == 0 && unlink(links) < 0)
		r = error_errno(e, "cannot remove %s", links);
	return r;
}

static int note_link(const struct image_file *file, void *arg)
{
	const struct job *job = arg;
	const char *path = below_home(job->spec, file->path);
	if (!path || !remap_name(path))
		return 0;
	return buf_append(job->links, path, strlen(path) + 1) < 0
		       ? error_set(job->e, ENOMEM, "too many deleted files")
		       : 0;
}

int images_note_links(const char *dir, const struct session_spec *spec, const char *links,
		      struct error *e)
{
	cleanup_buf struct buf files = BUF_INIT(FILES_MOST);
	cleanup_buf struct buf paths = BUF_INIT(FILES_MOST);
	struct job job = { .spec = spec, .links = &paths, .home = -1, .e = e };
	int r = read_files(dir, &files, e);
	if (r == 0)
		r = images_files(buf_text(&files), files.len, note_link, &job, NULL, e);
	return r < 0 || !paths.len ? r : fs_replace_soon(links, paths.data, paths.len, 0600, e);
}

/* --- before a restore ----------------------------------------------------------- */

static int put_back(const struct job *job, const struct image_file *file, const char *path,
		    const char *name)
{
	cleanup_free char *copy = fs_join(job->keep, name);
	cleanup_fd int from = copy ? open(copy, O_RDONLY | O_CLOEXEC) : -1;
	if (from < 0)
		return 0; /* CRIU says which file it misses */
	cleanup_fd int to = open_below(job->home, path, O_WRONLY | O_CREAT | O_EXCL, 0600);
	if (to < 0 && (errno == EEXIST || errno == ENOENT))
		return 0; /* it is there; or its directory is gone */
	if (to < 0 || fchown(to, (uid_t)job->spec->uid, (gid_t)job->spec->gid) < 0 ||
	    fchmod(to, file->mode ? file->mode & 07777 : 0600) < 0 || copy_content(from, to) < 0)
		return error_errno(job->e, "cannot put back the file %s", file->path);
	return 0;
}

static bool is_program(int home, const char *path)
{
	char magic[4];
	cleanup_fd int fd = open_below(home, path, O_RDONLY, 0);
	return fd >= 0 && pread(fd, magic, 4, 0) == 4 && memcmp(magic, "\177ELF", 4) == 0;
}

static void find_ghosts(struct job *job, const char *dir)
{
	cleanup_free char *path = fs_join(dir, "criu");
	cleanup_dir DIR *images = path ? opendir(path) : NULL;
	for (struct dirent *d; images && job->ghost_count < GHOSTS_MOST && (d = readdir(images));)
		if (sscanf(d->d_name, "ghost-file-%x.img", &job->ghosts[job->ghost_count]) == 1)
			job->ghost_count++;
}

/* CRIU makes a deleted file anew beside where it was, under a name of its own, and fails if that is
 * taken: by a CRIU, say, that was killed before it had deleted it again. */
static void drop_ghosts(const struct job *job, const char *path)
{
	const char *slash = strrchr(path, '/');
	cleanup_free char *parent = slash ? strndup(path, (size_t)(slash - path)) : strdup(".");
	cleanup_fd int dir = parent ? open_below(job->home, parent, O_RDONLY | O_DIRECTORY, 0) : -1;
	struct stat st;
	for (size_t i = 0; dir >= 0 && i < job->ghost_count; i++) {
		cleanup_free char *name =
			str_printf("%s.cr.%x.ghost", slash ? slash + 1 : path, job->ghosts[i]);
		if (name && fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
		    S_ISREG(st.st_mode))
			unlinkat(dir, name, 0);
	}
}

static int prepare_one(const struct image_file *file, void *arg)
{
	struct job *job = arg;
	const char *path = below_home(job->spec, file->path);
	const char *name = path ? remap_name(path) : NULL;
	char opened[32];
	int r = 0;
	job->number++;
	if (!path)
		return 0;
	if (job->ghost_count)
		drop_ghosts(job, path);
	if (name)
		r = put_back(job, file, path, name);
	else if (is_written(file))
		r = put_back(job, file, path, open_name(job->number, opened));
	if (r < 0)
		return r;
	return name || !is_program(job->home, path);
}

static int replace_files(const char *dir, const struct buf *content, struct error *e)
{
	cleanup_free char *path = fs_join(dir, "criu/files.img");
	if (!path)
		return error_set(e, ENOMEM, "out of memory");
	if (unlink(path) < 0)
		return error_errno(e, "cannot replace %s", path);
	cleanup_fd int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0 || write(fd, buf_text(content), content->len) != (ssize_t)content->len)
		return error_errno(e, "cannot write %s", path);
	return 0;
}

int images_prepare(const char *dir, const struct session_spec *spec, struct error *e)
{
	cleanup_buf struct buf files = BUF_INIT(FILES_MOST);
	cleanup_buf struct buf changed = BUF_INIT(FILES_MOST);
	cleanup_free char *keep = fs_join(dir, "remap");
	struct job job = { .spec = spec, .keep = keep, .home = -1, .e = e };
	if (!keep)
		return error_set(e, ENOMEM, "out of memory");
	find_ghosts(&job, dir);
	int r = read_files(dir, &files, e);
	if (r == 0)
		r = open_home(&job);
	if (r == 0)
		r = images_files(buf_text(&files), files.len, prepare_one, &job, &changed, e);
	if (r == 0)
		r = replace_files(dir, &changed, e);
	cleanup_close_fd(&job.home);
	return r;
}
