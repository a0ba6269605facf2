/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_NODE_MOVE_WIRE_H
#define ELSA_NODE_MOVE_WIRE_H

/*
 * What two nodes say to each other when a session moves (docs/migration.md):
 * bytes in, bytes out, apart from any socket. A message is a header and a body;
 * texts are JSON by wire/codec.h's tables. The target asks, the source answers
 * every question with one answer or, to MOVE_FILES, with MOVE_DATA over and over
 * and then MOVE_OK; instead of each it may answer MOVE_ERROR.
 *
 * Pure; thread-safe.
 */

#include "base/buf.h"
#include "base/error.h"
#include "wire/messages.h"

#include <stddef.h>
#include <stdint.h>

enum { MOVE_VERSION = 1, MOVE_HEADER_BYTES = 8, MOVE_BODY_MOST = 4 << 20 };

enum move_type {
	MOVE_HELLO = 1, /* move_hello: first on every connection. Answer: MOVE_OFFER, if control,
			 * else MOVE_OK */
	MOVE_FREEZE,  /* stand still and be written down. Answer: MOVE_OK, when it stands still: no
		       * packet for it is taken any more */
	MOVE_FILES,   /* Answer: a tar stream in MOVE_DATA: criu/, remap/, layers.tar, working-set.
		       * Before MOVE_FREEZE: the layer itself as it is, or an empty one where that
		       * does   not pay; then layers.tar has what changed since, and layers.names what
		       * there is (node/layers_ahead.h) */
	MOVE_GIVE,    /* Answer: MOVE_OK: it is yours; MOVE_ERROR (conflict): it is not */
	MOVE_PAGES,   /* move_ranges. Answer: MOVE_DATA, move_pages of all of them */
	MOVE_ARRIVED, /* all is in. Answer: MOVE_OK */
	MOVE_ABORT,   /* it came to nothing here. Answer: MOVE_OK; conflict when it was given */
	MOVE_WRITTEN, /* behind MOVE_FREEZE. Answer: MOVE_SKELETON, when it is written down */

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

#endif
