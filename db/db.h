/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_DB_DB_H
#define ELSA_DB_DB_H

/*
 * The controller's record: sessions, checkpoints, events, pending effects.
 * SQLite in WAL mode, synchronous=FULL: what a function here reported as done
 * survives kill -9 and a power cut, unless the latter was waived for it. One
 * connection, one thread.
 *
 * Every row type below owns its strings: release with its *_deinit().
 */

#include "base/clock.h"
#include "base/error.h"
#include "base/id.h"

#include <stdbool.h>
#include <stdint.h>

struct db;

/* Creates or migrates. A newer schema, a file that is no database or fails its quick check, another
 * process holding it, an unwritable or full disk: an error that says so and what to do; the file is
 * left as it is. */
int db_open(const char *path, struct db **db, struct error *e);
void *db_close(struct db *db); /* returns NULL */

/* Nestable by depth; the outermost commit makes it durable. A rollback at any depth undoes all of
 * it, and so may a failure (a full disk): until the outermost level is left everything then fails
 * with -ECANCELED. A commit that fails has rolled back. */
int db_begin(struct db *db, struct error *e);
/* The same, but the outermost commit waits for no disk: it survives kill -9, while a power cut
 * before the next durable one may take it back, whole and with all that came after it. */
int db_begin_soon(struct db *db, struct error *e);
int db_commit(struct db *db, struct error *e);
void db_rollback(struct db *db);

struct db_session {
	char id[ID_SIZE];
	char *user;
	char *server;
	char *state;   /* policies' names */
	char *reason;  /* why it is in that state, for people; may be NULL */
	char *address; /* NULL: none yet */
	char *node;
	char *spec;      /* JSON: wire's session_spec */
	char *api_token; /* JupyterHub's token for the server, clear; the Hub keeps only a hash */
	char *spawner;   /* JSON the spawner wants back after a restore */
	int64_t generation; /* newest number used for a checkpoint or a fence */
	int64_t checkpoint; /* generation of the newest one in the store, if not set aside; 0 */
	int64_t wish;       /* policies' enum session_wish */
	char *tried; /* where this wake or start has failed; JSON (controller/tried.h); NULL */
	char *left_behind; /* it could not be saved; JSON (controller/left_behind.h); NULL */
	wall_ms created_at;
	wall_ms changed_at; /* of state */
	wall_ms started_at; /* of its processes */
	wall_ms person_at;  /* last sign of a person */
	wall_ms keep_awake_until;
	wall_ms refused_at;
	wall_ms slept_at; /* since when nothing of it runs; 0: it does, or has ended */
	char *size;       /* the size class that its user has chosen; NULL: none */
	wall_ms sized_at; /* its limits were changed while it was there; 0: never */
};

/* Insert or update by id; user/server and address are unique (-EEXIST). The spec's "uid" becomes
 * the user's own, see db_uid_pick(). */
int db_session_put(struct db *db, const struct db_session *session, struct error *e);
int db_session_delete(struct db *db, const char *id, struct error *e); /* none: fine, as for all */
/* All sessions in (user, server) order; the row is valid during the callback. Nonzero from `each`
 * stops and is returned. For this and all walks: the callback may read and write; whether the walk
 * meets rows that it changes is not said. */
int db_session_each(struct db *db, int (*each)(const struct db_session *, void *), void *arg,
		    struct error *e);
int db_session_get(struct db *db, const char *user, const char *server, struct db_session *to,
		   struct error *e); /* -ENOENT; what was in *to is not released */
void db_session_deinit(struct db_session *session);

struct db_checkpoint {
	char session[ID_SIZE];
	int64_t generation;
	wall_ms created_at;
	int64_t memory_bytes;
	int64_t stored_bytes;
	int64_t frozen_us;
	int64_t duration_us;
	char *node;
	bool aside;
	char *cpu; /* features it needs, as the store tells; NULL: not told yet */
};
/* Insert or replace by session and generation. */
int db_checkpoint_put(struct db *db, const struct db_checkpoint *checkpoint, struct error *e);
int db_checkpoint_delete(struct db *db, const char *session, int64_t generation, struct error *e);
int db_checkpoint_each(struct db *db, const char *session /* NULL: all */,
		       int (*each)(const struct db_checkpoint *, void *), void *arg,
		       struct error *e);

/* Who did what, when, why, how long, how many bytes. Kept for ever, but for what db_event_prune()
 * is for. */
