/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_SIM_WORLD_PRIVATE_H
#define ELSA_SIM_WORLD_PRIVATE_H

/* What sim/world*.c share. */

#include "policies/lifecycle.h"
#include "policies/place.h"
#include "sim/queue.h"
#include "sim/use.h"
#include "sim/world.h"

#define NONE UINT32_MAX

/* Of the queue. Tags tell what has been overtaken: a session's epoch, or nothing. */
enum world_event {
	ON_EFFECT_END, /* session: what its state waits for is done */
	ON_IDLE_LOOK,  /* session */
	ON_SIZE_LOOK,  /* session: one that runs */
	ON_SAVED,      /* session, tag: its `saving`; an evacuation has put it away */
	ON_JOIN,       /* machine */
	ON_GONE,       /* machine: its deadline */
	ON_EVACUATE,   /* machine: look again */
	ON_PROTECT,    /* machine: look again */
	ON_CAPACITY,
	ON_CONSOLIDATE,
	ON_SAMPLE,
};

struct sim_session {
	struct session_now now;
	uint32_t epoch; /* one more with each state */
	uint32_t machine;
	uint32_t place;     /* in its machine's list */
	uint32_t moving_to; /* machine that room is kept on for it; NONE */
	uint32_t stays;     /* machine that it cannot leave while it runs, + 1; 0 */
	uint32_t saving;    /* number of the evacuation's saving that is under way; 0: none */
	wall_ms started_at;
	wall_ms frozen_at; /* newest checkpoint */
	int64_t memory_bytes;
	int64_t first_ms, again_ms; /* what its first checkpoint takes, and another one */
	wall_ms state_at;

	/* Its work. What was done is assigned - left. */
	wall_ms busy_until; /* when it runs */
	int64_t left_ms;    /* when not */
	int64_t assigned_ms;
	int64_t frozen_ms, saved_ms; /* done when it was frozen last; when last made durable */

	wall_ms created_at, request_at;
	wall_ms asked_at;   /* somebody waits for it since; 0: nobody */
	wall_ms evicted_at; /* it stands still since its machine had to be left; 0: not */
	wall_ms before_at;  /* the checkpoint before the newest */
	wall_ms stopped_at; /* its user ended it */
	wall_ms held_at;    /* an evacuation lets it stand still since; 0: not */
	wall_ms saving_at;
	int64_t move_ms, moving_bytes; /* what its move takes, and the room that is kept */
	int64_t stored_bytes, full_bytes;
	bool runs;
	bool slept;   /* it was put away or killed: the next start is a wake */
	bool evicted; /* its machine was taken away, and it is not decided yet what comes of it */
	wall_ms look_at; /* the policy is asked about it; 0: not */
	bool wanted, sleepy, to_stop;
	bool unseen;        /* it sleeps, or is about to, and nobody is told */
	wall_ms slept_at;   /* since then */
	wall_ms emptied_at; /* it moved since its machine was emptied, or costs more; 0: never */
};

enum size_move_why { SIZE_MOVES_NOT = 0, SIZE_MOVES_FOR_MEMORY, SIZE_MOVES_FOR_MONEY };

/* Beside a session, where sessions have limits. */
struct sim_size {
	int64_t limit_bytes; /* 0: it has none */
	double cpus;
	int64_t wants_bytes; /* by the trace; it holds as much of that as its limit lets it */
	wall_ms sized_at;    /* its limit was changed while it was there; 0: never */
	wall_ms asleep_look; /* as long as it sleeps it is decided about again then */
	wall_ms look_at;     /* likewise as it runs; 0: not */
	wall_ms seen_until;  /* what it used is known until then, if it runs */
	bool waits;          /* it is looked at when what is done to it has ended */
	enum size_move_why moving;
	struct use use;
	uint32_t started, smaller, larger, raised; /* so often; `started`: afresh */
};

struct sizes {
	struct sim_size *list;       /* of each session; owned */
	struct size_sample *samples; /* of one decision; owned */
	size_t sample_size;
	double promised_bytes;                 /* of all machines */
	double promised_byte_ms, held_byte_ms; /* while somebody is awake */
};

