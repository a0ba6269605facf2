/* SPDX-License-Identifier: Apache-2.0 */
#include "controller/usage.h"

#include "base/cleanup.h"
#include "base/log.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define MINUTE_MS   60000
#define GAP_MOST_US 60000000 /* a longer one between two looks was not seen */
#define PRUNE_AFTER 60       /* minutes, from one prune to the next */
#define HOUR_MS     ((int64_t)3600 * 1000)
#define STALL_COUNT 3

struct usage {
	struct event *timer;
	int until_prune; /* minutes */
};

/* --- sampling ------------------------------------------------------------------------------------
 */

static void add_stalls(struct usage_minute *m, const struct session_status *status, bool follows)
{
	const int64_t told[STALL_COUNT] = { status->cpu_stall_us, status->memory_stall_us,
					    status->io_stall_us };
	for (int i = 0; i < STALL_COUNT; i++) {
		if (!status->stalls_known)
			m->sum.stall_us[i] = -1;
		else if (follows && m->stalls_known && told[i] >= m->stall_us[i] &&
			 m->sum.stall_us[i] >= 0)
			m->sum.stall_us[i] += told[i] - m->stall_us[i];
		m->stall_us[i] = told[i];
	}
	m->stalls_known = status->stalls_known;
}

void usage_sample(struct session *s, const struct session_status *status)
{
	struct usage_minute *m = &s->usage;
	mono_us now = clock_mono();
	int64_t gap = now - m->seen_at;
	/* Less than before: its cgroup is another one. */
	bool follows = m->seen_at && gap <= GAP_MOST_US && status->cpu_us >= m->cpu_us;
	/* What stands still is not awake. */
	if (follows && !status->frozen) {
		m->sum.awake_us += gap;
		m->sum.cpu_us += status->cpu_us - m->cpu_us;
		m->sum.memory_us += (double)m->memory_bytes * (double)gap;
	}
	add_stalls(m, status, follows);
	if (status->rss_bytes > m->sum.peak_bytes)
		m->sum.peak_bytes = status->rss_bytes;
	m->memory_bytes = status->rss_bytes;
	m->cpu_us = status->cpu_us;
	m->seen_at = now;
}

void usage_changed(struct session *s, int64_t bytes)
{
	s->usage.sum.changed_bytes += bytes;
}

/* --- minutes -------------------------------------------------------------------------------------
 */

static int64_t to_ms(int64_t us)
{
	return us < 0 ? -1 : us / 1000;
}

static int write_minute(struct session *s, wall_ms at, struct error *e)
{
	struct usage_minute *m = &s->usage;
	int64_t awake = m->sum.awake_us;
	int64_t memory = awake > 0 ? (int64_t)(m->sum.memory_us / (double)awake) : 0;
	const struct db_usage row = {
		.at = at,
		.awake_ms = to_ms(awake),
		.memory_bytes = memory,
		.memory_p95_bytes = memory,
		.memory_peak_bytes = m->sum.peak_bytes,
		.cpu_ms = to_ms(m->sum.cpu_us),
		.cpu_stall_ms = to_ms(m->sum.stall_us[0]),
		.memory_stall_ms = to_ms(m->sum.stall_us[1]),
		.io_stall_ms = to_ms(m->sum.stall_us[2]),
		.changed_bytes = m->sum.changed_bytes,
	};
	bool nothing = !awake && !row.changed_bytes;
	memset(&m->sum, 0, sizeof(m->sum));
	return nothing ? 0 : db_usage_put(s->controller->db, s->row.user, s->row.server, &row, e);
}

/* Observations are not worth waiting for a disk. */
static int write_minutes(struct controller *c, wall_ms at, struct error *e)
{
	int r = db_begin_soon(c->db, e);
	if (r < 0)
		return r;
	for (struct session *s = sessions_first(c); r == 0 && s; s = sessions_next(s))
		r = write_minute(s, at, e);
	if (r == 0)
		return db_commit(c->db, e);
	db_rollback(c->db);
	return r;
}

/* An hour longer than asked, so that what is rolled up at midnight is all there. */
static int prune(struct controller *c, wall_ms now, struct error *e)
{
	const struct {
		enum db_usage_span span;
		int64_t keep_ms;
	} spans[] = {
		{ USAGE_MINUTE, c->config->usage.minutes_ms },
		{ USAGE_HOUR, c->config->usage.hours_ms },
		{ USAGE_DAY, c->config->usage.days_ms },
	};
	int r = 0;
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(spans); i++)
		if (spans[i].keep_ms > 0)
			r = db_usage_prune(c->db, spans[i].span, now - spans[i].keep_ms - HOUR_MS,
					   e);
	return r;
}

static void pass_again(struct controller *c, wall_ms now)
{
	int64_t ms = MINUTE_MS - now % MINUTE_MS + 20;
	const struct timeval time = { .tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000 };
	event_add(c->usage->timer, &time);
}

static void minute_ends(evutil_socket_t fd, short what, void *arg)
{
	struct controller *c = arg;
	struct error e = ERROR_INIT;
	wall_ms now = clock_wall();
	(void)fd;
	(void)what;
	int r = write_minutes(c, now - MINUTE_MS, &e);
	if (r == 0)
		r = db_usage_roll_up(c->db, now, &e);
	if (r == 0 && --c->usage->until_prune <= 0) {
		c->usage->until_prune = PRUNE_AFTER;
		r = prune(c, now, &e);
	}
	if (r < 0)
		log_error("what sessions used cannot be recorded: %s", e.text);
	pass_again(c, now);
}

