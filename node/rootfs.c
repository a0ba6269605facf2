/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "node/rootfs.h"

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/fs.h"
#include "node/program.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#define MAX_ACCOUNTS_TEXT ((size_t)4 << 20)

/* --- directories -------------------------------------------------------------- */

/* A directory of the layer hides mode and owner of the image's directory below it: they are copied.
 */
static int make_dir(const struct sandbox *sb, const char *inside, mode_t mode, struct error *e)
{
	cleanup_free char *upper = str_printf("%s%s", sb->upper, inside);
	cleanup_free char *lower = str_printf("%s%s", sb->spec->image, inside);
	if (!upper || !lower)
		return error_set(e, ENOMEM, "out of memory");
	struct stat st = { .st_mode = S_IFDIR | mode };
	if (lstat(lower, &st) < 0 || !S_ISDIR(st.st_mode))
		st = (struct stat) { .st_mode = S_IFDIR | mode };
	if (mkdir(upper, 0700) < 0)
		return errno == EEXIST ? 0 : error_errno(e, "cannot create %s", upper);
	if (chown(upper, st.st_uid, st.st_gid) < 0 || chmod(upper, st.st_mode & 07777) < 0)
		return error_errno(e, "cannot set the owner of %s", upper);
	return 0;
}

/* All directories above `inside`, and with `last` it too. */
static int make_dirs(const struct sandbox *sb, const char *inside, bool last, struct error *e)
{
	cleanup_free char *path = strdup(inside);
	if (!path)
		return error_set(e, ENOMEM, "out of memory");
	for (char *p = path + 1; *p; p++) {
		if (*p != '/')
			continue;
		*p = '\0';
		int r = make_dir(sb, path, 0755, e);
		if (r < 0)
			return r;
		*p = '/';
	}
	return last ? make_dir(sb, path, 0755, e) : 0;
}

/* A directory that shows nothing of the image's. */
static int make_empty_dir(const struct sandbox *sb, const char *inside, mode_t mode,
			  struct error *e)
{
	cleanup_free char *upper = str_printf("%s%s", sb->upper, inside);
	if (!upper)
		return error_set(e, ENOMEM, "out of memory");
	int r = make_dirs(sb, inside, false, e);
	if (r < 0)
		return r;
	if (mkdir(upper, 0700) < 0)
		return errno == EEXIST ? 0 : error_errno(e, "cannot create %s", upper);
	if (chmod(upper, mode) < 0 || setxattr(upper, "trusted.overlay.opaque", "y", 1, 0) < 0)
		return error_errno(e, "cannot hide the image's %s", inside);
	return 0;
}

/* --- what must not be seen ------------------------------------------------------ */

/* If `path` of the node lies in the image, it does not exist for the session. */
static int hide(const struct sandbox *sb, const char *path, struct error *e)
{
	char real[PATH_MAX];
	char image[PATH_MAX];
	if (!path || path[0] != '/' || !realpath(path, real) || !realpath(sb->spec->image, image))
		return 0;
	size_t len = strcmp(image, "/") == 0 ? 0 : strlen(image);
	if (strncmp(real, image, len) != 0 || real[len] != '/' || real[len + 1] == '\0')
		return 0;
	const char *inside = real + len;
	cleanup_free char *upper = str_printf("%s%s", sb->upper, inside);
	if (!upper)
		return error_set(e, ENOMEM, "out of memory");
	int r = make_dirs(sb, inside, false, e);
	if (r < 0)
		return r;
	/* Overlayfs' mark for a removed file, or for a directory that is needed but shows nothing
	 * below it. Under something that is hidden already there is nothing to hide. */
	if (mknod(upper, S_IFCHR | 0, makedev(0, 0)) == 0 || errno == ENOTDIR)
		return 0;
	if (errno != EEXIST)
		return error_errno(e, "cannot hide %s from the session", inside);
	if (lsetxattr(upper, "trusted.overlay.opaque", "y", 1, 0) < 0 && errno != EPERM)
		return error_errno(e, "cannot hide %s from the session", inside);
	return 0;
}

static const char *store_path(const struct config *config)
{
	const char *url = config->store.url;
	return url && strncmp(url, "file://", 7) == 0 ? url + 7 : NULL;
}

/* elsad's authority is beside its database (controller/ca.h). */
static char *ca_path(const struct config *config)
{
	const char *database = config->controller.database;
	const char *slash = strrchr(database, '/');
	return str_printf("%.*s/ca", slash ? (int)(slash - database) : 0, database);
}

static int hide_ours(const struct sandbox *sb, struct error *e)
{
	const struct config *c = sb->config;
	cleanup_free char *ca = ca_path(c);
	const char *const paths[] = {
		c->node.state_dir,       c->node.run_dir,        "/etc/elsa",
		store_path(c),           c->controller.database, c->controller.token_file,
		c->node.join_token_file, c->hub.token_file,      ca
	};
	for (size_t i = 0; i < ARRAY_SIZE(paths); i++) {
		int r = hide(sb, paths[i], e);
		if (r < 0)
			return r;
	}
	return 0;
}

/* --- files ---------------------------------------------------------------------- */

/* Not synced: a layer without a running session or a checkpoint is worth nothing. */
static int write_new(const char *path, const char *text, mode_t mode, struct error *e)
{
	cleanup_free char *tmp = str_printf("%s.new", path);
	if (!tmp)
		return error_set(e, ENOMEM, "out of memory");
	cleanup_fd int fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, mode);
	size_t len = strlen(text);
	if (fd < 0 || write(fd, text, len) != (ssize_t)len || fchmod(fd, mode) < 0 ||
	    rename(tmp, path) < 0)
		return error_errno(e, "cannot write %s", path);
	return 0;
}

