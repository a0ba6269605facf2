/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_NODE_PAGES_SERVICE_H
#define ELSA_NODE_PAGES_SERVICE_H

/*
 * Inside the page service (node/pages.h).
 *
 * Threads: some for faults, of which one at a time leads, that is, reads from
 * the userfaultfds (pages_fault.c); some that bring the rest (pages_fetch.c); one
 * that listens to CRIU during a restore (pages_listen.c). Each holds a reference:
 * a thread that hangs in the store does not hold up pages_free().
 *
 * Two locks. `spaces_lock`: read-held while pages are put into place, write-held
 * while an event is read and the maps follow it, since from the moment in which
 * an event is read the process goes on, and a page put where it was wanted before
 * would be wrong. `lock`: everything else. Either may be taken alone, or `lock`
 * inside `spaces_lock`.
 */

#include "base/clock.h"
#include "node/pages.h"
#include "node/pages_ahead.h"
#include "node/pages_index.h"
#include "node/pages_keeper.h"
#include "node/pages_kept.h"
#include "node/pages_map.h"
#include "node/pages_record.h"
#include "node/vault.h"
#include "node/working_set.h"

#include <pthread.h>
#include <stdatomic.h>

enum {
	PAGES_FAULT_THREADS = 8,
	PAGES_FETCH_THREADS = 2,
	PAGES_AHEAD_THREADS = 4,
	PAGES_NEAR = 4 * STORE_PAGE, /* around a page: wanted with it */
	PAGES_AHEAD_QUEUE = 16,      /* windows not yet taken up: of more the oldest is forgotten */
	PAGES_QUEUE = 4096,          /* faults not yet taken up: threads of the session that wait */
};

/* Under the write lock, or read-only. */
struct pages_shared_map {
	int references;
	struct pages_map map;
};

/* One address space. */
struct pages_space {
	int32_t number; /* pid inside; negative: of a fork */
	int fd;
	_Atomic bool gone; /* its processes have ended */
	bool broken;       /* out of memory while its map was changed: nothing is put there */
	bool in_vault;
	struct pages_shared_map *map;
	uint64_t moved_from, moved_to, moved_len; /* if its last event was a move */
};

struct pages_fault {
	int32_t number;
	uint64_t address;
};

/* What the session will want next. */
struct pages_wish {
	int32_t number;
	bool follows;
	uint64_t start, end; /* addresses */
};

/* What a fault thread is reading. */
struct pages_flight {
	uint32_t frame;
	bool busy;
	bool again; /* somebody else wants of it what may have come too late */
};

/* A fault as it is noted for the working set, and what was asked for with it. */
struct pages_noted {
	struct working_set_page page;
	uint64_t start, end;
};
enum { PAGES_NOTED_MOST = 4096 };

struct pages {
	_Atomic int references;
	char *session, *dir;
	void (*arrived)(void *arg);
	void *arg;
	struct page_source source;
	struct pages_index index;

	pthread_rwlock_t spaces_lock;
	struct pages_space **spaces;
	size_t space_count, space_size;
	_Atomic uint32_t spaces_version;
	int32_t next_child;
	size_t forks;               /* since it was last looked which have ended, */
	size_t lived;               /* ... and these had not */
	struct pages_record record; /* exchanged under the write lock */
	struct vault vault;
	struct pages_keeper *keeper;
	bool settled; /* all spaces are known and registered, and in the vault; not let go yet */

	pthread_mutex_t lock;
	pthread_cond_t changed; /* anything below */
	bool stop;              /* pages_free() */
	bool let_go;            /* nothing is to be done any more: arrived, or stopped */
	bool has_arrived;
	bool saying; /* `arrived` is being called */
	int hang_up; /* eventfd, readable from the stop on */

