/* SPDX-License-Identifier: Apache-2.0 */
#include "base/cleanup.h"
#include "db/query.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "tests/unit/db_kit.h"

#define MINUTE 60000LL
#define HOUR   (60 * MINUTE)
#define DAY    (24 * HOUR)
#define BEGIN  (20000 * DAY)
#define MIB    (1LL << 20)

static void put(const char *user, wall_ms at, int64_t memory, int64_t stall)
{
	const struct db_usage usage = {
		.at = at,
		.awake_ms = MINUTE,
		.memory_bytes = memory,
		.memory_p95_bytes = memory,
		.memory_peak_bytes = memory + MIB,
		.cpu_ms = 600,
		.cpu_stall_ms = stall,
		.memory_stall_ms = stall,
		.io_stall_ms = stall,
		.changed_bytes = 2 * MIB,
	};
	assert_int_equal(db_usage_put(db, user, "", &usage, NULL), 0);
}

struct seen {
	int count;
	struct db_usage last;
};

static int see(const struct db_usage *usage, void *arg)
{
	struct seen *seen = arg;
	seen->count++;
	seen->last = *usage;
	return 0;
}

static struct seen look(enum db_usage_span span, const char *user)
{
	struct seen seen = { 0 };
	assert_int_equal(db_usage_each(db, span, user, "", 0, see, &seen, NULL), 0);
	return seen;
}

static void test_roll_up(void **state)
{
	(void)state;
	/* An hour: a hundred MiB, but for the last six minutes. */
	for (int i = 0; i < 60; i++)
		put("ada", BEGIN + i * MINUTE, i < 54 ? 100 * MIB : (900 + i) * MIB, 30);
	assert_int_equal(db_usage_roll_up(db, BEGIN + HOUR - 1, NULL), 0);
	assert_int_equal(look(USAGE_HOUR, "ada").count, 0); /* it is not over */
	for (int again = 0; again < 2; again++) {
		assert_int_equal(db_usage_roll_up(db, BEGIN + HOUR, NULL), 0);
		struct seen hour = look(USAGE_HOUR, "ada");
		assert_int_equal(hour.count, 1);
		assert_int_equal(hour.last.at, BEGIN);
		assert_int_equal(hour.last.awake_ms, HOUR);
		/* Three minutes of sixty were above the 95th percentile. */
		assert_int_equal(hour.last.memory_p95_bytes, 956 * MIB);
		assert_int_equal(hour.last.memory_peak_bytes, 960 * MIB);
		assert_in_range(hour.last.memory_bytes, 185 * MIB, 186 * MIB);
		assert_int_equal(hour.last.cpu_ms, 36000);
		assert_int_equal(hour.last.io_stall_ms, 1800);
		assert_int_equal(hour.last.changed_bytes, 120 * MIB);
	}
	assert_int_equal(db_usage_roll_up(db, BEGIN + DAY, NULL), 0);
	assert_int_equal(look(USAGE_DAY, "ada").last.awake_ms, HOUR);
	assert_int_equal(look(USAGE_DAY, "bob").count, 0);
}

static void test_not_known(void **state)
{
	(void)state;
	put("ada", BEGIN, MIB, -1);
	assert_int_equal(look(USAGE_MINUTE, "ada").last.cpu_stall_ms, -1);
	assert_int_equal(db_usage_roll_up(db, BEGIN + HOUR, NULL), 0);
	assert_int_equal(look(USAGE_HOUR, "ada").last.memory_stall_ms, -1);
}

/* What was written while the clock ran ahead keeps nothing from being rolled up later. */
static void test_clock_put_back(void **state)
{
	(void)state;
	put("ada", BEGIN + 3650 * DAY, MIB, 0);
	assert_int_equal(db_usage_roll_up(db, BEGIN + 3651 * DAY, NULL), 0);
	assert_int_equal(db_usage_roll_up(db, BEGIN, NULL), 0);
	put("ada", BEGIN, 5 * MIB, 0);
	assert_int_equal(db_usage_roll_up(db, BEGIN + HOUR, NULL), 0);
	struct seen hours = look(USAGE_HOUR, "ada");
	assert_int_equal(hours.count, 2);
}

