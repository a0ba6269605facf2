/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_CONTROLLER_ROWS_H
#define ELSA_CONTROLLER_ROWS_H

/* Small compounds of db/db.h's functions, for callers that hold a transaction. */

#include "db/db.h"
#include "wire/messages.h"

/* `to` owns a copy of `text` (may be NULL) afterwards. */
void replace_text(char **to, const char *text);

/* The session with its checkpoints and its operation's outcome; its effect is gone already. */
int rows_delete_session(struct db *db, const char *session, struct error *e);

/* Marks the newest checkpoint that is not set aside: *generation; 0 when there is none. */
int rows_set_aside(struct db *db, const char *session, int64_t *generation, struct error *e);

/* The row of a checkpoint, of which the caller is to release the strings; one that is not on record
 * is made, and known no better than that it is there. */
int rows_find_checkpoint(struct db *db, const struct db_session *session, int64_t generation,
			 wall_ms now, struct db_checkpoint *to, struct error *e);
bool rows_is_aside(struct db *db, const char *session, int64_t generation);

int rows_put_checkpoint(struct db *db, const struct db_session *session,
			const struct effect_result *result, wall_ms now, struct error *e);

/* The last operation's outcome: NULL deletes it. */
int rows_put_outcome(struct db *db, const char *session, const char *outcome, struct error *e);
int rows_get_outcome(struct db *db, const char *session, char **outcome, struct error *e);

/* All of a session's checkpoints, newest first: an allocated array whose rows own their strings. */
int rows_checkpoints(struct db *db, const char *session, struct db_checkpoint **rows, size_t *count,
		     struct error *e);
void rows_free_checkpoints(struct db_checkpoint *rows, size_t count);

#endif
