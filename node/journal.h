/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_NODE_JOURNAL_H
#define ELSA_NODE_JOURNAL_H

/*
 * What is written down about a session: which processes are its own, what was
 * being done to it and how far that had come, and the result until elsad has
 * acknowledged it. node/recover.c reads it after a crash.
 *
 *	RUN_DIR/journal/BOOT/ID.json   what is so now, replaced as a whole before
 *	                               every step; of this boot of the machine
 *	STATE_DIR/journal/ID.json      what a new boot is to know, durable
 *
 * The first outlives this program, the second the machine: after a power cut no
 * process lives any more, and most of what is so now with it (docs/effects.md).
 * Thread-safe for different sessions.
 */

#include "base/error.h"
#include "wire/messages.h"

struct node;

enum { ARRIVING_MOVED = -1 };

struct journal {
	struct session_spec session;
	int64_t generation; /* the newest that was committed or restored here */

	char *boot_id; /* the machine's boot that pid and start_time are of */
	int64_t pid;   /* of its init; 0: it has no processes */
	int64_t start_time;
	int64_t started_at;
	char *ended; /* why there is none although nobody asked: "exited", "oom-killed",
		      * "rebooted",
		      * "evacuated", "memory-lost"; NULL */

	char *effect; /* id of the effect under way, or NULL */
	enum effect_kind kind;
	int64_t effect_generation;
	int64_t begun_at;
	char *step;         /* about to be done */
	int64_t created_at; /* hibernate: of the manifest about to be put, to tell it from another's
			     */
	int64_t released;   /* restore: the generation whose processes may run from here on; 0 */
	int64_t fence;    /* the newest in the store when it was restored here, 0: none; one that is
			   * newer than this and `generation` is against it */
	int64_t tried;    /* a checkpoint of this number may be ours, although storing it failed */
	int64_t arriving; /* the checkpoint that its processes' memory still comes from, or
			   * ARRIVING_MOVED; 0: all is in */

	int64_t asleep;       /* it sleeps as this checkpoint, and is answered for here; 0 */
	int64_t asleep_bytes; /* ... of so much memory */

	/* Live migration. On the node that it left, from the commit on: who has it, by which
	 * effect. What stands still here is the memory of that. The id alone: it was about to
	 * leave by that, or came back, and is this node's. */
	char *given_to, *given_id;
	/* On the node that took it over, until that one knows that all memory is in: where it
	 * comes from. */
	char *moved_from, *moved_from_at, *moved_id;

	struct effect_result *results; /* the last effect's, not acknowledged; none or one */
	size_t result_count;
	bool interrupted; /* that one was cut short: asked again it is done again */
};

extern const struct wire_struct wire_journal;

/* The number of its next checkpoint, as far as this node knows. */
int64_t journal_next(const struct journal *j);

/* RUN_DIR/journal/BOOT; allocated, or NULL. */
char *journal_dir(const struct node *node);

/* As it is now; for this boot. */
int journal_note(const struct node *node, const struct journal *j, struct error *e);
/* Durable when it returns 0; it is noted, too. */
int journal_save(const struct node *node, const struct journal *j, struct error *e);
int journal_load(const struct node *node, const char *id, struct journal *j, struct error *e);
int journal_remove(const struct node *node, const char *id, struct error *e); /* missing is fine */
void journal_deinit(struct journal *j);                                       /* idempotent */
void journal_drop_results(struct journal *j);

/* Calls `each` once with the id of every session that has a journal. */
int journal_each(const struct node *node, int (*each)(const char *id, void *arg), void *arg,
		 struct error *e);

/* Replaces an owned string; NULL clears it. 0 or -ENOMEM with it unchanged. */
int journal_set(char **field, const char *value, struct error *e);

/* Copies by the wire tables; *to is overwritten. */
int journal_copy_spec(struct session_spec *to, const struct session_spec *from, struct error *e);
int journal_copy_result(struct effect_result *to, const struct effect_result *from,
			struct error *e);

#endif
