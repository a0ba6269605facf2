/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_NODE_MOVE_WIRE_H
#define ELSA_NODE_MOVE_WIRE_H

/*
 * What two nodes say to each other when a session moves (docs/migration.md):
 * bytes in, bytes out, apart from any socket. A message is a header and a body;
 * texts are JSON by wire/codec.h's tables. The target asks, the source answers
 * every question with one answer or, where files are asked for, with MOVE_DATA
 * over and over and then MOVE_OK; instead of each it may answer MOVE_ERROR.
 * A header is the same in every version (MOVE_VERSION), so that nodes of two can
 * tell each other: that is neither yes nor no to anything.
 *
 * Pure; thread-safe.
 */

#include "base/buf.h"
#include "base/error.h"
#include "wire/messages.h"

#include <stddef.h>
#include <stdint.h>

enum { MOVE_VERSION = 3, MOVE_HEADER_BYTES = 8, MOVE_BODY_MOST = 4 << 20 };

enum move_type {
	MOVE_HELLO = 1, /* move_hello: first on every connection. Answer: MOVE_OFFER, if control,
			 * else MOVE_OK */
	MOVE_FREEZE,  /* stand still and be written down. Answer: MOVE_OK, when it stands still: no
		       * packet for it is taken any more */
	MOVE_FILES,   /* behind MOVE_WRITTEN. Answer: move_piece in MOVE_DATA: criu/, remap/,
		       * working-set; the layer's, too, unless all of it came to MOVE_LAYER. Body:
		       * move_piece without bytes, what is there already and need not come if it is
		       * still the same */
	MOVE_GIVE,    /* Answer: MOVE_OK: it is yours; MOVE_ERROR (conflict): it is not */
	MOVE_PAGES,   /* move_ranges. Answer: MOVE_DATA, move_pages of all of them */
	MOVE_ARRIVED, /* all is in. Answer: MOVE_OK */
	MOVE_ABORT,   /* it came to nothing here. Answer: MOVE_OK; conflict when it was given */
	MOVE_WRITTEN, /* behind MOVE_FREEZE. Answer: MOVE_SKELETON, when it is written down */
	MOVE_AHEAD,   /* u32, 1: it may be compressed. Behind MOVE_LAYER_AHEAD and before
		       * MOVE_FREEZE. Answer: MOVE_DATA, move_ahead_part: some of its memory as it is,
		       * while it runs */
	MOVE_SAME,    /* move_tags. As MOVE_PAGES, by who has copies of some of them. Answer:
		       * MOVE_DATA, move_same: those that are not as it has them */
	MOVE_LAYER_AHEAD, /* before MOVE_FREEZE. Answer: a tar stream in MOVE_DATA: its layer as it
			   * is while it runs, or an empty one where that does not pay */
	MOVE_LAYER, /* behind MOVE_FREEZE. Answer, when it is packed, while the rest is written
		     * down: move_piece in MOVE_DATA: layers.tar; if some came ahead with what
		     * changed since, and layers.names with what there is (node/layers_ahead.h) */
	MOVE_EARLY, /* behind MOVE_FREEZE. Answer, until it is written down: move_piece in
		     * MOVE_DATA: of criu/ what is ready */

	MOVE_OK = 64,
	MOVE_ERROR, /* move_failure */
	MOVE_OFFER,
	MOVE_SKELETON,
	MOVE_DATA,
};

struct move_header {
	uint8_t type;
	uint32_t len; /* of the body */
};
void move_header_write(const struct move_header *h, unsigned char to[MOVE_HEADER_BYTES]);
/* -EBADMSG: not of this protocol, or a body above MOVE_BODY_MOST. */
int move_header_read(const unsigned char from[MOVE_HEADER_BYTES], struct move_header *h,
		     struct error *e);

struct move_hello {
	int64_t version;
	char *departure; /* id */
	char *session;
	bool control; /* it speaks for the session; others only fetch pages */
};

struct move_offer {
	int64_t version;
	char *criu, *cpu; /* as in a checkpoint's meta */
	struct session_spec spec;
	int64_t generation, fence, tried; /* of its journal */
	int64_t started_at;
	int64_t memory_bytes; /* resident */
};

struct move_skeleton {
	int64_t frozen_us; /* it has stood still for so long */
	int64_t files_bytes;
	int64_t memory_limit; /* as it was in the end; 0: none */
};

struct move_failure {
	char *fault; /* base/error.h's name */
	char *text, *remedy;
};
extern const struct wire_struct wire_move_hello, wire_move_offer, wire_move_skeleton,
	wire_move_failure;

