/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_NODE_VAULT_H
#define ELSA_NODE_VAULT_H

/*
 * Descriptors that must live exactly as long as the session: when the last
 * descriptor of a userfaultfd is closed, missing pages become zeros in silence.
 *
 * elsa-init, pid 1 of every session, holds a pair of connected sockets that
 * nobody reads (init/main.c). Descriptors sent over one end stay in the queue of
 * the other for as long as init lives, frozen or not, without init doing
 * anything. We get at both ends with pidfd_getfd(2); a peek gives copies of what
 * is in the queue. The queue must be empty again before the session is dumped.
 * Thread-safe for different sessions.
 */

#include "base/error.h"

#include <stdint.h>
#include <sys/types.h>

/* Puts a descriptor in under a number (the pid of its process, inside). */
int vault_put(pid_t init, int32_t number, int fd, struct error *e);
/* Calls `each` with a copy of every descriptor, which it owns. */
int vault_each(pid_t init, int (*each)(int32_t number, int fd, void *arg), void *arg,
	       struct error *e);
int vault_empty(pid_t init, struct error *e);

#endif
