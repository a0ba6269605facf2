/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_WIRE_MESSAGES_H
#define ELSA_WIRE_MESSAGES_H

/*
 * What elsad and elsa-node say to each other (docs/api.md, "Node API"). All
 * strings are owned by their struct: release with wire_free(). Times are
 * wall-clock milliseconds, sizes bytes, durations microseconds.
 */

#include "wire/codec.h"

struct session_limits {
	int64_t memory_bytes; /* 0: no limit */
	double cpus;          /* 0: no limit */
	int64_t pids;         /* 0: no limit */
};

/* A session as a node runs it. Fixed from the first start to the end of its life, but for limits.
 */
struct session_spec {
	char *id;      /* base/id.h; names everything the node makes for it */
	char *user;    /* for people; may hold anything a JupyterHub name may */
	char *server;  /* "" for the default server */
	char *address; /* its IPv4 address, for life */
	int64_t port;  /* where the server listens */
	int64_t uid;
	int64_t gid;
	char *home;        /* directory on the node, bound at `home_inside` */
	char *home_inside; /* path of the home in the session */
	char *image;       /* root file system: a directory; "/" is the node's own root */
	char **cmd;
	char **env; /* "NAME=value" */
	struct session_limits limits;
};

enum effect_kind {
	EFFECT_NONE = 0,
	EFFECT_START,     /* a new process tree */
	EFFECT_HIBERNATE, /* checkpoint `generation`, then let the processes go */
	EFFECT_SNAPSHOT,  /* checkpoint `generation`, and the session goes on */
	EFFECT_RESTORE,   /* run checkpoint `generation` */
	EFFECT_STOP,      /* end the processes, keep nothing of them */
	EFFECT_FORGET,    /* as stop, and delete the checkpoints */
	EFFECT_FENCE,     /* take the next number above `generation` in the store, so that no
			   * node commits one that is not new; needs nothing of the session */
	EFFECT_MIGRATE,   /* take it over from node `from`, where it runs (docs/migration.md) */
	EFFECT_DEPART,    /* a node's own: the other side of that */
	EFFECT_RETURN,    /* likewise: what departed runs again, for it came to nothing */
	EFFECT_SLEEP,     /* as hibernate, and from then on as answer */
	EFFECT_ANSWER,  /* it is hibernated: answer at its address, and wake it when somebody comes
			 */
	EFFECT_RELEASE, /* ... do so no more; its checkpoint stays */
	EFFECT_DOZE,    /* stand still, with its memory out of the way, until somebody comes */
	EFFECT_ROUSE,   /* run again */
	EFFECT_KIND_COUNT
};
extern const char *const effect_kind_names[EFFECT_KIND_COUNT];

struct effect_request {
	char *id; /* the same id asked again attaches to the same work or gets its result again */
	enum effect_kind kind;
	int64_t generation;
	/* start and restore: also where the node is about to go away. migrate, asked again with it:
	 * the source is lost. Who still asks it for the session ends as failed, not kept, and never
	 * asks again. */
	bool force;
	char *from;    /* migrate: the node that has it; depart: the one it goes to; NULL */
	char *from_at; /* migrate: "address:port" of that node's node.move_listen; NULL */
	struct session_spec session;
};

enum effect_state { EFFECT_RUNNING = 0, EFFECT_DONE, EFFECT_FAILED, EFFECT_STATE_COUNT };
extern const char *const effect_state_names[EFFECT_STATE_COUNT];

struct step_timing {
	char *name;
	int64_t us;
};

struct effect_result {
	char *id;
	enum effect_state state;
	char *step;                      /* under way, or where it ended */
	int64_t bytes_done, bytes_total; /* progress of the step; total 0: unknown */

	/* When failed: */
	char *fault; /* base/error.h's name */
	char *text;
	char *remedy;
	char *log_tail; /* CRIU's own words, the last lines of its log; may be NULL */

	/* What is true now, done or failed: */
	bool running;   /* the session's processes exist and are not frozen */
	bool kept;      /* migrate, failed: it is still its source's, as if nothing had been */
	bool answering; /* nothing of it runs, and this node answers at its address */
	bool dozing;
	int64_t generation;
	int64_t checkpoint; /* fence: the newest that is in the store; 0: none */

