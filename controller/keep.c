/* SPDX-License-Identifier: Apache-2.0 */
/* What is kept of a session besides its state: database first, memory after. */
#include "controller/sessions.h"

#include "base/cleanup.h"
#include "base/fs.h"
#include "base/log.h"
#include "controller/checkpoints.h"
#include "controller/effects.h"
#include "controller/nodes.h"
#include "controller/record.h"
#include "controller/rows.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Writes `draft` and the event in one transaction; then the draft is the session's row. */
static int keep(struct session *s, struct db_session *draft, const struct record *record,
		int (*more)(struct session *s, void *arg, struct error *e), void *arg,
		struct error *e)
{
	struct db *db = s->controller->db;
	int r = db_begin(db, e);
	if (r == 0) {
		r = db_session_put(db, draft, e);
		if (r == 0 && more)
			r = more(s, arg, e);
		if (r == 0 && record)
			r = record_event(s->controller, record, e);
		if (r == 0)
			r = db_commit(db, e);
		else
			db_rollback(db);
	}
	if (r == 0) {
		db_session_deinit(&s->row);
		s->row = *draft;
	} else {
		db_session_deinit(draft);
	}
	return r;
}

int session_keep_awake(struct session *s, wall_ms until, const char *who, struct error *e)
{
	char text[CLOCK_TEXT_SIZE];
	struct db_session draft = session_copy_row(&s->row);
	const struct record record = { .session = s,
				       .who = who,
				       .what = "keep-awake",
				       .why = until ? "asked" : "given-back",
				       .detail = clock_format(until, text) };
	draft.keep_awake_until = until;
	return keep(s, &draft, &record, NULL, NULL, e);
}

int session_record_person(struct session *s, wall_ms person_at, struct error *e)
{
	struct db_session draft = session_copy_row(&s->row);
	draft.person_at = person_at;
	return keep(s, &draft, NULL, NULL, NULL, e);
}

int session_set_wish(struct session *s, enum session_wish wish, struct error *e)
{
	struct db_session draft = session_copy_row(&s->row);
	draft.wish = wish;
	if (wish == WISH_NONE)
		replace_text(&draft.tried, NULL);
	return keep(s, &draft, NULL, NULL, NULL, e);
}

static char *spec_with_limits(const struct session *s, const struct session_limits *limits,
			      struct error *e)
{
	struct session_spec spec = { 0 };
	int r = session_spec(s, &spec, e);
	spec.limits = *limits;
	cleanup_json json_t *encoded = r == 0 ? wire_encode(&wire_session_spec, &spec) : NULL;
	char *text = encoded ? json_dumps(encoded, JSON_COMPACT) : NULL;
	if (r == 0 && !text)
		error_set(e, ENOMEM, "out of memory");
	wire_free(&wire_session_spec, &spec);
	return text;
}

int session_set_limits(struct session *s, const struct session_limits *limits,
		       const struct record *said, struct error *e)
{
	struct record record = *said;
	record.session = s;
	record.what = "memory-limit";
	cleanup_free char *spec = spec_with_limits(s, limits, e);
	if (!spec)
		return -EIO;
	struct db_session draft = session_copy_row(&s->row);
	replace_text(&draft.spec, spec);
	draft.sized_at = clock_wall();
	int r = keep(s, &draft, &record, NULL, NULL, e);
	if (r == 0)
		session_take_spec(s);
	return r;
}

int session_set_memory(struct session *s, int64_t bytes, const char *who, const char *why,
		       const char *detail, struct error *e)
{
	const struct record record = { .who = who, .why = why, .detail = detail };
	struct session_spec spec = { 0 };
	int r = session_spec(s, &spec, e);
	struct session_limits limits = spec.limits;
	wire_free(&wire_session_spec, &spec);
	limits.memory_bytes = bytes;
	return r < 0 ? r : session_set_limits(s, &limits, &record, e);
}

int session_set_size(struct session *s, const char *size, const char *who, struct error *e)
{
	struct db_session draft = session_copy_row(&s->row);
	const struct record record = { .session = s,
				       .who = who,
				       .what = "size",
				       .why = size ? "chosen" : "automatic",
				       .detail = size };
	replace_text(&draft.size, size);
	return keep(s, &draft, &record, NULL, NULL, e);
}

int session_set_left_behind(struct session *s, const char *text, struct error *e)
{
	struct db_session draft = session_copy_row(&s->row);
	replace_text(&draft.left_behind, text);
	return keep(s, &draft, NULL, NULL, NULL, e);
}

