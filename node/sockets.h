/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_NODE_SOCKETS_H
#define ELSA_NODE_SOCKETS_H

/*
 * TCP connections of a session's processes, from outside: by copies of their
 * descriptors (pidfd_getfd(2)), one at a time. Best effort; blocking.
 */

#include "node/cgroup.h"

/* A CRIU that was killed while it dumped leaves them in repair mode, in which they carry nothing.
 */
void sockets_end_repair(const struct cgroup *cg);

/* Once packets may pass: what is to be sent is sent. It would wait for a timer otherwise, 0.2 s, or
 * 3 s where a connection has been restored, of which no round trip is known. */
void sockets_push(const struct cgroup *cg);

#endif
