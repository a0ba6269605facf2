/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "node/net.h"

#include "base/cleanup.h"
#include "node/net_link.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

void net_interface(const char *id, char to[NET_INTERFACE_SIZE])
{
	snprintf(to, NET_INTERFACE_SIZE, NET_INTERFACE_PREFIX "%.12s", id);
}

bool net_is_joined(const struct config *config)
{
	return config->node.controller && config->node.controller[0];
}

void net_overlay_interface(const struct config *config, char to[NET_INTERFACE_SIZE])
{
	/* FNV-1a: node.cgroup tells the elsa-nodes of one machine apart, and is too long. Nothing
	 * that begins as the sessions' links do. */
	uint32_t hash = 2166136261U;
	for (const char *p = config->node.cgroup; *p; p++)
		hash = (hash ^ (unsigned char)*p) * 16777619U;
	snprintf(to, NET_INTERFACE_SIZE, "elsavx%08x", hash);
}

int net_mac(const char *address, char to[NET_MAC_SIZE])
{
	struct in_addr in;
	if (inet_pton(AF_INET, address, &in) != 1)
		return -EINVAL;
	unsigned char b[4];
	memcpy(b, &in, sizeof(b));
	snprintf(to, NET_MAC_SIZE, "02:e5:%02x:%02x:%02x:%02x", b[0], b[1], b[2], b[3]);
	return 0;
}

bool net_contains(const char *network, const char *address)
{
	struct net_destination d;
	struct in_addr in;
	struct in_addr of;
	if (net_parse_destination(network, &d) < 0 || d.port ||
	    inet_pton(AF_INET, address, &in) != 1)
		return false;
	char *slash = strchr(d.network, '/');
	unsigned long prefix = strtoul(slash + 1, NULL, 10);
	*slash = '\0';
	inet_pton(AF_INET, d.network, &of);
	uint32_t mask = prefix ? htonl(~0U << (32 - prefix)) : 0;
	return (in.s_addr & mask) == (of.s_addr & mask);
}

/* --- the namespace ----------------------------------------------------------- */

bool net_namespace_bound(const char *path)
{
	struct statfs st;
	return statfs(path, &st) == 0 && st.f_type == NSFS_MAGIC;
}

struct new_namespace {
	const char *path;
	int error;
};

/* A thread of its own, since a thread that cannot get back into its old namespace is lost. */
static void *bind_new_namespace(void *arg)
{
	struct new_namespace *new = arg;
	if (unshare(CLONE_NEWNET) < 0 ||
	    mount("/proc/thread-self/ns/net", new->path, NULL, MS_BIND, NULL) < 0)
		new->error = errno;
	return NULL;
}

int net_namespace_make(const struct net_session *s, const char *from, struct error *e)
{
	if (net_namespace_bound(s->netns))
		return 0;
	cleanup_fd int fd = open(s->netns, O_RDONLY | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0)
		return error_errno(e, "cannot create %s", s->netns);
	struct new_namespace new = { .path = s->netns };
	if (from) {
		if (mount(from, s->netns, NULL, MS_BIND, NULL) < 0)
			new.error = errno;
	} else {
		pthread_t thread;
		new.error = pthread_create(&thread, NULL, bind_new_namespace, &new);
		if (new.error == 0)
			pthread_join(thread, NULL);
	}
	if (new.error)
		return error_set(e, new.error, "cannot make the network namespace %s: %s", s->netns,
				 strerror(new.error));
	return 0;
}

int net_namespace_open(const struct net_session *s, struct error *e)
{
	int fd = open(s->netns, O_RDONLY | O_CLOEXEC);
	return fd < 0 ? error_errno(e, "cannot open the network namespace %s", s->netns) : fd;
}

/* --- link ---------------------------------------------------------------------- */

int net_session_setup(const struct net_session *s, bool held, struct error *e)
{
	cleanup_fd int fd = net_namespace_open(s, e);
	if (fd < 0)
		return fd;
	int r = net_hold_setup(fd, held, e);
	if (r == 0)
		r = net_link_setup(s, held, fd, e);
	return error_wrap(e, r, "network of session %s", s->id);
}

int net_session_teardown(const struct net_session *s, struct error *e)
{
	int r = net_link_delete(s->id, e);
	while (net_namespace_bound(s->netns))
		if (umount2(s->netns, MNT_DETACH) < 0)
			return error_errno(e, "cannot unmount %s", s->netns);
	if (unlink(s->netns) < 0 && errno != ENOENT)
		return error_errno(e, "cannot remove %s", s->netns);
	return r;
}
