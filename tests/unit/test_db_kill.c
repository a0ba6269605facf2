/* SPDX-License-Identifier: Apache-2.0 */
#include "base/cleanup.h"
#include "base/fs.h"
#include "db/db.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>

#include <cmocka.h>

/* kill -9 in the middle of committing: whatever was reported as done is there afterwards, and no
 * transaction is there by half. */

/* At least so many, and until there is something to lose, however slow the disk. */
#define ROUNDS      12
#define ROUNDS_MOST 500

static int write_one(struct db *db, int64_t n)
{
	struct db_session s = { .id = "1", .user = "ada", .server = "", .state = "running" };
	struct db_event event = { .at = n, .user = "ada", .what = "step", .why = "test" };
	struct db_effect effect = { .session = "1", .kind = "hibernate", .generation = n };
	char previous[ID_SIZE];
	snprintf(previous, sizeof(previous), "%016x", (unsigned)(n - 1));
	snprintf(effect.id, sizeof(effect.id), "%016x", (unsigned)n);
	s.generation = n;
	if (db_begin(db, NULL) < 0 || db_session_put(db, &s, NULL) < 0 ||
	    db_event_add(db, &event, NULL) < 0 || db_effect_delete(db, previous, NULL) < 0 ||
	    db_effect_put(db, &effect, NULL) < 0)
		return -1;
	return db_commit(db, NULL);
}

static void write_for_ever(const char *path, int64_t from, int report)
{
	struct db *db = NULL;
	if (db_open(path, &db, NULL) < 0)
		_exit(1);
	for (int64_t n = from; write_one(db, n) == 0; n++)
		if (write(report, &n, sizeof(n)) != sizeof(n))
			_exit(2);
	_exit(3);
}

static int count_event(const struct db_event *event, void *arg)
{
	assert_string_equal(event->what, "step");
	assert_int_equal(event->at, ++*(int64_t *)arg);
	return 0;
}

static int check_effect(const struct db_effect *effect, void *arg)
{
	assert_int_equal(effect->generation, *(int64_t *)arg);
	*(int64_t *)arg = -1;
	return 0;
}

/* Returns the number of whole transactions found. */
static int64_t check(const char *path)
{
	struct db *db = NULL;
	struct error e = ERROR_INIT;
	struct db_session s;
	if (db_open(path, &db, &e) < 0)
		fail_msg("%s", e.text);
	int r = db_session_get(db, "ada", "", &s, &e);
	if (r == -ENOENT) {
		db_close(db);
		return 0;
	}
	assert_int_equal(r, 0);
	int64_t found = s.generation;
	int64_t expected = found;
	db_session_deinit(&s);
	if (found > 0) {
		/* all from the first one on, oldest first, without a gap */
		assert_int_equal(db_event_each(db, 1, NULL, 0, count_event, &(int64_t) { 1 }, &e),
				 0);
		assert_int_equal(
			db_event_each(db, 0, NULL, 1, count_event, &(int64_t) { found - 1 }, &e),
			0);
		assert_int_equal(db_effect_each(db, check_effect, &expected, &e), 0);
		assert_int_equal(expected, -1);
	}
	db_close(db);
	return found;
}

static int64_t kill_one(const char *path, int64_t from, int after_ms)
{
	int ends[2];
	int64_t n, reported = from - 1;
	assert_int_equal(pipe(ends), 0);
	pid_t child = fork();
	if (child == 0) {
		close(ends[0]);
		write_for_ever(path, from, ends[1]);
	}
	close(ends[1]);
	nanosleep(&(struct timespec) { .tv_nsec = after_ms * 1000000L }, NULL);
	assert_int_equal(kill(child, SIGKILL), 0);
	while (read(ends[0], &n, sizeof(n)) == sizeof(n))
		reported = n;
	close(ends[0]);
	int status = 0;
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFSIGNALED(status));
	return reported;
}

static void test_kill(void **state)
{
	(void)state;
	char directory[] = "/tmp/elsa-test-db-XXXXXX";
	char path[64];
	assert_non_null(mkdtemp(directory));
	snprintf(path, sizeof(path), "%s/elsa.db", directory);
	int64_t found = 0;
	for (int round = 0; round < ROUNDS || (found <= ROUNDS && round < ROUNDS_MOST); round++) {
		/* the first ones fall into the making of the file itself */
		int after_ms = round < 30 ? round * round : 900;
		int64_t reported = kill_one(path, found + 1, after_ms);
		found = check(path);
		if (found != reported && found != reported + 1)
			fail_msg("reported %d, found %d", (int)reported, (int)found);
	}
	assert_true(found > ROUNDS);
	assert_int_equal(fs_remove_tree(directory, NULL), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_kill),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