	/* Faults. */
	pthread_cond_t work, standby_wake;
	struct pages_fault queue[PAGES_QUEUE];
	size_t queue_head, queue_count;
	int leader, standby; /* thread or -1 */
	int idle;
	bool standby_asleep;
	_Atomic int64_t leader_busy; /* since; 0 */
	_Atomic int64_t last_fault;
	_Atomic int64_t read_us; /* how long a frame takes at present */
	_Atomic int far;         /* more for each that took long, less for each that did not */
	struct pages_flight flights[PAGES_FAULT_THREADS];
	int wake; /* eventfd: the spaces have changed */

	/* Read-ahead. */
	struct pages_ahead ahead;
	struct pages_wish wishes[PAGES_AHEAD_QUEUE];
	size_t wish_head, wish_count;
	pthread_cond_t wished;

	/* The rest, frame by frame, in passes until nothing is left. */
	uint32_t cursor;
	uint32_t pass;
	int fetching; /* threads at work on this pass */
	bool fetching_begun;
	bool pass_failed; /* something of this pass has to be tried again */
	int pass_wait_ms;
	_Atomic uint64_t missing; /* pages */
	uint64_t total;

	/* Before it is settled. */
	int listener;
	int restored; /* 1: CRIU has said so; or why not */
	struct error restore_error;
	bool set_there;    /* the last working set can be read */
	bool *early_taken; /* frames that are being read */
	struct pages_kept early;
	int early_threads;
	pid_t hot_thread, set_thread; /* while they stand behind CRIU; 0 */
	bool early_full;              /* no more is kept */
	bool early_over;              /* there is a place for them */
	_Atomic int64_t early_us;     /* until the first frame came */

	/* The working set. */
	struct working_set_page *last_set;
	size_t last_set_count;
	struct pages_noted *faults; /* in the order in which they came */
	size_t fault_count;
	struct pages_kept withheld; /* the rest of their frames, while that is recorded */
	bool recording;
	uint64_t hold_back; /* bytes */
	bool hurry;         /* somebody waits for all of it: the rest does not stand back */
	int waiting;        /* faults being served */
	mono_us waiting_since, waited; /* ... the time that there are some, and were */

	/* Reads that fail. */
	int failing;
	unsigned recoveries; /* so far: what failed is tried again at once */
	wall_ms stalled_since;
	struct error stalled;
};

/* pages.c. make: takes the source over, also when it fails. */
int pages_make(const struct pages_options *options, const struct page_source *source,
	       struct pages **pages, struct error *e);
int pages_make_index(struct pages *p, struct error *e);
/* A thread with a reference, which it gives back at its end. */
int pages_thread(struct pages *p, void *(*run)(void *arg), void *arg, struct error *e);
void pages_unref(struct pages *p);
/* Nothing is to be done any more. */
bool pages_over(struct pages *p);
void pages_wait_for(pthread_cond_t *cond, pthread_mutex_t *lock, int64_t us);
/* Reading goes wrong, or right again; `failing` is the thread's own. */
void pages_failing(struct pages *p, bool *failing, const struct error *why);
void pages_recovered(struct pages *p, bool *failing);
/* Waits until somebody's reads go right again, or all is over; longer the next time. */
void pages_back_off(struct pages *p, int *wait_ms);
/* Everything is where it belongs: lets go. */
void pages_finish(struct pages *p);

/* pages_uffd.c. All with spaces_lock held, for reading unless said otherwise. */
struct pages_space *pages_space_find(struct pages *p, int32_t number);
/* For writing, as all that may change which there are: pointers to spaces last as long as the lock.
 * Takes `fd` and the map over, also when it fails. */
int pages_space_add(struct pages *p, int32_t number, int fd, struct pages_map *map,
		    struct error *e);
/* For writing. Everything into a new record, and what is not yet in the vault into it. */
int pages_save(struct pages *p, struct error *e);
/* For writing. Reads one message: 1 and the fault, 0 when there is none or it was an event (*any),
 * with which `s` may have gone. */
