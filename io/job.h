/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_IO_JOB_H
#define ELSA_IO_JOB_H

/*
 * Child processes: criu, ip, nft ... A job is over when its output has ended
 * *and* it has been waited for, or when its deadline has passed (SIGTERM, then
 * SIGKILL 2 s later, to its process group, which it leads). Killed by somebody
 * else it takes with it what it has started in that group. Output is capped.
 *
 * job_run() blocks its thread and is meant for worker threads and programs
 * without a loop; it is thread-safe. It waits for its own child only (pidfd),
 * so other children of the process are not disturbed.
 */

#include "base/buf.h"
#include "base/error.h"

#include <stdbool.h>
#include <sys/types.h>

struct job_options {
	const char *const *argv; /* NULL-terminated; argv[0] looked up in PATH */
	const char *const *env;  /* NULL: ours */
	const char *input;       /* to its standard input; NULL: /dev/null */
	int timeout_ms;          /* 0: 60,000 */
	int netns_fd;            /* >= 0: run in that network namespace; set -1 for none */
	const int *keep_fds;     /* descriptors (above 2) it inherits, under the same numbers */
	size_t keep_fd_count;
	volatile pid_t *pid_out; /* told, atomically, while it runs, 0 after; may be NULL */
};

struct job_result {
	int status; /* exit status; 128 + signal when killed by one */
	bool timed_out;
	struct buf out; /* standard output, cap 1 MiB */
	struct buf err; /* standard error, cap 256 KiB; more is read and dropped */
};

#define JOB_OPTIONS(...) ((struct job_options) { .netns_fd = -1, __VA_ARGS__ })

/* 0 when it ran to an end, whatever the status; negative when it could not be run or timed out. In
 * each case the result is to be released. */
int job_run(const struct job_options *options, struct job_result *result, struct error *e);
void job_result_deinit(struct job_result *result);

/* job_run() that also wants status 0; the error carries the last lines the job printed. */
int job_check(const struct job_options *options, struct error *e);

/* Moves a descriptor away from where a child's standard ones will be put, for keep_fds. -1 and
 * errno. */
int job_above_stdio(int *fd);

#endif
