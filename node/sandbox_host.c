/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "node/sandbox.h"

#include "base/cleanup.h"
#include "base/fs.h"
#include "base/id.h"
#include "node/net.h"
#include "node/overlay.h"
#include "node/rootfs.h"
#include "node/sleep_net.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

static const char *const mount_dirs[] = { "netns", "root" };

/* Mounts made below must not spread into other namespaces, where nobody would take them away. */
static int make_private_dir(const char *path, struct error *e)
{
	int r = fs_mkdirs(path, 0711, e);
	if (r < 0)
		return r;
	if (!rootfs_is_mount(path) && mount(path, path, NULL, MS_BIND, NULL) < 0)
		return error_errno(e, "cannot bind %s to itself", path);
	if (mount(NULL, path, NULL, MS_PRIVATE, NULL) < 0)
		return error_errno(e, "cannot make %s a private mount", path);
	return 0;
}

static int each_mount_dir(const struct config *config, int (*f)(const char *path, struct error *e),
			  struct error *e)
{
	for (size_t i = 0; i < ARRAY_SIZE(mount_dirs); i++) {
		cleanup_free char *path = fs_join(config->node.run_dir, mount_dirs[i]);
		int r = path ? f(path, e) : error_set(e, ENOMEM, "out of memory");
		if (r < 0)
			return r;
	}
	return 0;
}

int sandbox_host_setup(const struct config *config, struct error *e)
{
	cleanup_free char *sessions = fs_join(config->node.state_dir, "sessions");
	if (!sessions)
		return error_set(e, ENOMEM, "out of memory");
	int r = fs_mkdirs(sessions, 0700, e);
	if (r == 0)
		r = each_mount_dir(config, make_private_dir, e);
	if (r == 0)
		r = cgroup_host_setup(config->node.cgroup, e);
	return r == 0 ? net_host_setup(config, e) : r;
}

static int remove_private_dir(const char *path, struct error *e)
{
	if (rootfs_is_mount(path) && umount2(path, MNT_DETACH) < 0)
		return error_errno(e, "cannot unmount %s", path);
	if (rmdir(path) < 0 && errno != ENOENT)
		return error_errno(e, "cannot remove %s", path);
	return 0;
}

int sandbox_host_teardown(const struct config *config, struct error *e)
{
	int r = overlay_teardown(config, e);
	if (r == 0)
		r = sleep_net_teardown(config, e);
	if (r == 0)
		r = net_host_teardown(config, e);
	if (r == 0)
		r = cgroup_host_teardown(config->node.cgroup, e);
	return r == 0 ? each_mount_dir(config, remove_private_dir, e) : r;
}

/* --- all sandboxes ------------------------------------------------------------------ */

struct id_list {
	char (*ids)[ID_SIZE];
	size_t count;
};

static int add_id(const char *id, void *arg)
{
	struct id_list *list = arg;
	for (size_t i = 0; i < list->count; i++)
		if (strcmp(list->ids[i], id) == 0)
			return 0;
	void *grown = realloc(list->ids, (list->count + 1) * sizeof(*list->ids));
	if (!grown)
		return -ENOMEM;
	list->ids = grown;
	memcpy(list->ids[list->count++], id, ID_SIZE);
	return 0;
}

static int add_entries(struct id_list *list, const char *top, const char *name)
{
	cleanup_free char *path = fs_join(top, name);
	if (!path)
		return -ENOMEM;
	cleanup_dir DIR *dir = opendir(path);
	struct dirent *entry;
	int r = 0;
	while (dir && r == 0 && (entry = readdir(dir)))
		if (id_valid(entry->d_name))
			r = add_id(entry->d_name, list);
	return r;
}

int sandbox_each(const struct config *config, int (*each)(const char *id, void *arg), void *arg,
		 struct error *e)
{
	struct id_list list = { 0 };
	int r = add_entries(&list, config->node.state_dir, "sessions");
	for (size_t i = 0; i < ARRAY_SIZE(mount_dirs) && r == 0; i++)
		r = add_entries(&list, config->node.run_dir, mount_dirs[i]);
	if (r < 0)
		error_set(e, -r, "out of memory");
	else
		r = cgroup_each(config->node.cgroup, add_id, &list, e);
	for (size_t i = 0; i < list.count && r == 0; i++)
		r = each(list.ids[i], arg);
	free(list.ids);
	return r;
}
