/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_NODE_STORE_JOB_H
#define ELSA_NODE_STORE_JOB_H

/* Private to node/store_jobs.c and node/store_work.c: one job. */

#include "node/store_jobs.h"
#include "node/store_transfer.h"

#include <sys/queue.h>

struct store_job {
	TAILQ_ENTRY(store_job) entry;
	struct node *node;
	struct store_request request;       /* owned */
	struct store_task task;             /* owned; under node->lock while it runs */
	struct transfer *transfer;          /* of export and import */
	bool over;                          /* the loop's: done() has been here */
	TAILQ_HEAD(, store_waiter) waiters; /* the loop's */
};

/* On a worker: all of it. `arg` is the job, whose task says how it ended. */
void store_job_work(void *arg);

#endif