static int write_file(const struct sandbox *sb, const char *inside, const char *text,
		      struct error *e)
{
	cleanup_free char *path = str_printf("%s%s", sb->upper, inside);
	if (!path)
		return error_set(e, ENOMEM, "out of memory");
	if (access(path, F_OK) == 0)
		return 0;
	int r = make_dirs(sb, inside, false, e);
	return r < 0 ? r : write_new(path, text, 0644, e);
}

static int write_resolv_conf(const struct sandbox *sb, struct error *e)
{
	cleanup_buf struct buf text = BUF_INIT(4096);
	int r = 0;
	for (char **d = sb->config->network.dns; d && *d && r == 0; d++)
		r = buf_printf(&text, "nameserver %s\n", *d);
	if (r < 0)
		return error_set(e, -r, "network.dns is too long");
	return write_file(sb, "/etc/resolv.conf", buf_text(&text), e);
}

static int write_names(const struct sandbox *sb, struct error *e)
{
	char name[ROOTFS_NAME_SIZE];
	rootfs_plain_name(sb->spec->user, name);
	cleanup_free char *hosts = str_printf("127.0.0.1 localhost\n::1 localhost ip6-localhost\n"
					      "%s %s\n",
					      sb->spec->address, name);
	cleanup_free char *hostname = str_printf("%s\n", name);
	if (!hosts || !hostname)
		return error_set(e, ENOMEM, "out of memory");
	int r = write_file(sb, "/etc/hosts", hosts, e);
	if (r == 0)
		r = write_file(sb, "/etc/hostname", hostname, e);
	return r == 0 ? write_resolv_conf(sb, e) : r;
}

static int read_image_file(const struct sandbox *sb, const char *inside, struct buf *to,
			   struct error *e)
{
	cleanup_free char *path = str_printf("%s%s", sb->spec->image, inside);
	if (!path)
		return error_set(e, ENOMEM, "out of memory");
	int r = fs_read(path, to, e);
	return r == -ENOENT ? 0 : r;
}

static int write_accounts(const struct sandbox *sb, struct error *e)
{
	cleanup_buf struct buf passwd = BUF_INIT(MAX_ACCOUNTS_TEXT);
	cleanup_buf struct buf group = BUF_INIT(MAX_ACCOUNTS_TEXT);
	cleanup_free char *new_passwd = NULL;
	cleanup_free char *new_group = NULL;
	char name[ROOTFS_NAME_SIZE];
	rootfs_plain_name(sb->spec->user, name);
	int r = read_image_file(sb, "/etc/passwd", &passwd, e);
	if (r == 0)
		r = read_image_file(sb, "/etc/group", &group, e);
	if (r < 0)
		return r;
	r = rootfs_add_account(buf_text(&passwd), name, sb->spec, &new_passwd);
	if (r == 0)
		r = rootfs_add_group(buf_text(&group), name, sb->spec->gid, &new_group);
	if (r < 0)
		return error_set(e, -r, "out of memory");
	if (new_passwd)
		r = write_file(sb, "/etc/passwd", new_passwd, e);
	if (r == 0 && new_group)
		r = write_file(sb, "/etc/group", new_group, e);
	return r;
}

/* --- our own program -------------------------------------------------------------- */

static int copy_init(const char *path, struct error *e)
{
	cleanup_fd int from = program_open("elsa-init", e);
	if (from < 0)
		return from;
	cleanup_free char *tmp = str_printf("%s.new", path);
	if (!tmp)
		return error_set(e, ENOMEM, "out of memory");
	cleanup_fd int to = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0755);
	ssize_t n = to < 0 ? -1 : 1;
	while (n > 0)
		n = sendfile(to, from, NULL, (size_t)1 << 20);
	if (n < 0 || fchmod(to, 0755) < 0 || rename(tmp, path) < 0)
		return error_errno(e, "cannot copy elsa-init to %s", path);
	return 0;
}

static int add_own_files(const struct sandbox *sb, struct error *e)
{
	cleanup_free char *init = str_printf("%s" ROOTFS_INIT, sb->upper);
	if (!init)
		return error_set(e, ENOMEM, "out of memory");
	int r = make_empty_dir(sb, ROOTFS_OWN, 0755, e);
	/* A restored session's init is the one it was started with, whatever the node has now. */
	return r < 0 || access(init, X_OK) == 0 ? r : copy_init(init, e);
}

int rootfs_prepare(const struct sandbox *sb, struct error *e)
{
	static const char *const mount_points[] = { "/proc", "/dev", "/run" };
	int r = fs_mkdirs(sb->upper, 0755, e);
	/* The root directory of the session, whatever our umask. */
	if (r == 0 && chmod(sb->upper, 0755) < 0)
		r = error_errno(e, "cannot set the mode of %s", sb->upper);
	if (r == 0)
		r = fs_mkdirs(sb->work, 0700, e);
	for (size_t i = 0; i < ARRAY_SIZE(mount_points) && r == 0; i++)
		r = make_dir(sb, mount_points[i], 0755, e);
	/* On disk rather than a tmpfs: deleted files are saved by CRIU as well, and large ones are
	 * captured with the layer instead of through CRIU's memory. */
	if (r == 0)
		r = make_empty_dir(sb, "/tmp", 01777, e);
	if (r == 0)
		r = make_empty_dir(sb, "/var/tmp", 01777, e);
	if (r == 0)
		r = hide_ours(sb, e);
	if (r == 0)
		r = make_dirs(sb, sb->spec->home_inside, true, e);
	if (r == 0)
		r = write_names(sb, e);
	if (r == 0)
		r = write_accounts(sb, e);
	return r == 0 ? add_own_files(sb, e) : r;
}
