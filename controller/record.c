/* SPDX-License-Identifier: Apache-2.0 */
#include "controller/record.h"

#include "base/cleanup.h"
#include "base/log.h"
#include "controller/api.h"

int record_event(struct controller *c, const struct record *record, struct error *e)
{
	const struct db_session *row = record->session ? &record->session->row : NULL;
	cleanup_free char *inputs =
		record->inputs ? json_dumps(record->inputs, JSON_COMPACT) : NULL;
	/* The row type owns its strings; db_event_add() only reads them. */
	struct db_event event = {
		.at = record->at ? record->at : clock_wall(),
		.session = row ? (char *)row->id : NULL,
		.user = row ? row->user : NULL,
		.server = row ? row->server : NULL,
		.who = (char *)record->who,
		.what = (char *)record->what,
		.why = (char *)record->why,
		.detail = (char *)record->detail,
		.duration_us = record->duration_us,
		.bytes = record->bytes,
		.inputs = inputs,
	};
	int r = db_event_add(c->db, &event, e);
	if (r < 0)
		return error_wrap(e, r, "cannot record an event");
	api_wake_events(c);
	return 0;
}

void record_note(struct controller *c, const struct record *record)
{
	struct error e = ERROR_INIT;
	if (record_event(c, record, &e) < 0)
		log_error("%s", e.text);
}
