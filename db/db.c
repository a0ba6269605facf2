/* SPDX-License-Identifier: Apache-2.0 */
#include "db/db.h"

#include "base/fs.h"
#include "db/query.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#define BUSY_TIMEOUT_MS 1000

/* Statement journals and the like in memory, so that no other directory is needed. */
#define SETTINGS                                                                                   \
	"PRAGMA synchronous = FULL;"                                                               \
	"PRAGMA temp_store = MEMORY;"                                                              \
	"PRAGMA trusted_schema = OFF;"

static int read_holder(int fd)
{
	char text[32] = "";
	ssize_t n = pread(fd, text, sizeof(text) - 1, 0);
	return n > 0 ? (int)strtol(text, NULL, 10) : 0;
}

/* SQLite's own locks let two processes take turns; two controllers on one record must not. */
static int take_lock(struct db *db, struct error *e)
{
	cleanup_free char *path = str_printf("%s.lock", db->path);
	if (!path)
		return error_set(e, ENOMEM, "out of memory");
	cleanup_fd int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0) {
		int r = error_errno(e, "cannot open '%s'", path);
		return error_remedy(
			e, r,
			"check that its directory exists and that this account may write there");
	}
	if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		if (errno != EWOULDBLOCK)
			return error_errno(e, "cannot lock '%s'", path);
		int r = error_fault(e, FAULT_CONFLICT,
				    "the database '%s' is held by another process (pid %d)",
				    db->path, read_holder(fd));
		return error_remedy(e, r,
				    "stop the other elsad, or give this one its own database");
	}
	/* The number is only for that message, so a failure to write it does not matter. */
	if (ftruncate(fd, 0) == 0)
		dprintf(fd, "%d\n", (int)getpid());
	db->lock = steal_fd(&fd);
	return 0;
}

static void close_handle(struct db *db)
{
	for (size_t i = 0; i < db->statement_count; i++)
		sqlite3_finalize(db->statements[i].stmt);
	db->statement_count = 0;
	sqlite3_close_v2(db->handle);
	db->handle = NULL;
}

void *db_close(struct db *db)
{
	if (!db)
		return NULL;
	close_handle(db);
	if (db->lock >= 0)
		close(db->lock);
	free(db->path);
	free(db);
	return NULL;
}

DEFINE_CLEANUP(struct db *, db_close)

static int open_handle(struct db *db, const char *path, struct error *e)
{
	int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE;
	int code = sqlite3_open_v2(path, &db->handle, flags, NULL);
	if (code != SQLITE_OK)
		return db_error(db, code, e, "opening the database");
	sqlite3_busy_timeout(db->handle, BUSY_TIMEOUT_MS);
	sqlite3_db_config(db->handle, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
	return 0;
}

/* Closing may write the log back into the file; not before we know that it is ours to write. */
static void keep_as_it_is(struct db *db, bool keep)
{
	sqlite3_db_config(db->handle, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, (int)keep, NULL);
}

static int build_new(struct db *db, const char *path, struct error *e)
{
	/* It holds the sessions' tokens in the clear. */
	cleanup_fd int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0)
		return error_errno(e, "cannot create '%s'", path);
	int r = open_handle(db, path, e);
	if (r == 0)
		r = db_exec(db, SETTINGS, e);
	if (r == 0)
		r = db_migrate(db, e);
	close_handle(db);
	return r;
}

static int sync_parent(const char *path, struct error *e)
{
	const char *slash = strrchr(path, '/');
	cleanup_free char *dir = !slash          ? strdup(".")
				 : slash == path ? strdup("/")
						 : strndup(path, (size_t)(slash - path));
	return dir ? fs_sync_dir(dir, e) : error_set(e, ENOMEM, "out of memory");
}

/*
 * A new database is made whole beside its place and then renamed there: a file
 * that is empty or half made is then always a fault, never the beginning of a
 * silent new record.
 */
static int create(struct db *db, struct error *e)
{
	cleanup_free char *fresh = str_printf("%s.new", db->path);
	cleanup_free char *journal = str_printf("%s.new-journal", db->path);
	cleanup_free char *wal = str_printf("%s-wal", db->path);
	if (!fresh || !journal || !wal)
		return error_set(e, ENOMEM, "out of memory");
	if (access(wal, F_OK) == 0) {
		int r = error_fault(e, FAULT_CORRUPT, "'%s' is missing, but its '%s' is there",
				    db->path, wal);
		return error_remedy(e, r,
				    "bring the file back; to begin with an empty record, move the "
				    "other away too");
	}
	unlink(journal); /* what an interrupted attempt left would be played back into ours */
	int r = build_new(db, fresh, e);
	if (r == 0 && rename(fresh, db->path) < 0)
		r = error_errno(e, "cannot rename '%s' to '%s'", fresh, db->path);
	if (r == 0)
		r = sync_parent(db->path, e);
	if (r < 0)
		unlink(fresh);
	return r < 0 ? error_wrap(e, r, "making a new database") : 0;
}

