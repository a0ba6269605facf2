/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_NODE_SANDBOX_H
#define ELSA_NODE_SANDBOX_H

/*
 * The place a session lives in: pid, mount, net, ipc, uts and time namespaces,
 * an overlay over a read-only image, its home bound from outside, its own /dev,
 * /proc, /tmp and /dev/shm, its address, its cgroup. Everything is named by
 * the session's id, so that after a crash it is found again without memory.
 *
 *	STATE_DIR/sessions/ID/upper, work    the overlay's layers
 *	RUN_DIR/netns/ID                     its network namespace, bound
 *	RUN_DIR/root/ID                      its root while it is being entered or restored
 *	veth "esID[0:12]"                    host side of its link
 *	CGROUP/ID                            in every hierarchy in use
 *
 * Every function is idempotent: called again after a kill at any point it
 * finishes what was begun. Blocking, for worker threads; different sandboxes
 * may be worked on at the same time.
 */

#include "base/error.h"
#include "config/config.h"
#include "node/cgroup.h"
#include "wire/messages.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* A mount of the namespace that is not part of the image, for CRIU. Paths are borrowed from spec.
 */
struct sandbox_mount_pair {
	const char *inside;
	const char *outside; /* what is bound there */
	const char *key;     /* name in --external mnt[inside]:key and mnt[key]:outside */
};

struct sandbox {
	const struct config *config;     /* borrowed */
	const struct session_spec *spec; /* borrowed */
	char *dir;                       /* STATE_DIR/sessions/ID */
	char *upper;
	char *work;
	char *root;  /* RUN_DIR/root/ID */
	char *netns; /* RUN_DIR/netns/ID */
	char *log;   /* the session's standard output, as seen from outside: in `upper` */
	struct cgroup cgroup;
	struct net_keep *keep;               /* while its packets are held; may be NULL */
	struct sandbox_mount_pair mounts[2]; /* ended by a NULL `inside` */
};

/* Paths only; makes nothing. */
int sandbox_init(struct sandbox *sb, const struct config *config, const struct session_spec *spec,
		 struct error *e);
void sandbox_deinit(struct sandbox *sb);

/* Directories, cgroup with its limits, network namespace with address, routes and packet filter.
 * `held`: no packet passes the session's interfaces, loopback included, until sandbox_release(),
 * which gives it those that came for it meanwhile (node/net_keep.h). */
int sandbox_prepare(struct sandbox *sb, bool held, struct error *e);

/* Mounts the overlay (and what CRIU wants to find in it) at sb->root in our mount namespace, for
 * the time of a start or a restore. */
int sandbox_mount(struct sandbox *sb, struct error *e);
int sandbox_unmount(struct sandbox *sb, struct error *e);

/* A new process tree: elsa-init as pid 1, the command below it, as the user, without capabilities,
 * with no_new_privs and the seccomp filter. Needs prepare and mount. *init: its pid in our
 * namespace. Fails with the reason when the command cannot be executed. */
int sandbox_start(struct sandbox *sb, pid_t *init, struct error *e);

/* Packets: hold before a dump, release after a thaw or a restore. */
int sandbox_hold(struct sandbox *sb, struct error *e);
int sandbox_release(struct sandbox *sb, struct error *e);

/* Freezer. freeze returns when all tasks are frozen. */
int sandbox_freeze(struct sandbox *sb, struct error *e);
int sandbox_thaw(struct sandbox *sb, struct error *e);
int sandbox_frozen(struct sandbox *sb, bool *frozen, struct error *e);
/* No limit of memory while CRIU works on its frozen processes, with memory of theirs: where it met
 * one it could not go on, nor take its code out of them again. And the limit. Best effort. */
void sandbox_ease(const struct sandbox *sb, const struct session_limits *limits, bool eased);
/* Path of the freezer cgroup as criu's --freeze-cgroup wants it (v1 or v2); allocated. */
char *sandbox_freezer_path(const struct sandbox *sb);

/* Puts a process into all the session's cgroups. */
int sandbox_adopt(struct sandbox *sb, pid_t pid, struct error *e);

/* Pid of its init in our namespace, found by the cgroup; 0 when there is none. */
int sandbox_find_init(struct sandbox *sb, pid_t *init, struct error *e);

struct sandbox_usage {
	int64_t rss_bytes;   /* anonymous and shared memory, no page cache */
	int64_t out_bytes;   /* the same, paged out */
	int64_t taken_bytes; /* see node/cgroup.h */
	int64_t cpu_us;
	int64_t processes;
	int64_t oom_kills;
	bool stalls_known; /* see node/cgroup.h */
	int64_t cpu_stall_us, memory_stall_us, io_stall_us;
};
int sandbox_usage(struct sandbox *sb, struct sandbox_usage *usage, struct error *e);

/* SIGKILL to every process and until none is left (frozen ones too). 0 when there is none. */
int sandbox_kill(struct sandbox *sb, struct error *e);
/* SIGTERM to the command's tree, then kill after grace_ms. */
int sandbox_end(struct sandbox *sb, int grace_ms, struct error *e);

/* Network namespace, link, routes, cgroup, mounts; then, with `layers`, the overlay's layers. Home
 * is never touched. */
int sandbox_teardown(struct sandbox *sb, bool layers, struct error *e);

/* Ended by one whose `inside` is NULL; borrowed until deinit. */
const struct sandbox_mount_pair *sandbox_external_mounts(struct sandbox *sb);

/* Once per node: packet filter table, host address, forwarding; checks that cgroups can be used. */
int sandbox_host_setup(const struct config *config, struct error *e);
/* Takes that away again; for a node without sessions. */
int sandbox_host_teardown(const struct config *config, struct error *e);

/* Ids of all sandboxes of which anything exists on this node. */
int sandbox_each(const struct config *config, int (*each)(const char *id, void *arg), void *arg,
		 struct error *e);

#endif
