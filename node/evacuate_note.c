/* SPDX-License-Identifier: Apache-2.0 */
/* Users whose sessions cannot be saved are told while there is time (node/home_note.h). */
#include "node/evacuate_private.h"

#include "base/cleanup.h"
#include "base/log.h"
#include "node/home_note.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct telling {
	struct node *node;
	struct session_spec spec;
	char *text; /* NULL: it is taken away */
	int r;
	struct error error;
};

static void telling_free(struct telling *t)
{
	wire_free(&wire_session_spec, &t->spec);
	free(t->text);
	free(t);
}

static void work(void *arg)
{
	struct telling *t = arg;
	t->r = t->text ? home_note_write(&t->spec, t->text, &t->error)
		       : home_note_remove(&t->spec, &t->error);
}

/* One that could not be told is not told again until there is something else to say. */
static void done(void *arg)
{
	struct telling *t = arg;
	struct evacuate *ev = t->node->evacuate;
	int i = ev ? evacuate_find(ev, t->spec.id) : -1;
	if (t->r < 0)
		log_warning("session %s: %s", t->spec.id, t->error.text);
	else
		log_info("session %s: %s", t->spec.id,
			 t->text ? "its user is told in the home directory that it cannot be saved"
				 : "the note in its home directory is taken away");
	if (i >= 0) {
		ev->more[i].telling = false;
		if (!t->text)
			ev->record.sessions[i].noted = false;
		evacuate_save(ev, false);
		evacuate_tell_users(ev); /* it may be another matter by now */
	}
	telling_free(t);
}

static void begin(struct evacuate *ev, size_t i, const struct session *s, char *text)
{
	struct telling *t = calloc(1, sizeof(*t));
	cleanup_free char *owned = text;
	struct error e = ERROR_INIT;
	if (!t)
		return;
	t->node = ev->node;
	t->text = steal_ptr(&owned);
	int r = journal_copy_spec(&t->spec, &s->journal.session, &e);
	if (r == 0)
		r = pool_submit(ev->node->pool, work, done, t, &e);
	if (r < 0) {
		log_warning("session %s: its user cannot be told: %s", s->id, e.text);
		telling_free(t);
		return;
	}
	ev->more[i].telling = true;
}

/* What is no news at the next look, unlike the age of a checkpoint. */
static const char *reason_of(const struct evacuee *to)
{
	return to->state == EVACUEE_LEFT ? "there is not time enough for all sessions"
					 : (to->why ? to->why : "the machine gives no reason");
}

static bool is_news(struct evacuee_more *m, wall_ms deadline, const char *why)
{
	if (m->told_deadline == deadline && m->told_why && strcmp(m->told_why, why) == 0)
		return false;
	m->told_deadline = deadline;
	journal_set(&m->told_why, why, NULL);
	return true;
}

static void tell(struct evacuate *ev, size_t i, const struct session *s)
{
	struct evacuee *to = &ev->record.sessions[i];
	const char *why = reason_of(to);
	wall_ms deadline = evacuate_deadline(ev, NULL);
	if (!is_news(&ev->more[i], deadline, why))
		return;
	char *text = home_note_text(&s->journal.session, deadline, why, to->snapshot_at);
	if (!text)
		return;
	to->noted = true; /* before it is: a crash leaves none that nobody takes away */
	evacuate_save(ev, false);
	begin(ev, i, s, text);
}

static void take_back(struct evacuate *ev, size_t i, const struct session *s)
{
	ev->more[i].told_deadline = 0;
	begin(ev, i, s, NULL);
}

/* Of one that has ended the note says what has become of it. */
static bool is_well(const struct evacuate *ev, const struct evacuee *to, const struct session *s)
{
	return to->state == EVACUEE_SAVED || to->state == EVACUEE_MOVING ||
	       (!ev->notice_count && session_alive(ev->node, s));
}

void evacuate_tell_users(struct evacuate *ev)
{
	for (size_t i = 0; i < ev->record.session_count; i++) {
		const struct evacuee *to = &ev->record.sessions[i];
		const struct session *s = session_find(ev->node, to->session);
		/* It is tried once more, if there is time: should that go well, all the better. */
		bool unsaved = to->state == EVACUEE_LEFT ||
			       (to->state == EVACUEE_FAILED && ev->more[i].tries > 0);
		if (!s || ev->more[i].telling)
			continue;
		if (ev->notice_count && unsaved)
			tell(ev, i, s);
		else if (to->noted && is_well(ev, to, s))
			take_back(ev, i, s);
	}
}
