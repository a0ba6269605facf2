/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "node/sandbox.h"

#include "base/cleanup.h"
#include "base/fs.h"
#include "base/id.h"
#include "node/doze_out.h"
#include "node/net.h"
#include "node/net_keep.h"
#include "node/rootfs.h"
#include "node/sockets.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#define FREEZE_TIMEOUT_MS 10000

/* --- checks of what comes from outside ------------------------------------------- */

static bool path_is_plain(const char *path)
{
	return path && path[0] == '/' && !strstr(path, "/../") && !strstr(path, "/./") &&
	       !strstr(path, "//");
}

/* These have a meaning in the overlay's options. */
static bool path_suits_overlay(const char *path)
{
	return path_is_plain(path) && !strpbrk(path, ",:\\\"\n");
}

static int check_spec(const struct session_spec *spec, struct error *e)
{
	struct in_addr in;
	if (!id_valid(spec->id))
		return error_set(e, EINVAL, "the session's id is not 16 hexadecimal digits");
	if (!spec->address || inet_pton(AF_INET, spec->address, &in) != 1)
		return error_set(e, EINVAL, "session %s: no valid IPv4 address", spec->id);
	if (spec->uid <= 0 || spec->gid <= 0 || spec->uid > INT32_MAX || spec->gid > INT32_MAX)
		return error_set(e, EINVAL,
				 "session %s: it may not run as root (uid %lld, gid %lld)",
				 spec->id, (long long)spec->uid, (long long)spec->gid);
	if (!path_is_plain(spec->home) || !path_is_plain(spec->home_inside) ||
	    strcmp(spec->home_inside, "/") == 0)
		return error_set(e, EINVAL,
				 "session %s: the home directories must be absolute paths",
				 spec->id);
	if (!path_suits_overlay(spec->image))
		return error_set(e, EINVAL,
				 "session %s: the image must be an absolute path without "
				 "comma, colon, backslash or quote",
				 spec->id);
	return 0;
}

/* --- the object ------------------------------------------------------------------- */

static int set_paths(struct sandbox *sb)
{
	const struct config *c = sb->config;
	const char *id = sb->spec->id;
	sb->dir = str_printf("%s/sessions/%s", c->node.state_dir, id);
	sb->upper = str_printf("%s/sessions/%s/upper", c->node.state_dir, id);
	sb->work = str_printf("%s/sessions/%s/work", c->node.state_dir, id);
	sb->root = str_printf("%s/root/%s", c->node.run_dir, id);
	sb->netns = str_printf("%s/netns/%s", c->node.run_dir, id);
	sb->log = str_printf("%s/sessions/%s/upper" ROOTFS_LOG, c->node.state_dir, id);
	sb->mounts[0] = (struct sandbox_mount_pair) { .inside = sb->spec->home_inside,
						      .outside = sb->spec->home,
						      .key = "home" };
	return sb->dir && sb->upper && sb->work && sb->root && sb->netns && sb->log ? 0 : -ENOMEM;
}

int sandbox_init(struct sandbox *sb, const struct config *config, const struct session_spec *spec,
		 struct error *e)
{
	*sb = (struct sandbox) { .config = config, .spec = spec };
	int r = check_spec(spec, e);
	if (r == 0 && !path_suits_overlay(config->node.state_dir))
		r = error_set(e, EINVAL,
			      "node.state_dir must be an absolute path without comma, "
			      "colon, backslash or quote");
	if (r == 0 && set_paths(sb) < 0)
		r = error_set(e, ENOMEM, "out of memory");
	if (r == 0)
		r = cgroup_init(&sb->cgroup, config->node.cgroup, spec->id, e);
	if (r < 0)
		sandbox_deinit(sb);
	return r;
}

void sandbox_deinit(struct sandbox *sb)
{
	free(sb->dir);
	free(sb->upper);
	free(sb->work);
	free(sb->root);
	free(sb->netns);
	free(sb->log);
	net_keep_free(sb->keep);
	cgroup_deinit(&sb->cgroup);
	*sb = (struct sandbox) { 0 };
}

const struct sandbox_mount_pair *sandbox_external_mounts(struct sandbox *sb)
{
	return sb->mounts;
}

static struct net_session net_of(const struct sandbox *sb)
{
	return (struct net_session) { .config = sb->config,
				      .id = sb->spec->id,
				      .address = sb->spec->address,
				      .netns = sb->netns };
}

/* --- preparing ---------------------------------------------------------------------- */

/* Once they are held: what got through before is not to come twice. */
static void keep_packets(struct sandbox *sb, const struct net_session *net)
{
	net_keep_free(sb->keep);
	sb->keep = net_keep_begin(net);
}

