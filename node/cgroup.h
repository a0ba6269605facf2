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

/* What becomes of a process that needs memory above its group's limit. */
enum cgroup_at_limit {
	CGROUP_ENDS, /* the kernel ends one of the group */
	/* It waits for as long as there is no more. That is so on version 1, but for system calls,
	 * which fail (ENOMEM, EFAULT). On version 2 it is made slower and slower, and one is ended
	 * only at a quarter more than the limit. */
	CGROUP_WAITS
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
	bool waits;   /* CGROUP_WAITS */
	bool waiting; /* ... and some do */
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

/* `limits`: what cgroup_create() was given. Without a limit there is nothing to set. */
int cgroup_at_limit(const struct cgroup *cg, const struct session_limits *limits,
		    enum cgroup_at_limit what, struct error *e);
/* No limit for as long as somebody works on its processes, which stand still; and the limit
 * again, or what it uses by now where that is more. */
int cgroup_ease(const struct cgroup *cg, const struct session_limits *limits, bool eased,
		struct error *e);
/* Those that wait try again. The kernel wakes them when a limit is raised, but not one that was
 * about to fall asleep just then. */
void cgroup_wake(const struct cgroup *cg);

/* A descriptor that becomes readable when something has happened to one of the groups added to it:
 * its processes wait, or what it uses, page cache included, has come to a mark. Close it with
 * close(2). */
int cgroup_notices_open(const struct cgroup *any, struct error *e);
/* Ends with the group. Added again: other marks besides, or none (version 2 knows only one). */
int cgroup_notices_add(const struct cgroup *cg, int fd, const int64_t *marks, size_t count,
		       struct error *e);
void cgroup_notices_clear(int fd);
/* Tells a group from another that had its name before; 0: there is none. */
uint64_t cgroup_identity(const struct cgroup *cg);

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
