/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "base/cleanup.h"
#include "base/fs.h"
#include "db/db.h"
#include "db/query.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cmocka.h>

/* Opening, refusing, transactions, full disks. Rows are test_db_rows.c, crashes test_db_kill.c. */

static char directory[64];
static char path[96];

static int make_directory(void **state)
{
	(void)state;
	snprintf(directory, sizeof(directory), "/tmp/elsa-test-db-XXXXXX");
	if (!mkdtemp(directory))
		return -1;
	snprintf(path, sizeof(path), "%s/elsa.db", directory);
	return 0;
}

static int remove_directory(void **state)
{
	(void)state;
	return fs_remove_tree(directory, NULL);
}

static struct db *open_db(void)
{
	struct error e = ERROR_INIT;
	struct db *db = NULL;
	if (db_open(path, &db, &e) < 0)
		fail_msg("%s", e.text);
	return db;
}

/* Opening must fail with `fault`, words and a remedy, and leave the file as it is. */
static void refuse(enum fault fault, const char *words)
{
	cleanup_buf struct buf before = BUF_INIT(1 << 24), after = BUF_INIT(1 << 24);
	struct error e = ERROR_INIT;
	struct db *db = NULL;
	assert_int_equal(fs_read(path, &before, NULL), 0);
	assert_true(db_open(path, &db, &e) < 0);
	assert_null(db);
	if (!strstr(e.text, words) || e.fault != fault || !e.remedy[0])
		fail_msg("%s: %s (%s)", fault_name(e.fault), e.text, e.remedy);
	assert_int_equal(fs_read(path, &after, NULL), 0);
	assert_int_equal(before.len, after.len);
	assert_memory_equal(buf_text(&before), buf_text(&after), before.len);
}

static void add_sessions(struct db *db, int from, int to)
{
	for (int i = from; i < to; i++) {
		struct error e = ERROR_INIT;
		struct db_session s = { .server = "",
					.state = "running",
					.reason = "padding padding" };
		char user[32];
		snprintf(s.id, sizeof(s.id), "%016x", (unsigned)i);
		snprintf(user, sizeof(user), "user-%d", i);
		s.user = user;
		if (db_session_put(db, &s, &e) < 0)
			fail_msg("%s", e.text);
	}
}

static int count_one(const struct db_session *session, void *arg)
{
	assert_non_null(session->user);
	(*(int *)arg)++;
	return 0;
}

static int count_sessions(struct db *db)
{
	int count = 0;
	assert_int_equal(db_session_each(db, count_one, &count, NULL), 0);
	return count;
}

static void run_sql(const char *sql)
{
	sqlite3 *handle = NULL;
	assert_int_equal(sqlite3_open(path, &handle), SQLITE_OK);
	assert_int_equal(sqlite3_exec(handle, sql, NULL, NULL, NULL), SQLITE_OK);
	assert_int_equal(sqlite3_close(handle), SQLITE_OK);
}

static void test_open(void **state)
{
	(void)state;
	struct stat st;
	struct db *db = open_db();
	add_sessions(db, 0, 10);
	db = db_close(db);
	assert_null(db);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	db = open_db();
	assert_int_equal(count_sessions(db), 10);
	db_close(db);
	assert_null(db_close(NULL));
}

static void test_leftovers_of_an_interrupted_creation(void **state)
{
	(void)state;
	char fresh[128], journal[128];
	snprintf(fresh, sizeof(fresh), "%s.new", path);
	snprintf(journal, sizeof(journal), "%s.new-journal", path);
	assert_int_equal(fs_replace(fresh, "half", 4, 0600, NULL), 0);
	assert_int_equal(fs_replace(journal, "torn", 4, 0600, NULL), 0);
	db_close(open_db());
	assert_int_equal(access(fresh, F_OK), -1);
	assert_int_equal(access(journal, F_OK), -1);
}

