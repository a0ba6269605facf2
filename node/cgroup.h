/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_NODE_CGROUP_H
#define ELSA_NODE_CGROUP_H

/*
 * A session's control groups: limits, accounting, freezer. Version 1 (one
 * directory per controller), version 2 (one directory) and the mixture that
 * systemd calls hybrid, where version 1 has the controllers, behind one face.
 *
 * Only directories named MOUNT/NAME and MOUNT/NAME/ID are ever made or removed.
 * Blocking; thread-safe for different groups.
 */

#include "base/error.h"
#include "wire/messages.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum cgroup_controller {
	CGROUP_MEMORY,
	CGROUP_CPU,
	CGROUP_CPUACCT,
	CGROUP_PIDS,
	CGROUP_FREEZER,
	CGROUP_CONTROLLER_COUNT
};
extern const char *const cgroup_controller_names[CGROUP_CONTROLLER_COUNT];

/* Where each controller is mounted. `paths` may hold the same text several times: controllers
 * mounted together, or version 2. */
struct cgroup_mounts {
	int version;                          /* 1 or 2; 0: none found */
	char *paths[CGROUP_CONTROLLER_COUNT]; /* owned; NULL: not there */
};

/* From the text of /proc/self/mountinfo. Version 2's controllers are not looked at here: see
 * cgroup_find(). 0 or -ENOMEM. */
int cgroup_parse_mounts(const char *mountinfo, struct cgroup_mounts *to);
void cgroup_mounts_deinit(struct cgroup_mounts *m); /* idempotent */

/* This machine's, with controllers that version 2 does not have taken out. */
int cgroup_find(struct cgroup_mounts *to, struct error *e);

/* Whose memory the kernel may page out of a group. */
enum cgroup_swap {
	CGROUP_SWAP_SYSTEM, /* as the machine is set up */
	CGROUP_SWAP_NONE,   /* nothing, though what is out stays out until it is touched */
	CGROUP_SWAP_ALL     /* before any page cache */
};

struct cgroup_usage {
	int64_t memory_bytes; /* anonymous and shared, no page cache; what is in memory of it */
	int64_t out_bytes;    /* ... and what is paged out; 0 where it is not counted */
	int64_t shared_bytes; /* ... of these: memory files, what is in a tmpfs */
	/* What anonymous and shared memory takes: as memory_bytes, and what no process has mapped
	 * any more while it is still being written to swap. */
	int64_t taken_bytes;
	int64_t cpu_us;
	int64_t processes;
	int64_t oom_kills;
	/* How long something in it has waited for a processor, memory, a disk; where the kernel
	 * tells of groups (version 2 with pressure stall information). */
	bool stalls_known;
	int64_t cpu_stall_us, memory_stall_us, io_stall_us;
};

struct cgroup {
	const struct cgroup_ops *ops;
	char *dirs[CGROUP_CONTROLLER_COUNT]; /* owned; NULL: no such controller */
};

/* The group MOUNT/name/id in every hierarchy; makes nothing. */
int cgroup_init(struct cgroup *cg, const char *name, const char *id, struct error *e);
int cgroup_init_at(struct cgroup *cg, const struct cgroup_mounts *mounts, const char *name,
		   const char *id, struct error *e);
void cgroup_deinit(struct cgroup *cg); /* idempotent */

/* Once per node: MOUNT/name, with the controllers handed on (version 2). */
int cgroup_host_setup(const char *name, struct error *e);
int cgroup_host_teardown(const char *name, struct error *e);

/* Ids of all groups below MOUNT/name. */
int cgroup_each(const char *name, int (*each)(const char *id, void *arg), void *arg,
		struct error *e);

/* Makes the group, or sets an existing one's limits anew. A limit without its controller is an
 * error. */
int cgroup_create(const struct cgroup *cg, const struct session_limits *limits, struct error *e);
/* Removes the empty group; waits up to 5 s for exiting processes to leave it. */
int cgroup_remove(const struct cgroup *cg, struct error *e);
bool cgroup_exists(const struct cgroup *cg);

int cgroup_adopt(const struct cgroup *cg, pid_t pid, struct error *e);

/* Returns when every task is frozen, or -ETIMEDOUT after timeout_ms and thawed again. */
int cgroup_freeze(const struct cgroup *cg, int timeout_ms, struct error *e);
/* Only asks: the processes stop one by one, each when it next can. */
int cgroup_freeze_soon(const struct cgroup *cg, struct error *e);
int cgroup_thaw(const struct cgroup *cg, struct error *e);
int cgroup_frozen(const struct cgroup *cg, bool *frozen, struct error *e);

/* Its own state, whatever is above it: whether it was asked to freeze and not to thaw since. */
bool cgroup_freeze_asked(const struct cgroup *cg);

/* Without a memory controller there is nothing to set, and nothing is paged out. */
int cgroup_set_swap(const struct cgroup *cg, enum cgroup_swap what, struct error *e);
/* Has the kernel page out at most so many bytes. 0 when some went out; -EAGAIN when none could.
 * Version 1 knows no measure: it is all that can be, page cache too. */
int cgroup_reclaim(const struct cgroup *cg, int64_t bytes, struct error *e);

int cgroup_usage(const struct cgroup *cg, struct cgroup_usage *usage, struct error *e);

/* Calls `each` for every process; a positive or negative return ends it and is returned. A missing
 * group has no processes. */
int cgroup_processes(const struct cgroup *cg, int (*each)(pid_t pid, void *arg), void *arg,
		     struct error *e);

/* The directory with the freezer, for criu's --freeze-cgroup. */
const char *cgroup_freezer(const struct cgroup *cg);

#endif