int pages_read_message(struct pages *p, struct pages_space *s, struct pages_fault *fault,
		       bool *any);
/* For writing. An event as it was told, or is told again by the record. */
int pages_apply(struct pages *p, struct pages_space *s, const struct uffd_msg *m, int32_t child,
		int child_fd);
/* For writing. What belongs there is there: from now on it is as if it had been emptied since. */
int pages_take_off(struct pages *p, struct pages_space *s, uint64_t start, uint64_t end);
/* For writing. Closes and forgets all of them. */
void pages_drop_all(struct pages *p);

/* pages_put.c. With spaces_lock held for reading unless said otherwise.
 * 0, or -EAGAIN: an event comes first, nothing or only a part is done. */
int pages_put(struct pages_space *s, uint64_t address, const void *data, size_t len, bool wake);
int pages_put_zeros(struct pages_space *s, uint64_t address, size_t len);
/* A frame's pages, wherever they are wanted; with `first` first of all that page there. */
int pages_put_frame(struct pages *p, uint32_t frame, const void *data,
		    const struct pages_fault *first);
/* Only that page; or what the frame has of the PAGES_NEAR bytes around it. */
int pages_put_first(struct pages *p, uint32_t frame, const void *data,
		    const struct pages_fault *first);
int pages_put_near(struct pages *p, uint32_t frame, const void *data,
		   const struct pages_fault *fault);
/* The same, with no lock held, until it is done; -ECANCELED: all is over. */
int pages_place(struct pages *p, uint32_t frame, const void *data);
bool pages_is_wanted(struct pages *p, uint32_t frame);
/* It is in place, for good: noted, if that can be known. */
void pages_frame_done(struct pages *p, uint32_t frame);
void pages_wake_all(struct pages *p);
void pages_wake(struct pages *p, const struct pages_fault *fault); /* takes the lock itself */

/* pages_fault.c */
int pages_fault_start(struct pages *p, struct error *e);

/* pages_hot.c: the working set. A fault is noted when it is told, with lock held, and when its page
 * has come, without. */
void pages_note_fault(struct pages *p, const struct pages_fault *fault,
		      const struct pages_window *w);
void pages_note_served(struct pages *p);
/* Recorded from here on, and, once the session has been let run, until it has shown what it wants.
 * wait: until then. */
int pages_record_set_begin(struct pages *p, struct error *e);
void pages_record_set_go(struct pages *p);
void pages_record_wait(struct pages *p);

/* False: the frame may be put into place as a whole. Else it is kept until all is recorded. */
bool pages_withhold(struct pages *p, uint32_t frame, const void *data, size_t len);
/* It is kept until then; false: there is no room, or that is over. */
bool pages_keep(struct pages *p, uint32_t frame, const void *data, size_t len);
/* A frame that is kept, whatever for: a copy of it. */
bool pages_find_kept(struct pages *p, uint32_t frame, unsigned char data[STORE_FRAME_BYTES],
		     size_t *len);

/* pages_early.c. Reads what was wanted first at the last wake: before it is settled into memory,
 * after it straight to where it belongs. settled: waits a little for it, and puts into place what
 * has been read. */
int pages_early_start(struct pages *p, struct error *e);
void pages_early_settled(struct pages *p);
/* Puts what is kept into place until then. */
void pages_place_kept(struct pages *p, struct pages_kept *kept, mono_us until);

/* pages_fetch.c */
int pages_fetch_start(struct pages *p, struct error *e);

/* pages_ahead_read.c: threads that read ahead. Asked for with lock held. */
int pages_ahead_start(struct pages *p, struct error *e);
void pages_ahead_ask(struct pages *p, int32_t number, const struct pages_window *w);
bool pages_is_far(struct pages *p);
void pages_note_far(struct pages *p, mono_us took); /* to read a frame */

/* pages_listen.c */
int pages_listen_start(struct pages *p, const char *work, struct error *e);

#endif