int usage_new(struct controller *c, struct error *e)
{
	c->usage = calloc(1, sizeof(*c->usage));
	if (!c->usage)
		return error_set(e, ENOMEM, "out of memory");
	c->usage->timer = evtimer_new(c->base, minute_ends, c);
	if (!c->usage->timer)
		return error_set(e, ENOMEM, "out of memory");
	pass_again(c, clock_wall());
	return 0;
}

void usage_free(struct controller *c)
{
	if (!c->usage)
		return;
	if (c->usage->timer)
		event_free(c->usage->timer);
	free(c->usage);
	c->usage = NULL;
}

/* --- as it is shown ------------------------------------------------------------------------------
 */

struct listing {
	json_t *rows;
	struct db_usage sum;
	double memory_ms;
	int64_t *p95; /* of each row */
	size_t count;
};

static json_t *stall_json(int64_t stall_ms, int64_t awake_ms)
{
	return stall_ms < 0 || awake_ms <= 0 ? json_null()
					     : json_real((double)stall_ms / (double)awake_ms);
}

static json_t *row_json(const struct db_usage *row)
{
	double minutes = (double)row->awake_ms / MINUTE_MS;
	double cpu = row->awake_ms > 0 ? (double)row->cpu_ms / (double)row->awake_ms : 0;
	return json_pack("{s:I, s:I, s:I, s:I, s:I, s:f, s:o, s:o, s:o, s:I, s:f}", "at",
			 (json_int_t)row->at, "awake_ms", (json_int_t)row->awake_ms, "memory_bytes",
			 (json_int_t)row->memory_bytes, "memory_p95_bytes",
			 (json_int_t)row->memory_p95_bytes, "memory_peak_bytes",
			 (json_int_t)row->memory_peak_bytes, "cpu_share", cpu, "cpu_stall",
			 stall_json(row->cpu_stall_ms, row->awake_ms), "memory_stall",
			 stall_json(row->memory_stall_ms, row->awake_ms), "io_stall",
			 stall_json(row->io_stall_ms, row->awake_ms), "changed_bytes",
			 (json_int_t)row->changed_bytes, "changed_bytes_per_minute",
			 minutes > 0 ? (double)row->changed_bytes / minutes : 0.0);
}

static void add_stall(int64_t *sum, int64_t stall_ms)
{
	*sum = *sum < 0 || stall_ms < 0 ? -1 : *sum + stall_ms;
}

static int take_row(const struct db_usage *row, void *arg)
{
	struct listing *l = arg;
	int64_t *p95 = realloc(l->p95, (l->count + 1) * sizeof(*p95));
	if (!p95)
		return -ENOMEM;
	l->p95 = p95;
	p95[l->count++] = row->memory_p95_bytes;
	json_array_append_new(l->rows, row_json(row));
	l->sum.at = l->sum.at ? l->sum.at : row->at;
	l->sum.awake_ms += row->awake_ms;
	l->sum.cpu_ms += row->cpu_ms;
	l->sum.changed_bytes += row->changed_bytes;
	l->memory_ms += (double)row->memory_bytes * (double)row->awake_ms;
	if (row->memory_peak_bytes > l->sum.memory_peak_bytes)
		l->sum.memory_peak_bytes = row->memory_peak_bytes;
	add_stall(&l->sum.cpu_stall_ms, row->cpu_stall_ms);
	add_stall(&l->sum.memory_stall_ms, row->memory_stall_ms);
	add_stall(&l->sum.io_stall_ms, row->io_stall_ms);
	return 0;
}

static int by_size(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a;
	int64_t y = *(const int64_t *)b;
	return (x < y) - (x > y);
}

/* As it was seen last; null of one that does not run. */
static json_t *now_json(struct controller *c, const char *user, const char *server)
{
	const struct session *s = sessions_find(c, user, server);
	if (!s || !s->seen.by_node || !session_state_has_processes(s->state))
		return json_null();
	return json_pack("{s:I, s:o, s:I}", "memory_bytes", (json_int_t)s->seen.rss_bytes,
			 "cpu_share",
			 isnan(s->seen.cpu_share) ? json_null() : json_real(s->seen.cpu_share),
			 "processes", (json_int_t)s->seen.processes);
}

json_t *usage_json(struct controller *c, const char *user, const char *server,
		   enum db_usage_span span, int64_t since_ms, struct error *e)
{
	struct listing l = { .rows = json_array() };
	int r = db_usage_each(c->db, span, user, server, clock_wall() - since_ms, take_row, &l, e);
	if (r < 0) {
		json_decref(l.rows);
		free(l.p95);
		return NULL;
	}
	if (l.count)
		qsort(l.p95, l.count, sizeof(*l.p95), by_size);
	l.sum.memory_p95_bytes = l.count ? l.p95[l.count / 20] : 0;
	l.sum.memory_bytes =
		l.sum.awake_ms > 0 ? (int64_t)(l.memory_ms / (double)l.sum.awake_ms) : 0;
	free(l.p95);
	return json_pack("{s:o, s:o, s:o}", "now", now_json(c, user, server), "total",
			 row_json(&l.sum), "rows", l.rows);
}
