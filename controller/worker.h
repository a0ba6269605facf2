/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_CONTROLLER_WORKER_H
#define ELSA_CONTROLLER_WORKER_H

/*
 * A thread for what blocks. Tasks are run on it one after the other, in the
 * order they were given, and end on the loop's thread; all functions are called
 * there.
 */

#include "base/error.h"

#include <event2/event.h>
#include <stdatomic.h>
#include <sys/queue.h>

struct worker;

/* Part of the caller's own struct, which must stay until `done`. */
struct worker_task {
	void (*run)(
		struct worker_task *task); /* on the thread: nothing of the loop's may be used */
	void (*done)(struct worker_task *task); /* on the loop; may free the task */
	STAILQ_ENTRY(worker_task) entry;
};

int worker_new(struct event_base *base, struct worker **worker, struct error *e);
/* Sets worker_stop(): nothing more is begun. */
void worker_end(struct worker *worker);
/* Does that, and waits for the task that runs; it and all others end by `drop` instead of `done`.
 */
void worker_free(struct worker *worker, void (*drop)(struct worker_task *task));

void worker_give(struct worker *worker, struct worker_task *task);

/* Set when the worker is to end: a task that can looks at it. */
const atomic_bool *worker_stop(const struct worker *worker);

#endif
