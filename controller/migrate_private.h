/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_CONTROLLER_MIGRATE_PRIVATE_H
#define ELSA_CONTROLLER_MIGRATE_PRIVATE_H

#include "controller/migrate.h"
#include "controller/waiters.h"

/* One that waits for its turn, or moves by checkpoint. */
struct moving {
	TAILQ_ENTRY(moving) entry;
	char session[ID_SIZE];
	char operation[ID_SIZE];
	struct node *to; /* NULL: any */
	char *who, *why;
	bool safe;
	mono_us deadline; /* of its turn */
	struct node *from;
	enum {
		MOVING_WAITS,
		MOVING_SNAPSHOT, /* so that little is left to be written while it stands still */
		MOVING_HIBERNATES,
	} phase;
};

struct migrate {
	struct event *timer;
	TAILQ_HEAD(, moving) queue;
	struct waiters routes; /* targets that wait for the hub's host */
};

#endif
