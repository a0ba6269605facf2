/* SPDX-License-Identifier: Apache-2.0 */
#include "db/query.h"

#include <errno.h>
#include <string.h>

/*
 * The schema, step by step. Migration N brings version N-1 to N, in one
 * transaction with the new PRAGMA user_version. A migration that was ever
 * released is never changed: add another.
 */

#define APPLICATION_ID 1164735329 /* "Elsa" */

static const char *const migrations[] = {
	/* 1 */
	"PRAGMA application_id = 1164735329;"
	"CREATE TABLE sessions ("
	"	id TEXT NOT NULL PRIMARY KEY,"
	"	user TEXT NOT NULL,"
	"	server TEXT NOT NULL,"
	"	state TEXT NOT NULL,"
	"	reason TEXT,"
	"	address TEXT UNIQUE,"
	"	node TEXT,"
	"	spec TEXT,"
	"	api_token TEXT,"
	"	spawner TEXT,"
	"	generation INTEGER NOT NULL,"
	"	created_at INTEGER NOT NULL,"
	"	changed_at INTEGER NOT NULL,"
	"	started_at INTEGER NOT NULL,"
	"	person_at INTEGER NOT NULL,"
	"	keep_awake_until INTEGER NOT NULL,"
	"	refused_at INTEGER NOT NULL,"
	"	UNIQUE (user, server)"
	") STRICT;"
	"CREATE TABLE checkpoints ("
	"	session TEXT NOT NULL,"
	"	generation INTEGER NOT NULL,"
	"	created_at INTEGER NOT NULL,"
	"	memory_bytes INTEGER NOT NULL,"
	"	stored_bytes INTEGER NOT NULL,"
	"	frozen_us INTEGER NOT NULL,"
	"	duration_us INTEGER NOT NULL,"
	"	node TEXT,"
	"	aside INTEGER NOT NULL,"
	"	PRIMARY KEY (session, generation)"
	") STRICT, WITHOUT ROWID;"
	"CREATE TABLE events ("
	"	id INTEGER PRIMARY KEY AUTOINCREMENT,"
	"	at INTEGER NOT NULL,"
	"	session TEXT,"
	"	user TEXT,"
	"	server TEXT,"
	"	who TEXT,"
	"	what TEXT NOT NULL,"
	"	why TEXT,"
	"	detail TEXT,"
	"	duration_us INTEGER NOT NULL,"
	"	bytes INTEGER NOT NULL"
	") STRICT;"
	"CREATE INDEX events_user ON events (user, id);"
	/* A session has one effect at most: two would be two lives. */
	"CREATE TABLE effects ("
	"	id TEXT NOT NULL PRIMARY KEY,"
	"	session TEXT NOT NULL UNIQUE,"
	"	kind TEXT NOT NULL,"
	"	node TEXT,"
	"	generation INTEGER NOT NULL,"
	"	created_at INTEGER NOT NULL,"
	"	who TEXT,"
	"	why TEXT"
	") STRICT;"
	"CREATE TABLE facts ("
	"	key TEXT NOT NULL PRIMARY KEY,"
	"	value TEXT NOT NULL"
	") STRICT, WITHOUT ROWID;"
	/* A user's uid outlives the sessions: the files in the home belong to it for good, and
	 * nobody else may be given it. */
	"CREATE TABLE uids ("
	"	user TEXT NOT NULL PRIMARY KEY,"
	"	uid INTEGER NOT NULL"
	") STRICT, WITHOUT ROWID;"
	"CREATE INDEX uids_uid ON uids (uid);",
	/* 2: numbers that no checkpoint has; sessions whose node went away while they were wanted
	 */
	"ALTER TABLE sessions ADD COLUMN checkpoint INTEGER NOT NULL DEFAULT 0;"
	"ALTER TABLE sessions ADD COLUMN wish INTEGER NOT NULL DEFAULT 0;"
	"ALTER TABLE checkpoints ADD COLUMN cpu TEXT;"
	"UPDATE sessions SET checkpoint = generation WHERE EXISTS (SELECT 1 FROM checkpoints AS c"
	"	WHERE c.session = sessions.id AND c.generation = sessions.generation AND c.aside = "
	"0);",
	/* 3: hosts that joined. A certificate counts by its serial: the one in use, or the one that
	 * was given out last and not seen yet, since the answer with it may have been lost. */
	"CREATE TABLE nodes ("
	"	name TEXT NOT NULL PRIMARY KEY,"
	"	state TEXT NOT NULL,"
	"	listen TEXT NOT NULL,"
	"	overlay TEXT NOT NULL UNIQUE,"
	"	serial TEXT NOT NULL,"
	"	next_serial TEXT,"
	"	key_digest TEXT NOT NULL,"
	"	token TEXT NOT NULL,"
	"	joined_at INTEGER NOT NULL,"
	"	seen_at INTEGER NOT NULL,"
	"	boot_id TEXT,"
	"	info TEXT"
	") STRICT, WITHOUT ROWID;"
	"CREATE TABLE join_tokens ("
	"	id TEXT NOT NULL PRIMARY KEY,"
	"	secret_digest TEXT NOT NULL,"
	"	expires_at INTEGER NOT NULL,"
	"	uses_left INTEGER NOT NULL,"
	"	created_at INTEGER NOT NULL"
	") STRICT, WITHOUT ROWID;",
	/* 4: on which nodes a wake has failed already */
	"ALTER TABLE sessions ADD COLUMN tried TEXT;",
	/* 5: who could not be saved when a machine went away */
	"ALTER TABLE sessions ADD COLUMN left_behind TEXT;",
	/* 6: what sessions that moved left behind. It outlives the session's own row, until its
	 * node has let go of it. */
	"CREATE TABLE departures ("
	"	id TEXT NOT NULL PRIMARY KEY,"
	"	session TEXT NOT NULL,"
	"	source TEXT NOT NULL,"
	"	target TEXT NOT NULL,"
	"	state TEXT NOT NULL,"
	"	generation INTEGER NOT NULL,"
	"	created_at INTEGER NOT NULL"
	") STRICT;",
	/* 7: what was known when something was decided; what sessions cost, and by what each is
	 * charged since when (docs/savings.md); what they used, by minutes, hours and days. */
	"ALTER TABLE events ADD COLUMN inputs TEXT;"
	"CREATE TABLE accounts ("
	"	session TEXT NOT NULL PRIMARY KEY,"
	"	user TEXT NOT NULL,"
	"	server TEXT NOT NULL,"
	"	groups TEXT,"
	"	since INTEGER NOT NULL,"
	"	sized_at INTEGER NOT NULL,"
	"	awake INTEGER NOT NULL,"
	"	held_bytes INTEGER NOT NULL,"
	"	whole_bytes INTEGER NOT NULL,"
	"	stored_bytes INTEGER NOT NULL,"
	"	type TEXT,"
	"	price TEXT,"
	"	machine_gib_hour REAL NOT NULL,"
	"	demand_gib_hour REAL NOT NULL,"
	"	store_gib_hour REAL NOT NULL"
	") STRICT, WITHOUT ROWID;"
	"CREATE TABLE account_days ("
	"	day INTEGER NOT NULL,"
	"	user TEXT NOT NULL,"
	"	server TEXT NOT NULL,"
	"	groups TEXT,"
	"	awake_ms INTEGER NOT NULL,"
	"	open_ms INTEGER NOT NULL,"
	"	always REAL NOT NULL,"
	"	machine REAL NOT NULL,"
	"	store REAL NOT NULL,"
	"	PRIMARY KEY (day, user, server)"
	") STRICT, WITHOUT ROWID;"
	"CREATE TABLE account_total ("
	"	id INTEGER PRIMARY KEY CHECK (id = 1),"
	"	awake_ms INTEGER NOT NULL,"
	"	open_ms INTEGER NOT NULL,"
	"	always REAL NOT NULL,"
	"	machine REAL NOT NULL,"
	"	store REAL NOT NULL"
	") STRICT;"
	"INSERT INTO account_total VALUES (1, 0, 0, 0, 0, 0);"
	"CREATE TABLE usage_names ("
	"	id INTEGER PRIMARY KEY,"
	"	user TEXT NOT NULL,"
	"	server TEXT NOT NULL,"
	"	UNIQUE (user, server)"
	") STRICT;"
	/* Small rows: there is one for each minute of each session that is awake. */
	"CREATE TABLE usage ("
	"	span INTEGER NOT NULL,"
	"	name INTEGER NOT NULL,"
	"	at INTEGER NOT NULL,"
	"	awake_ms INTEGER NOT NULL,"
	"	memory INTEGER NOT NULL,"
	"	memory_p95 INTEGER NOT NULL,"
	"	memory_peak INTEGER NOT NULL,"
	"	cpu_ms INTEGER NOT NULL,"
	"	cpu_stall_ms INTEGER,"
	"	memory_stall_ms INTEGER,"
	"	io_stall_ms INTEGER,"
	"	changed INTEGER NOT NULL,"
	"	PRIMARY KEY (span, name, at)"
	") STRICT, WITHOUT ROWID;",
	/* 8: since when nothing of a session has run */
	"ALTER TABLE sessions ADD COLUMN slept_at INTEGER NOT NULL DEFAULT 0;",
	/* 9: the size class that its user has chosen, and when its limits were changed last */
	"ALTER TABLE sessions ADD COLUMN size TEXT;"
	"ALTER TABLE sessions ADD COLUMN sized_at INTEGER NOT NULL DEFAULT 0;",
};

