/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_NODE_OWED_H
#define ELSA_NODE_OWED_H

/*
 * Answers that a session's server owes: it has read what it was asked (what it has not read:
 * node/unread.h), and has not said anything since. Put to sleep now, it would leave somebody
 * waiting who has no reason to ask again, and nothing would wake it.
 *
 * What TCP knows of a connection tells when the last bytes came and went, not what they were. Bytes
 * that came right behind ours are the answer to those (a websocket's pong, say), and what has not
 * been answered for long will not be.
 *
 * https://man7.org/linux/man-pages/man7/sock_diag.7.html
 */

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum {
	OWED_ANSWER_MS = 1000, /* so soon behind ours it answers us */
	OWED_MOST_MS = 60000,  /* an answer that takes longer is not waited for */
};

/* In the network namespace of `pid`, by the server at the port. Any thread. */
int owed_is_there(pid_t pid, int64_t port, bool *owed, struct error *e);

/* What TCP knows of a connection. */
struct owed_line {
	uint64_t came, went;       /* bytes, since it was made or restored */
	uint32_t came_ms, went_ms; /* ago: the last of them, or else its beginning */
};
/* Pure. */
bool owed_by(const struct owed_line *line);

#endif