struct machine {
	uint32_t number;
	size_t pool; /* of the world's */
	bool joined, doomed, gone;
	wall_ms asked_at, deadline, empty_since;
	size_t slot;        /* in the world's list */
	uint32_t *sessions; /* owned */
	size_t count, size;
	struct protect_facts *facts; /* of the same, kept as they change; owned */
	size_t arriving;             /* sessions that room is kept for */
	int64_t committed_bytes;
	uint32_t protect_turn, evict_turn; /* the looks that hold; earlier ones were overtaken */
	wall_ms fits_since;                /* of consolidate_node */
	wall_ms protect_at;                /* of the next look; 0: none */
	bool protect_waits;                /* sessions wait for the end of a snapshot */
	char name[16];
};

struct world_pool {
	const struct price_pool *price;
	int64_t memory_bytes;
	wall_ms dry_until, refused_at, asked_at;
	int64_t desired;
};

struct world {
	const struct sim_setup *setup;
	const struct strategy *strategy;
	struct idle_policy idle;
	wall_ms now, begun_at;
	bool ended;
	int failed; /* a negative errno: memory ran out in the midst */
	struct queue queue;
	struct sim_session *sessions;
	size_t session_count, session_size;
	struct machine **machines; /* by number; NULL: it is no more */
	size_t machine_numbers, machine_size;
	uint32_t *live;           /* numbers of those there are */
	struct place_node *nodes; /* the same for place() */
	size_t live_count;
	struct world_pool pools[PRICES_POOLS_MOST];
	size_t pool_count;
	size_t trace_pools[64]; /* SIZE_MAX: not of this way's */
	uint32_t *wanted;       /* sessions that no machine has room for */
	size_t wanted_count, wanted_size;
	int under_way;    /* hibernations for idleness */
	uint32_t *sleepy; /* sessions that wait for the end of one */
	size_t sleepy_count, sleepy_size;
	uint32_t savings;
	wall_ms capacity_at; /* of the next pass; 0: none */
	wall_ms grown_at, shrunk_at;
	wall_ms consolidate_at; /* of the next pass; 0: none */
	uint32_t emptying;      /* machine; NONE */
	wall_ms emptying_at, emptying_ended_at;
	wall_ms *moves; /* to empty machines, of the last hour; owned */
	size_t move_count, move_size;
	uint64_t interrupts;
	size_t awake;
	double stored_bytes;
	double byte_ms; /* of the store */
	double awake_ms;
	wall_ms counted_at; /* up to here */
	uint64_t puts, gets;
	struct sim_result result;
	struct sizes *sizes; /* NULL: sessions have no limits */
	void *scratch;       /* of one decision */
	size_t scratch_size;
};

/* world.c */
void world_at(struct world *w, wall_ms at, enum world_event kind, uint32_t subject, uint32_t tag);
void *world_scratch(struct world *w, size_t size); /* zeroed; NULL: out of memory, and it is said */
void world_failed(struct world *w);

/* world_work.c: what a session works at */
void work_add(struct world *w, struct sim_session *s, int64_t ms);
void work_pause(struct world *w, struct sim_session *s);
void work_resume(struct world *w, struct sim_session *s);
int64_t work_done(const struct world *w, const struct sim_session *s);
bool work_busy(const struct world *w, const struct sim_session *s);
void work_roll_back(struct world *w, struct sim_session *s); /* to its checkpoint */
void work_lose(struct world *w, struct sim_session *s);      /* all of it */
void work_end(struct world *w, struct sim_session *s);       /* its user has it */

/* world_sessions.c: one function changes a session's state */
void session_change(struct world *w, struct sim_session *s, enum session_event event);
void session_opened(struct world *w, const struct trace_record *record);
void session_busy(struct world *w, const struct trace_record *record);
void session_stop(struct world *w, struct sim_session *s);
void session_wake(struct world *w, struct sim_session *s);
void session_effect_end(struct world *w, struct sim_session *s);
void session_durable(struct world *w, struct sim_session *s); /* what was frozen is */
void session_freeze(struct world *w, struct sim_session *s);
void session_resize(struct world *w, struct sim_session *s, int64_t bytes);
int64_t session_checkpoint_ms(const struct sim_session *s);
uint32_t session_number(const struct world *w, const struct sim_session *s);
void wanted_retry(struct world *w);

