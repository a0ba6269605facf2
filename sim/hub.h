/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_SIM_HUB_H
#define ELSA_SIM_HUB_H

/*
 * What a JupyterHub has written down about its servers, as a trace
 * (docs/simulator.md says what is taken for what). Users become u1, u2, ... in
 * the order in which they are seen. Not thread-safe.
 */

#include "base/buf.h"
#include "base/clock.h"
#include "sim/names.h"

#include <stdbool.h>

enum hub_kind { HUB_STARTED, HUB_ACTIVE, HUB_STOPPED };
enum { HUB_NAME_SIZE = 256 };

struct hub_event {
	enum hub_kind kind;
	wall_ms at;
	int64_t active_ms;           /* of HUB_ACTIVE: taken to be at work for so long */
	char session[HUB_NAME_SIZE]; /* "user" or "user/server"; "user" alone of HUB_ACTIVE: the
				      * one that was started last */
};

/* One line of JupyterHub's log, ended by a NUL. False: it says nothing about a server. */
bool hub_read_log(const char *line, struct hub_event *to);

struct hub_trace {
	int64_t memory_bytes; /* of each session: the Hub does not know */
	struct buf *to;
	struct names users, sessions;
	struct hub_session *known; /* by number */
	size_t known_size;
	uint32_t *last; /* of each user: the session started last, + 1 */
	size_t last_size;
	wall_ms begin, at;
};

/* Appends to t->to; 0, -ENOMEM, or -ENOBUFS when that is full. What cannot be is put right: time
 * that goes back stands still, activity of what is not open opens it, a stop of it is left out. */
int hub_trace_add(struct hub_trace *t, const struct hub_event *event);
int hub_trace_end(struct hub_trace *t, wall_ms at); /* or at its last event, if that is later */
void hub_trace_deinit(struct hub_trace *t);

#endif