	/* When done: */
	int64_t memory_bytes; /* resident before a checkpoint */
	int64_t stored_bytes; /* what the checkpoint takes in the store */
	int64_t out_bytes;    /* dozing: of its memory, what is paged out */
	int64_t frozen_us;
	int64_t duration_us;
	struct step_timing *timings;
	size_t timing_count;
};

/* One session as the node sees it now. */
struct session_status {
	char *id;
	bool running;
	bool frozen;
	int64_t pid; /* of its init, outside; 0 when not running */
	int64_t generation;
	int64_t rss_bytes;
	int64_t out_bytes;    /* ... and what is paged out: both together are its memory */
	int64_t memory_limit; /* as it is now: it may have been raised; 0: none */
	int64_t short_of;     /* it stands still, for this node has not so much memory for it; 0 */
	int64_t cpu_us;       /* used since start of its cgroup */
	int64_t processes;
	/* How long something of it has waited since then; without `stalls_known` nobody knows. */
	bool stalls_known;
	int64_t cpu_stall_us, memory_stall_us, io_stall_us;
	int64_t started_at;
	char *effect; /* id of the one under way, or NULL */
	char *ended;  /* why there is no process although nobody asked: "exited", "oom-killed",
		       * "evacuated" (to `generation`), "memory-lost" (the node that it came
		       * from has lost it); NULL else */
	bool held;    /* frozen since the node's lease has lapsed */
	bool dozing;
	bool answering;     /* nothing of it runs; this node answers at its address */
	int64_t touched_at; /* when somebody came for it last, while it dozed or was answered for; 0
			     */
	char *unwoken;      /* somebody came and this node may not wake it: why; NULL */
	char *given_to; /* another node has it: what stands still here is memory it still needs */
	/* Woken before its memory was there: */
	int64_t missing_bytes, missing_total; /* still to come, of so much */
	int64_t stalled_since;                /* the store does not give it; 0: it does */
	char *stalled;                        /* why; NULL */
};

struct session_status_list {
	struct session_status *items;
	size_t count;
};

/* What a cloud, or an operator's drill, says will become of a node. */
enum notice_kind {
	NOTICE_NONE = 0,
	NOTICE_EVICT,     /* the machine goes away */
	NOTICE_REBALANCE, /* it is more likely than usual to */
	NOTICE_REBOOT,    /* maintenance that ends its processes */
	NOTICE_FREEZE,    /* maintenance that pauses it */
	NOTICE_KIND_COUNT
};
extern const char *const notice_kind_names[NOTICE_KIND_COUNT];

struct node_notice {
	char *id; /* the same notice seen again has the same */
	enum notice_kind kind;
	char *source;    /* "aws spot/instance-action", "drill", ... */
	int64_t at;      /* when it happens; 0: not said */
	int64_t seen_at; /* when we saw it first */
	char *detail;    /* the source's own words; may be NULL */
};

struct drill_request { /* POST /v1/drill */
	enum notice_kind kind;
	int64_t in_ms;
	char *who; /* for people; NULL: the caller */
};

struct node_info {
	char *name;
	char *version;
	char *boot_id; /* the kernel's: differs after a reboot */
	char *criu;    /* version */
	char *cpu;     /* model name */
	int64_t cpus;
	int64_t memory_bytes;
	int64_t memory_available_bytes;
	/* Where the memory of dozing sessions goes: "zram", "file", "system"; NULL: sessions cannot
	 * doze here, and why. */
	char *doze, *doze_lacks;
	int64_t out_room_bytes;   /* what more can be paged out */
	int64_t out_bytes;        /* what is, of whomever */
	int64_t out_stored_bytes; /* ... and the memory that it still takes there (zram); 0: none */
	/* Memory pressure: percent of the last ten seconds in which somebody (all) waited for
	 * memory (PSI). */
	bool pressure_known;
	double pressure_some, pressure_full;
	char *features; /* the processor's, as node/cpu.h writes them */
	char *cloud;    /* "aws", "gcp", "azure"; NULL: none known */
	char *instance; /* the cloud's id of the machine; NULL */
	char *instance_type;
	char *zone;
	char *price;                /* "spot", "on-demand"; NULL: not known */
	char *underlay;             /* its address as other hosts reach it; NULL */
	int64_t move_port;          /* of node.move_listen there; 0: nothing can be moved */
	int64_t move_version;       /* what it speaks there; 0: not said */
	char **images;              /* those of the question that are here */
	int64_t lease_left_ms;      /* until it would freeze its sessions; -1: it needs no lease */
	bool evacuating;            /* it puts its sessions away by itself */
	int64_t upload_bytes_per_s; /* as measured last; 0: not yet */
	struct node_notice *notices;
	size_t notice_count;
};

