/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "node/net.h"

#include "base/cleanup.h"
#include "base/fs.h"
#include "io/job.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <net/if.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

/* The node's end of every link, on every node. */
#define NODE_MAC           "02:e5:00:00:00:01"
#define COMMAND_TIMEOUT_MS 20000

void net_interface(const char *id, char to[NET_INTERFACE_SIZE])
{
	snprintf(to, NET_INTERFACE_SIZE, NET_INTERFACE_PREFIX "%.12s", id);
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

/* --- commands ---------------------------------------------------------------- */

/* One program, many commands on its input; in the session's namespace when netns_fd >= 0. */
static int run_batch(const char *const *argv, int netns_fd, const char *input, struct error *e)
{
	struct job_options options =
		JOB_OPTIONS(.argv = argv, .input = input, .timeout_ms = COMMAND_TIMEOUT_MS);
	options.netns_fd = netns_fd;
	return job_check(&options, e);
}

static int ip_batch(int netns_fd, const char *input, struct error *e)
{
	const char *const argv[] = { "ip", "-batch", "-", NULL };
	return run_batch(argv, netns_fd, input, e);
}

/* --- link ---------------------------------------------------------------------- */

static int configure_inside(const struct net_session *s, int fd, struct error *e)
{
	const char *gateway = s->config->network.host_address;
	cleanup_free char *input =
		str_printf("link set lo up\n"
			   "link set eth0 addrgenmode none\n"
			   "address replace %s/32 dev eth0\n"
			   "link set eth0 up\n"
			   "neighbour replace %s lladdr " NODE_MAC " dev eth0 nud permanent\n"
			   "route replace default via %s dev eth0 onlink\n",
			   s->address, gateway, gateway);
	if (!input)
		return error_set(e, ENOMEM, "out of memory");
	return ip_batch(fd, input, e);
}

static int configure_outside(const struct net_session *s, const char *name, const char *mac,
			     struct error *e)
{
	cleanup_free char *link =
		if_nametoindex(name)
			? strdup("")
			: str_printf("link add %s address " NODE_MAC " mtu %d type veth"
				     " peer name eth0 address %s mtu %d netns %s\n",
				     name, NET_MTU, mac, NET_MTU, s->netns);
	cleanup_free char *input =
		!link ? NULL
		      : str_printf("%s"
				   "link set %s addrgenmode none up\n"
				   "neighbour replace %s lladdr %s dev %s nud permanent\n"
				   "route replace %s/32 dev %s src %s\n",
				   link, name, s->address, mac, name, s->address, name,
				   s->config->network.host_address);
	if (!input)
		return error_set(e, ENOMEM, "out of memory");
	return ip_batch(-1, input, e);
}

static int configure(const struct net_session *s, int fd, const char *name, const char *mac,
		     struct error *e)
{
	int r = configure_outside(s, name, mac, e);
	return r < 0 ? r : configure_inside(s, fd, e);
}

/* With the link go its routes and neighbours, and the other end. */
static int delete_link(const char *name, struct error *e)
{
	const char *const argv[] = { "ip", "link", "delete", name, NULL };
	int r = if_nametoindex(name) ? run_batch(argv, -1, NULL, e) : 0;
	return r < 0 && !if_nametoindex(name) ? 0 : r;
}

int net_session_setup(const struct net_session *s, bool held, struct error *e)
{
	char name[NET_INTERFACE_SIZE];
	char mac[NET_MAC_SIZE];
	net_interface(s->id, name);
	if (net_mac(s->address, mac) < 0)
		return error_set(e, EINVAL, "\"%s\" is not an IPv4 address", s->address);
	cleanup_fd int fd = net_namespace_open(s, e);
	if (fd < 0)
		return fd;
	int r = net_hold_setup(fd, held, e);
	bool old = if_nametoindex(name);
	if (r == 0)
		r = configure(s, fd, name, mac, e);
	/* A link of the same name that leads to a namespace of before. */
	if (r < 0 && old && delete_link(name, e) == 0)
		r = configure(s, fd, name, mac, e);
	return r < 0 ? error_wrap(e, r, "network of session %s", s->id) : 0;
}

int net_session_teardown(const struct net_session *s, struct error *e)
{
	char name[NET_INTERFACE_SIZE];
	net_interface(s->id, name);
	int r = delete_link(name, e);
	while (net_namespace_bound(s->netns))
		if (umount2(s->netns, MNT_DETACH) < 0)
			return error_errno(e, "cannot unmount %s", s->netns);
	if (unlink(s->netns) < 0 && errno != ENOENT)
		return error_errno(e, "cannot remove %s", s->netns);
	return r;
}