static int check_pages(struct db *db, struct error *e)
{
	cleanup_query struct query q;
	query_start(&q, db, "PRAGMA quick_check(1)", e);
	int r = query_step(&q);
	if (r <= 0)
		return r;
	const char *text = (const char *)sqlite3_column_text(q.stmt, 0);
	if (text && strcmp(text, "ok") == 0)
		return 0;
	r = error_fault(e, FAULT_CORRUPT, "the database '%s' is damaged: %s", db->path,
			text ? text : "?");
	return error_remedy(e, r, DAMAGED_REMEDY);
}

static int check_writable(struct db *db, struct error *e)
{
	if (sqlite3_db_readonly(db->handle, "main") == 0)
		return 0;
	return db_error(db, SQLITE_READONLY, e, "opening the database");
}

/* Where shared memory cannot be had (some network file systems) SQLite stays in the old mode and
 * does not fail. */
static int use_wal(struct db *db, struct error *e)
{
	cleanup_query struct query q;
	query_start(&q, db, "PRAGMA journal_mode = WAL", e);
	int r = query_step(&q);
	if (r <= 0)
		return r;
	const char *mode = (const char *)sqlite3_column_text(q.stmt, 0);
	if (mode && strcmp(mode, "wal") == 0)
		return 0;
	r = error_fault(e, FAULT_BAD_INPUT, "the database '%s' cannot use a write-ahead log there",
			db->path);
	return error_remedy(e, r, "put it on a local file system");
}

static int open_existing(struct db *db, struct error *e)
{
	int r = open_handle(db, db->path, e);
	if (r < 0)
		return r;
	keep_as_it_is(db, true);
	r = db_check_schema(db, e);
	if (r == 0)
		r = check_pages(db, e);
	if (r == 0)
		r = check_writable(db, e);
	if (r == 0)
		r = db_exec(db, SETTINGS, e);
	if (r == 0)
		r = use_wal(db, e);
	if (r == 0)
		r = db_migrate(db, e);
	if (r == 0)
		keep_as_it_is(db, false);
	return r;
}

int db_open(const char *path, struct db **db, struct error *e)
{
	cleanup(db_closep) struct db *new = calloc(1, sizeof(*new));
	if (!new)
		return error_set(e, ENOMEM, "out of memory");
	new->lock = -1;
	new->path = strdup(path);
	if (!new->path)
		return error_set(e, ENOMEM, "out of memory");
	int r = take_lock(new, e);
	if (r == 0 && access(path, F_OK) < 0 && errno == ENOENT)
		r = create(new, e);
	if (r == 0)
		r = open_existing(new, e);
	if (r == 0)
		*db = steal_ptr(&new);
	return r;
}

/* Cannot fail: it is a word in memory. */
static void be_durable(struct db *db)
{
	if (db->depth > 0 || !db->soon)
		return;
	sqlite3_exec(db->handle, "PRAGMA synchronous = FULL", NULL, NULL, NULL);
	db->soon = false;
}

int db_begin(struct db *db, struct error *e)
{
	int r = db_check_transaction(db, e);
	/* immediate: who cannot write learns it here and not in the middle */
	if (r == 0 && db->depth == 0)
		r = db_exec(db, "BEGIN IMMEDIATE", e);
	if (r == 0)
		db->depth++;
	return r;
}

/* SQLite takes this between transactions only. */
int db_begin_soon(struct db *db, struct error *e)
{
	if (db->depth > 0)
		return db_begin(db, e);
	int r = db_exec(db, "PRAGMA synchronous = NORMAL", e);
	db->soon = true;
	if (r == 0)
		r = db_begin(db, e);
	if (r < 0)
		be_durable(db);
	return r;
}

static void leave(struct db *db)
{
	db->depth--;
	if (db->depth == 0)
		db->undone = false;
	be_durable(db);
}

int db_commit(struct db *db, struct error *e)
{
	if (db->depth == 0)
		return error_set(e, EINVAL, "using the database '%s': no transaction to commit",
				 db->path);
	int r = db_check_transaction(db, e);
	if (r == 0 && db->depth == 1)
		r = db_exec(db, "COMMIT", e);
	if (r < 0)
		db_rollback(db);
	else
		leave(db);
	return r;
}

void db_rollback(struct db *db)
{
	if (db->depth == 0)
		return;
	if (!sqlite3_get_autocommit(db->handle))
		sqlite3_exec(db->handle, "ROLLBACK", NULL, NULL, NULL);
	db->undone = true;
	leave(db);
}
