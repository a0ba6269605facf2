/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "node/rootfs.h"

#include "base/cleanup.h"
#include "base/fs.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

bool rootfs_is_mount(const char *path)
{
	struct statx st;
	return statx(AT_FDCWD, path, AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS, &st) == 0 &&
	       (st.stx_attributes & STATX_ATTR_MOUNT_ROOT);
}

/* The kernel takes the mount of a dead session away a moment after its last process. */
static int mount_patiently(const char *target, const char *options)
{
	for (int tries = 0; tries < 400; tries++) {
		if (mount("elsa", target, "overlay", MS_NOSUID | MS_NODEV, options) == 0)
			return 0;
		if (errno != EBUSY)
			return -errno;
		usleep(5000);
	}
	return -EBUSY;
}

int rootfs_mount(const struct sandbox *sb, struct error *e)
{
	int r = fs_mkdirs(sb->root, 0700, e);
	if (r < 0 || rootfs_is_mount(sb->root))
		return r;
	/* index, nfs_export: file handles, without which CRIU cannot dump inotify watches; and a
	 * layer that is in use cannot be mounted again. xino: one device number for all files,
	 * whichever layer they are from, so that CRIU finds files by device and inode as the
	 * session sees them. */
	cleanup_free char *options =
		str_printf("lowerdir=%s,upperdir=%s,workdir=%s,index=on,nfs_export=on,xino=auto",
			   sb->spec->image, sb->upper, sb->work);
	if (!options)
		return error_set(e, ENOMEM, "out of memory");
	r = mount_patiently(sb->root, options);
	if (r == 0)
		return 0;
	error_set(e, -r, "cannot mount the overlay of %s and %s: %s", sb->spec->image, sb->upper,
		  strerror(-r));
	if (r == -EBUSY)
		return error_remedy(e, r, "the session's layer is in use: is it running?");
	return error_remedy(
		e, r,
		"the state directory must be on a file system that can hold an "
		"overlay's upper layer (ext4, xfs, btrfs), not on an overlay; the kernel's log has "
		"the details");
}

int rootfs_unmount(const struct sandbox *sb, struct error *e)
{
	while (rootfs_is_mount(sb->root)) {
		if (umount2(sb->root, 0) < 0 &&
		    (errno != EBUSY || umount2(sb->root, MNT_DETACH) < 0))
			return error_errno(e, "cannot unmount %s", sb->root);
	}
	if (rmdir(sb->root) < 0 && errno != ENOENT)
		return error_errno(e, "cannot remove %s", sb->root);
	return 0;
}