/* POST /v1/node */
struct node_question {
	char **images; /* root file systems of which it is to say whether they are here */
};

/* --- from a joined node to elsad (nodes.listen) --- */

struct join_request { /* POST /v1/nodes/join */
	char *token;
	char *name;
	char *csr;    /* PEM */
	char *listen; /* "address:port" of its API */
	char *version;
};

struct join_answer {       /* also of POST /v1/nodes/renew, which has a csr alone */
	char *certificate; /* PEM */
	char *ca;          /* PEM */
	char *overlay;     /* its address there */
};

struct lease_request { /* POST /v1/nodes/lease */
	char *boot_id;
	char *listen;
	int64_t asked_at; /* microseconds since that boot; 0: not said. None counts behind a later
			     one */
	int64_t news_at;  /* likewise, when something of its sessions last changed by its own doing;
			     0: nothing has since elsa-node began */
	bool leaving;     /* elsa-node ends, has no session, and gives its lease back */
	struct node_notice *notices;
	size_t notice_count;
};

struct lease_grant {
	int64_t lease_ms; /* from when the question was asked */
	char **sessions;  /* ids of those that are its own: a held one that is not there stays so */
};

/* --- PUT /v1/overlay: the whole of it, each time --- */

struct overlay_peer {
	char *name;
	char *underlay; /* IPv4 address */
	char *overlay;  /* IPv4 address */
};

struct overlay_route {
	char *address; /* of a session, or network.host_address */
	char *via;     /* overlay address of the peer that has it */
};

struct overlay_state {
	char *overlay; /* this node's own; "" or NULL: there is no overlay, take all down */
	struct overlay_peer *peers; /* all others */
	size_t peer_count;
	struct overlay_route *routes; /* what is elsewhere */
	size_t route_count;
};

/* --- GET /v1/evacuation: the last one --- */

enum evacuee_state {
	EVACUEE_WAITING = 0,
	EVACUEE_SAVING,
	EVACUEE_SAVED,
	EVACUEE_LEFT,   /* could not be saved in time: its last snapshot counts */
	EVACUEE_FAILED, /* could not be checkpointed: runs on */
	EVACUEE_MOVING, /* another node has it, and fetches its memory from this one */
	EVACUEE_MOVED,  /* ... has all of it */
	EVACUEE_STATE_COUNT
};
extern const char *const evacuee_state_names[EVACUEE_STATE_COUNT];

struct evacuee {
	char *session;
	enum evacuee_state state;
	int64_t begun_at, ended_at;
	int64_t frozen_at;
	int64_t generation;  /* what it was saved as */
	int64_t snapshot_at; /* of the newest checkpoint before; 0: none */
	int64_t bytes;       /* sent for it */
	char *why;           /* of what was not saved; NULL */
	char *to;            /* moving, moved: the node that has it */
	bool to_move;        /* waiting: left to elsad for a moment, to move it while it runs */
	bool noted;          /* there may be a note in its home */
};

struct evacuation {
	struct node_notice notice;
	int64_t begun_at, ended_at; /* 0: under way */
	int64_t margin_ms;          /* between the last one durable and the deadline */
	struct evacuee *sessions;
	size_t session_count;
};

/* --- live migration: docs/migration.md --- */