static int64_t number(const char *sql)
{
	cleanup_query struct query q;
	query_start(&q, db, sql, NULL);
	assert_int_equal(query_step(&q), 1);
	return sqlite3_column_int64(q.stmt, 0);
}

/* What is kept when the pass of elsad is made at the end of each hour. */
static void test_what_stays(void **state)
{
	(void)state;
	assert_int_equal(db_begin(db, NULL), 0);
	for (int hour = 0; hour < 40 * 24; hour++) {
		wall_ms end = BEGIN + (hour + 1) * HOUR;
		for (int i = 0; i < 60 && hour % 24 >= 9 && hour % 24 < 13; i++)
			put("ada", end - HOUR + i * MINUTE, 100 * MIB, 0);
		assert_int_equal(db_usage_roll_up(db, end, NULL), 0);
		assert_int_equal(db_usage_prune(db, USAGE_MINUTE, end - DAY - HOUR, NULL), 0);
		assert_int_equal(db_usage_prune(db, USAGE_HOUR, end - 30 * DAY - HOUR, NULL), 0);
	}
	assert_int_equal(db_commit(db, NULL), 0);
	assert_int_equal(look(USAGE_MINUTE, "ada").count, 4 * 60);
	assert_int_equal(look(USAGE_HOUR, "ada").count, 30 * 4);
	struct seen days = look(USAGE_DAY, "ada");
	assert_int_equal(days.count, 40);
	assert_int_equal(days.last.awake_ms, 4 * HOUR);
}

/* A year of 1,000 users is so many rows: minutes of a day and an hour, hours of thirty days, days
 * of a year. If all of them are awake all the time, that is the most there can be. */
static void test_a_year_stays_small(void **state)
{
	(void)state;
	enum { USERS = 50 };
	assert_int_equal(db_exec(db,
				 "BEGIN; WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1"
				 " FROM n WHERE i < 50) INSERT INTO usage_names (user, server)"
				 " SELECT 'user-' || i, '' FROM n;"
				 "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n"
				 " WHERE i < 1499) INSERT INTO usage SELECT 1, id, 28800000 + i,"
				 " 60000, 3000000 + i, 3000000 + i, 3100000 + i, 30000, 100, 100,"
				 " 100, 20000 FROM n, usage_names;"
				 "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n"
				 " WHERE i < 720) INSERT INTO usage SELECT 60, id, 480000 + i,"
				 " 3600000, 3000000 + i, 3000000 + i, 3100000 + i, 1800000, 6000,"
				 " 6000, 6000, 1200000 FROM n, usage_names;"
				 "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n"
				 " WHERE i < 364) INSERT INTO usage SELECT 1440, id, 20000 + i,"
				 " 86400000, 3000000 + i, 3000000 + i, 3100000 + i, 43200000,"
				 " 144000, 144000, 144000, 28800000 FROM n, usage_names; COMMIT",
				 NULL),
			 0);
	int64_t rows = number("SELECT count(*) FROM usage");
	assert_int_equal(rows, USERS * (1500 + 721 + 365));
	int64_t bytes = number("SELECT sum(pgsize) FROM dbstat WHERE name = 'usage'");
	print_message("a row takes %lld bytes; 1,000 users always awake %lld MiB, 4 h a day %lld "
		      "MiB\n",
		      (long long)(bytes / rows), (long long)(bytes * 1000 / USERS / MIB),
		      (long long)(bytes / rows * 1000 * (250 + 121 + 365) / MIB));
	assert_true(bytes / rows <= 64);
	assert_true(bytes * 1000 / USERS < 170 * MIB);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_roll_up, open_db, close_db),
		cmocka_unit_test_setup_teardown(test_not_known, open_db, close_db),
		cmocka_unit_test_setup_teardown(test_clock_put_back, open_db, close_db),
		cmocka_unit_test_setup_teardown(test_what_stays, open_db, close_db),
		cmocka_unit_test_setup_teardown(test_a_year_stays_small, open_db, close_db),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