struct db_event {
	int64_t id; /* set by db_event_add() */
	wall_ms at;
	char *session; /* id; may be NULL, like all but `what` */
	char *user;
	char *server;
	char *who;    /* "idle-policy", "hub", "uid 0", ... */
	char *what;   /* "hibernate", "restore", "refused", ... */
	char *why;    /* reason code and its inputs */
	char *detail; /* for people; may be NULL */
	int64_t duration_us;
	int64_t bytes;
	char *inputs; /* what was known when it was decided, as JSON; may be NULL */
};
int db_event_add(struct db *db, struct db_event *event, struct error *e);
/* Newest first when `after` is 0, else those with id > after, oldest first. user NULL: all; limit
 * 0: no limit. */
int db_event_each(struct db *db, int64_t after, const char *user, int limit,
		  int (*each)(const struct db_event *, void *), void *arg, struct error *e);
/* Deletes those of one doer and kind that are older. */
int db_event_prune(struct db *db, const char *who, const char *what, wall_ms before,
		   struct error *e);
void db_event_deinit(struct db_event *event);

/* An effect that was decided and is not known to be done. A session has at most one: another one's
 * put fails with -EEXIST until the first is deleted, which may be in the same transaction. */
struct db_effect {
	char id[ID_SIZE];
	char session[ID_SIZE];
	char *kind; /* wire's names */
	char *node;
	int64_t generation;
	wall_ms created_at;
	char *who;
	char *why;
};
int db_effect_put(struct db *db, const struct db_effect *effect, struct error *e);
int db_effect_delete(struct db *db, const char *id, struct error *e);
/* Oldest first. */
int db_effect_each(struct db *db, int (*each)(const struct db_effect *, void *), void *arg,
		   struct error *e);
void db_effect_deinit(struct db_effect *effect);
void db_checkpoint_deinit(struct db_checkpoint *checkpoint);

/* What a session that goes, or went, to another node while it ran has at the one it left
 * (docs/migration.md): until that has said that nothing is left there, or that the session is its
 * own again. */
struct db_departure {
	char id[ID_SIZE]; /* of the effect by which it went */
	char session[ID_SIZE];
	char *source, *target; /* nodes */
	char *state;           /* controller/remains.h's */
	int64_t generation;    /* newest number that was used when it went */
	wall_ms created_at;
};
/* Insert or replace by id. */
int db_departure_put(struct db *db, const struct db_departure *departure, struct error *e);
int db_departure_delete(struct db *db, const char *id, struct error *e);
/* Oldest first. */
int db_departure_each(struct db *db, int (*each)(const struct db_departure *, void *), void *arg,
		      struct error *e);
void db_departure_deinit(struct db_departure *departure);

/* A host that joined; docs/nodes.md. */
struct db_node {
	char *name;
	char *state;       /* "ready"; "draining": nothing new goes there */
	char *listen;      /* "address:port" of its API */
	char *overlay;     /* its address there */
	char *serial;      /* of its certificate */
	char *next_serial; /* of the one it was given last and did not use yet; NULL */
	char *key_digest;  /* SHA-256 of its public key */
	char *token;       /* id of the one it joined by */
	wall_ms joined_at;
	wall_ms seen_at;
	char *boot_id; /* NULL: not known yet, as `info` */
	char *info;    /* JSON: wire's node_info, as it said last */
};
/* Insert or update by name; `overlay` is unique (-EEXIST). */
int db_node_put(struct db *db, const struct db_node *node, struct error *e);
int db_node_delete(struct db *db, const char *name, struct error *e);
int db_node_get(struct db *db, const char *name, struct db_node *to,
		struct error *e); /* -ENOENT; what was in *to is not released */
int db_node_each(struct db *db, int (*each)(const struct db_node *, void *), void *arg,
		 struct error *e); /* by name */
void db_node_deinit(struct db_node *node);

/* The lowest free address of network.overlay, the first 16 left to the hub's host; allocated.
 * -ENOSPC when none. Given out for good by db_node_put() in the same transaction. */
int db_overlay_pick(struct db *db, const char *pool, char **address, struct error *e);

struct db_join_token {
	char id[ID_SIZE];
	char *secret_digest; /* SHA-256; the secret is nowhere */
	wall_ms expires_at;
	int64_t uses_left; /* -1: any number */
	wall_ms created_at;
};
int db_join_token_put(struct db *db, const struct db_join_token *token, struct error *e);
int db_join_token_get(struct db *db, const char *id, struct db_join_token *to,
		      struct error *e); /* -ENOENT; what was in *to is not released */
int db_join_tokens_expire(struct db *db, wall_ms before, struct error *e); /* deletes such */
void db_join_token_deinit(struct db_join_token *token);