enum departure_state {
	DEPARTURE_GRANTED = 0, /* nobody came for it yet, or not for long */
	DEPARTURE_UNDER_WAY,
	DEPARTURE_GIVEN, /* the other node has it, and still fetches memory */
	DEPARTURE_OVER,  /* ... has all of it: nothing is left here */
	DEPARTURE_KEPT,  /* it came to nothing: the session is this node's */
	DEPARTURE_STATE_COUNT
};
extern const char *const departure_state_names[DEPARTURE_STATE_COUNT];

/* PUT, GET /v1/departures/ID, with the id of the other node's effect: elsad lets node `to` fetch
 * the session. POST /v1/departures/ID/take-back: nothing of it runs at `to` any more nor ever will.
 * DELETE: what is left of it here is to end; nothing if it was not given. All are idempotent. */
struct departure {
	char *id;
	char *session; /* id */
	char *to;      /* name of a node */
	enum departure_state state;
	char *why; /* kept: what went wrong; NULL */
};

struct take_back_request { /* POST /v1/departures/ID/take-back; a body is not needed */
	int64_t fence; /* numbers up to this are taken in the store: its next checkpoint is above */
};

/* POST /v1/nodes/moving, from the target to elsad: it stands still, and packets for it may be sent
 * here from now on. Answered when the hub's host does so. */
struct moving_request {
	char *session; /* id */
	char *effect;
};

struct checkpoint_info {
	char *session;
	int64_t generation;
	int64_t created_at;
	int64_t memory_bytes;
	int64_t stored_bytes; /* its own objects */
	int64_t shared_bytes; /* of older ones' that it names */
	int64_t objects;
	int64_t basis; /* the generation it was compared with; 0: none */
	bool aside;    /* set aside by a fresh start; kept, never restored by itself */
	char *user;
	char *server;
	char *cpu; /* features it needs, as store/ recorded them */
	char *criu;
	char *kernel;
	char *damaged; /* why it cannot be used: the rest may then be missing; NULL */
	char *fence;   /* it is none, but a number that this node took, at `created_at`; NULL */
};

struct checkpoint_list {
	struct checkpoint_info *items;
	size_t count;
};

struct memory_info { /* an address space, or shared memory */
	char *name;
	int64_t pages;
	int64_t zero_pages;
};

/* What is inside one. */
struct checkpoint_detail {
	struct checkpoint_info checkpoint;
	struct memory_info *memories;
	size_t memory_count;
	int64_t frames;
	int64_t hot_frames; /* wanted first */
};

/* --- what is done to the store --- */

enum store_task_kind {
	STORE_TASK_NONE = 0,
	STORE_TASK_VERIFY,
	STORE_TASK_REMOVE,
	STORE_TASK_GC,
	STORE_TASK_EXPORT,
	STORE_TASK_IMPORT,
	STORE_TASK_REKEY,
	STORE_TASK_KIND_COUNT
};
extern const char *const store_task_kind_names[STORE_TASK_KIND_COUNT];

struct store_request {
	enum store_task_kind kind;
	char *session; /* of verify, remove and export */
	int64_t generation;
	bool dry_run; /* of gc */
};

/* One that was begun: not kept over a restart of the node, since each can be done again. */
struct store_task {
	char *id;
	enum store_task_kind kind;
	enum effect_state state;
	int64_t done, total;         /* bytes, of gc objects, of rekey sessions; total 0: unknown */
	char *fault, *text, *remedy; /* when failed */
	int64_t objects, bytes;      /* gc: what was removed, or would be */
	int64_t kept_objects, kept_bytes;
	int64_t count; /* rekey: sessions whose key was wrapped anew */
	bool dry_run;
	/* import: */
	struct checkpoint_info *checkpoints; /* one, when done */
	size_t checkpoint_count;
	char *spec; /* the session as its node had it: JSON of session_spec */
};

extern const struct wire_struct wire_session_limits, wire_session_spec, wire_effect_request,
	wire_effect_result, wire_session_status, wire_session_status_list, wire_node_info,
	wire_checkpoint_info, wire_checkpoint_list, wire_checkpoint_detail, wire_store_request,
	wire_store_task, wire_node_notice, wire_departure, wire_take_back_request,
	wire_moving_request, wire_drill_request, wire_node_question, wire_join_request,
	wire_join_answer, wire_lease_request, wire_lease_grant, wire_overlay_state, wire_evacuation;

#endif