static void test_two_holders(void **state)
{
	(void)state;
	struct db *db = open_db();
	struct db *second = NULL;
	struct error e = ERROR_INIT;
	assert_int_equal(db_open(path, &second, &e), -EBUSY);
	assert_int_equal(e.fault, FAULT_CONFLICT);
	char holder[32];
	snprintf(holder, sizeof(holder), "pid %d", (int)getpid());
	assert_non_null(strstr(e.text, holder));
	db_close(db);
	db_close(open_db());
}

static void test_newer_schema(void **state)
{
	(void)state;
	db_close(open_db());
	run_sql("PRAGMA user_version = 1000");
	refuse(FAULT_CONFLICT, "newer");
}

/* What a record of an older version holds is still there. */
static void test_older_schema(void **state)
{
	(void)state;
	struct db *db = open_db();
	char *value = NULL;
	assert_int_equal(db_fact_set(db, "k", "v", NULL), 0);
	db_close(db);
	run_sql("ALTER TABLE sessions DROP COLUMN tried;"
		"ALTER TABLE sessions DROP COLUMN left_behind;"
		"ALTER TABLE sessions DROP COLUMN slept_at;"
		"ALTER TABLE sessions DROP COLUMN size; ALTER TABLE sessions DROP COLUMN sized_at;"
		"ALTER TABLE events DROP COLUMN inputs;"
		"DROP TABLE nodes; DROP TABLE join_tokens; DROP TABLE departures;"
		"DROP TABLE accounts; DROP TABLE account_days; DROP TABLE account_total;"
		"DROP TABLE usage_names; DROP TABLE usage;"
		"PRAGMA user_version = 2");
	db = open_db();
	assert_int_equal(db_fact_get(db, "k", &value, NULL), 0);
	free(value);
	assert_int_equal(db_node_delete(db, "none", NULL), 0);
	assert_int_equal(db_join_tokens_expire(db, 1, NULL), 0);
	assert_int_equal(db_account_delete(db, "none", NULL), 0);
	assert_int_equal(db_usage_prune(db, USAGE_DAY, 1, NULL), 0);
	db_close(db);
}

static void test_not_ours(void **state)
{
	(void)state;
	run_sql("CREATE TABLE t (x); PRAGMA user_version = 1");
	refuse(FAULT_BAD_INPUT, "another program");
}

static void test_not_a_database(void **state)
{
	(void)state;
	char text[5000];
	memset(text, 'x', sizeof(text));
	assert_int_equal(fs_replace(path, text, sizeof(text), 0600, NULL), 0);
	refuse(FAULT_CORRUPT, "not a database");
	assert_int_equal(fs_replace(path, "", 0, 0600, NULL), 0);
	refuse(FAULT_BAD_INPUT, "empty");
}

static void test_corrupt_page(void **state)
{
	(void)state;
	struct db *db = open_db();
	add_sessions(db, 0, 2000);
	db_close(db);
	cleanup_fd int fd = open(path, O_RDWR | O_CLOEXEC);
	char garbage[4096];
	memset(garbage, 0x5a, sizeof(garbage));
	struct stat st;
	assert_int_equal(fstat(fd, &st), 0);
	off_t middle = st.st_size / 2 / 4096 * 4096;
	assert_int_equal(pwrite(fd, garbage, sizeof(garbage), middle), sizeof(garbage));
	refuse(FAULT_CORRUPT, "damaged");
}

static void test_cut_short(void **state)
{
	(void)state;
	struct db *db = open_db();
	add_sessions(db, 0, 2000);
	db_close(db);
	assert_int_equal(truncate(path, 8 * 4096), 0);
	refuse(FAULT_CORRUPT, "damaged");
}

static void test_missing_beside_its_log(void **state)
{
	(void)state;
	char wal[128];
	struct db *db = NULL;
	struct error e = ERROR_INIT;
	snprintf(wal, sizeof(wal), "%s-wal", path);
	assert_int_equal(fs_replace(wal, "log", 3, 0600, NULL), 0);
	assert_true(db_open(path, &db, &e) < 0);
	assert_int_equal(e.fault, FAULT_CORRUPT);
	assert_non_null(strstr(e.text, "missing"));
	assert_int_equal(access(path, F_OK), -1);
}

