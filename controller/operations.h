/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_CONTROLLER_OPERATIONS_H
#define ELSA_CONTROLLER_OPERATIONS_H

/*
 * What callers of the API watch: one effect on one session, under the
 * effect's id, from the request on. The outcome of a session's last is kept in
 * the database, so that a restart of elsad hides nothing from who waits; those
 * before it are known for a while. One thread.
 */

#include "controller/sessions.h"
#include "controller/waiters.h"

#include <jansson.h>

struct operation {
	struct controller *c;
	char id[ID_SIZE];
	struct session *session; /* NULL: gone */
	char *user, *server, *who, *why;
	enum effect_kind kind;
	json_t *outcome; /* what it came to; NULL while it runs */
	char *step;
	int64_t bytes_done, bytes_total;
	bool of_several; /* it is a snapshot, a hibernation and a restore in one */
	struct waiters waiters;
	struct http_call *poll; /* a node is being asked how far it is: */
	struct node *polled;
	TAILQ_ENTRY(operation) entry;
};

struct operations {
	TAILQ_HEAD(operations_list, operation) all; /* with the orphans last */
	size_t orphans;
	struct event *timer; /* of progress.c */
};

int operations_new(struct controller *c, struct error *e);
void operations_free(struct controller *c);

/* Begins one, in the place of the session's last. The session's running operation without an effect
 * (the Hub was asked) is gone on with instead, and keeps its id, who and why. */
struct operation *operation_begin(struct session *s, const char *id, enum effect_kind kind,
				  const char *who, const char *why);

/* One that is done before it began: what was asked is so already. */
struct operation *operation_settled(struct session *s, enum effect_kind kind, const char *who,
				    const char *why);

/* The same as JSON only: nothing takes the place of the operation that is under way. */
json_t *operation_already_json(const struct session *s, enum effect_kind kind, const char *who,
			       const char *why);

/* The one of this kind that waits for the Hub to ask us, or NULL. */
const struct operation *operation_waiting(const struct session *s, enum effect_kind kind);

/* How it ended, as text for the database; NULL when out of memory. */
char *operation_outcome(const struct session *s, enum effect_kind kind,
			const struct db_effect *effect, const struct effect_result *result);

/* The session's operation goes on over the effects that belong to it. */
bool operation_goes_on(const struct session *s, enum effect_kind kind);

void operation_step(struct operation *op, const char *step);
void operation_end(struct operation *op, const char *outcome); /* from operation_outcome() */
void operation_fail(struct operation *op, const struct error *error);

struct operation *operation_find(struct controller *c, const char *id);
bool operation_running(const struct operation *op);

json_t *operation_json(const struct operation *op); /* without "session"; new reference */
void operation_add_error(json_t *to, const struct error *error, const char *log_tail);
void operation_add_result(json_t *to, const char *step, const struct effect_result *result);

/* The session goes out of the table, or has another one: this one stays for a while without it. */
void operation_orphan(struct session *s);

/* Answers `x` with the operation `id` when it ended or moved on, at the latest after `seconds`. */
void operation_wait(struct operation *op, struct http_exchange *x, int seconds);

struct event *progress_timer_new(struct controller *c); /* asks the node while anybody waits */

#endif
