/* SPDX-License-Identifier: Apache-2.0 */
#include "controller/import.h"

#include "base/cleanup.h"
#include "base/fs.h"
#include "base/log.h"
#include "controller/record.h"
#include "controller/rows.h"
#include "controller/spec.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

__attribute__((format(printf, 3, 4))) static void say(struct import_outcome *to, bool resumable,
						      const char *format, ...)
{
	va_list args;
	va_start(args, format);
	vsnprintf(to->text, sizeof(to->text), format, args);
	va_end(args);
	to->resumable = resumable;
}

/* It is in the store, and stays there; that it is not on record can be mended. */
static void say_why_not(struct import_outcome *to, const struct error *e)
{
	say(to, false, "it is in the store, but cannot be woken here: %s%s%s", e->text,
	    e->remedy[0] ? "; " : "", e->remedy);
}

/* --- a session that is known -------------------------------------------------------------------
 */

static void wake_from_it(struct session *s, const char *who, struct import_outcome *to)
{
	const struct session_change change = {
		.event = EVENT_IMPORTED,
		.who = who,
		.why = "import",
	};
	struct error e = ERROR_INIT;
	if (session_apply(s, &change, NULL, &e) < 0)
		say_why_not(to, &e);
	else if (session_has_processes(s))
		say(to, false, "%s is running; should it be lost, it is woken from this", s->label);
	else
		say(to, s->row.checkpoint != 0, "the next start of %s wakes it from this",
		    s->label);
}

static void take_known(struct session *s, const struct checkpoint_info *info, const char *who,
		       struct import_outcome *to)
{
	struct error e = ERROR_INIT;
	if (s->effect) {
		say(to, false,
		    "it is in the store, but something is just being done to %s: it is on record "
		    "after elsad's next start",
		    s->label);
		return;
	}
	if (session_adopt_checkpoint(s, info, who, &e) < 0)
		say_why_not(to, &e);
	else if (info->generation < s->row.generation)
		say(to, false, "%s has a newer one, generation %lld, and is woken from that",
		    s->label, (long long)s->row.generation);
	else
		wake_from_it(s, who, to);
}

/* --- one that is not ---------------------------------------------------------------------------
 */

static const char *find_token(const struct session_spec *spec)
{
	static const char name[] = "JUPYTERHUB_API_TOKEN=";
	for (char **p = spec->env; p && *p; p++)
		if (strncmp(*p, name, strlen(name)) == 0)
			return *p + strlen(name);
	return NULL;
}

static int write_new(struct session *s, const struct checkpoint_info *info, const char *who,
		     struct error *e)
{
	struct db *db = s->controller->db;
	struct db_checkpoint checkpoint = {
		.generation = info->generation,
		.created_at = info->created_at,
		.memory_bytes = info->memory_bytes,
		.stored_bytes = info->stored_bytes,
		.aside = info->aside,
		.cpu = info->cpu,
	};
	memcpy(checkpoint.session, s->row.id, ID_SIZE);
	int r = db_begin(db, e);
	if (r < 0)
		return r;
	r = db_session_put(db, &s->row, e);
	if (r == 0)
		r = db_checkpoint_put(db, &checkpoint, e);
	if (r == 0)
		r = record_event(s->controller,
				 &(struct record) { .session = s,
						    .who = who,
						    .what = "session-imported",
						    .why = "asked",
						    .bytes = info->stored_bytes },
				 e);
	if (r == 0)
		return db_commit(db, e);
	db_rollback(db);
	return r;
}

static void fill_row(struct session *s, const struct checkpoint_info *info,
		     const struct session_spec *spec, const char *spec_text)
{
	struct db_session *row = &s->row;
	memcpy(row->id, spec->id, ID_SIZE);
	replace_text(&row->state, session_state_name(SESSION_HIBERNATED));
	replace_text(&row->address, spec->address);
	replace_text(&row->spec, spec_text);
	replace_text(&row->api_token, find_token(spec));
	row->generation = info->generation;
	row->created_at = info->created_at;
	row->changed_at = clock_wall();
	s->state = SESSION_HIBERNATED;
	row->checkpoint = info->aside ? 0 : info->generation;
	if (!info->aside)
		session_take_checkpoint(
			s, &(struct db_checkpoint) { .stored_bytes = info->stored_bytes,
						     .memory_bytes = info->memory_bytes,
						     .cpu = info->cpu });
}

static int make_session(struct controller *c, const struct checkpoint_info *info,
			const struct session_spec *spec, const char *spec_text, const char *who,
			struct session **to, struct error *e)
{
	struct session *s = session_new(c, spec->user, spec->server);
	if (!s)
		return error_set(e, ENOMEM, "out of memory");
	fill_row(s, info, spec, spec_text);
	int r = write_new(s, info, who, e);
	if (r < 0) {
		session_free(s);
		if (r == -EEXIST)
			error_remedy(e, r,
				     "its address is another session's here: forget that one "
				     "first, and import it again");
		return r;
	}
	sessions_insert(s);
	session_take_spec(s);
	*to = s;
	return 0;
}

static int check_spec(struct controller *c, const struct checkpoint_info *info,
		      const struct session_spec *spec, struct error *e)
{
	int r = 0;
	if (!id_valid(info->session) || strcmp(spec->id, info->session) != 0)
		return error_fault(e, FAULT_CORRUPT, "what it says of its session does not fit it");
	if (sessions_find(c, spec->user, spec->server)) {
		r = error_fault(e, FAULT_CONFLICT,
				"there is another session of that user and name");
		return error_remedy(e, r, "forget that one first, and import it again");
	}
	return spec_check_foreign(c, spec, e);
}

static void take_unknown(struct controller *c, const struct checkpoint_info *info,
			 const char *spec_text, const char *who, struct import_outcome *to)
{
	struct error e = ERROR_INIT;
	struct session_spec spec = { 0 };
	struct session *s = NULL;
	int r = wire_decode_text(&wire_session_spec, spec_text, strlen(spec_text), &spec, &e);
	if (r == 0)
		r = check_spec(c, info, &spec, &e);
	if (r == 0)
		r = make_session(c, info, &spec, spec_text, who, &s, &e);
	wire_free(&wire_session_spec, &spec);
	if (r < 0 || !s) {
		say_why_not(to, &e);
		return;
	}
	log_info("%s: imported, with checkpoint %lld", s->label, (long long)info->generation);
	if (!s->row.checkpoint)
		say(to, false, "%s is known from now on; this checkpoint was set aside", s->label);
	else
		say(to, true, "%s is known from now on; its next start wakes it", s->label);
}

void import_take(struct controller *c, const struct store_task *task, const char *who,
		 struct import_outcome *to)
{
	const struct checkpoint_info *info = task->checkpoints;
	struct session *s = task->checkpoint_count ? sessions_by_id(c, info->session) : NULL;
	if (!task->checkpoint_count)
		say(to, false, "the node does not say what it was");
	else if (s)
		take_known(s, info, who, to);
	else if (!task->spec)
		say(to, false,
		    "it is in the store, but holds nothing of its session that it could be woken "
		    "by");
	else
		take_unknown(c, info, task->spec, who, to);
}
