/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_NODE_CGROUP_OPS_H
#define ELSA_NODE_CGROUP_OPS_H

/* What differs between the two versions of cgroups, and helpers for their one-line files. Private
 * to node/cgroup*.c. */

#include "base/buf.h"
#include "node/cgroup.h"

struct cgroup_ops {
	int version;
	int (*host_setup)(const struct cgroup *top, struct error *e);
	int (*limit)(const struct cgroup *cg, const struct session_limits *limits, struct error *e);
	int (*ask_freeze)(const struct cgroup *cg, bool freeze, struct error *e);
	int (*frozen)(const struct cgroup *cg, bool *frozen, struct error *e);
	int (*at_limit)(const struct cgroup *cg, int64_t limit, enum cgroup_at_limit what,
			struct error *e);
	int (*ease)(const struct cgroup *cg, int64_t limit, bool eased, struct error *e);
	void (*wake)(const struct cgroup *cg);
	int (*notices_open)(void); /* -1 with errno */
	int (*notices_add)(const struct cgroup *cg, int fd, const int64_t *marks, size_t count,
			   struct error *e);
	int (*swap)(const struct cgroup *cg, enum cgroup_swap what, struct error *e);
	/* At most so many bytes, of anonymous and shared memory first. 0 when some went out. */
	int (*reclaim)(const struct cgroup *cg, int64_t bytes, struct error *e);
	int (*usage)(const struct cgroup *cg, struct cgroup_usage *usage, struct error *e);
};

extern const struct cgroup_ops cgroup_v1, cgroup_v2;

/* Writes `text` to DIR/file. */
int cgroup_write(const char *dir, const char *file, const char *text, struct error *e);
/* Appends DIR/file to `to`, a capped buffer. */
int cgroup_read(const char *dir, const char *file, struct buf *to, struct error *e);
/* The number after "key " at the start of a line of `text`; 0 when there is none. */
int64_t cgroup_stat(const char *text, const char *key);
/* What memory.stat has of anonymous memory, but not less than `mapped`. */
int64_t cgroup_taken(const char *text, int64_t mapped);
/* "some ... total=N" of DIR/file, pressure stall information, in microseconds; -1: there is none.
 */
int64_t cgroup_read_stall(const char *dir, const char *file);
int64_t cgroup_parse_stall(const char *text);
/* The number that is all of DIR/file; -1 for "max" and on failure. */
int64_t cgroup_read_number(const char *dir, const char *file);

/* As good as no limit, and a number. */
#define CGROUP_EASED_BYTES (INT64_C(1) << 50)

/* Most that the kernel takes: anonymous memory alone. */
#define SWAPPINESS_MOST 200

/* cpu.max and cpu.cfs_*: one period. Long enough to be cheap, short enough not to be felt. */
#define CGROUP_CPU_PERIOD_US 100000

#endif
