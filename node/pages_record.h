/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_NODE_PAGES_RECORD_H
#define ELSA_NODE_PAGES_RECORD_H

/*
 * What a killed page service leaves to the next one: the maps of all address
 * spaces, every event the kernel has told about them since, and which frames
 * are in place. It is shared memory without a name that lies in the session's
 * vault beside the userfaultfds, so it lives exactly as long as they.
 *
 * The kernel tells an event once, and lets the process go on at once. So it
 * is read straight into the record: whenever we are killed, an event is either
 * still with the kernel or in the record.
 *
 * One thread writes events; frames may be set by any.
 */

#include "base/error.h"
#include "node/pages_map.h"

#include <linux/userfaultfd.h>
#include <stdatomic.h>

struct pages_record {
	int fd; /* -1: none */
	void *at;
	size_t size;
	size_t used; /* entries */
};
#define PAGES_RECORD_INIT ((struct pages_record) { .fd = -1 })

enum pages_entry_kind { PAGES_ENTRY_EVENT, PAGES_ENTRY_SPACE, PAGES_ENTRY_RANGE };

struct pages_entry {
	uint32_t kind;
	int32_t number; /* of the space */
	int32_t child;  /* the number of the space that a fork makes */
	uint32_t reserved;
	union {
		/* Kind "event": the end of the record is one that is none, or still a fault. */
		struct uffd_msg message;
		struct pages_range range;
	};
	uint64_t padding[2];
};
_Static_assert(sizeof(struct pages_entry) == 64, "must not lie across pages");

/* With room for as many entries of maps (pages_record_needs()) beside what is told. */
int pages_record_make(struct pages_record *r, uint64_t pages, size_t frames, size_t maps,
		      struct error *e);
/* Takes over `fd`. -EBADMSG when it is none, or of another checkpoint. */
int pages_record_open(struct pages_record *r, int fd, uint64_t pages, size_t frames,
		      struct error *e);
void pages_record_close(struct pages_record *r); /* idempotent */

/* The entry behind the last one, to be filled in, and then counted. NULL when the record is full:
 * then a new one has to be made. */
struct pages_entry *pages_record_next(struct pages_record *r);
void pages_record_count(struct pages_record *r);
uint64_t pages_record_offset(const struct pages_record *r); /* of that entry in the file */

/* Whose turn it is to write: a program that takes up another's record takes the turn, before it
 * writes anything and behind all that the other one may still have to say. */
uint32_t pages_record_turn(const struct pages_record *r);
void pages_record_take_turn(struct pages_record *r);
/* The entry at `offset`, and whose turn it was when that was read. System calls only. */
int pages_record_peek(int fd, uint64_t offset, struct pages_entry *entry, uint32_t *turn);

/* The number that the first fork in this record gets: below all there have been, also of those that
 * have ended, since their descriptors may still lie in the vault. */
void pages_record_set_child(struct pages_record *r, int32_t next);
int32_t pages_record_child(const struct pages_record *r);

/* A space with its map. -ENOSPC. */
size_t pages_record_needs(const struct pages_map *map); /* so many entries */
int pages_record_space(struct pages_record *r, int32_t number, const struct pages_map *map);
/* Calls `each` with every entry and leaves the record ready for more. */
int pages_record_replay(struct pages_record *r,
			int (*each)(const struct pages_entry *entry, void *arg), void *arg);

/* Frames all of whose pages are where they belong, for good. set: true when it was not. */
bool pages_record_has(const struct pages_record *r, uint32_t frame);
bool pages_record_set(struct pages_record *r, uint32_t frame);
void pages_record_copy_frames(struct pages_record *to, const struct pages_record *from);
/* Everything is in place: what may still lie in the vault is to be forgotten. */
bool pages_record_is_complete(const struct pages_record *r);
void pages_record_complete(struct pages_record *r);
/* Something may be told that is not in it: nobody is to go on by it. */
bool pages_record_is_torn(const struct pages_record *r);
void pages_record_tear(struct pages_record *r);

#endif
