/* SPDX-License-Identifier: Apache-2.0 */
/* On what a session's size is decided: what it has, holds, and was seen to use. */
#include "controller/size_private.h"

#include "base/cleanup.h"
#include "controller/sessions.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define HOUR_MS ((int64_t)3600 * 1000)

/* --- what it used --------------------------------------------------------------------------------
 */

struct reading {
	struct size_sample *samples;
	size_t count, room;
	wall_ms until; /* end of the last one; 0 */
	int64_t span_ms;
};

static void reading_deinit(struct reading *r)
{
	free(r->samples);
}

static int add_sample(struct reading *r, const struct size_sample *sample)
{
	if (r->count == r->room) {
		size_t room = r->room ? 2 * r->room : 256;
		struct size_sample *more = reallocarray(r->samples, room, sizeof(*more));
		if (!more)
			return -ENOMEM;
		r->samples = more;
		r->room = room;
	}
	r->samples[r->count++] = *sample;
	return 0;
}

static int take_row(const struct db_usage *row, void *arg)
{
	struct reading *r = arg;
	const struct size_sample sample = {
		.awake_ms = row->awake_ms,
		.p95_bytes = row->memory_p95_bytes,
		.peak_bytes = row->memory_peak_bytes,
		.cpu_ms = row->cpu_ms,
	};
	r->until = row->at + r->span_ms;
	return add_sample(r, &sample);
}

/* The minute that is going on is on no record yet. */
static int take_minute(const struct session *s, struct reading *r)
{
	const struct usage_minute *m = &s->usage;
	int64_t awake = m->sum.awake_us;
	const struct size_sample sample = {
		.awake_ms = awake / 1000,
		.p95_bytes = awake > 0 ? (int64_t)(m->sum.memory_us / (double)awake) : 0,
		.peak_bytes = m->sum.peak_bytes,
		.cpu_ms = m->sum.cpu_us / 1000,
	};
	return awake > 0 ? add_sample(r, &sample) : 0;
}

/* Hours as far back as they are to count, and the minutes since. */
static int read_use(struct controller *c, const char *user, const char *server,
		    const struct session *s, struct size_use *use, struct error *e)
{
	cleanup(reading_deinit) struct reading r = { .span_ms = HOUR_MS };
	wall_ms from = clock_wall() - c->config->size.window_ms;
	int rc = db_usage_each(c->db, USAGE_HOUR, user, server, from, take_row, &r, e);
	from = r.until > from ? r.until : from;
	r.span_ms = HOUR_MS / 60;
	if (rc == 0)
		rc = db_usage_each(c->db, USAGE_MINUTE, user, server, from, take_row, &r, e);
	if (rc == 0 && s)
		rc = take_minute(s, &r);
	if (rc == -ENOMEM)
		return error_set(e, ENOMEM, "out of memory");
	if (rc == 0)
		*use = size_use_of(r.samples, r.count);
	return rc;
}

/* --- what it has ---------------------------------------------------------------------------------
 */

int size_find(const struct size *size, const char *name)
{
	for (size_t i = 0; name && i < size->classes.count; i++)
		if (strcmp(size->classes.list[i].name, name) == 0)
			return (int)i;
	return -1;
}

bool size_is_over(const struct session *s)
{
	return !session_state_has_processes(s->state) && !s->row.checkpoint;
}

/* One that dozes is there, whatever of it was paged out; of one that has ended nothing is left. */
static int64_t held_by(const struct session *s)
{
	if (session_state_has_memory(s->state) || s->state == SESSION_DOZING)
		return s->seen.rss_bytes + s->seen.out_bytes + s->seen.missing_bytes;
	return s->row.checkpoint ? s->checkpoint_memory : 0;
}

/* A clock that was put back does not make it settle any later than that. */
static int64_t since_sized(const struct session *s)
{
	int64_t ms = clock_wall() - s->row.sized_at;
	if (!s->row.sized_at)
		return -1;
	return ms > 0 ? ms : 0;
}

static int decide(struct controller *c, const char *user, const char *server,
		  const struct session *s, struct size_view *view, struct error *e)
{
	const struct size *size = c->size;
	int r = read_use(c, user, server, s, &view->facts.use, e);
	if (r == 0)
		view->decision = size_decide(&size->rules, size->classes.list, size->classes.count,
					     &view->facts);
	return r;
}

int size_look(const struct session *s, struct size_view *to, struct error *e)
{
	*to = (struct size_view) {
		.facts = {
			.memory_bytes = s->memory_limit,
			.cpus = s->cpu_limit,
			.held_bytes = held_by(s),
			.since_ms = since_sized(s),
			.chosen = size_find(s->controller->size, s->row.size),
		},
	};
	return decide(s->controller, s->row.user, s->row.server, s, to, e);
}

int size_look_at_start(const struct session *s, const char *chosen,
		       const struct session_limits *limits, struct size_view *to, struct error *e)
{
	bool had_one = s->row.sized_at && s->row.spec;
	const char *name = chosen ? chosen : s->row.size;
	*to = (struct size_view) {
		.facts = {
			/* What it had come to. */
			.memory_bytes = had_one ? s->memory_limit : limits->memory_bytes,
			.cpus = had_one ? s->cpu_limit : limits->cpus,
			.since_ms = since_sized(s),
			.chosen = size_find(s->controller->size, name),
		},
	};
	return decide(s->controller, s->row.user, s->row.server, s, to, e);
}

int size_look_ahead(struct controller *c, const char *user, const char *server,
		    struct size_view *to, struct error *e)
{
	*to = (struct size_view) {
		.facts = {
			.memory_bytes = c->config->session.memory_bytes,
			.cpus = c->config->session.cpus,
			.since_ms = -1,
			.chosen = -1,
		},
	};
	return decide(c, user, server, NULL, to, e);
}
