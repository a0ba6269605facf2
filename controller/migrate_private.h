/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_CONTROLLER_MIGRATE_PRIVATE_H
#define ELSA_CONTROLLER_MIGRATE_PRIVATE_H

#include "controller/migrate.h"
#include "controller/waiters.h"

enum moving_phase {
	MOVING_WAITS = 0,
	MOVING_SNAPSHOT, /* so that little is left to be written while it stands still */
	MOVING_HIBERNATES,
	MOVING_PHASE_COUNT
};

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
	enum moving_phase phase;
};

struct migrate {
	struct event *timer;
	TAILQ_HEAD(, moving) queue;
	struct waiters routes; /* targets that wait for the hub's host */
};

/* --- migrate.c --- */

struct moving *migrate_find(const struct session *s); /* NULL: it does not wait */
/* Copies `what`, and shows its operation. */
struct moving *migrate_enqueue(struct session *s, const struct moving *what);
void migrate_drop(struct controller *c, struct moving *m);
void migrate_fail(struct controller *c, struct moving *m, struct session *s, struct error e);

/* --- migrate_safe.c: by checkpoint. What has been asked is on record until it has ended --- */

int migrate_safe_keep(struct controller *c, const struct moving *m, struct error *e);
void migrate_safe_forget(struct controller *c, const struct moving *m);
void migrate_safe_load(struct controller *c);
int migrate_safe_begin(struct session *s, struct moving *m, struct error *e);
void migrate_safe_go_on(struct controller *c, struct moving *m, struct session *s);
/* How its operation has ended is on record. */
void migrate_safe_told(struct session *s);

#endif
