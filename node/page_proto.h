/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_NODE_PAGE_PROTO_H
#define ELSA_NODE_PAGE_PROTO_H

/*
 * What CRIU says to a page server while it dumps (criu/page-xfer.c): a header
 * in the host's byte order, behind ADD the pages themselves, and a few bytes of
 * answer to everything else. Bytes in, bytes out.
 *
 * The header is a bare C struct of theirs and has grown: CRIU 4.1 has 32 bits
 * for the number of pages and 24 bytes in all, 4.2 has 64 and, with padding, 32.
 * Which it is shows in the first one, which names no pages but a memory.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	PAGE_PROTO_PAGE = 4096,
	PAGE_PROTO_SHORT = 24, /* a header up to CRIU 4.1, and what must be read of the first */
	PAGE_PROTO_LONG = 32,
};

enum page_command {
	PAGE_OPEN,   /* a memory begins; answered by whether there is an older one */
	PAGE_PARENT, /* is there an older one? */
	PAGE_ADD,    /* so many pages from `vaddr` on; they follow, with PAGE_PRESENT */
	PAGE_CLOSE,  /* the end; answered by whether all is well */
};

/* Of PAGE_ADD (criu/include/pagemap.h). */
enum { PAGE_IN_PARENT = 1, PAGE_LAZY = 2, PAGE_PRESENT = 4 };

enum page_memory { PAGE_OF_PROCESS = 1, PAGE_OF_SHMEM = 2 };

struct page_message {
	enum page_command command;
	uint32_t flags;
	uint64_t vaddr;
	uint64_t pages;
	enum page_memory memory;
	uint64_t id; /* pid inside, or number of the shared memory */
};

/* One conversation; zeroed to begin with. */
struct page_proto {
	size_t header; /* bytes; 0: not known yet */
	bool open;
	enum page_memory memory; /* what is open */
	uint64_t id;
	uint64_t next; /* pages come in ascending order: the lowest address that may be next */
};

/* A header from `len` bytes: how many bytes it took, 0 when more are needed (up to
 * PAGE_PROTO_LONG), -EPROTO. What it says about itself is sane then: ADD is about the open memory,
 * ascending, aligned, within the address space, and carries its pages. */
int page_proto_parse(struct page_proto *p, const void *bytes, size_t len,
		     struct page_message *message);

/* What CRIU waits for after this; its length, 0 for nothing. `failed`: nonzero ends the dump. */
enum { PAGE_PROTO_ANSWER = 4 };
size_t page_proto_answer(const struct page_message *message, bool failed,
			 uint8_t answer[PAGE_PROTO_ANSWER]);

/* The memory's image as CRIU would call it: "pagemap-1.img". */
enum { PAGE_PROTO_NAME = 48 };
void page_proto_name(enum page_memory memory, uint64_t id, char name[PAGE_PROTO_NAME]);

#endif
