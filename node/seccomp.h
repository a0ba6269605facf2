/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_NODE_SECCOMP_H
#define ELSA_NODE_SECCOMP_H

/*
 * The system calls a session has no business with: those that change the
 * machine, that make namespaces (and with them a larger kernel surface), and
 * those that CRIU cannot dump. Everything else is allowed, ptrace included: a
 * debugger in a notebook is a fair use, and reaches the session's own
 * processes only.
 */

#include "base/error.h"

#include <linux/filter.h>

struct seccomp_program {
	struct sock_fprog prog; /* prog.filter is owned */
};

/* Compiles the filter; done before the fork, since it allocates. */
int seccomp_compile(struct seccomp_program *to, struct error *e);
void seccomp_program_deinit(struct seccomp_program *p); /* idempotent */

/* Puts it on the calling thread, for good; no_new_privs must be set. Async-signal-safe. 0 or a
 * negative errno. */
int seccomp_apply(const struct seccomp_program *p);

#endif