/* The bound name can be lost while the session lives on: its init leads back to the namespace. */
static int prepare_net(struct sandbox *sb, bool held, struct error *e)
{
	struct net_session net = net_of(sb);
	bool old = net_namespace_bound(sb->netns);
	cleanup_free char *from = NULL;
	pid_t init = 0;
	int r = old ? 0 : sandbox_find_init(sb, &init, e);
	if (r < 0)
		return r;
	if (init) {
		from = str_printf("/proc/%d/ns/net", (int)init);
		if (!from)
			return error_set(e, ENOMEM, "out of memory");
	}
	r = net_namespace_make(&net, from, e);
	if (r == 0)
		r = net_session_setup(&net, held, e);
	/* Only one that was there before can be held already. */
	if (r == 0 && !held && (old || init))
		r = sandbox_release(sb, e);
	if (r == 0 && held)
		keep_packets(sb, &net);
	return r;
}

int sandbox_prepare(struct sandbox *sb, bool held, struct error *e)
{
	int r = cgroup_create(&sb->cgroup, &sb->spec->limits, e);
	if (r == 0)
		r = cgroup_set_swap(&sb->cgroup, doze_out_else(sb->config), e);
	if (r == 0)
		r = rootfs_prepare(sb, e);
	return r == 0 ? prepare_net(sb, held, e) : r;
}

int sandbox_mount(struct sandbox *sb, struct error *e)
{
	return rootfs_mount(sb, e);
}

int sandbox_unmount(struct sandbox *sb, struct error *e)
{
	return rootfs_unmount(sb, e);
}

int sandbox_hold(struct sandbox *sb, struct error *e)
{
	struct net_session net = net_of(sb);
	int r = net_hold(&net, e);
	if (r == 0)
		keep_packets(sb, &net);
	return r;
}

int sandbox_release(struct sandbox *sb, struct error *e)
{
	struct net_session net = net_of(sb);
	int r = net_release(&net, e);
	sb->keep = r < 0 ? net_keep_free(sb->keep) : net_keep_give(sb->keep);
	if (r == 0)
		sockets_push(&sb->cgroup);
	return r;
}

/* --- cgroup ------------------------------------------------------------------------- */

int sandbox_freeze(struct sandbox *sb, struct error *e)
{
	return cgroup_freeze(&sb->cgroup, FREEZE_TIMEOUT_MS, e);
}

int sandbox_thaw(struct sandbox *sb, struct error *e)
{
	return cgroup_thaw(&sb->cgroup, e);
}

int sandbox_frozen(struct sandbox *sb, bool *frozen, struct error *e)
{
	return cgroup_frozen(&sb->cgroup, frozen, e);
}

void sandbox_ease(const struct sandbox *sb, const struct session_limits *limits, bool eased)
{
	cgroup_ease(&sb->cgroup, limits, eased, NULL);
}

char *sandbox_freezer_path(const struct sandbox *sb)
{
	return strdup(cgroup_freezer(&sb->cgroup));
}

int sandbox_adopt(struct sandbox *sb, pid_t pid, struct error *e)
{
	return cgroup_adopt(&sb->cgroup, pid, e);
}

int sandbox_usage(struct sandbox *sb, struct sandbox_usage *usage, struct error *e)
{
	struct cgroup_usage u;
	int r = cgroup_usage(&sb->cgroup, &u, e);
	*usage = (struct sandbox_usage) { .rss_bytes = u.memory_bytes,
					  .out_bytes = u.out_bytes,
					  .taken_bytes = u.taken_bytes,
					  .cpu_us = u.cpu_us,
					  .processes = u.processes,
					  .oom_kills = u.oom_kills,
					  .stalls_known = u.stalls_known,
					  .cpu_stall_us = u.cpu_stall_us,
					  .memory_stall_us = u.memory_stall_us,
					  .io_stall_us = u.io_stall_us };
	return r;
}

/* --- taking down ---------------------------------------------------------------------- */

static int is_there(pid_t pid, void *arg)
{
	(void)arg;
	return pid > 0;
}

int sandbox_teardown(struct sandbox *sb, bool layers, struct error *e)
{
	int r = cgroup_processes(&sb->cgroup, is_there, NULL, e);
	if (r > 0)
		return error_set(e, EBUSY, "session %s still has processes", sb->spec->id);
	struct net_session net = net_of(sb);
	if (r == 0)
		r = net_session_teardown(&net, e);
	if (r == 0)
		r = rootfs_unmount(sb, e);
	if (r == 0)
		r = cgroup_remove(&sb->cgroup, e);
	if (r == 0 && layers)
		r = fs_remove_tree(sb->dir, e);
	return r;
}
