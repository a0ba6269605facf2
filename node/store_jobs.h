/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_NODE_STORE_JOBS_H
#define ELSA_NODE_STORE_JOBS_H

/*
 * What is done to the store as a whole and takes its time: verify, rm, gc,
 * export, import, rekey, each on a thread apart from those of the effects.
 * They are not journaled: cut off, each can be done again. The sweep that
 * store.gc asks for is one of them.
 *
 * An export's tar is fetched, an import's given, part by part over the API, so
 * that nothing of it ever lies in memory or on a disk of ours, and a caller
 * that goes away ends it.
 *
 * All on the loop.
 */

#include "node/node.h"

struct store_job;
struct store_jobs;

int store_jobs_new(struct node *node, struct error *e);
/* Cuts off transfers, so that what is under way ends soon. Nothing new is begun by itself. */
void store_jobs_stop(struct node *node);
size_t store_jobs_load(const struct node *node); /* how many are under way */
void store_jobs_free(struct node *node);

/* A sweep that is under way is joined. -EBUSY while something else uses what it is about. */
int store_job_begin(struct node *node, const struct store_request *request, struct store_job **job,
		    struct error *e);
struct store_job *store_job_find(struct node *node, const char *id); /* NULL */
/* As wire_store_task; new reference. */
json_t *store_job_json(struct store_job *job);

bool store_job_ended(const struct store_job *job);

/* Tells of the end of one that has not ended yet. */
struct store_waiter;
struct store_waiter *store_job_wait(struct store_job *job,
				    void (*ended)(struct store_job *job, void *arg), void *arg);
void store_job_unwait(struct store_waiter *waiter);

/* The next part of an export, at most STORE_PART bytes; none: that was the end, and it was good.
 * `e`: it failed. One question at a time: -EBUSY. `told` is called once unless it is given up. */
enum { STORE_PART = 1 << 20 };
typedef void store_part(const char *data, size_t len, const struct error *e, void *arg);
int store_job_take(struct store_job *job, store_part *told, void *arg, struct error *e);
/* The next part of an import, which stays the caller's until it is told; len 0: that was all. */
int store_job_give(struct store_job *job, const char *data, size_t len, store_part *told, void *arg,
		   struct error *e);
void store_job_give_up(struct store_job *job);

/* A checkpoint as the API tells it; release with wire_free(). 0 or -ENOMEM. */
int store_info(struct checkpoint_info *info, const struct store_meta *meta);

#endif