/* --- what sessions cost: docs/savings.md ---------------------------------------------------------
 */

/* By what a session is charged, and since when: what passes from then on is not in the days yet. */
struct db_account {
	char session[ID_SIZE];
	char *user, *server;
	char *groups; /* the user's, as a JSON list; NULL: not known */
	wall_ms since;
	wall_ms sized_at; /* when its sizes became what they are */
	bool awake;
	int64_t held_bytes, whole_bytes, stored_bytes;
	char *type, *price; /* of its machine, as that says; NULL: it does not */
	double machine_gib_hour, demand_gib_hour, store_gib_hour;
};
/* Insert or replace by session. */
int db_account_put(struct db *db, const struct db_account *account, struct error *e);
int db_account_delete(struct db *db, const char *session, struct error *e);
int db_account_get(struct db *db, const char *session, struct db_account *to,
		   struct error *e); /* -ENOENT; what was in *to is not released */
int db_account_each(struct db *db, int (*each)(const struct db_account *, void *), void *arg,
		    struct error *e);
void db_account_deinit(struct db_account *account);

struct db_account_sums {
	int64_t awake_ms, open_ms;
	double always, machine, store;
};
/* Adds to a day of a session, and to the total. `groups` NULL: those the day has stay. */
int db_account_add(struct db *db, int64_t day, const char *user, const char *server,
		   const char *groups, const struct db_account_sums *sums, struct error *e);
/* Of all that was ever added. */
int db_account_total(struct db *db, struct db_account_sums *to, struct error *e);

enum db_account_by { ACCOUNT_BY_ALL, ACCOUNT_BY_USER, ACCOUNT_BY_GROUP, ACCOUNT_BY_DAY };
struct db_account_row {
	char *key; /* user, group ("": in none) or "2026-11-29"; NULL: all */
	int64_t users;
	struct db_account_sums sums;
};
/* The days from that one on. A user of two groups counts in both. */
int db_account_report(struct db *db, enum db_account_by by, int64_t from_day,
		      int (*each)(const struct db_account_row *, void *), void *arg,
		      struct error *e);

/* What all of a session's checkpoints take. */
int db_checkpoint_bytes(struct db *db, const char *session, int64_t *bytes, struct error *e);

/* --- what sessions used --------------------------------------------------------------------------
 */

/* Minutes are rolled up into hours, and into days. */
enum db_usage_span { USAGE_MINUTE = 1, USAGE_HOUR = 60, USAGE_DAY = 1440 };

struct db_usage {
	wall_ms at; /* its beginning */
	int64_t awake_ms;
	int64_t memory_bytes, memory_p95_bytes, memory_peak_bytes; /* while awake; mean first */
	int64_t cpu_ms;
	/* How long something of it waited for a processor, memory, a disk; -1: not known. */
	int64_t cpu_stall_ms, memory_stall_ms, io_stall_ms;
	int64_t changed_bytes; /* that checkpoints found new since the one before */
};
/* Adds a minute, or replaces it. */
int db_usage_put(struct db *db, const char *user, const char *server, const struct db_usage *usage,
		 struct error *e);
/* Makes hours and days of the minutes that are over at `now` and were not rolled up yet. */
int db_usage_roll_up(struct db *db, wall_ms now, struct error *e);
/* Deletes what began before. */
int db_usage_prune(struct db *db, enum db_usage_span span, wall_ms before, struct error *e);
/* Of one session, in the order of time. */
int db_usage_each(struct db *db, enum db_usage_span span, const char *user, const char *server,
		  wall_ms from, int (*each)(const struct db_usage *, void *), void *arg,
		  struct error *e);

/* Small facts: cursor of a listing, boot ids. NULL value deletes. *value is allocated; -ENOENT. */
int db_fact_set(struct db *db, const char *key, const char *value, struct error *e);
int db_fact_get(struct db *db, const char *key, char **value, struct error *e);

/* The lowest free address of an IPv4 pool "10.99.0.0/16", the first 16 left to the host; allocated.
 * -ENOSPC when none. Given out for good by db_session_put() in the same transaction. */
int db_address_pick(struct db *db, const char *pool, char **address, struct error *e);

/* The uid that a session of `user` has or ever had: its files in the home stay its own, also when
 * the last session is gone. Else the lowest of [from, to] that no user ever had; -ENOSPC. Given out
 * for good by db_session_put() of a session whose spec has it, in the same transaction. */
int db_uid_pick(struct db *db, const char *user, int64_t from, int64_t to, int64_t *uid,
		struct error *e);

#endif
