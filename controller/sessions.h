/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_CONTROLLER_SESSIONS_H
#define ELSA_CONTROLLER_SESSIONS_H

/*
 * The table of sessions: the database's rows in memory, and what was seen of
 * each since elsad started. A row changes only by session_apply() and its few
 * kin below, which write the database first and memory after. One thread.
 */

#include "controller/controller.h"
#include "policies/consolidate.h"
#include "policies/idle.h"
#include "policies/lifecycle.h"
#include "policies/protect.h"
#include "wire/messages.h"

#include <jansson.h>
#include <sys/queue.h>

struct effect;
struct node;
struct operation;
struct session;

/* A user of the Hub who has sessions here. */
struct person {
	char *name;
	char **groups; /* NULL-terminated; NULL: not known */
	bool admin;
	uint64_t listed_in; /* number of the last pass over the Hub's users that listed them */
	int absent;         /* complete passes in a row that did not */
	bool deleted;       /* the Hub says for sure that there is no such user */
	TAILQ_HEAD(, session) sessions;
};

/* How often it may still ask about itself; see controller/self.h. Zeroes: nothing asked yet. */
struct self_pace {
	mono_us at;
	int left;
};

/* What was seen of a session; nothing of it outlives elsad but person_at. */
struct seen {
	bool by_node;
	int missing; /* looks in a row at which the node did not know it */
	int64_t rss_bytes, processes;
	int64_t out_bytes;                    /* of its memory, paged out beside that */
	int64_t missing_bytes, missing_total; /* of its memory since it woke */
	wall_ms stalled_since;                /* it waits for the store; 0: it does not */
	char stalled[256];                    /* why */
	char unsaved[256];  /* its machine goes away, and it cannot be saved: why; "" */
	bool to_move;       /* ... and leaves it to us to move it while it runs */
	int64_t short_of;   /* it stands still, wanting so much memory; 0: it does not */
	mono_us rescued_at; /* it was short of memory, and something was done; 0: never */
	int64_t cpu_us;
	mono_us cpu_at;          /* when cpu_us was read; 0: never */
	double cpu_share;        /* NAN: not known */
	wall_ms cpu_quiet_since; /* 0: it is not quiet */
	bool server_seen;        /* it answered when it was asked last */
	bool server_heard;       /* it has answered since it runs: what follows is what it said */
	bool kernel_busy;
	wall_ms busy_since;
	wall_ms kernel_activity_at, terminal_activity_at, request_at;
	wall_ms hub_activity_at; /* from the Hub's listing or the session's own reports */
};

/* What it used in the minute that is going on; controller/usage.h. */
struct usage_minute {
	mono_us seen_at; /* of the last look; 0: none in this run */
	int64_t cpu_us;  /* as told then, as the stalls */
	bool stalls_known;
	int64_t stall_us[3]; /* for processor, memory, disk */
	int64_t memory_bytes;
	struct {
		int64_t awake_us, cpu_us;
		int64_t stall_us[3]; /* -1: not known */
		double memory_us;    /* bytes, each for as long as it was so */
		int64_t peak_bytes, changed_bytes;
	} sum;
};

struct session {
	struct controller *controller;
	struct person *person; /* NULL until it is in the table */
	struct db_session row; /* as in the database */
	struct node *node;     /* where its processes are, or were last */
	struct node *heading;  /* migrating: where packets for it go already; NULL: as `node` */
	enum session_state state;
	/* Of the newest usable checkpoint, row.checkpoint: */
	int64_t checkpoint_bytes, checkpoint_memory;
	char *checkpoint_cpu;                /* features it needs; NULL: not known */
	int64_t port;                        /* where its server listens; 0: never started */
	int64_t memory_limit;                /* of its spec; 0: none */
	double cpu_limit;                    /* likewise */
	char *image;                         /* likewise; NULL: never started */
	char *waiting;                       /* why it is not woken although it is to be; NULL */
	char *label;                         /* "ada/lab" for the log, without control characters */
	const struct session_status *status; /* during a look at the node only */
	mono_us settled_at;                  /* when `state` became what it is, in our time */
	mono_us move_failed_at;              /* when it could not be moved last; 0: never */
	struct {                             /* from a node that is emptied */
		mono_us at;                  /* last; 0: never */
		enum consolidate_use as;
	} sent_away;
	uint64_t overlay_revision;   /* in which its node is what it is now */
	struct effect *effect;       /* under way; NULL */
	struct operation *operation; /* the last one; NULL */
	struct seen seen;
	struct {
		bool known;
		enum idle_reason reason;
		bool reported; /* stuck busy */
		wall_ms next_at;
		wall_ms person_at; /* last sign of a person; the row's may be older */
		bool asked;        /* the policy asked for a hibernation, at: */
		wall_ms asked_at;
		char rule[64];
		char failure[256]; /* why it could not be hibernated, as last recorded */
		wall_ms doze_refused_at;
		json_t *inputs; /* from which the policy decided that it sleeps; NULL */
	} idle;
	struct {                    /* while it sleeps, or dozes */
		wall_ms touched_at; /* when somebody came last, as its node says; 0 */
		char *unwoken;      /* ... and why it cannot be woken there; NULL */
		int failures;       /* in a row, of what was to be done about it */
		mono_us again_at;   /* until then it is not tried again */
	} asleep;
	struct {
		bool known; /* the rest is as the last pass decided */
		enum protect_reason reason;
		wall_ms due_at;
		int64_t interval_ms;
		bool stretched;
		bool asked; /* we asked for a snapshot and did not hear of its end yet */
		wall_ms failed_at;
		bool loaded; /* these are of the newest checkpoint, when `generation` was: */
		int64_t generation;
		wall_ms frozen_at;
		int64_t cost_ms, cost_bytes;
	} protect;
	struct usage_minute usage;
	struct {                 /* controller/size.h */
		mono_us next_at; /* not decided again before */
		bool asking;     /* its node is told other limits */
	} size;
	struct self_pace pace;
	char *report; /* activity for the Hub that it did not take yet; JSON */
	uint64_t report_number;
	TAILQ_ENTRY(session) by_person, all;
};