static int read_number(struct db *db, const char *sql, int64_t *value, struct error *e)
{
	cleanup_query struct query q;
	query_start(&q, db, sql, e);
	int r = query_step(&q);
	if (r > 0)
		*value = sqlite3_column_int64(q.stmt, 0);
	return r < 0 ? r : 0;
}

static int read_version(struct db *db, int64_t *version, struct error *e)
{
	return read_number(db, "PRAGMA user_version", version, e);
}

int db_check_schema(struct db *db, struct error *e)
{
	int64_t application = 0;
	int64_t version = 0;
	int r = read_number(db, "PRAGMA application_id", &application, e);
	if (r == 0)
		r = read_version(db, &version, e);
	if (r < 0)
		return r;
	if (application != APPLICATION_ID || version < 1) {
		r = error_fault(e, FAULT_BAD_INPUT,
				"'%s' is the database of another program, or empty", db->path);
		return error_remedy(
			e, r,
			"check the option controller.database; to begin with an empty record, move "
			"the file away");
	}
	if (version > (int64_t)ARRAY_SIZE(migrations)) {
		r = error_fault(e, FAULT_CONFLICT,
				"'%s' was written by a newer elsad: its schema is %d, this one "
				"knows up to %d",
				db->path, (int)version, (int)ARRAY_SIZE(migrations));
		return error_remedy(e, r, "install that version or a newer one");
	}
	return 0;
}

static int migrate_to(struct db *db, size_t version, struct error *e)
{
	char set_version[64];
	snprintf(set_version, sizeof(set_version), "PRAGMA user_version = %zu", version);
	int r = db_begin(db, e);
	if (r < 0)
		return r;
	r = db_exec(db, migrations[version - 1], e);
	if (r == 0)
		r = db_exec(db, set_version, e);
	if (r == 0)
		return db_commit(db, e);
	db_rollback(db);
	return error_wrap(e, r, "bringing the schema to version %zu", version);
}

int db_migrate(struct db *db, struct error *e)
{
	int64_t version = 0;
	int r = read_version(db, &version, e);
	for (size_t next = (size_t)version + 1; r == 0 && next <= ARRAY_SIZE(migrations); next++)
		r = migrate_to(db, next, e);
	return r;
}