/* world_idle.c */
void idle_look(struct world *w, struct sim_session *s);
void idle_slot_free(struct world *w); /* a hibernation has ended */
void idle_arm(struct world *w, struct sim_session *s, wall_ms at);
bool session_in_use(const struct world *w, const struct sim_session *s);
void idle_put_away(struct world *w, struct sim_session *s); /* if it may sleep */
void idle_put_to_sleep(struct world *w, struct sim_session *s);

/* world_machines.c */
void machine_show(struct world *w, const struct machine *m); /* to place() */
struct machine *machine_of(const struct world *w, const struct sim_session *s);
struct machine *machine_free(struct machine *m); /* NULL */
void machine_put(struct world *w, struct machine *m, struct sim_session *s);
void machine_leave(struct world *w, struct sim_session *s);
void machine_resized(struct world *w, struct machine *m, int64_t more);
void machine_ask(struct world *w, size_t pool);
void machine_joined(struct world *w, struct machine *m);
void machine_end(struct world *w, struct machine *m); /* it has no sessions */
void machine_doom(struct world *w, struct machine *m, wall_ms deadline);
void machines_settle(struct world *w); /* what those that are left have cost */

/* world_capacity.c */
void capacity_soon(struct world *w, int64_t in_ms);
void capacity_pass(struct world *w);

/* world_consolidate.c */
void consolidate_soon(struct world *w, int64_t in_ms);
void consolidate_pass(struct world *w);
size_t moves_of_hour(struct world *w, wall_ms *oldest); /* that nobody's memory asked for */
bool moves_count(struct world *w, struct sim_session *s);

/* world_evict.c */
void evict_interrupt(struct world *w, const struct trace_record *record);
void evict_look(struct world *w, struct machine *m);
void evict_saved(struct world *w, struct sim_session *s);
void evict_gone(struct world *w, struct machine *m);
int64_t evict_move_ms(const struct world *w, const struct machine *m, int64_t bytes);

/* world_move.c */
bool move_under_way(const struct world *w, const struct machine *m);
void move_begin(struct world *w, struct sim_session *s, struct machine *to, int64_t takes_ms);
bool move_try(struct world *w, struct sim_session *s,
	      int64_t takes_ms);                          /* false: no machine takes it */
void move_recall(struct world *w, struct sim_session *s); /* it stays where it is */
void move_lost(struct world *w, struct sim_session *s);   /* its machine went */
void move_ended(struct world *w, struct sim_session *s);

/* world_sizes.c: what sessions are promised. Nothing is done where they have no limits. */
int64_t session_room(const struct world *w, const struct sim_session *s);
int sizes_new(struct world *w); /* 0 or -ENOMEM */
void sizes_free(struct world *w);
int sizes_more(struct world *w, size_t sessions); /* room for so many; 0 or -ENOMEM */
void sizes_finish(struct world *w);
void size_asleep(struct world *w, struct sim_session *s); /* it has fallen asleep */
void size_before(struct world *w, struct sim_session *s); /* it is started, or woken */
/* These only where they have: */
struct sim_size *size_of(const struct world *w, const struct sim_session *s);
void size_init(struct world *w, const struct sim_session *s);
void size_awake(struct world *w, struct sim_session *s);
void size_seen(struct world *w, const struct sim_session *s); /* what it used until now */
void size_wants(struct world *w, struct sim_session *s, int64_t bytes);
void size_limit(struct world *w, struct sim_session *s, int64_t bytes);
struct size_decision size_decision_of(struct world *w, const struct sim_session *s, int64_t held,
				      struct size_use *use);
void size_apply(struct world *w, struct sim_session *s, const struct size_decision *d);
void size_arm(struct world *w, struct sim_session *s, wall_ms at);

/* world_sizes_running.c */
void size_look(struct world *w, struct sim_session *s);
void size_ended(struct world *w, struct sim_session *s); /* what was done to it */
bool size_moved(struct world *w, struct sim_session *s); /* false: not for its size */
void size_recalled(struct world *w, struct sim_session *s);

/* world_protect.c */
struct protect_facts protect_facts_of(const struct sim_session *s);
void protect_note(const struct world *w, const struct sim_session *s); /* they have changed */
void protect_look(struct world *w, struct machine *m);
void protect_ended(struct world *w, struct machine *m, const struct sim_session *s);

#endif