static void test_no_directory(void **state)
{
	(void)state;
	struct db *db = NULL;
	struct error e = ERROR_INIT;
	assert_int_equal(db_open("/nonexistent/elsa.db", &db, &e), -ENOENT);
	assert_true(e.remedy[0]);
}

/* As somebody who may not write: root may always. */
static void test_not_writable(void **state)
{
	(void)state;
	if (geteuid() != 0)
		skip();
	db_close(open_db());
	char lock[128];
	snprintf(lock, sizeof(lock), "%s.lock", path);
	assert_int_equal(chmod(directory, 0755) | chmod(path, 0644) | chmod(lock, 0666), 0);
	pid_t child = fork();
	if (child == 0) {
		struct db *db = NULL;
		struct error e = ERROR_INIT;
		bool ok = setresgid(65534, 65534, 65534) == 0 &&
			  setresuid(65534, 65534, 65534) == 0 && db_open(path, &db, &e) < 0 &&
			  e.fault == FAULT_DENIED && e.remedy[0];
		if (!ok)
			fprintf(stderr, "%s: %s\n", fault_name(e.fault), e.text);
		_exit(ok ? 0 : 1);
	}
	int status = -1;
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
}

static void test_transactions(void **state)
{
	(void)state;
	struct db *db = open_db();
	assert_int_equal(db_begin(db, NULL), 0);
	add_sessions(db, 0, 2);
	assert_int_equal(db_begin(db, NULL), 0);
	add_sessions(db, 2, 4);
	assert_int_equal(db_commit(db, NULL), 0);
	db_rollback(db);
	assert_int_equal(count_sessions(db), 0);

	/* an inner rollback undoes all, and the outer levels hear of it */
	assert_int_equal(db_begin(db, NULL), 0);
	add_sessions(db, 0, 2);
	assert_int_equal(db_begin(db, NULL), 0);
	db_rollback(db);
	assert_int_equal(db_fact_set(db, "k", "v", NULL), -ECANCELED);
	assert_int_equal(db_begin(db, NULL), -ECANCELED);
	assert_int_equal(db_commit(db, NULL), -ECANCELED);
	assert_int_equal(count_sessions(db), 0);

	assert_int_equal(db_begin(db, NULL), 0);
	add_sessions(db, 0, 3);
	assert_int_equal(db_commit(db, NULL), 0);
	assert_int_equal(count_sessions(db), 3);
	assert_int_equal(db_commit(db, NULL), -EINVAL);
	db_rollback(db);

	/* what was open at the end is gone */
	assert_int_equal(db_begin(db, NULL), 0);
	add_sessions(db, 3, 5);
	db_close(db);
	db = open_db();
	assert_int_equal(count_sessions(db), 3);
	db_close(db);
}

/* SQLite's numbers for it. */
enum { SOON = 1, DURABLE = 2 };

static int durability(struct db *db)
{
	sqlite3_stmt *s;
	assert_int_equal(sqlite3_prepare_v2(db->handle, "PRAGMA synchronous", -1, &s, NULL), 0);
	assert_int_equal(sqlite3_step(s), SQLITE_ROW);
	int value = sqlite3_column_int(s, 0);
	sqlite3_finalize(s);
	return value;
}

static void test_waived_durability(void **state)
{
	(void)state;
	struct db *db = open_db();
	assert_int_equal(durability(db), DURABLE);
	assert_int_equal(db_begin_soon(db, NULL), 0);
	assert_int_equal(durability(db), SOON);
	add_sessions(db, 0, 2);
	assert_int_equal(db_begin(db, NULL), 0);
	assert_int_equal(db_commit(db, NULL), 0);
	assert_int_equal(durability(db), SOON);
	assert_int_equal(db_commit(db, NULL), 0);
	assert_int_equal(durability(db), DURABLE);

	assert_int_equal(db_begin_soon(db, NULL), 0);
	add_sessions(db, 2, 4);
	db_rollback(db);
	assert_int_equal(durability(db), DURABLE);

	/* the outermost level decides */
	assert_int_equal(db_begin(db, NULL), 0);
	assert_int_equal(db_begin_soon(db, NULL), 0);
	assert_int_equal(durability(db), DURABLE);
	assert_int_equal(db_commit(db, NULL), 0);
	assert_int_equal(db_commit(db, NULL), 0);

	db_close(db);
	db = open_db();
	assert_int_equal(count_sessions(db), 2);
	db_close(db);
}

