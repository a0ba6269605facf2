/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_IO_JOB_SPAWN_H
#define ELSA_IO_JOB_SPAWN_H

/*
 * The start of a child process, for io/job.c. Thread-safe.
 */

#include "io/job.h"

struct job_child {
	pid_t pid; /* leads a process group of its own; never reaped here */
	int pidfd;
	int out; /* read ends, not blocking; -1 when closed */
	int err;
	int failure; /* yields a struct job_failure if the program could not be executed, else EOF
		      */
};

#define JOB_CHILD_INIT ((struct job_child) { .pidfd = -1, .out = -1, .err = -1, .failure = -1 })

enum job_step { JOB_STEP_NETNS, JOB_STEP_STDIO, JOB_STEP_FDS, JOB_STEP_EXEC };

struct job_failure {
	enum job_step step;
	int code; /* errno */
};

/* 0 when there is a child, whether or not it will manage to execute the program. */
int job_spawn(const struct job_options *options, struct job_child *child, struct error *e);
const char *job_step_name(enum job_step step);

/* For a child before its execve(), behind which ignored and blocked signals would stay so. */
void job_reset_signals(void);

void job_child_deinit(struct job_child *child); /* closes; the process must have been reaped */

#endif