/* Pages that are wanted: of the process with that pid inside the session. */
struct move_range {
	int32_t pid;
	uint32_t pages;
	uint64_t address;
};
enum { MOVE_RANGES_MOST = 4096, MOVE_PAGES_MOST = 512 }; /* together in one question */

/* squeeze: the answer may be compressed. */
int move_ranges_write(const struct move_range *ranges, size_t count, bool squeeze, struct buf *to,
		      struct error *e);
/* *ranges is allocated. -EBADMSG. */
int move_ranges_read(const void *from, size_t len, struct move_range **ranges, size_t *count,
		     bool *squeeze, struct error *e);

/* The pages of an answer, one after the other: those of zeros cost nothing, the rest is compressed
 * if that was allowed and makes it smaller. */
int move_pages_write(const void *pages, size_t count, bool squeeze, struct buf *to,
		     struct error *e);
/* `to` has room for `count` pages, the number that was asked for. -EBADMSG. */
int move_pages_read(const void *from, size_t len, void *to, size_t count, struct error *e);

/* --- node/move_wire_ahead.c --------------------------------------------------------- */

/* Memory that is sent while its session runs, in rounds: the first has all of it, each other one
 * what has changed since. It is true of no moment. */
struct move_part {
	uint32_t round;      /* 0: the first */
	bool last;           /* of its round */
	bool tracked;        /* the kernel notes there what is written */
	int64_t left_ms;     /* until that machine goes away, its share of it; -1: not known */
	int64_t took_us;     /* to gather it */
	uint64_t link_per_s; /* how quickly the one before went, by TCP there; 0: not known */
	uint64_t seen_bytes; /* gone over in this round, of */
	uint64_t all_bytes;
	uint64_t sent_bytes; /* of memory, in this round so far */
	uint32_t pages;      /* here: of the ranges together */
};
void move_ahead_question(bool squeeze, unsigned char to[4]);
int move_ahead_question_read(const void *from, size_t len, bool *squeeze, struct error *e);
/* `pages`: of all ranges, one after the other. */
int move_part_write(const struct move_part *part, const struct move_range *ranges, size_t count,
		    const void *pages, bool squeeze, struct buf *to, struct error *e);
/* In one that is written: it took so long with the writing. */
void move_part_set_took(struct buf *written, int64_t took_us);
/* `pages` has room for MOVE_PAGES_MOST. *ranges is allocated; NULL when there are none. -EBADMSG.
 */
int move_part_read(const void *from, size_t len, struct move_part *part, struct move_range **ranges,
		   size_t *count, void *pages, struct error *e);

/* Pages that are wanted of which there may be a copy: its keyed digest (store/seal.h). */
enum { MOVE_KEY = 32, MOVE_TAG = 16 };
struct move_tag {
	struct move_range range;
	bool has; /* a copy; else `tag` means nothing */
	unsigned char tag[MOVE_TAG];
};
int move_tags_write(const unsigned char key[MOVE_KEY], const struct move_tag *tags, size_t count,
		    bool squeeze, struct buf *to, struct error *e);
int move_tags_read(const void *from, size_t len, unsigned char key[MOVE_KEY],
		   struct move_tag **tags, size_t *count, bool *squeeze, struct error *e);
/* same: of each, that the copy is true; `pages`: of the others, one after the other. */
int move_same_write(const bool *same, size_t count, const void *pages, size_t page_count,
		    bool squeeze, struct buf *to, struct error *e);
/* The same tags as in the question. `pages` has room for all of their pages. -EBADMSG; also when
 * one is said to be the same of which there was no copy. */
int move_same_read(const void *from, size_t len, const struct move_tag *tags, size_t count,
		   bool *same, void *pages, size_t *page_count, struct error *e);

/* --- node/move_wire_files.c --------------------------------------------------------- */

/* Plain files, in pieces: those of a file one behind the other, in order, and what none of them has
 * is a hole. The last ends where the file does. A body is some of them. */
enum { MOVE_NAME_MOST = 511 };
struct move_piece {
	char name[MOVE_NAME_MOST + 1]; /* "NAME" or "DIRECTORY/NAME" */
	uint64_t size, offset;
	int64_t changed_ns; /* wall clock */
	uint32_t len;
	const void *data; /* read: in the body */
};
size_t move_piece_bytes(const struct move_piece *p); /* in a body */
/* *data: where its bytes are to be put, until `to` is used again. */
int move_piece_write(const struct move_piece *p, struct buf *to, void **data, struct error *e);
/* The first of what is there, which is not empty. -EBADMSG, also for a name that leads elsewhere.
 */
int move_piece_read(const void *from, size_t len, struct move_piece *p, struct error *e);

#endif
