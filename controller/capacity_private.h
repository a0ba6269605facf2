/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_CONTROLLER_CAPACITY_PRIVATE_H
#define ELSA_CONTROLLER_CAPACITY_PRIVATE_H

/* What controller/capacity*.c share. */

#include "cloud/capacity.h"
#include "controller/capacity.h"
#include "controller/worker.h"
#include "policies/capacity.h"

#include <sys/queue.h>

/* What is kept of a pool. A growth, lowering or giving back is there from its decision until its
 * answer: what is there at elsad's start is asked again. */
struct pool_kept {
	char *name;
	int64_t asked_at;     /* it was made to grow last */
	int64_t asked;        /* to so many */
	int64_t refused_at;   /* it had nothing to give */
	char *token;          /* of a growth under way; NULL: none */
	int64_t more;         /* ... by so many */
	int64_t lower_to;     /* -1: no lowering is under way */
	int64_t memory_bytes; /* of its machines, for sessions, as seen last; 0: not seen */
	char *features;
	char *price; /* "spot"; NULL: not known */
};

struct machine_kept {
	char *id;
	char *pool;
	char *node;    /* that it is; NULL: it has not joined */
	int64_t since; /* seen first */
	bool giving;   /* it is being given back */
	char *why;     /* ... for that reason */
};

struct capacity_kept {
	struct pool_kept *pools;
	size_t pool_count;
	struct machine_kept *machines;
	size_t machine_count;
	int64_t grown_at, shrunk_at;
};

struct pool {
	struct pool_kept kept;
	size_t index;
	bool described; /* since elsad's start */
	int failures;   /* to look at it, in a row */
	int64_t desired, most;
	bool can_lower;
	wall_ms look_at;        /* when it is looked at next */
	wall_ms shrink_next_at; /* it refused to give one up: not before */
	char *problem;          /* as recorded last; NULL: none */
	struct pool_task *task; /* under way */
};

struct machine {
	struct machine_kept kept;
	struct pool *pool; /* NULL: of none that is configured */
	struct node *node; /* NULL: it has not joined */
	enum cloud_instance_state state;
	bool seen; /* in the last description of its pool */
	char *alias, *zone, *type, *price, *refused;
	wall_ms asked_at;    /* to give it back; 0: not since elsad's start */
	wall_ms empty_since; /* 0: it is not */
	TAILQ_ENTRY(machine) entry;
};

struct want {
	char id[ID_SIZE];
	int64_t memory_bytes;
	char *features;
	bool in_use, spot;
	bool doomed; /* its node ends */
	wall_ms since, until;
	int coming; /* as decided last */
	bool useless;
	TAILQ_ENTRY(want) entry;
};

TAILQ_HEAD(machines, machine);
TAILQ_HEAD(wants, want);

/* The worker thread's alone, but for its opening and freeing. */
struct cloud_link {
	char *provider, *region, *endpoint;
	char **command;
	const atomic_bool *stop;
	volatile pid_t child;         /* a command of it that runs; 0: none */
	struct cloud_capacity *cloud; /* opened by the first task */
};

struct capacity {
	struct controller *controller;
	struct cloud_link link;
	struct worker *worker;
	struct event *timer;
	struct pool *pools;
	size_t pool_count;
	struct machines machines;
	struct wants wants;
	wall_ms grown_at, shrunk_at;
	wall_ms started_at;
	enum capacity_block block; /* as decided last, and recorded */
	bool dirty;                /* what is to be kept is not yet */
};

struct capacity_pass {
	struct capacity_facts facts;
	struct capacity_wanted *wanted;
	struct capacity_pool *pools;
	struct capacity_machine *machines;
	struct machine **of; /* facts.machines[i] is this one */
	wall_ms next_at;     /* somebody's patience ends; 0: nobody's */
};

enum pool_task_kind { POOL_DESCRIBE, POOL_GROW, POOL_LOWER, POOL_SHRINK };

/* capacity_facts.c: for a pass. 0 or -ENOMEM; to be freed all the same. */
int capacity_collect(struct capacity *cap, struct capacity_pass *pass, wall_ms now);
void capacity_pass_deinit(struct capacity_pass *pass);

/* capacity_wants.c. for_doomed: sessions in use on a node that ends, and that no other has room
 * for, are wanted elsewhere before they are put away. */
void wants_for_doomed(struct capacity *cap, wall_ms now);
void wants_forget(struct capacity *cap, wall_ms now);
void want_drop(struct capacity *cap, struct want *w);

/* capacity_kept.c: the record. */
int capacity_load(struct capacity *cap, struct error *e);
int capacity_save(struct capacity *cap, struct error *e); /* in a transaction of the caller's */

/* capacity_cloud.c: what is asked of the cloud. */
void capacity_ask(struct capacity *cap, struct pool *pool,
		  wall_ms now); /* the next thing, if any */
void capacity_drop_task(struct worker_task *task);
bool pool_is_busy(const struct pool *pool); /* its number is about to change */

/* capacity_machines.c */
struct machine *machine_new(struct capacity *cap, const char *id, struct pool *pool, wall_ms since);
void machine_drop(struct capacity *cap, struct machine *m);
struct machine *machine_find(struct capacity *cap, const char *id, const char *alias);
/* Which nodes they are, since when those have no sessions; those that are gone are taken off the
 * record. */
void machines_match(struct capacity *cap, wall_ms now);
void machine_undrain(struct capacity *cap, struct machine *m); /* it stays, after all */

void capacity_note(struct capacity *cap, const char *what, const char *why, const char *format, ...)
	__attribute__((format(printf, 4, 5)));

#endif
