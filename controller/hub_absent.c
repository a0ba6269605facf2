/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Users whom the Hub deleted. Deleting one there goes through the spawner,
 * which has the sessions forgotten; what is left for us is when that did not
 * get through. A listing with a hole must cost nobody anything, so the Hub is
 * asked by name, and even then nothing is deleted: what runs is checkpointed,
 * and checkpoints are set aside so that a new user of the same name does not
 * wake up in another's session.
 */
#include "controller/hub_private.h"

#include "base/cleanup.h"
#include "base/fs.h"
#include "base/log.h"

#include <stdlib.h>
#include <string.h>

#define REASON "its user was deleted in the Hub; the checkpoint is set aside"

static void put_away(struct session *s)
{
	struct error e = ERROR_INIT;
	const struct session_change change = {
		.event = EVENT_HIBERNATE,
		.who = "hub",
		.why = "user-deleted",
	};
	const wall_ms pause = 1800000; /* after a refusal */
	int r = 0;
	if (session_is_its_nodes(s) && clock_wall() - s->row.refused_at > pause)
		r = session_apply(s, &change, NULL, &e);
	else if (s->state == SESSION_HIBERNATED && s->row.checkpoint)
		r = session_set_aside(s, "hub", "user-deleted", REASON, &e);
	if (r < 0)
		log_warning("%s: its user was deleted in the Hub, but %s", s->label, e.text);
}

struct absence {
	struct controller *c;
	char *user;
};

static void got_user(const struct http_reply *reply, void *arg)
{
	struct absence *absence = arg;
	struct person *person = sessions_person(absence->c, absence->user);
	struct session *s;
	if (person && reply->status == 404) {
		cleanup_free char *label = session_make_label(person->name, "");
		if (!person->deleted)
			log_warning("the Hub has no user %s any more", label ? label : "?");
		person->deleted = true;
		TAILQ_FOREACH(s, &person->sessions, by_person)
		put_away(s);
	} else if (person && reply->status == 200) {
		person->absent = 0;
	}
	free(absence->user);
	free(absence);
}

void hub_check_absent(struct controller *c, struct person *person)
{
	cleanup_free char *name = http_escape(person->name);
	cleanup_free char *path = name ? str_printf("/users/%s", name) : NULL;
	const struct hub_request request = { .method = "GET", .path = path };
	struct absence *absence = calloc(1, sizeof(*absence));
	if (absence)
		*absence = (struct absence) { .c = c, .user = strdup(person->name) };
	if (absence && absence->user && path &&
	    hub_call(c, &request, got_user, absence, NULL, NULL) == 0)
		return;
	if (absence)
		free(absence->user);
	free(absence);
}
