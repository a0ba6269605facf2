/* SPDX-License-Identifier: Apache-2.0 */
#include "controller/rows.h"

#include "base/cleanup.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OUTCOME_KEY_SIZE (ID_SIZE + 16)

void replace_text(char **to, const char *text)
{
	char *copy = text ? strdup(text) : NULL;
	if (text && !copy)
		abort(); /* the record must never lose a field in silence */
	free(*to);
	*to = copy;
}

struct checkpoint_rows {
	struct db_checkpoint *items;
	size_t count;
};

static int collect(const struct db_checkpoint *row, void *arg)
{
	struct checkpoint_rows *rows = arg;
	struct db_checkpoint *items =
		realloc(rows->items, (rows->count + 1) * sizeof(*rows->items));
	if (!items)
		return -ENOMEM;
	rows->items = items;
	items[rows->count] = *row;
	items[rows->count].node = items[rows->count].cpu = NULL;
	replace_text(&items[rows->count].node, row->node);
	replace_text(&items[rows->count].cpu, row->cpu);
	rows->count++;
	return 0;
}

static int newest_first(const void *a, const void *b)
{
	const struct db_checkpoint *x = a;
	const struct db_checkpoint *y = b;
	return (x->generation < y->generation) - (x->generation > y->generation);
}

int rows_checkpoints(struct db *db, const char *session, struct db_checkpoint **rows, size_t *count,
		     struct error *e)
{
	struct checkpoint_rows found = { 0 };
	int r = db_checkpoint_each(db, session, collect, &found, e);
	if (r < 0) {
		rows_free_checkpoints(found.items, found.count);
		return r;
	}
	if (found.count)
		qsort(found.items, found.count, sizeof(*found.items), newest_first);
	*rows = found.items;
	*count = found.count;
	return 0;
}

void rows_free_checkpoints(struct db_checkpoint *rows, size_t count)
{
	for (size_t i = 0; i < count; i++)
		db_checkpoint_deinit(&rows[i]);
	free(rows);
}

int rows_delete_session(struct db *db, const char *session, struct error *e)
{
	struct db_checkpoint *rows = NULL;
	size_t count = 0;
	int r = rows_checkpoints(db, session, &rows, &count, e);
	for (size_t i = 0; r == 0 && i < count; i++)
		r = db_checkpoint_delete(db, session, rows[i].generation, e);
	rows_free_checkpoints(rows, count);
	return r < 0 ? r : db_session_delete(db, session, e);
}

int rows_set_aside(struct db *db, const char *session, int64_t *generation, struct error *e)
{
	struct db_checkpoint *rows = NULL;
	size_t count = 0;
	int r = rows_checkpoints(db, session, &rows, &count, e);
	size_t i = 0;
	*generation = 0;
	while (i < count && rows[i].aside)
		i++;
	if (r == 0 && i < count) {
		rows[i].aside = true;
		*generation = rows[i].generation;
		r = db_checkpoint_put(db, &rows[i], e);
	}
	rows_free_checkpoints(rows, count);
	return r;
}

/* -ENOENT */
static int get_checkpoint(struct db *db, const char *session, int64_t generation,
			  struct db_checkpoint *to, struct error *e)
{
	struct db_checkpoint *rows = NULL;
	size_t count = 0;
	int r = rows_checkpoints(db, session, &rows, &count, e);
	if (r == 0)
		r = -ENOENT;
	for (size_t i = 0; i < count && r == -ENOENT; i++) {
		if (rows[i].generation != generation)
			continue;
		*to = rows[i];
		rows[i].node = rows[i].cpu = NULL;
		r = 0;
	}
	rows_free_checkpoints(rows, count);
	return r;
}

int rows_find_checkpoint(struct db *db, const struct db_session *session, int64_t generation,
			 wall_ms now, struct db_checkpoint *to, struct error *e)
{
	int r = get_checkpoint(db, session->id, generation, to, e);
	if (r != -ENOENT)
		return r;
	*to = (struct db_checkpoint) { .generation = generation, .created_at = now };
	memcpy(to->session, session->id, ID_SIZE);
	replace_text(&to->node, session->node);
	return db_checkpoint_put(db, to, e);
}

bool rows_is_aside(struct db *db, const char *session, int64_t generation)
{
	struct db_checkpoint row = { 0 };
	bool aside = get_checkpoint(db, session, generation, &row, NULL) == 0 && row.aside;
	db_checkpoint_deinit(&row);
	return aside;
}

int rows_put_checkpoint(struct db *db, const struct db_session *session,
			const struct effect_result *result, wall_ms now, struct error *e)
{
	struct db_checkpoint row = {
		.generation = session->checkpoint,
		.created_at = now,
		.memory_bytes = result->memory_bytes,
		.stored_bytes = result->stored_bytes,
		.frozen_us = result->frozen_us,
		.duration_us = result->duration_us,
		.node = session->node,
	};
	memcpy(row.session, session->id, ID_SIZE);
	return db_checkpoint_put(db, &row, e);
}

static const char *outcome_key(char to[OUTCOME_KEY_SIZE], const char *session)
{
	snprintf(to, OUTCOME_KEY_SIZE, "operation.%s", session);
	return to;
}

int rows_put_outcome(struct db *db, const char *session, const char *outcome, struct error *e)
{
	char key[OUTCOME_KEY_SIZE];
	return db_fact_set(db, outcome_key(key, session), outcome, e);
}

int rows_get_outcome(struct db *db, const char *session, char **outcome, struct error *e)
{
	char key[OUTCOME_KEY_SIZE];
	return db_fact_get(db, outcome_key(key, session), outcome, e);
}
