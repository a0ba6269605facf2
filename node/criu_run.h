/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_NODE_CRIU_RUN_H
#define ELSA_NODE_CRIU_RUN_H

/*
 * One running CRIU and the talk with it, private to node/criu*.c. At certain
 * points of its work the library that is loaded into it (preload/script.c) tells
 * us over one fifo ("told") and, where the next move is ours, waits for a word
 * on another ("verdict"). Fifos with names, so that a successor of ours can give
 * the word, too.
 */

#include "io/job.h"
#include "node/criu.h"

#include <pthread.h>

#define CRIU_ARGS 128

struct criu_args {
	char *items[CRIU_ARGS]; /* owned, NULL-terminated */
	size_t count;
	bool failed; /* out of memory */
};
void criu_args_add(struct criu_args *args, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
void criu_args_deinit(struct criu_args *args);

struct criu_run {
	struct criu_options options; /* images and unseen are its own */
	struct criu_args args, env;
	const char *log_name;
	struct job_options job;
	struct job_result result;
	struct error error; /* of job_run */
	int status;         /* its return value */
	volatile pid_t pid;
	pthread_t thread;
	bool started;
	bool freezes; /* a dump for processes that stay frozen: criu_stays_frozen() */
	int told;     /* the fifos, for both directions */
	int verdict;
	int over;      /* eventfd: job_run has returned */
	int inherited; /* descriptor handed to CRIU; -1: none */
	int kept;      /* its number, for the thread */
};

/* CRIU keeps what it has found out about the kernel in /run. It must not find out while it runs
 * with another real uid, with which nft does not work: this lets it do so before. */
int criu_ensure_cache(const char *program, struct error *e);

/* Makes the work directory and its fifos. `freezer` is the session's freezer cgroup. */
int criu_run_new(const struct criu_options *options, const char *freezer, struct criu_run **run,
		 struct error *e);

/* Starts it with run->args. It is loaded then, and waits before it has looked at anything. */
int criu_run_load(struct criu_run *run, const char *log_name, struct error *e);

/* For this; what of it is not known is NULL. Whether it can do it: it was loaded for the same. */
bool criu_run_fits(const struct criu_run *run, const char *log_name,
		   const struct criu_options *options);

/* Lets it begin: 1. 0 when it has ended instead, which criu_run_next() says again. */
int criu_run_go(struct criu_run *run, const struct criu_options *options, struct error *e);

/* Waits for the next line it tells (1, without the newline) or its end (0, see run->status and
 * run->result). -ETIMEDOUT after options->timeout_ms. */
int criu_run_next(struct criu_run *run, char *line, size_t size, struct error *e);

/* The word it waits for; it may come for it later. */
int criu_run_answer(struct criu_run *run, const char *word, struct error *e);

bool criu_run_alive(const struct criu_run *run); /* it was a moment ago; a zombie is dead */
void criu_run_kill(struct criu_run *run);        /* and what it has started */
void criu_run_join(struct criu_run *run);
void *criu_run_free(struct criu_run *run); /* joins; returns NULL */

/* Its log as text, capped; allocated, or NULL. */
char *criu_run_log(const struct criu_run *run);

#endif