#define SESSION_NAME_MOST 300 /* characters of a user's or a server's name */

int sessions_new(struct controller *c, struct error *e); /* reads the database */
void sessions_free(struct controller *c);

struct session *sessions_find(struct controller *c, const char *user, const char *server);
struct session *sessions_by_id(struct controller *c, const char *id);
struct person *sessions_person(struct controller *c, const char *user);
size_t sessions_count(struct controller *c);
struct session *sessions_first(struct controller *c); /* in no order; NULL */
struct session *sessions_next(struct session *s);
struct person **sessions_persons(struct controller *c, size_t *count); /* allocated array */

/* A session that is not in the table: it gets there with its first session_apply(). */
struct session *session_new(struct controller *c, const char *user, const char *server);
void session_free(struct session *s); /* of one that is not in the table */

/* What happened to a session, or is wanted of it. */
struct session_change {
	enum session_event event;
	const char *who;
	const char *why;    /* NULL: the step's own */
	const char *reason; /* for people: why it is in its new state; NULL: nothing to say */
	const char *detail; /* the same for the event alone */
	/* Called in the transaction when new processes are to be started: makes the draft's spec.
	 */
	int (*prepare)(struct session *s, struct db_session *draft, void *arg, struct error *e);
	void *arg;
	/* Where new processes are to be, where it is to move, or where it was found; NULL: where it
	 * was last. */
	struct node *node;
	/* With what ends its processes, or bad news of them: what is to become of it then. */
	enum session_wish wish;
	int64_t checkpoint; /* evacuated: the generation */
	/* When an effect ended: which, and how. */
	struct effect *ended;
	const struct effect_result *result;
};

/* THE function that changes a session's state: asks lifecycle_step(), writes state, effect,
 * checkpoint and event in one transaction, and only then lets the effect begin. *step (may be NULL)
 * is what was decided. A start elsewhere of what is asleep has its node let go of it first, and is
 * gone on with by itself. Negative: a conflict, or it could not be recorded; then nothing has
 * changed.
 */
int session_apply(struct session *s, const struct session_change *wanted, struct session_step *step,
		  struct error *e);
/* What it is to lifecycle_step(). */
struct session_now session_now(const struct session *s);

/* The other things that are kept of a session; none changes its state. */
int session_set_wish(struct session *s, enum session_wish wish, struct error *e);
/* Its limits, from now on and when it wakes; the record's `what` and session are filled in. */
struct record;
int session_set_limits(struct session *s, const struct session_limits *limits,
		       const struct record *record, struct error *e);
/* Its memory's alone: `detail` says from what to what. */
int session_set_memory(struct session *s, int64_t bytes, const char *who, const char *why,
		       const char *detail, struct error *e);
/* The class that its user has chosen; NULL: none. Its limits stay. */
int session_set_size(struct session *s, const char *size, const char *who, struct error *e);
/* NULL: nothing. See controller/left_behind.h. */
int session_set_left_behind(struct session *s, const char *text, struct error *e);
int session_keep_awake(struct session *s, wall_ms until, const char *who, struct error *e);
int session_record_person(struct session *s, wall_ms person_at, struct error *e);
int session_set_aside(struct session *s, const char *who, const char *why, const char *reason,
		      struct error *e);
/* One that was removed from the store. */
int session_drop_checkpoint(struct session *s, int64_t generation, const char *who,
			    struct error *e);
/* The store has a checkpoint we have no record of: found there, or (`who`) imported. */
int session_adopt_checkpoint(struct session *s, const struct checkpoint_info *info, const char *who,
			     struct error *e);

/* Its node has another name: in the record, in a transaction of the caller's, and in memory.
 * Nothing if it is not that node's. */
int session_rename_node(struct session *s, const struct node *node, const char *name,
			struct error *e);
void session_renamed_node(struct session *s, const struct node *node);

bool session_has_processes(const struct session *s); /* running or dozing, nothing under way */
bool session_is_its_nodes(const struct session *s);  /* ... or asleep: its node may wake it */
int session_spec(const struct session *s, struct session_spec *spec, struct error *e);
void session_take_spec(struct session *s); /* its row's spec is another one */
/* The row of row.checkpoint is this one; NULL: there is none. */
void session_take_checkpoint(struct session *s, const struct db_checkpoint *row);

/* For session_apply() and the loading of the table. */
void sessions_insert(struct session *s);
void sessions_remove(struct session *s);                        /* and frees it, later */
char *session_make_label(const char *user, const char *server); /* allocated */
struct db_session session_copy_row(const struct db_session *row);

#endif