static int mark_aside(struct session *s, void *arg, struct error *e)
{
	return rows_set_aside(s->controller->db, s->row.id, arg, e);
}

int session_set_aside(struct session *s, const char *who, const char *why, const char *reason,
		      struct error *e)
{
	int64_t generation = 0;
	struct db_session draft = session_copy_row(&s->row);
	const struct record record = {
		.session = s, .who = who, .what = "set-aside", .why = why, .detail = reason
	};
	replace_text(&draft.reason, reason);
	draft.checkpoint = 0;
	int r = keep(s, &draft, &record, mark_aside, &generation, e);
	if (r < 0)
		return r;
	session_take_checkpoint(s, NULL);
	if (generation)
		checkpoints_tell_aside(s->controller, s->row.id, generation);
	return 0;
}

static int drop_row(struct session *s, void *arg, struct error *e)
{
	const int64_t *generation = arg;
	return db_checkpoint_delete(s->controller->db, s->row.id, *generation, e);
}

int session_drop_checkpoint(struct session *s, int64_t generation, const char *who, struct error *e)
{
	cleanup_free char *detail =
		str_printf("checkpoint %lld was removed from the store", (long long)generation);
	struct db_session draft = session_copy_row(&s->row);
	const struct record record = { .session = s,
				       .who = who,
				       .what = "checkpoint-removed",
				       .why = "asked",
				       .detail = detail };
	bool newest = generation == draft.checkpoint;
	/* An older one does not take its place by itself: it would be an older past. */
	if (newest)
		draft.checkpoint = 0;
	int r = keep(s, &draft, &record, drop_row, &generation, e);
	if (r == 0 && newest)
		session_take_checkpoint(s, NULL);
	return r;
}

static int put_adopted(struct session *s, void *arg, struct error *e)
{
	const struct checkpoint_info *info = arg;
	struct db_checkpoint row = {
		.generation = info->generation,
		.created_at = info->created_at,
		.memory_bytes = info->memory_bytes,
		.stored_bytes = info->stored_bytes,
		.node = s->row.node,
		.aside = info->aside,
		.cpu = info->cpu,
	};
	memcpy(row.session, s->row.id, ID_SIZE);
	return db_checkpoint_put(s->controller->db, &row, e);
}

int session_adopt_checkpoint(struct session *s, const struct checkpoint_info *info, const char *who,
			     struct error *e)
{
	struct db_session draft = session_copy_row(&s->row);
	const struct record found = {
		.session = s,
		.who = "store",
		.what = "checkpoint-found",
		.why = "newer-than-recorded",
		.detail = "the store has a checkpoint that was not on record",
		.bytes = info->stored_bytes,
	};
	const struct record imported = {
		.session = s,
		.who = who,
		.what = "checkpoint-imported",
		.why = "asked",
		.bytes = info->stored_bytes,
	};
	bool newest = info->generation >= draft.generation;
	if (newest) {
		draft.generation = info->generation;
		draft.checkpoint = info->aside ? 0 : info->generation;
	}
	int r = keep(s, &draft, who ? &imported : &found, put_adopted, (void *)info, e);
	if (r < 0)
		return r;
	if (!who)
		log_warning("%s: its checkpoint %lld in the store was not on record; it is now",
			    s->label, (long long)info->generation);
	if (newest)
		session_take_checkpoint(s, info->aside ? NULL
						       : &(struct db_checkpoint) {
								 .stored_bytes = info->stored_bytes,
								 .memory_bytes = info->memory_bytes,
								 .cpu = info->cpu });
	return 0;
}

int session_rename_node(struct session *s, const struct node *node, const char *name,
			struct error *e)
{
	struct db *db = s->controller->db;
	struct db_session row = s->row;
	int r = 0;
	row.node = (char *)name;
	if (s->node == node)
		r = db_session_put(db, &row, e);
	if (r == 0 && s->effect && s->effect->node == node) {
		struct db_effect effect = s->effect->row;
		effect.node = (char *)name;
		r = db_effect_put(db, &effect, e);
	}
	return r;
}

void session_renamed_node(struct session *s, const struct node *node)
{
	if (s->node == node)
		replace_text(&s->row.node, node->name);
	if (s->effect && s->effect->node == node)
		replace_text(&s->effect->row.node, node->name);
}
