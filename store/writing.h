/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_STORE_WRITING_H
#define ELSA_STORE_WRITING_H

/*
 * A checkpoint being written. What comes in is put into batches of up to
 * STORE_FILL_MOST bytes; workers take them in any order, leave out what need not
 * be stored, squeeze, seal and pack the rest, and write down where it is.
 */

#include "store/pack.h"
#include "store/reading.h"

enum {
	BATCH_PAGES = STORE_FILL_MOST / STORE_PAGE,
	WORKERS_MAX = 4,
	/* of a frame not yet in order: the pack is one of the basis */
	FRAME_OF_BASIS = 1u << 31,
};

struct run {
	uint64_t vaddr;
	uint32_t pages;
	bool soon; /* STORE_SOON */
};

struct batch {
	struct batch *next;
	unsigned char *data; /* STORE_FILL_MOST */
	size_t len;
	struct file_write *file; /* or */
	struct store_memory_write *memory;
	uint64_t first; /* number of its first frame, or page, there */
	struct run runs[BATCH_PAGES];
	size_t run_count;
};

struct file_write {
	char *name;
	uint32_t mode;
	uint64_t size;
	const struct index_file *basis; /* NULL: not in it */
	uint32_t *frames;               /* under store_write.lock, */
	unsigned char *digests;         /* ... too */
	size_t frame_count, room;
};

struct store_memory_write {
	struct store_write *write;
	char *name;
	const struct index_memory *basis; /* NULL: not in it */
	const struct hot_list *hot;       /* NULL: none */
	struct store_extent *extents;
	size_t extent_count, room;
	uint64_t end; /* of the last extent */
	uint64_t pages;
	struct batch *batch; /* being filled; NULL: none */
	bool ended;
	pthread_mutex_t lock; /* of what follows: for each page */
	uint32_t *frames;
	uint8_t *slots;
	unsigned char *digests;
	size_t page_room;
};

struct hot_list {
	struct hot_list *next;
	char *memory;
	uint64_t *pages;
	size_t count;
};

/* Hot pages from everywhere, until they make a frame; and those that are wanted before them. */
enum gather_kind { GATHER_HOT, GATHER_SOON, GATHER_KINDS };
struct hot_gather {
	pthread_mutex_t lock;
	unsigned char *data; /* STORE_FRAME_BYTES */
	struct hot_page {
		struct store_memory_write *memory;
		uint64_t page;
	} pages[STORE_FRAME_PAGES];
	unsigned count;
};

/* The checkpoint whose frames are taken over. */
struct basis {
	struct store_read *read;
	bool *worn;       /* packs of which too little is used to keep the rest for it */
	atomic_uint *ids; /* of its frames that were taken over: the number here; FRAME_NONE */
};
#define FRAME_NONE  UINT32_MAX
#define FRAME_LATER (UINT32_MAX - 1) /* a hot page whose frame is not full yet */

struct pipe {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	struct batch *spare, *queue, **queue_end;
	unsigned made, most; /* batches */
	unsigned busy;       /* queued or worked at */
	bool stop;
	pthread_t threads[WORKERS_MAX];
	struct worker *workers[WORKERS_MAX];
	unsigned count;
};

struct store_write {
	struct store *store;
	struct store_writer writer; /* its mark */
	char session[17], id[17];
	int64_t generation;
	struct store_keys keys;
	struct seal_key frame_key;
	struct failure failure;
	struct packer *packer;
	struct pipe pipe;
	struct basis *basis; /* NULL: none */
	struct hot_gather gathers[GATHER_KINDS];
	bool tried, committed;
	bool piping;       /* the pipe has been started */
	bool keep;         /* the manifest may be there, though we could not commit it */
	size_t pack_count; /* once the packer is gone */
	uint64_t durable;
	uint64_t shared; /* bytes of frames taken over */
	int64_t basis_generation;
	pthread_mutex_t lock; /* of what follows */
	struct index_frame *frames;
	size_t frame_count, frame_room;
	struct file_write **files;
	size_t file_count, file_room;
	struct store_memory_write **memories;
	size_t memory_count, memory_room;
	struct hot_list *hot_lists;
	uint64_t total, spared; /* bytes put in; of them, not to be stored */
};

/* basis.c: the newest checkpoint below `generation` that was not set aside, or -1. Looks also
 * whether the session is being forgotten. */
int basis_find(struct store *store, const char *session, int64_t generation, int64_t *basis,
	       struct error *e);
/* 0 and NULL when it cannot be used. */
int basis_open(struct store *store, const struct store_keys *keys, const char *session,
	       int64_t number, struct basis **basis, struct error *e);
void *basis_free(struct basis *b);
const struct index_memory *basis_memory(const struct basis *b, const char *name);
const struct index_file *basis_file(const struct basis *b, const char *name);
/* Looks up ascending addresses in a memory (may be NULL); false: it is not in it. */
struct basis_cursor {
	const struct index_memory *m;
	size_t extent;
	uint64_t before; /* pages of the extents before it */
};
void basis_cursor_init(struct basis_cursor *c, const struct index_memory *m, uint64_t vaddr);
bool basis_cursor_find(struct basis_cursor *c, uint64_t vaddr, uint64_t *page);

/* write.c */
int write_check(struct store_write *w, struct error *e);       /* whether more may be put in */
int write_fail(struct store_write *w, int r, struct error *e); /* from now on; returns r */
void write_stop(struct store_write *w);                        /* all threads */
void write_take_back(struct store_write *w);                   /* all objects but the manifest */

/* pipe.c */
int pipe_start(struct store_write *w, struct error *e);
void pipe_stop(struct store_write *w);
/* Waits for a batch to fill; the failure if there is one. */
int pipe_take(struct store_write *w, struct batch **batch, struct error *e);
void pipe_queue(struct store_write *w, struct batch *batch);
void pipe_give_back(struct store_write *w, struct batch *batch);
/* One more batch may be held without being queued (a memory that is begun), or one less. */
void pipe_allow(struct store_write *w, int more);
/* Until nothing is queued or worked at. */
int pipe_drain(struct store_write *w, struct error *e);

/* worker.c: a worker's own tools, and what it does to a batch. */
struct worker;
int worker_new(struct store_write *w, struct worker **worker, struct error *e);
void *worker_free(struct worker *k);
struct store_write *worker_write(const struct worker *k);
int worker_batch(struct worker *k, struct batch *batch, struct error *e);
/* What is left of the hot pages. */
int worker_flush_hot(struct worker *k, struct error *e);

/* Something to be made a frame of. */
struct cut {
	const unsigned char *data;
	size_t len;
	uint8_t pages; /* 0: no pages */
	bool hot;
	/* Out: */
	uint32_t id; /* in store_write.frames */
};
/* Cuts to frames next to each other, all within STORE_FILL_MOST bytes. */
int worker_store(struct worker *k, enum pack_stream stream, struct cut *cuts, size_t count,
		 struct error *e);

/* write_memory.c: where pages are, once that is known. */
struct page_at {
	uint32_t frame;
	uint8_t slot;
};
void memory_set(struct store_memory_write *m, uint64_t page, struct page_at at);
void memory_set_batch(struct store_memory_write *m, const struct batch *batch,
		      const struct page_at *at, const unsigned char *digests);
void *memory_free(struct store_memory_write *m);

DEFINE_CLEANUP(struct basis *, basis_free)
DEFINE_CLEANUP(struct worker *, worker_free)

#endif
