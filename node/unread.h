/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_NODE_UNREAD_H
#define ELSA_NODE_UNREAD_H

/*
 * What a session's server has been sent and has not read: bytes of a connection,
 * or a connection it has not accepted, or is about to have. Of a session that stands still it is
 * what somebody wants of it.
 */

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* In the network namespace of `pid`, at the port. Any thread. */
int unread_is_there(pid_t pid, int64_t port, bool *unread, struct error *e);

/* In the text of /proc/PID/net/tcp or tcp6 (proc(5)). Pure. */
bool unread_in(const char *text, int64_t port);

#endif
