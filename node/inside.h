/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_NODE_INSIDE_H
#define ELSA_NODE_INSIDE_H

/*
 * What happens between fork and exec of a session: everything is prepared by
 * the caller, since the node has threads and the child must not wait for a
 * lock that one of them held.
 */

#include "node/seccomp.h"

#include <sys/types.h>

struct inside {
	const char *root; /* the overlay, mounted */
	const char *home;
	const char *home_target; /* root + home_inside */
	const char *home_inside;
	const char *host_name;
	const char *run_user; /* "run/user/UID" */
	char *const *argv;    /* of pid 1, elsa-init included */
	const char *command;  /* to look up as the user before it is started */
	const char *path;     /* directories to look it up in */
	char *const *env;
	uid_t uid;
	gid_t gid;
	int netns_fd;
	int go_fd;     /* a byte comes when the process is in its cgroups */
	int report_fd; /* write end, close-on-exec */
	const struct seccomp_program *filter;
};

/* Sent once with pid and code 0 by the helper, and once with code != 0 by who fails. The pipe's end
 * without a failure means that pid 1 runs. */
struct inside_report {
	pid_t pid;
	int code;       /* positive errno */
	char what[160]; /* "cannot " + what */
};

/* The body of the helper process; makes pid 1 and ends. */
void inside_run(const struct inside *in) __attribute__((noreturn));

#endif
