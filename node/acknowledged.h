/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_NODE_ACKNOWLEDGED_H
#define ELSA_NODE_ACKNOWLEDGED_H

/*
 * Effects whose end elsad has heard, or that another one took the place of. A
 * question for one may still be on its way, on a connection that elsad has given
 * up: come late, it must not begin anew what may be done elsewhere by now. Such
 * connections end with the process that listens, so nothing of this is kept.
 * The loop's.
 */

#include "base/clock.h"

#include <stdbool.h>

/* Longer than a kernel goes on sending for a program that has closed a connection. */
#define ACKNOWLEDGED_FOR_US (600 * 1000000LL)

/* More than a thousand sessions have in that time, with a snapshot of each every three minutes. */
enum { ACKNOWLEDGED_MOST = 4096, ACKNOWLEDGED_ID_SIZE = 65 };

struct acknowledged {
	struct {
		char id[ACKNOWLEDGED_ID_SIZE];
		mono_us at;
	} all[ACKNOWLEDGED_MOST]; /* zeroed to begin with */
	unsigned next;
};

void acknowledged_add(struct acknowledged *a, const char *id, mono_us now);
bool acknowledged_has(const struct acknowledged *a, const char *id, mono_us now);

#endif