/* Writes until the disk is full: the transaction fails as a whole, the record is as before, and
 * once there is room again everything goes on. */
static int fill(struct db *db, struct error *e)
{
	int r = db_begin(db, e);
	for (int i = 0; r == 0 && i < 20000; i++) {
		struct db_event event = { .at = i + 1,
					  .what = "fill",
					  .why = "so that it is full" };
		r = db_event_add(db, &event, e);
	}
	if (r == 0)
		return db_commit(db, e);
	db_rollback(db);
	return r;
}

static int count_event(const struct db_event *event, void *arg)
{
	assert_non_null(event->what);
	(*(int *)arg)++;
	return 0;
}

static void check_after_full(struct db *db, int r, const struct error *e)
{
	int events = 0;
	if (r != -ENOSPC || e->fault != FAULT_FULL || !strstr(e->text, "full") || !e->remedy[0])
		fail_msg("%d %s: %s (%s)", r, fault_name(e->fault), e->text, e->remedy);
	assert_int_equal(count_sessions(db), 10);
	assert_int_equal(db_event_each(db, 0, NULL, 0, count_event, &events, NULL), 0);
	assert_int_equal(events, 0);
}

static void test_file_size_limit(void **state)
{
	(void)state;
	struct error e = ERROR_INIT;
	struct rlimit before;
	struct db *db = open_db();
	add_sessions(db, 0, 10);
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
	struct rlimit limit = { 300000, before.rlim_max };
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
	int r = fill(db, &e);
	setrlimit(RLIMIT_FSIZE, &before);
	check_after_full(db, r, &e);
	add_sessions(db, 10, 20);
	db_close(db);
	db = open_db();
	assert_int_equal(count_sessions(db), 20);
	db_close(db);
}

/* A real small disk, in a mount namespace of our own. */
static void test_small_disk(void **state)
{
	(void)state;
	if (unshare(CLONE_NEWNS) < 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount("tmpfs", directory, "tmpfs", 0, "size=600k") < 0)
		skip();
	struct error e = ERROR_INIT;
	struct db *db = open_db();
	add_sessions(db, 0, 10);
	int r = fill(db, &e);
	check_after_full(db, r, &e);
	db_close(db);
	db = open_db();
	add_sessions(db, 10, 11);
	db_close(db);
	umount2(directory, MNT_DETACH);
}

static void test_disk_full_from_the_start(void **state)
{
	(void)state;
	if (unshare(CLONE_NEWNS) < 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount("tmpfs", directory, "tmpfs", 0, "size=40k") < 0)
		skip();
	struct error e = ERROR_INIT;
	struct db *db = NULL;
	assert_int_equal(db_open(path, &db, &e), -ENOSPC);
	assert_int_equal(e.fault, FAULT_FULL);
	assert_true(e.remedy[0]);
	assert_int_equal(access(path, F_OK), -1);
	umount2(directory, MNT_DETACH);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, make_directory, remove_directory)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_open),
		TEST(test_leftovers_of_an_interrupted_creation),
		TEST(test_two_holders),
		TEST(test_newer_schema),
		TEST(test_older_schema),
		TEST(test_not_ours),
		TEST(test_not_a_database),
		TEST(test_corrupt_page),
		TEST(test_cut_short),
		TEST(test_missing_beside_its_log),
		TEST(test_no_directory),
		TEST(test_not_writable),
		TEST(test_transactions),
		TEST(test_waived_durability),
		TEST(test_file_size_limit),
		TEST(test_small_disk),
		TEST(test_disk_full_from_the_start),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
