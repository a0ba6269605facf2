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
 *
 * A kill at any instant leaves everything that was put in: a peek takes nothing
 * out, and vault_keep() takes a message off the front only when a copy of it is
 * at the end. Hence a number can be there twice.
 *
 * Thread-safe for different sessions; one session's vault is for one thread at a
 * time.
 */

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct vault {
	int in, out; /* init's two ends */
};
#define VAULT_INIT    ((struct vault) { -1, -1 })
#define cleanup_vault cleanup(vault_close)

/* -EBADF: this init has none. */
int vault_open(pid_t init, struct vault *v, struct error *e);
void vault_close(struct vault *v); /* idempotent; what is in it stays */

/* Puts a copy of a descriptor in under a number. -ENOBUFS when it is full. Async-signal-safe with a
 * NULL error. */
int vault_put(const struct vault *v, int32_t number, int fd, struct error *e);
/* Calls `each` with a copy of every descriptor, oldest first, which it owns; nonzero ends it and is
 * returned. */
int vault_each(const struct vault *v, int (*each)(int32_t number, int fd, void *arg), void *arg,
	       struct error *e);
/* Takes out all but those that `keep` says true for. */
int vault_keep(const struct vault *v, bool (*keep)(int32_t number, void *arg), void *arg,
	       struct error *e);
int vault_empty(const struct vault *v, struct error *e);

#endif
