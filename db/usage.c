/* SPDX-License-Identifier: Apache-2.0 */
#include "db/query.h"

#include <errno.h>
#include <stdlib.h>

/* In the table memory is in KiB, and times are counted in spans: rows are many and small. */
#define KIB       1024
#define MINUTE_MS 60000

/* A row as it is stored. */
struct usage_row {
	int64_t span, at;
	struct db_usage usage;
};

static void query_stall(struct query *q, int64_t ms)
{
	if (ms < 0)
		query_text(q, NULL);
	else
		query_integer(q, ms);
}

static int name_usage(struct db *db, const char *user, const char *server, struct error *e)
{
	cleanup_query struct query q;
	query_start(&q, db, "INSERT OR IGNORE INTO usage_names (user, server) VALUES (?, ?)", e);
	query_text(&q, user);
	query_text(&q, server);
	return query_run(&q);
}

int db_usage_put(struct db *db, const char *user, const char *server, const struct db_usage *usage,
		 struct error *e)
{
	cleanup_query struct query q;
	int r = name_usage(db, user, server, e);
	if (r < 0)
		return r;
	query_start(&q, db,
		    "INSERT OR REPLACE INTO usage SELECT 1, id, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10,"
		    " ?11, ?12 FROM usage_names WHERE user = ?1 AND server = ?2",
		    e);
	query_text(&q, user);
	query_text(&q, server);
	query_integer(&q, usage->at / MINUTE_MS);
	query_integer(&q, usage->awake_ms);
	query_integer(&q, usage->memory_bytes / KIB);
	query_integer(&q, usage->memory_p95_bytes / KIB);
	query_integer(&q, usage->memory_peak_bytes / KIB);
	query_integer(&q, usage->cpu_ms);
	query_stall(&q, usage->cpu_stall_ms);
	query_stall(&q, usage->memory_stall_ms);
	query_stall(&q, usage->io_stall_ms);
	query_integer(&q, usage->changed_bytes / KIB);
	return query_run(&q);
}

/* --- rolling up ----------------------------------------------------------------------------------
 */

/* The 95th percentile is of the minutes: all but the twentieth part with the most are below. */
static int roll(struct db *db, enum db_usage_span span, int64_t from, int64_t to, struct error *e)
{
	cleanup_query struct query q;
	query_start(&q, db,
		    "INSERT OR REPLACE INTO usage"
		    " WITH ranked AS (SELECT *, at / ?1 AS bucket,"
		    "  row_number() OVER (PARTITION BY name, at / ?1 ORDER BY memory DESC) AS rank,"
		    "  count(*) OVER (PARTITION BY name, at / ?1) AS minutes"
		    "  FROM usage WHERE span = 1 AND at >= ?2 AND at < ?3)"
		    " SELECT ?1, name, bucket, sum(awake_ms),"
		    "  sum(memory * awake_ms) / max(sum(awake_ms), 1),"
		    "  max(CASE WHEN rank = minutes / 20 + 1 THEN memory END), max(memory_peak),"
		    "  sum(cpu_ms), sum(cpu_stall_ms), sum(memory_stall_ms), sum(io_stall_ms),"
		    "  sum(changed)"
		    " FROM ranked GROUP BY name, bucket",
		    e);
	query_integer(&q, span);
	query_integer(&q, from * span);
	query_integer(&q, to * span);
	return query_run(&q);
}

static int roll_up(struct db *db, enum db_usage_span span, const char *key, wall_ms now,
		   struct error *e)
{
	cleanup_free char *value = NULL;
	char text[32];
	int64_t to = now / MINUTE_MS / span; /* the first that is not over */
	int64_t from = db_fact_get(db, key, &value, NULL) == 0 ? strtoll(value, NULL, 10) : 0;
	int r = 0;
	if (from == to)
		return 0;
	/* One that lies ahead was written before the clock was put back. */
	if (from < to)
		r = roll(db, span, from, to, e);
	snprintf(text, sizeof(text), "%lld", (long long)to);
	return r < 0 ? r : db_fact_set(db, key, text, e);
}

int db_usage_roll_up(struct db *db, wall_ms now, struct error *e)
{
	int r = db_begin_soon(db, e);
	if (r < 0)
		return r;
	r = roll_up(db, USAGE_HOUR, "usage.hours", now, e);
	if (r == 0)
		r = roll_up(db, USAGE_DAY, "usage.days", now, e);
	if (r == 0)
		return db_commit(db, e);
	db_rollback(db);
	return r;
}

int db_usage_prune(struct db *db, enum db_usage_span span, wall_ms before, struct error *e)
{
	cleanup_query struct query q;
	/* Named one by one, since the key has the name before the time. */
	query_start(&q, db,
		    "DELETE FROM usage WHERE span = ?1 AND at < ?2"
		    " AND name IN (SELECT id FROM usage_names)",
		    e);
	query_integer(&q, span);
	query_integer(&q, before / MINUTE_MS / span);
	return query_run(&q);
}

/* --- reading -------------------------------------------------------------------------------------
 */

#define FIELD(name) { COLUMN_INTEGER, offsetof(struct usage_row, name) }

static const struct shape shape = {
	.count = 11,
	.columns = {
		FIELD(span),
		FIELD(at),
		FIELD(usage.awake_ms),
		FIELD(usage.memory_bytes),
		FIELD(usage.memory_p95_bytes),
		FIELD(usage.memory_peak_bytes),
		FIELD(usage.cpu_ms),
		FIELD(usage.cpu_stall_ms),
		FIELD(usage.memory_stall_ms),
		FIELD(usage.io_stall_ms),
		FIELD(usage.changed_bytes),
	},
};

int db_usage_each(struct db *db, enum db_usage_span span, const char *user, const char *server,
		  wall_ms from, int (*each)(const struct db_usage *, void *), void *arg,
		  struct error *e)
{
	cleanup_query struct query q;
	struct usage_row row = { 0 };
	int r;
	query_start(&q, db,
		    "SELECT span, at, awake_ms, memory * 1024, memory_p95 * 1024,"
		    " memory_peak * 1024, cpu_ms, coalesce(cpu_stall_ms, -1),"
		    " coalesce(memory_stall_ms, -1), coalesce(io_stall_ms, -1), changed * 1024"
		    " FROM usage WHERE span = ? AND name = (SELECT id FROM usage_names"
		    " WHERE user = ? AND server = ?) AND at >= ? ORDER BY at",
		    e);
	query_integer(&q, span);
	query_text(&q, user);
	query_text(&q, server);
	query_integer(&q, from / MINUTE_MS / span);
	while ((r = query_next(&q, &shape, &row)) > 0) {
		row.usage.at = row.at * row.span * MINUTE_MS;
		r = each(&row.usage, arg);
		if (r)
			break;
	}
	return r;
}
